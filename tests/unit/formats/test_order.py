"""Positions, snapshots, and where a table must stop."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.formats import PartitionMemory
from tests.unit.formats.made import (
    GOOD,
    ROW,
    compact,
    decode,
    envelope,
    reasons,
    with_source,
)


def test_a_truncate_stops_the_table_behind_what_came_before() -> None:
    """Records before it are decoded, it and those behind are not touched."""
    decoded = decode(GOOD, None, compact(envelope("t", None)), b"{", None)

    assert (2, "truncate") == (decoded.stop_index, decoded.stop and decoded.stop.reason)
    assert ([100], {"tombstone": 1}, []) == (decoded.batch.offsets, decoded.skipped, decoded.rejected)


def initial(**changes: Any) -> bytes:
    """Return a row of an initial snapshot."""
    return compact(with_source(**({"snapshot": "true", "sequence": '[null,"90"]', "lsn": 90} | changes)) | {"op": "r"})


def test_rows_of_an_initial_snapshot_after_changes_stop_the_table() -> None:
    """Also where the changes came in an earlier run, or before a restart."""
    memory = PartitionMemory()
    decode(initial(), GOOD, memory=memory)
    again = decode(initial(), memory=PartitionMemory.from_text(memory.to_text()))

    assert memory.streamed
    assert ("source_read_anew", 0) == (again.stop and again.stop.reason, again.stop_index)
    assert [100] == decode(initial(), memory=memory.copy(), epoch=1).batch.offsets


@pytest.mark.parametrize(
    "changes",
    [{"snapshot": "incremental", "lsn": None, "sequence": '["100","150"]'}, {"sequence": '["100","150"]', "lsn": 150}],
)
def test_rows_of_incremental_and_blocking_snapshots_do_not_stop_it(changes: dict[str, Any]) -> None:
    """They take the place in the log at which they were read, below changes that were open then."""
    decoded = decode(GOOD, initial(**changes))

    assert decoded.stop is None
    assert "0000" + "100".zfill(20) + "0" + "150".zfill(20) == decoded.batch.positions[1]
    assert [False, True] == decoded.batch.snapshots


@pytest.mark.parametrize("flag", [True, "true", "first", "first_in_data_collection", "last_in_data_collection", "last"])
def test_the_snapshot_flag_has_many_forms(flag: Any) -> None:
    """Each says that the row was read, not changed; false, its text and null say that it was changed."""
    assert [True] == decode(initial(snapshot=flag)).batch.snapshots


@pytest.mark.parametrize("flag", [False, "false", None])
def test_a_change_may_have_no_snapshot_flag(flag: Any) -> None:
    """JsonConverter may write null for the default."""
    assert [False] == decode(compact(with_source(snapshot=flag))).batch.snapshots


def test_a_change_before_the_first_commit_stands_at_its_own_place() -> None:
    """`sequence` begins with null until the connector has seen a commit."""
    decoded = decode(compact(with_source(sequence='[null,"200"]')))

    assert ["0000" + "200".zfill(20) + "1" + "200".zfill(20)] == decoded.batch.positions


def mysql(op: str = "u", **changes: Any) -> bytes:
    """Return an envelope of MySQL."""
    source = {
        "version": "3.5",
        "connector": "mysql",
        "name": "m",
        "ts_ms": 1_700_000_000_000,
        "snapshot": "false",
        "db": "shop",
        "table": "made",
        "server_id": 1,
        "gtid": "a:1",
        "file": "bin.000007",
        "pos": 40,
        "row": 2,
        "query": None,
    } | changes
    return compact({"before": None, "after": ROW, "source": source, "op": op, "ts_ms": 1, "transaction": None})


def test_positions_of_mysql_are_file_position_and_row() -> None:
    """The file is ordered by its number; a topic may even carry both connectors."""
    decoded = decode(mysql(), GOOD, mysql(file="bin.1000000"), mysql(file="x"))

    assert "0000" + "7".zfill(10) + "40".zfill(20) + "1" + "2".zfill(10) == decoded.batch.positions[0]
    assert decoded.batch.positions[0] < decoded.batch.positions[2]
    assert ["bad_position"] == reasons(decoded)
    assert ["a:1", "7", "a:1"] == decoded.batch.transactions


def test_an_initial_snapshot_of_mysql_below_the_last_change_stops_the_table() -> None:
    """A blocking snapshot looks the same but stands above what was seen."""
    below, above = mysql("r", snapshot="first", pos=39, row=0), mysql("r", snapshot="first", pos=41, row=0)

    assert "source_read_anew" == getattr(decode(mysql(), below).stop, "reason", None)
    assert None is decode(mysql(), above).stop
