"""The lake keeps the promise of a sink: durable or an error, again means no change, fenced against frozen workers."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.exceptions import CommitFailedException

from schemas.change import Height
from schemas.config import LakeConfig
from schemas.errors import SinkUnavailable, TableStopped
from sinks.base import Sink
from sinks.lake import table as lake
from sinks.lake.commit import LakeBatch, LakeTable
from sinks.lake.files import write_files
from sinks.lake.sink import Lake
from sinks.lake.stand import OffsetsMoved, Stand
from sinks.lake.storage import open_catalog
from sinks.lake.verify import verify
from tests.unit.lake.changes import TOPIC, change, rows_of, spec_of

CHANGES = "headgate.changes.patients"


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        """Return seconds since 1970."""
        return self.now


def config_of(folder: Path, **changed: Any) -> LakeConfig:
    """Return a lake in a folder."""
    return LakeConfig(warehouse=str(folder), **changed)


def batch_of(first: int, count: int, *, before: int | None = None, partition: int = 0) -> LakeBatch:
    """Return `count` changes of one partition from offset `first` on; the lake stands at `before` (None: nowhere)."""
    changes = [change(n, n % 5, source={"origin": [TOPIC, 0, partition, n]}) for n in range(first, first + count)]
    stand = Stand(CHANGES, "id-1", first + count, {(TOPIC, 0, partition): Height(first + count - 1)})
    return LakeBatch("patients", rows_of(changes), {partition: before}, {partition: stand})


def table_of(folder: Path, clock: Clock | None = None, **changed: Any) -> LakeTable:
    """Return the table as one worker has it open."""
    config = config_of(folder, **changed)
    table = lake.open_table(open_catalog(config), config.namespace, spec_of(), snapshots_kept=config.snapshots_kept)
    return LakeTable(
        table,
        snapshots_kept=config.snapshots_kept,
        sweep_grace_seconds=config.sweep_grace_seconds,
        clock=clock or time.time,
    )


def offsets(table: LakeTable) -> list[int]:
    """Return the origin offsets of all rows, as any reader of Iceberg sees them."""
    table.load()
    return sorted(table.iceberg.scan(selected_fields=(lake.OFFSET,)).to_arrow().column(0).to_pylist())


@pytest.fixture
async def sink(tmp_path: Path) -> AsyncIterator[Lake]:
    """A lake in a folder."""
    made = Lake(config_of(tmp_path), clock=time.time)
    yield made
    await made.close()


async def test_what_was_written_is_in_the_table_with_its_offsets(sink: Lake) -> None:
    """One commit holds both, and answers with the rows."""
    as_sink: Sink[LakeBatch] = sink
    table = await sink.open(spec_of())
    written = await as_sink.write(batch_of(0, 20))

    assert 20 == written.rows
    assert written.bytes > 0
    assert list(range(20)) == offsets(table)
    assert {0: Stand(CHANGES, "id-1", 20, {(TOPIC, 0, 0): Height(19)})} == table.stands()


@pytest.mark.parametrize("same_object", [True, False])
async def test_the_same_batch_again_is_refused_and_changes_nothing(sink: Lake, same_object: bool) -> None:
    """A repeat after a lost answer finds its own offsets, and its files stay."""
    table = await sink.open(spec_of())
    batch = batch_of(0, 5)
    await sink.write(batch)

    with pytest.raises(OffsetsMoved) as caught:
        await sink.write(batch if same_object else batch_of(0, 5))
    assert 5 == caught.value.stands[0].next_offset
    assert list(range(5)) == offsets(table)


async def test_storage_that_is_away_is_unavailable(sink: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the library raises; the same batch then goes in once."""
    table = await sink.open(spec_of())
    batch = batch_of(0, 5)
    with monkeypatch.context() as patch:
        patch.setattr("sinks.lake.commit.write_files", _raise_connection_error)
        with pytest.raises(SinkUnavailable):
            await sink.write(batch)
    await sink.write(batch)

    assert list(range(5)) == offsets(table)


def _raise_connection_error(*_: Any) -> Any:
    raise ConnectionError("no route to storage")


def test_after_a_failure_the_way_to_the_files_is_asked_for_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A catalogue may have lent keys that hold for an hour: with the table it gives others."""
    table = table_of(tmp_path)
    batch, way = batch_of(0, 5), table.iceberg.io
    with monkeypatch.context() as patch:
        patch.setattr("sinks.lake.commit.write_files", _raise_connection_error)
        with pytest.raises(ConnectionError):
            table.commit(batch)
    table.commit(batch)

    assert table.iceberg.io is not way
    assert list(range(5)) == offsets(table)


def test_a_frozen_worker_is_refused(tmp_path: Path) -> None:
    """A successor read its partitions on: the batch is discarded with its file, the successor's rows stand."""
    frozen, successor = table_of(tmp_path), table_of(tmp_path)
    successor.commit(batch_of(0, 10))

    with pytest.raises(OffsetsMoved) as caught:
        frozen.commit(batch_of(0, 3))
    assert {0: 10} == {partition: stand.next_offset for partition, stand in caught.value.stands.items()}
    assert list(range(10)) == offsets(frozen)
    assert 1 == len(list((tmp_path).rglob("*.parquet")))


def test_a_worker_of_other_partitions_commits_again_with_the_files_it_has(tmp_path: Path) -> None:
    """A conflict that moved none of our offsets costs a second commit, not a second file."""
    one, other = table_of(tmp_path), table_of(tmp_path)
    one.commit(batch_of(0, 10))
    batch = batch_of(0, 7, partition=1)
    other.commit(batch)

    assert sorted([*range(10), *range(7)]) == offsets(other)
    assert 2 == len(list(tmp_path.rglob("*.parquet")))
    assert {0: 10, 1: 7} == {partition: stand.next_offset for partition, stand in other.stands().items()}
    assert verify(other.iceberg).ok


def test_a_commit_without_rows_moves_offsets_and_is_fenced(tmp_path: Path) -> None:
    """Tombstones move the offset; the snapshot that it makes refuses a commit that had loaded the one before."""
    one, frozen = table_of(tmp_path), table_of(tmp_path)
    empty = dataclasses.replace(batch_of(0, 5), rows=rows_of([change(0, 0)]).slice(0, 0))
    one.commit(empty)

    assert 5 == one.stands()[0].next_offset
    assert not list(tmp_path.rglob("*.parquet"))
    with pytest.raises(OffsetsMoved):
        frozen.commit(batch_of(0, 5))


def test_two_workers_in_a_race_lose_nothing(tmp_path: Path) -> None:
    """Commits of two partitions in turn, each behind the other's back."""
    workers = [table_of(tmp_path), table_of(tmp_path)]
    for turn in range(6):
        for partition, worker in enumerate(workers):
            worker.commit(batch_of(turn * 4, 4, before=turn * 4 or None, partition=partition))

    assert sorted(2 * list(range(24))) == offsets(workers[0])
    assert verify(workers[0].iceberg).ok


def test_an_answer_that_was_lost_does_not_double_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue took the commit, the connection broke: written again, the batch is found to be there."""
    table = table_of(tmp_path)
    batch = batch_of(0, 5)
    catalog = table.iceberg.catalog
    real = catalog.commit_table

    def broken(*args: Any) -> Any:
        real(*args)
        raise ConnectionResetError("the answer was lost")

    with monkeypatch.context() as patch:
        patch.setattr(catalog, "commit_table", broken)
        with pytest.raises(ConnectionResetError):
            table.commit(batch)
    with pytest.raises(OffsetsMoved) as caught:
        table.commit(batch)

    assert 5 == caught.value.stands[0].next_offset
    assert list(range(5)) == offsets(table)


def test_a_commit_that_lands_late_keeps_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt got no answer and reached the catalogue just before the second: that one is a conflict."""
    table = table_of(tmp_path)
    batch = batch_of(0, 5)
    catalog = table.iceberg.catalog
    real, late = catalog.commit_table, []

    def answers_late(*args: Any) -> Any:
        late.append(args)
        if len(late) == 1:
            raise ConnectionResetError("no answer")
        real(*late[0])
        return real(*args)

    monkeypatch.setattr(catalog, "commit_table", answers_late)
    with pytest.raises(ConnectionResetError):
        table.commit(batch)
    with pytest.raises(OffsetsMoved):
        table.commit(batch)

    assert list(range(5)) == offsets(table)


def test_a_conflict_with_our_own_commit_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends again by itself hears of a conflict, although the first of the two has come through."""
    table = table_of(tmp_path)
    catalog = table.iceberg.catalog
    real = catalog.commit_table

    def sent_twice(*args: Any) -> Any:
        real(*args)
        return real(*args)

    monkeypatch.setattr(catalog, "commit_table", sent_twice)
    with pytest.raises(OffsetsMoved):
        table.commit(batch_of(0, 5))

    assert list(range(5)) == offsets(table)


def test_storage_that_fails_behind_a_commit_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What expired cannot be looked up, so the commit is tried again: its files are the table's by then."""
    first = table_of(tmp_path, snapshots_kept=2)
    for turn in range(4):
        first.commit(batch_of(turn, 1, before=turn or None))
    table = table_of(tmp_path, snapshots_kept=2)  # it has read no snapshot's manifests yet
    batch = batch_of(4, 1, before=4)
    with monkeypatch.context() as patch:
        patch.setattr(LakeTable, "_left_behind", _raise_connection_error)
        with pytest.raises(ConnectionError):
            table.commit(batch)
    with pytest.raises(OffsetsMoved):
        table.commit(batch)

    assert list(range(5)) == offsets(table)


def test_what_is_known_of_snapshots_does_not_grow(tmp_path: Path) -> None:
    """Also of those that other workers let expire."""
    workers = [table_of(tmp_path, snapshots_kept=4) for _ in range(2)]
    for turn in range(12):
        for partition, worker in enumerate(workers):
            worker.commit(batch_of(turn, 1, before=turn or None, partition=partition))

    assert 4 >= max(len(worker._manifests) for worker in workers)  # noqa: SLF001


def test_a_race_that_is_always_lost_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not go on for ever, and leaves no manifest behind."""
    table = table_of(tmp_path)

    def losing(*_: Any) -> Any:
        raise CommitFailedException("somebody was faster")

    with monkeypatch.context() as patch:
        patch.setattr(table.iceberg.catalog, "commit_table", losing)
        with pytest.raises(SinkUnavailable):
            table.commit(batch_of(0, 5))
    assert [] == [path.name for path in tmp_path.rglob("*.avro")]


def test_files_too_old_to_be_safe_are_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweeper elsewhere may have taken them for orphans meanwhile."""
    clock = Clock()
    table = table_of(tmp_path, clock)
    batch = batch_of(0, 5)
    with monkeypatch.context() as patch:
        patch.setattr(table.iceberg.catalog, "commit_table", _raise_connection_error)
        with pytest.raises(ConnectionError):
            table.commit(batch)
    (old,) = tmp_path.rglob("*.parquet")
    old.unlink()
    clock.now += 3_600
    table.commit(batch)

    assert list(range(5)) == offsets(table)


def test_the_times_of_snapshots_do_not_fall_with_the_clock(tmp_path: Path) -> None:
    """Other implementations of Iceberg refuse a table whose times do; the clocks of two workers may differ."""
    clock = Clock()
    ahead, behind = (table_of(tmp_path, each) for each in (clock, Clock()))
    clock.now += 3_600
    for turn, table in enumerate([ahead, behind, behind, ahead]):
        table.load()
        table.commit(batch_of(turn, 1, before=turn or None))
    metadata = ahead.iceberg.metadata
    times = [entry.timestamp_ms for entry in metadata.snapshot_log]

    assert 4 == len(set(times))
    assert sorted(times) == times
    assert times[-1] == metadata.last_updated_ms
    assert [entry.timestamp_ms for entry in metadata.metadata_log][-3:] == times[:3]


def test_what_a_commit_asserts_is_what_it_has_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loads the table anew between the two: the batch is refused by what another has committed meanwhile."""
    frozen, successor = table_of(tmp_path), table_of(tmp_path)
    calls: list[Any] = []

    def written_late(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            successor.commit(batch_of(0, 10))
            frozen.load()
        return write_files(*args)

    monkeypatch.setattr("sinks.lake.commit.write_files", written_late)
    with pytest.raises(OffsetsMoved):
        frozen.commit(batch_of(0, 3))
    assert list(range(10)) == offsets(frozen)


async def test_a_sweep_that_fails_is_no_failed_commit(sink: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are in the table; what could not be deleted is found again."""
    await sink.open(spec_of())
    monkeypatch.setattr(LakeTable, "sweep", _raise_connection_error)

    assert 5 == (await sink.write(batch_of(0, 5))).rows


def test_another_layout_is_refused(tmp_path: Path) -> None:
    """Rather than guessed at."""
    config = config_of(tmp_path)
    table = table_of(tmp_path)
    with table.iceberg.transaction() as change_properties:
        change_properties.set_properties({lake.PROPERTY_LAYOUT: "3"})

    with pytest.raises(TableStopped) as caught:
        lake.open_table(open_catalog(config), config.namespace, spec_of())
    assert "lake_layout" == caught.value.reason
    assert "lake table patients has version 3, this release reads 1 and 2 (a table of the lake)" == caught.value.message
    assert "upgrade this one" in caught.value.hint


def test_a_new_column_and_a_wider_type_are_taken_up(tmp_path: Path) -> None:
    """Rows from before read as null in the new column."""
    narrow = spec_of(columns={"id": "int", "name": "string"})
    config = config_of(tmp_path)
    catalog = open_catalog(config)
    old = LakeTable(
        lake.open_table(catalog, config.namespace, narrow), snapshots_kept=5, sweep_grace_seconds=60, clock=time.time
    )
    first = change(0, 1, after={"id": 1, "name": "x"}, key={"id": 1})
    old.commit(LakeBatch("patients", rows_of([first], narrow), {0: None}, {0: Stand(CHANGES, "", 1)}))
    table = table_of(tmp_path)
    table.commit(batch_of(1, 1, before=1))
    rows = table.iceberg.scan(selected_fields=("id", "note", "tags")).to_arrow().sort_by("id").to_pylist()

    assert [{"id": 1, "note": None, "tags": None}, {"id": 1, "note": "note 1", "tags": ["a", None]}] == sorted(
        rows, key=lambda row: str(row["note"])
    )


def test_a_type_that_iceberg_cannot_change_stops_the_table(tmp_path: Path) -> None:
    """With a hint, and without touching the table."""
    config = config_of(tmp_path)
    table_of(tmp_path)

    with pytest.raises(TableStopped) as caught:
        lake.open_table(open_catalog(config), config.namespace, spec_of(columns={"id": "long", "name": "int"}))
    assert "lake_schema" == caught.value.reason
