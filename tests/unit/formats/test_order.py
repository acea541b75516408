"""Positions, snapshots, and where a table must stop."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.formats import PartitionMemory
from tests.unit.formats.made import (
    GOOD,
    ROW,
    MadeRun,
    compact,
    decode,
    decode_run,
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


def mysql(op: str = "u", *, after: Any = ROW, **changes: Any) -> bytes:
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
    row = None if op == "d" else after
    return compact({"before": None, "after": row, "source": source, "op": op, "ts_ms": 1, "transaction": None})


def test_positions_of_mysql_are_file_position_and_row() -> None:
    """The file is ordered by its number; a topic may even carry both connectors."""
    decoded = decode(mysql(), GOOD, mysql(file="bin.1000000"), mysql(file="x"))

    assert "0000" + "7".zfill(10) + "40".zfill(20) + "1" + "2".zfill(10) == decoded.batch.positions[0]
    assert decoded.batch.positions[0] < decoded.batch.positions[2]
    assert ["bad_position"] == reasons(decoded)
    assert ["a:1", "7", "a:1"] == decoded.batch.transactions


def _noted(*records: tuple[str, int, int, str]) -> int:
    """Return how many changes are noted of these: operation, row, id and name, all in one place of the log."""
    values = [mysql(op, row=row, after={**ROW, "id": id_, "name": name}) for op, row, id_, name in records]
    keys = [b'{"id":%d}' % id_ for _, _, id_, _ in records]
    moves = {
        i: [("__debezium.newkey", b'{"id":9}')]
        for i, (op, *_, name) in enumerate(records)
        if (op, name) == ("d", "moved")
    }
    moves |= {
        i: [("__debezium.oldkey", b'{"id":8}')]
        for i, (op, *_, name) in enumerate(records)
        if (op, name) == ("c", "moved")
    }
    run = MadeRun(list(zip(keys, values, strict=True)), moves)
    return decode_run(run).noted.get("weak_order", 0)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([("c", 6, 7, "a"), ("u", 0, 7, "b")], 1),  # INSERT of ten rows, UPDATE of the seventh
        ([("u", 0, 7, "a"), ("d", 0, 7, "a")], 1),
        ([("u", 0, 7, "a"), ("u", 0, 7, "b")], 1),
        ([("u", 6, 7, "a"), ("u", 0, 7, "b"), ("u", 1, 8, "c")], 1),
        ([("c", 0, 7, "a"), ("c", 0, 8, "b")], 1),
        ([("u", 0, 7, "a"), ("u", 1, 8, "b"), ("u", 5, 9, "c")], 0),  # one event
        ([("u", 3, 7, "a"), ("u", 4, 8, "b"), ("u", 4, 8, "b")], 0),  # sent again after a restart
        ([("u", 3, 7, "a"), ("u", 4, 8, "b"), ("u", 3, 7, "a"), ("u", 4, 8, "b")], 0),
        ([("u", 0, 7, "a"), ("d", 1, 8, "moved"), ("c", 1, 9, "moved"), ("u", 2, 3, "b")], 0),  # a key was changed
    ],
)  # fmt: skip
def test_changes_of_a_compressed_transaction_of_mysql_are_noted(
    records: list[tuple[str, int, int, str]], expected: int
) -> None:
    """Several statements in one place of the log: their rows are counted anew, and say no order."""
    assert expected == _noted(*records)


def test_an_event_of_many_rows_is_none_however_it_is_spread_over_partitions() -> None:
    """Rows of a snapshot share a place as well, and have no order among them."""
    keys = [b'{"id":1}'] * 2
    read = [(key, mysql("r", snapshot="true", row=0, after=ROW)) for key in keys]

    assert {} == decode_run(MadeRun(read)).noted
    assert 0 == _noted(("u", 0, 1, "a"), ("u", 7, 2, "b"), ("u", 1, 3, "c"), ("u", 2, 4, "d"))


def test_an_initial_snapshot_of_mysql_below_the_last_change_stops_the_table() -> None:
    """A blocking snapshot looks the same but stands above what was seen."""
    below, above = mysql("r", snapshot="first", pos=39, row=0), mysql("r", snapshot="first", pos=41, row=0)

    assert "source_read_anew" == getattr(decode(mysql(), below).stop, "reason", None)
    assert None is decode(mysql(), above).stop
