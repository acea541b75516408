"""Feature updates read as columns: the fast way and the slow way say the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
import pytest

from connectors.updates import UpdateReader
from schemas.errors import PoisonRecord
from schemas.types import parse_type
from tests.unit.alerts.chain import Chain

TYPES = {name: parse_type(text) for name, text in {"level": "decimal(6,2)", "ratio": "double", "at": "date"}.items()}
KEY = {"id": parse_type("long")}


def reader(**columns: str) -> UpdateReader:
    """Return a reader of all rows."""
    types = {**TYPES, **{name: parse_type(text) for name, text in columns.items()}}
    return UpdateReader(types, KEY, rows=frozenset({"before", "after", "key"}))


def updates() -> list[bytes]:
    """Return updates with all that there is: rows that are not there, null, absent and unavailable columns."""
    chain = Chain()
    rows: list[dict[str, Any] | None] = [
        {"level": "1.00", "ratio": 1.5, "at": "2024-02-29"},
        {"level": None, "ratio": 2, "at": None},
        {"ratio": None},
        None,
        {},
    ]
    return [chain.update(1, each, unavailable=["level"] if at == 2 else []) for at, each in enumerate(rows)]


def test_an_update_is_read_as_columns() -> None:
    """Rows as structs with the types of the columns, and what says whether it is news."""
    table = reader().read([*updates(), Chain().update(2, {}, replay=True)])

    assert [True, False, False, False, True, True] == [before is None for before in table["before"].to_pylist()]
    assert pa.decimal128(6, 2) == table.schema.field("after").type.field("level").type
    assert ["1.00", None, None] == [
        None if (v := each["level"]) is None else str(v) for each in table["after"].to_pylist()[:3]
    ]
    assert [{"id": 1}] * 5 == table["key"].to_pylist()[:5]
    assert [False] * 5 + [True] == table["silent"].to_pylist()
    assert [[], [], ["level"], [], [], []] == table["unavailable"].to_pylist()
    assert [1, 2, 3, 4, 5, 1] == table["number"].to_pylist()


def test_the_two_ways_say_the_same() -> None:
    """An odd value takes its neighbours along on the slow way, and changes nothing of them."""
    odd = Chain().update(2, {"level": "2.00", "ratio": "NaN", "at": "12024-01-01"})
    values = updates()

    fast, slow = reader().read_fast(values), reader().read([*values, odd])

    assert fast is not None
    assert reader().read_fast([odd]) is None
    assert fast == slow.slice(0, len(values)).combine_chunks()


@pytest.mark.parametrize("count", [1, 300, 5_000])
def test_a_broken_value_is_named_by_its_index(count: int) -> None:
    """However many there are; the error holds nothing of it."""
    values = [Chain().update(1, {"level": "1.00"})] * count + [b'{"number": "secret"}']

    with pytest.raises(PoisonRecord, match=f"value {count}: ") as raised:
        reader().read(values)

    assert "secret" not in str(raised.value)


def test_a_column_that_the_fast_way_cannot_name_is_read() -> None:
    """A quote in its name."""
    made = UpdateReader({'a"b': parse_type("string")}, KEY, rows=frozenset({"after"}))

    assert [{'a"b': "x"}] == made.read([Chain().update(1, {'a"b': "x"})])["after"].to_pylist()


def test_nothing_is_read_of_nothing() -> None:
    """An empty table of the same columns."""
    assert reader().schema == reader().read([]).schema
    assert msgspec.json.decode(updates()[3])["after"] is None
