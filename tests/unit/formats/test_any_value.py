"""The encoding `any`, which refuses no value; and columns whose names no decoder can look for."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.batch import Decoded
from tests.unit.formats.made import PLACEHOLDER, after, compact, decode, envelope, reasons

ANY = {"id": "int", "c": {"type": "string", "encoding": "any"}}


def decoded(row: dict[str, Any]) -> Decoded:
    """Return what becomes of a record with this row."""
    return decode(compact(envelope("c", row)), columns=ANY)


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), ('"a"', '"a"'), ("", ""), ("null", "null"), (7, "7"), (2**70, str(2**70)), (True, "true"),
     (None, None), ([1, None], "[1,null]"), ({"a": "b:c"}, '{"a":"b:c"}'), ("ümläut", "ümläut"), ("a:b", "a:b")],
)  # fmt: skip
def test_any_value_is_a_text(value: Any, text: str | None) -> None:
    """A text is itself, everything else its JSON; null stays null."""
    found = decoded({"id": 1, "c": value})

    assert [] == found.rejected
    assert text == after(found)["c"]


@pytest.mark.parametrize("value", [PLACEHOLDER, [PLACEHOLDER], {PLACEHOLDER: PLACEHOLDER}])
def test_what_was_not_sent_is_known_among_any_values(value: Any) -> None:
    """And is no text."""
    found = decoded({"id": 1, "c": value})

    assert (["c"], {"id": 1}) == (found.batch.unavailable[0], after(found))


@pytest.mark.parametrize("name", ['a"b', "c\\d", "e\nf"])
def test_an_unknown_column_of_any_name_is_passed_over(name: str) -> None:
    """The table's other columns are read; a spec cannot name it."""
    found = decoded({"id": 1, name: "x", "c": 7})

    assert [] == found.rejected
    assert {"id": 1, "c": "7"} == after(found)
    assert {name} == found.unknown_columns


def test_a_record_with_such_a_column_is_still_looked_at_in_full() -> None:
    """A key that stands twice in it is refused as ever."""
    value = compact(envelope("c", {"id": 1, 'a"b': "x", "c": 7})).replace(b'"c":7', b'"c":7,"c":8')

    assert ["duplicate_keys"] == reasons(decode(value, columns=ANY))
