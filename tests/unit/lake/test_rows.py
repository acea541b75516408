"""Changes as rows of the lake, and what of them is new."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from connectors.contract import ContractReader
from connectors.contract_wire import ChangeReader
from connectors.transport.chunk import Headers, Run
from schemas.change import Height
from schemas.config import LimitsConfig
from sinks.lake import table as lake
from sinks.lake.rows import ROWS_READ, commit_dates
from streams.lake_buffer import new_rows, read_runs
from tests.unit.fakes import Message, assignment_of, run_of
from tests.unit.lake.changes import INGESTED, TOPIC, change, deletion, encoded, rows_of, spec_of


def test_a_row_has_the_columns_of_the_source_and_ours() -> None:
    """Under the names that docs/lake.md lists, in this order."""
    (row,) = rows_of([change(5, 1, old_key={"id": "9"})]).to_pylist()

    expected = {
        "id": 1,
        "name": "name 5",
        "note": "note 5",
        "tags": ["a", None],
        "_hg_op": "update",
        "_hg_position": f"{5:045d}",
        "_hg_topic": TOPIC,
        "_hg_generation": 0,
        "_hg_partition": 0,
        "_hg_offset": 5,
        "_hg_previous": 4,
        "_hg_ts": dt.datetime(2026, 11, 20, 19, 45, 57, 123456, tzinfo=dt.UTC),
        "_hg_ingested": INGESTED,
        "_hg_tx": "5",
        "_hg_snapshot": False,
        "_hg_unavailable": [],
        "_hg_old_key": '{"id":"9"}',
        "_hg_new_key": None,
        "_hg_commit_date": dt.date(2026, 11, 20),
    }
    assert "70.50" == str(row.pop("weight"))
    assert expected == row


def test_a_delete_has_its_key_and_nothing_else() -> None:
    """So that the latest view can group by the key's columns."""
    (row,) = rows_of([deletion(5, 7, new_key={"id": "8"})]).to_pylist()

    assert [7, None, None] == [row["id"], row["name"], row["tags"]]
    assert '{"id":"8"}' == row["_hg_new_key"]


def test_a_table_without_a_key_goes_to_the_lake_too() -> None:
    """Rows of it are changes like all others."""
    spec = spec_of(key=[])
    table = rows_of([change(0, 1, key=None), deletion(1, 1, key=None)], spec)

    assert [1, None] == table.column("id").to_pylist()


@pytest.mark.parametrize(
    ("moment", "zone", "day"),
    [
        ("2026-03-29T00:30:00+00:00", "Europe/Berlin", "2026-03-29"),  # summer time begins at 01:00 UTC
        ("2026-03-28T22:59:59+00:00", "Europe/Berlin", "2026-03-28"),
        ("2026-03-28T23:00:00+00:00", "Europe/Berlin", "2026-03-29"),
        ("2026-03-29T21:59:59+00:00", "Europe/Berlin", "2026-03-29"),
        ("2026-03-29T22:00:00+00:00", "Europe/Berlin", "2026-03-30"),
        ("2026-10-25T22:59:59+00:00", "Europe/Berlin", "2026-10-25"),
        ("2026-10-25T23:00:00+00:00", "Europe/Berlin", "2026-10-26"),
        ("2026-01-01T12:00:00+00:00", "Pacific/Kiritimati", "2026-01-02"),
        ("2026-01-01T10:59:59+00:00", "Pacific/Pago_Pago", "2025-12-31"),
        ("1969-12-31T23:59:59.999999+00:00", "UTC", "1969-12-31"),
        ("2026-01-01T00:00:00+00:00", "UTC", "2026-01-01"),
    ],
)
def test_the_commit_date_is_the_day_on_the_wall(moment: str, zone: str, day: str) -> None:
    """Summer time included, before 1970 included."""
    moments = pa.array([dt.datetime.fromisoformat(moment)], pa.timestamp("us", tz="UTC"))

    assert [dt.date.fromisoformat(day)] == commit_dates(moments, zone).to_pylist()


STREAM = (TOPIC, 0, 0)


def offsets_of(
    changes: list[dict[str, Any]], highest: dict[tuple[str, int, int], Height]
) -> tuple[list[int], dict[tuple[str, int, int], Height]]:
    """Return the offsets that are let through, and the highest ones then."""
    rows, reached = new_rows(rows_of(changes), highest)
    return rows.column(lake.OFFSET).to_pylist(), reached


def test_what_is_above_the_highest_offset_is_new() -> None:
    """And nothing else, be it in one run or over several."""
    changes = [change(n, 1) for n in (3, 4, 5)]

    assert ([3, 4, 5], {STREAM: Height(5)}) == offsets_of(changes, {STREAM: Height(2)})
    assert ([5], {STREAM: Height(5)}) == offsets_of(changes, {STREAM: Height(4)})
    assert ([], {STREAM: Height(9)}) == offsets_of(changes, {STREAM: Height(9)})
    assert ([3, 4], {STREAM: Height(4)}) == offsets_of([change(n, 1) for n in (3, 4, 3, 4)], {})


def test_streams_are_judged_apart() -> None:
    """A replay's generation is a stream of its own, and so is each partition."""
    replayed = [change(n, 1, source={"origin": [TOPIC, 1, 0, n]}) for n in (0, 1)]
    other = [change(0, 1, source={"origin": [TOPIC, 0, 1, 0]})]
    offsets, reached = offsets_of([*replayed, *other, change(8, 1), change(7, 1)], {STREAM: Height(7)})

    assert [0, 1, 0, 8] == offsets
    assert {STREAM: Height(8), (TOPIC, 1, 0): Height(1), (TOPIC, 0, 1): Height(0)} == reached


def test_floors_stand_outside_the_rule() -> None:
    """They are not dropped, and do not count as the highest."""
    floor = change(9, 1, op="floor", key=None, after=None)
    offsets, reached = offsets_of([floor, change(3, 1), floor], {STREAM: Height(2)})

    assert [9, 3, 9] == offsets
    assert {STREAM: Height(3)} == reached


def test_a_floor_below_what_was_seen_came_before_it() -> None:
    """Read again, it would be in two files."""
    floor = change(3, 1, op="floor", key=None, after=None)

    assert ([6], {STREAM: Height(6)}) == offsets_of([floor, change(5, 1), change(6, 1)], {STREAM: Height(5)})


def test_of_a_floor_that_every_partition_has_the_lake_takes_that_of_its_origin() -> None:
    """Each origin is in one file, whoever reads which partition."""
    spec = spec_of()
    reader = ContractReader(spec, rows=ROWS_READ)
    source = {"origin": [TOPIC, 0, 1, 9], "previous": None}
    floor = encoded([change(9, 1, op="floor", key=None, after=None, source=source)])
    own = encoded([change(7, 1, source={"origin": [TOPIC, 0, 1, 7]})])
    runs = [run_of(assignment_of(partition=number), 0, values) for number, values in ((0, floor), (1, own + floor))]
    first, second = read_runs(spec, reader, runs, INGESTED, changes=ChangeReader(None, LimitsConfig()))

    assert [] == first.column(lake.OFFSET).to_pylist()
    assert [(7, "update", 1), (9, "floor", None)] == [
        (row[lake.OFFSET], row[lake.OP], row["id"]) for row in second.to_pylist()
    ]


def test_of_a_replay_for_others_the_lake_takes_nothing() -> None:
    """One that is for it, or says nothing, is taken; and so is what is no replay, in whatever generation."""
    spec = spec_of()
    reader = ContractReader(spec, rows=ROWS_READ)
    headers: list[Headers] = [
        [("headgate.replay", b"true"), ("headgate.into", b"features")],
        [("headgate.replay", b"true"), ("headgate.into", b"lake,alerts")],
        [("headgate.replay", b"true")],
        [],
    ]
    values = [encoded([change(n, 1, source={"origin": [TOPIC, 1, 0, n]})])[0] for n in range(4)]
    messages = [Message(n, None, value, said) for n, (value, said) in enumerate(zip(values, headers, strict=True), 1)]

    runs = [Run(assignment_of(), [Message(0, None, None), *messages])]
    (rows,) = read_runs(spec, reader, runs, INGESTED, changes=ChangeReader(None, LimitsConfig()))

    assert [1, 2, 3] == rows.column(lake.OFFSET).to_pylist()
