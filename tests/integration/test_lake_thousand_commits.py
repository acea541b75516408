"""A table of the lake after many commits: bounded in snapshots and files.

A thousand of them, timed: tests/bench/bench_lake_commits.py.
"""

from __future__ import annotations

from pathlib import Path

from schemas.config import LakeConfig
from sinks.lake.sweep import referred_files
from tests.bench.bench_lake_commits import Run

COMMITS = 120


def test_many_commits_leave_few_snapshots_and_few_files(tmp_path: Path) -> None:
    """One data file per commit, and beside them only what the kept snapshots need and what is in its grace."""
    config = LakeConfig(warehouse=str(tmp_path), snapshots_kept=10, sweep_grace_seconds=600)
    run = Run(tmp_path, rows=20, config=config)
    run.commit(COMMITS)
    files = run.files()

    assert 10 == len(run.table.iceberg.metadata.snapshots)
    assert COMMITS == files["data"]
    # Ten kept, ten minutes of grace at a commit a minute, and thirty that wait to be deleted together.
    assert files["manifest list"] <= 10 + 10 + 30
    assert files["metadata"] <= 11 + 10 + 30
    assert files["manifest"] <= 30 + 2 * (10 + 10 + 30)
    assert all(Path(path).exists() for path in referred_files(run.table.iceberg))
    report = run.verified()
    assert report.ok
    assert (COMMITS * 20, COMMITS) == (report.rows, report.files)


def test_another_worker_sees_every_row_after_many_commits(tmp_path: Path) -> None:
    """Merged manifests name each file once, whoever reads them."""
    first = Run(tmp_path, rows=5)
    first.commit(25)
    other = Run(tmp_path, rows=5)

    assert 125 == other.table.iceberg.scan().count()
    assert 125 == other.table.stands()[0].next_offset
