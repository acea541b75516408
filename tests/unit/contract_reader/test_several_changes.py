"""Records of several changes, read as columns: which change of its record each is, in both ways."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain as joined
from typing import Any

import msgspec
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.contract import VALUES_AT_ONCE_MAX, ContractReader
from connectors.contract_columns import ColumnReader
from connectors.contract_rows import UnreadableChange, read_rows
from schemas.change import ChangeValue
from tests.unit.contract_reader.columns import spec_of
from tests.unit.lake.changes import TOPIC, chain, change, encoded, record

PLACE = ("origin_offset", "origin_row", "previous", "rows")


def reader_of(**wanted: Any) -> ContractReader:
    """Return a reader of one column."""
    return ContractReader(spec_of({"name": "string"}), rows=frozenset({"after"}), **wanted)


def places(table: pa.Table) -> list[tuple[Any, ...]]:
    """Return where each change stands, what is before it, and how many its record made."""
    return list(zip(*(table.column(name).to_pylist() for name in PLACE), strict=True))


def made_of(counts: Sequence[int]) -> list[bytes]:
    """Return the values of records of so many changes."""
    return encoded([*joined.from_iterable(chain(counts))])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.sampled_from([1, 3, 100]))
def test_each_change_says_which_one_of_its_record_it_is(counts: list[int], at_once: int) -> None:
    """However the values are cut into reads, and by value what it is by column."""
    values, reader = made_of(counts), reader_of()
    parts = [reader.read(values[at : at + at_once]) for at in range(0, len(values), at_once)]
    fast = reader.read_fast(values)
    slow = read_rows(values, reader.rows, reader.schema, first_index=0)

    expected = [
        (2 * number, row, 2 * number if row else (2 * number - 2 if number else None), count)
        for number, count in enumerate(counts)
        for row in range(count)
    ]
    assert expected == [place for part in parts for place in places(part)]
    assert fast is not None
    assert expected == places(fast) == places(slow)
    assert fast.equals(slow)


def test_what_only_the_first_change_of_a_record_says_is_read_as_well() -> None:
    """Where a block ends behind it, nothing else there shows that there are more."""
    values = made_of([1] * (VALUES_AT_ONCE_MAX - 1) + [2])
    table = reader_of().read(values)

    assert [1, 2, 2] == table.column("rows").to_pylist()[-3:]
    assert [0, 0, 1] == table.column("origin_row").to_pylist()[-3:]


@pytest.mark.parametrize("fields", [["origin_offset"], ["origin_row", "op"], ["rows"], ["op"]])
def test_a_reader_that_wants_little_reads_them_too(fields: list[str]) -> None:
    """By column, whatever it is that it wants."""
    reader = reader_of(fields=fields)
    table = reader.read_fast(made_of([2, 1]))

    assert table is not None
    expected = {"origin_offset": [0, 0, 2], "origin_row": [0, 1, 0], "rows": [2, 2, 1], "op": ["update"] * 3}
    assert {name: expected[name] for name in fields} == {name: table.column(name).to_pylist() for name in fields}


def test_ordinary_records_are_read_without_a_thought_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One decode of each value, also where a column has such a name and another value is odd."""
    decodes: list[int] = []
    read = ColumnReader._read  # noqa: SLF001 - it is counted

    def counting(self: ColumnReader, heads: Any, values: Sequence[bytes]) -> pa.Table | None:
        decodes.append(len(values))
        return read(self, heads, values)

    monkeypatch.setattr(ColumnReader, "_read", counting)
    reader = ContractReader(spec_of({"c_double": "double", "rows": "int"}), rows=frozenset({"after"}))
    reader.read(encoded([change(n, n, after={"c_double": 1.0, "rows": 3}) for n in range(50)]))

    assert [50] == decodes


@pytest.mark.parametrize("more", [["1"], [None], [1, 1], [1.5], [0], [-1], [2], [3]])
def test_a_number_that_no_change_of_the_record_can_have_is_poison(more: list[Any]) -> None:
    """By its index, in both ways."""
    values = [*made_of([2, 3]), orjson.dumps(change(9, 1, source={"origin": [TOPIC, 0, 0, 1, *more], "rows": 2}))]

    with pytest.raises(UnreadableChange) as caught:
        reader_of().read(values)
    assert 5 == caught.value.index


def test_the_contract_is_read_and_written_again_as_it_was() -> None:
    """Nothing is added to a change that is its record's only one, nothing lost of the others."""
    values = [msgspec.json.encode(one) for one in [*record(4, 1), *record(6, 2, before=4)]]

    assert values == [msgspec.json.encode(msgspec.json.decode(value, type=ChangeValue)) for value in values]
