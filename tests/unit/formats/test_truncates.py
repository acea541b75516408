"""A truncate, in each format that knows it: it stops its table, is skipped, or becomes a floor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connectors.formats import PartitionMemory
from schemas.batch import Decoded
from tests.unit.formats import test_canal as canal
from tests.unit.formats import test_goldengate as goldengate
from tests.unit.formats.made import compact, decode, envelope, with_source

Decode = Callable[..., Decoded]
GOOD = compact(envelope("c"))


def debezium(**spec: Any) -> Decoded:
    """Decode two inserts of Debezium around a truncate, with a tombstone."""
    truncate = compact(envelope("t", None))
    return decode(GOOD, None, truncate, GOOD, **spec)


def of_canal(**spec: Any) -> Decoded:
    """Decode two inserts of Canal around a truncate."""
    rows = [canal.message("INSERT", {"id": number}) for number in ("1", "2")]
    return canal.decode(rows[0], canal.message("TRUNCATE", isDdl=True), rows[1], **spec)


def of_goldengate(**spec: Any) -> Decoded:
    """Decode two inserts of GoldenGate around a truncate."""
    after = {"ID": 1}
    return goldengate.decode(
        goldengate.operation(pos="1", after=after), goldengate.operation("T", pos="2"),
        goldengate.operation(pos="3", after=after), **spec,
    )  # fmt: skip


FORMATS = {"debezium-json": debezium, "canal": of_canal, "goldengate": of_goldengate}
each_format = pytest.mark.parametrize("decode_with", FORMATS.values(), ids=FORMATS)


@each_format
def test_where_it_is_applied_it_is_a_floor_between_its_neighbours(decode_with: Decode) -> None:
    """Without a key, with a position of its own and the time of its commit."""
    decoded = decode_with(truncate="apply")
    batch = decoded.batch

    assert (None, []) == (decoded.stop, decoded.rejected)
    assert ["insert", "floor", "insert"] == batch.operations
    assert [None] * 4 == [column[1] for column in (batch.keys, batch.afters, batch.befores, batch.old_keys)]
    assert batch.positions[0] <= batch.positions[1] <= batch.positions[2]
    assert batch.ts[1].endswith("Z")
    assert not batch.snapshots[1]


@each_format
def test_where_it_is_ignored_it_is_counted_and_its_neighbours_go_out(decode_with: Decode) -> None:
    """As if it were none."""
    decoded = decode_with(truncate="ignore")

    assert (None, []) == (decoded.stop, decoded.rejected)
    assert ["insert", "insert"] == decoded.batch.operations
    assert 1 == decoded.skipped["truncate"]


@each_format
def test_where_nothing_is_said_it_stops_the_table_and_says_what_can_be_done(decode_with: Decode) -> None:
    """Nothing behind it goes out."""
    decoded = decode_with()

    assert decoded.stop is not None
    assert "truncate" == decoded.stop.reason
    assert "truncate: apply" in decoded.stop.hint
    assert ["insert"] == decoded.batch.operations


def test_one_whose_position_cannot_be_read_goes_to_quarantine() -> None:
    """A floor that stands nowhere would take away nothing, or all."""
    nowhere = with_source(sequence=None, lsn=None) | {"op": "t", "after": None}
    decoded = decode(GOOD, compact(nowhere), truncate="apply")

    assert ["bad_position"] == [each.error.reason for each in decoded.rejected]  # type: ignore[attr-defined]
    assert ["insert"] == decoded.batch.operations


def test_a_key_beside_it_counts_for_nothing() -> None:
    """Whatever the record's key says, it is the table that was truncated."""
    decoded = decode(compact(envelope("t", None)), truncate="apply", key=b'{"id":1}')

    assert [None] == decoded.batch.keys


def test_a_snapshot_after_it_has_been_read_anew() -> None:
    """It is a change like others, so what was seen before it is remembered."""
    memory = PartitionMemory()
    decode(compact(envelope("t", None)), truncate="apply", memory=memory)

    assert memory.streamed


def test_one_of_mysql_stands_at_the_place_of_its_event() -> None:
    """It has no row, so it is the first of its place."""
    source = {"connector": "mysql", "snapshot": "false", "ts_ms": 1, "file": "bin.000003", "pos": 4711, "row": 0}
    batch = decode(compact({"op": "t", "source": source}), truncate="apply").batch

    assert ["floor"] == batch.operations
    assert f"0000{3:010d}{4711:020d}1{0:010d}" == batch.positions[0]
