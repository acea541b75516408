"""What the lake's sweep takes away, and what it must leave: files of readers, of other workers, of other engines."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sinks.lake import table as lake
from sinks.lake.files import write_files
from sinks.lake.sweep import referred_files
from tests.contract.test_lake_sink import Clock, batch_of, offsets, table_of


def test_snapshots_expire_and_their_files_go_after_the_grace(tmp_path: Path) -> None:
    """What is left on disk is what the kept snapshots refer to, and every row is still there."""
    clock = Clock()
    table = table_of(tmp_path, clock, snapshots_kept=4, sweep_grace_seconds=60)
    for turn in range(30):
        table.commit(batch_of(turn, 1, before=turn or None))
        table.sweep()
    before = {str(path) for path in tmp_path.rglob("*") if path.is_file()}
    clock.now += 61
    table.sweep()
    after = {str(path) for path in tmp_path.rglob("*") if path.is_file()} - {str(tmp_path / "catalog.db")}

    assert 4 == len(table.iceberg.metadata.snapshots)
    assert len(before) > 2 * len(after) - 30
    assert referred_files(table.iceberg) == after
    assert list(range(30)) == offsets(table)


def test_orphans_of_a_dead_commit_are_swept_and_nothing_else(tmp_path: Path) -> None:
    """Not before a quarter of an hour, whatever the grace: a commit may be about to refer to them."""
    clock = Clock()
    table = table_of(tmp_path, clock, sweep_grace_seconds=0)
    table.commit(batch_of(0, 5))
    (data,) = tmp_path.rglob("*.parquet")
    orphans = [data.with_name("dead.parquet"), next(tmp_path.rglob("snap-*.avro")).with_name("dead-m0.avro")]
    for orphan in orphans:
        orphan.write_bytes(b"left behind")
    table.sweep()
    assert all(orphan.exists() for orphan in orphans)
    clock.now += 3_700
    table.sweep()

    assert not any(orphan.exists() for orphan in orphans)
    assert data.exists()
    assert list(range(5)) == offsets(table)


def test_what_another_worker_let_expire_stays_for_the_grace(tmp_path: Path) -> None:
    """A search for orphans finds it at once, however old it is; a reader may have opened that snapshot just now."""
    clock = Clock()
    one, other = (table_of(tmp_path, clock, snapshots_kept=2, sweep_grace_seconds=1_000) for _ in range(2))
    one.commit(batch_of(0, 1))
    clock.now += 5_000
    reader = table_of(tmp_path, clock).iceberg
    for turn in range(1, 4):
        one.commit(batch_of(turn, 1, before=turn))
    other.load()
    other.commit(batch_of(0, 1, partition=1))
    other.sweep()

    assert [0] == reader.scan(selected_fields=(lake.OFFSET,)).to_arrow().column(0).to_pylist()
    clock.now += 4_000
    other.sweep()
    assert [0] == reader.scan(selected_fields=(lake.OFFSET,)).to_arrow().column(0).to_pylist(), "found just now"
    clock.now += 4_000
    other.sweep()
    with pytest.raises(FileNotFoundError):
        reader.scan(selected_fields=(lake.OFFSET,)).to_arrow()


def test_what_a_job_of_another_engine_commits_late_is_no_orphan(tmp_path: Path) -> None:
    """A search has found its files unreferred; the one that would delete them asks the table once more."""
    clock = Clock()
    table, job = table_of(tmp_path, clock), table_of(tmp_path)
    table.commit(batch_of(0, 5))
    table.sweep()
    job.load()
    files = write_files(job.iceberg, batch_of(5, 5).rows)
    clock.now += 3_700
    table.sweep()
    with job.iceberg.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for file in files:
            append.append_data_file(file)
    clock.now += 3_700
    table.sweep()

    assert list(range(10)) == offsets(table)


def test_a_worker_whose_clock_is_ahead_takes_no_young_file_for_an_orphan(tmp_path: Path) -> None:
    """What another has written and not committed yet is young by the storage's clock, and that one counts."""
    clock = Clock()
    clock.now += 7_200
    table, other = table_of(tmp_path, clock, sweep_grace_seconds=0), table_of(tmp_path)
    batch = batch_of(0, 5, partition=1)
    batch.files = write_files(other.iceberg, batch.rows)
    batch.files_at, batch.files_of = time.time(), other.iceberg.metadata.table_uuid
    table.commit(batch_of(0, 5))
    table.sweep()
    other.commit(batch)

    assert 2 == len(list(tmp_path.rglob("*.parquet")))
    assert sorted(2 * list(range(5))) == offsets(table)
