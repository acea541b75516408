"""Rows in memory, whose keys change: they are the source's, however its partitions are read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.final_rows import FinalRows
from tests.property.handovers import SPEC, Rows, Source, deliveries, encoded, moved, sources


def rows_after(changes: list[dict[str, Any]]) -> tuple[Rows, list[str]]:
    """Return the rows that changes come to, and the columns of them that nobody knows."""
    final = FinalRows(SPEC)
    for value in encoded(changes):
        final.apply(value)
    documents = list(final.documents())
    rows = {int(d["key"]["id"]): {name: v for name, v in d["row"].items() if name != "id"} for d in documents}
    return rows, [name for d in documents for name in d.get("unavailable", [])]


@settings(max_examples=300, deadline=None)
@given(st.data(), sources())
def test_rows_whose_keys_change_are_those_of_the_source(data: st.DataObject, source: Source) -> None:
    """Partitions are read beside each other, and again after a crash: no value is lost or comes to another row."""
    assert (source.rows, []) == rows_after(data.draw(deliveries(source)))


@pytest.mark.parametrize("apart", [False, True])
def test_a_chain_a_swap_and_a_key_taken_anew_come_to_the_rows_of_the_source(apart: bool) -> None:
    """In order, and with each partition read to its end before the next, whichever comes first."""
    source = moved(apart=apart)
    by_key = sorted(source.changes, key=lambda change: msgspec.json.encode(change["key"]))

    assert (source.rows, []) == rows_after(source.changes)
    assert (source.rows, []) == rows_after(by_key)
    assert (source.rows, []) == rows_after(sorted(by_key, key=lambda change: change["key"]["id"], reverse=True))


def test_what_was_handed_over_does_not_make_a_row() -> None:
    """The new row lives by its own insert only; until that is there, the values wait."""
    source = Source()
    source.put(0, {"name": "n", "note": "of 0", "memo": "of 0"})
    source.move(0, 1, {"name": "moved"})
    put, delete, insert = source.changes

    assert ({}, []) == rows_after([put, delete])
    assert ({1: {"name": "moved"}}, ["note", "memo"]) == rows_after([insert])
    assert (source.rows, []) == rows_after([put, delete, insert]) == rows_after([insert, put, delete])


def test_nothing_is_handed_over_across_a_delete() -> None:
    """Neither what the old key knew of an older row, nor to a row that took the new key later."""
    source = Source()
    source.put(0, {"name": "n", "note": "older", "memo": "older"})
    source.delete(0)
    source.put(0, {"name": "n"})
    source.move(0, 1, {})
    source.delete(1)
    source.put(1, {"name": "later"})

    assert ({1: {"name": "later"}}, ["note", "memo"]) == rows_after(source.changes)
