"""`lake verify` finds what is missing and what is doubled, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.change import Height
from schemas.config import LakeConfig
from sinks.lake.commit import LakeBatch, LakeTable
from sinks.lake.stand import Stand
from sinks.lake.storage import open_catalog
from sinks.lake.table import load_table, open_table
from sinks.lake.verify import Report, Stretch, judge, verify
from tests.unit.lake.changes import TOPIC, change, rows_of, spec_of

STREAM = (TOPIC, 0, 0)


class Planted:
    """A lake whose table gets what a test plants, whatever its offsets."""

    def __init__(self, folder: Path) -> None:
        config = LakeConfig(warehouse=str(folder))
        self._catalog = open_catalog(config)
        iceberg = open_table(self._catalog, config.namespace, spec_of())
        self._table = LakeTable(iceberg, snapshots_kept=5, sweep_grace_seconds=60, clock=lambda: 1_800_000_000.0)
        self._commits = 0

    def add(self, changes: list[dict[str, Any]], *, highest: int | None = None) -> None:
        """Commit the changes as one file per day, and with them that the lake has all up to `highest`."""
        before, self._commits = self._commits, self._commits + 1
        stand = Stand("t", "", self._commits, {} if highest is None else {STREAM: Height(highest)})
        self._table.commit(LakeBatch("patients", rows_of(changes), {0: before or None}, {0: stand}))

    def verify(self) -> Report:
        """Verify the table as a stranger would."""
        return verify(load_table(self._catalog, "headgate", "patients"))


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    """An empty lake."""
    return Planted(tmp_path)


def changes(*offsets: int, **changed: Any) -> list[dict[str, Any]]:
    """Return changes of these origin offsets, each behind the one before it."""
    return [change(offset, offset % 3, **changed) for offset in offsets]


@pytest.mark.parametrize(("highest", "gaps"), [(2, 0), (5, 1)])
def test_what_is_missing_at_the_end_is_a_gap(planted: Planted, highest: int, gaps: int) -> None:
    """The chain cannot tell, but the lake says itself how far it has come: somebody rolled its rows back."""
    planted.add(changes(0, 1, 2), highest=highest)
    report = planted.verify()

    assert gaps == report.gaps
    assert [(highest, 2)] * gaps == [(found.offset, found.expected) for found in report.findings]


def test_a_whole_lake_is_ok(planted: Planted) -> None:
    """Several files, several days, several streams; offsets that skip other tables' records."""
    planted.add(changes(0, 1, 2))
    skipping = [change(9, 1, source={"previous": 2}), change(12, 1, source={"previous": 9}, ts="2026-11-21T00:00:00Z")]
    planted.add(skipping)
    planted.add([change(15, 1, source={"previous": 12}), change(16, 1, ts="2026-11-21T00:00:01Z"), change(17, 2)])
    planted.add([change(n, 1, source={"origin": [TOPIC, 1, 0, n]}) for n in range(5)])
    report = planted.verify()

    assert report.ok
    assert [] == report.findings
    assert (13, 2, 0) == (report.rows, report.streams, report.late_starts)


def test_a_planted_gap_is_found(planted: Planted) -> None:
    """Between two files, and within one."""
    planted.add(changes(0, 1, 2))
    planted.add(changes(4, 5, 8))
    report = planted.verify()

    assert not report.ok
    assert (2, 0) == (report.gaps, report.overlaps)
    assert [(4, 2, 3), (8, 5, 7)] == [(one.offset, one.expected, one.previous) for one in report.findings]
    assert all(one.file.endswith(".parquet") for one in report.findings)


def test_a_planted_overlap_is_found(planted: Planted) -> None:
    """A file twice, the end of one again, a row twice in one file."""
    planted.add(changes(0, 1, 2, 3))
    planted.add(changes(2, 3))
    planted.add(changes(4, 4))
    report = planted.verify()

    assert not report.ok
    assert (0, 2) == (report.gaps, report.overlaps)
    assert [2, 4] == [one.offset for one in report.findings]


def test_a_lake_that_began_later_is_not_broken(planted: Planted) -> None:
    """The first change names one before it; that is said, not blamed."""
    planted.add(changes(7, 8))
    report = planted.verify()

    assert report.ok
    assert 1 == report.late_starts


def test_floors_stand_outside_the_chain(planted: Planted) -> None:
    """They are nobody's previous, and may be there twice."""
    floor = change(5, 0, op="floor", key=None, after=None)
    planted.add([*changes(0, 1), floor, floor, change(6, 1, source={"previous": 1})])

    assert planted.verify().ok


def test_only_the_first_five_findings_are_kept(planted: Planted) -> None:
    """All are counted."""
    planted.add(changes(*range(0, 40, 2)))
    report = planted.verify()

    assert 19 == report.gaps
    assert 5 == len(report.findings)


def test_progress_is_told_file_by_file(planted: Planted, tmp_path: Path) -> None:
    """For a bar on the screen."""
    planted.add(changes(0, 1))
    planted.add(changes(2))
    told: list[tuple[int, int, int]] = []
    table = load_table(open_catalog(LakeConfig(warehouse=str(tmp_path))), "headgate", "patients")
    verify(table, progress=lambda *state: told.append(state))

    assert [(1, 2), (2, 2)] == [state[:2] for state in told]
    assert 3 == told[-1][2]


def test_a_lake_without_rows_is_ok(planted: Planted) -> None:
    """Nothing is missing of nothing."""
    assert planted.verify().ok


@given(st.sets(st.integers(0, 60), min_size=2, max_size=30), st.data())
def test_any_missing_or_doubled_change_is_found(offsets: set[int], data: st.DataObject) -> None:
    """Whichever it is, but for the first and the last, of whose neighbours nobody speaks."""
    chain = sorted(offsets)
    rows = [(offset, chain[index - 1] if index else None) for index, offset in enumerate(chain)]
    victim = data.draw(st.integers(1, len(chain) - 1))
    doubled = [*rows, rows[victim]]
    missing = rows[:victim] + rows[victim + 1 :]

    assert (0, 0) == _judged(rows)
    assert (0, 1) == _judged(doubled)
    assert ((1, 0) if victim < len(chain) - 1 else (0, 0)) == _judged(missing)


def _judged(rows: list[tuple[int, int | None]]) -> tuple[int, int]:
    report = Report("t")
    judge(STREAM, [Stretch(offset, offset, previous, 0) for offset, previous in rows], ["file"], report)
    return report.gaps, report.overlaps
