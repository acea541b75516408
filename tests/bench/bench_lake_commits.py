"""A thousand commits of one table: what the tenth costs, what the thousandth, and how many files there are then.

    python -m tests.bench.bench_lake_commits [COMMITS] [ROWS]

Times of neighbours are paired as medians: commits 5 to 25 against the last twenty.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

import pyarrow as pa

from schemas.change import Height
from schemas.config import LakeConfig
from sinks.lake.commit import LakeBatch, LakeTable
from sinks.lake.stand import Stand
from sinks.lake.storage import open_catalog
from sinks.lake.table import OFFSET, PREVIOUS, open_table
from sinks.lake.verify import Report, verify
from tests.unit.lake.changes import TOPIC, change, rows_of, spec_of

SECONDS_PER_COMMIT = 60.0  # the clock of the run: a commit a minute


class MinuteClock:
    """A clock that stands still within a commit, from now on."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        """Return seconds since 1970."""
        return self.now


class Run:
    """Commits to one table in a folder, timed."""

    def __init__(self, folder: Path, *, rows: int, config: LakeConfig | None = None) -> None:
        self.config = config or LakeConfig(warehouse=str(folder))
        self.folder = folder
        self.clock = MinuteClock()
        self.seconds: list[float] = []
        self._rows = rows
        self._template = rows_of([change(number, number) for number in range(rows)])
        iceberg = open_table(
            open_catalog(self.config), self.config.namespace, spec_of(), snapshots_kept=self.config.snapshots_kept
        )
        self.table = LakeTable(
            iceberg,
            snapshots_kept=self.config.snapshots_kept,
            sweep_grace_seconds=self.config.sweep_grace_seconds,
            clock=self.clock,
        )

    def commit(self, commits: int) -> None:
        """Commit `commits` times; sweeping counts as part of a commit."""
        for _ in range(commits):
            first = len(self.seconds) * self._rows
            rows = _moved(self._template, first)
            stand = Stand("t", "", first + self._rows, {(TOPIC, 0, 0): Height(first + self._rows - 1)})
            batch = LakeBatch("patients", rows, {0: first or None}, {0: stand})
            began = time.perf_counter()
            self.table.commit(batch)
            self.table.sweep()
            self.seconds.append(time.perf_counter() - began)
            self.clock.now += SECONDS_PER_COMMIT

    def files(self) -> Counter[str]:
        """Return how many files there are of each kind."""
        kinds = {".parquet": "data", ".json": "metadata"}
        names = [path for path in self.folder.rglob("*") if path.is_file()]
        avro = [
            "manifest list" if path.name.startswith("snap-") else "manifest" for path in names if path.suffix == ".avro"
        ]
        return Counter([kinds[path.suffix] for path in names if path.suffix in kinds] + avro)

    def verified(self) -> Report:
        """Return what `lake verify` says."""
        return verify(self.table.iceberg)


def _moved(rows: pa.Table, first: int) -> pa.Table:
    """Return the rows with origin offsets from `first` on, each behind the one before it."""
    offsets = pa.array(range(first, first + len(rows)), pa.int64())
    previous = pa.array([offset - 1 if offset else None for offset in range(first, first + len(rows))], pa.int64())
    rows = rows.set_column(rows.column_names.index(OFFSET), OFFSET, offsets)
    return rows.set_column(rows.column_names.index(PREVIOUS), PREVIOUS, previous)


def main(commits: int = 1_000, rows: int = 500) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), rows=rows)
        run.commit(commits)
        early, late = median(run.seconds[5:25]), median(run.seconds[-20:])
        report = run.verified()
        print(f"{commits} commits of {rows} rows, one a minute by their clock")
        print(f"around the 10th   {early * 1000:7.1f} ms")
        for at in range(100, commits, 100):
            print(f"around the {at:4d}th {median(run.seconds[at - 10 : at + 10]) * 1000:7.1f} ms")
        print(f"the last twenty   {late * 1000:7.1f} ms, {late / early:.2f} times the 10th")
        print(f"the slowest       {max(run.seconds) * 1000:7.1f} ms")
        print(f"snapshots kept    {len(run.table.iceberg.metadata.snapshots)}")
        print(f"files on disk     {dict(sorted(run.files().items()))}")
        print(f"verify            {'ok' if report.ok else 'BROKEN'}: {report.rows} rows in {report.files} files")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
