"""Records of several changes in the lake: two columns where there are any, and `lake verify` over them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain as joined
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.transport.chunk import Assignment, Run
from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from schemas.change import Height
from schemas.config import LakeConfig
from sinks.lake import table as lake
from sinks.lake.commit import LakeBatch, LakeTable
from sinks.lake.latest import LatestChanges
from sinks.lake.stand import OffsetsMoved, Stand
from sinks.lake.storage import open_catalog
from sinks.lake.verify import Report, Stretch, judge, verify
from sinks.lake.view import open_lake_sql
from streams.lake_buffer import Part, Place, lake_batch, new_rows
from tests.unit.fakes import Message
from tests.unit.lake.changes import TOPIC, chain, record, rows_of, spec_of

STREAM = (TOPIC, 0, 0)
PLACE = (lake.OFFSET, lake.ROW, lake.ROWS)


class Planted:
    """A lake whose table gets what a test plants; each worker has loaded it at a time of its own."""

    def __init__(self, folder: Path) -> None:
        self.config = LakeConfig(warehouse=str(folder))
        self._commits = 0

    def worker(self) -> LakeTable:
        """Return the table as a worker has it that opens it now."""
        iceberg = lake.open_table(open_catalog(self.config), self.config.namespace, spec_of())
        return LakeTable(iceberg, snapshots_kept=5, sweep_grace_seconds=60, clock=lambda: 1_800_000_000.0)

    def add(
        self, changes: Sequence[dict[str, Any]], *, highest: Height | None = None, worker: LakeTable | None = None
    ) -> None:
        """Commit the changes, and with them that the lake has all up to `highest`."""
        before, self._commits = self._commits, self._commits + 1
        stand = Stand("t", "", self._commits, {} if highest is None else {STREAM: highest})
        (worker or self.worker()).commit(LakeBatch("patients", rows_of(changes), {0: before or None}, {0: stand}))

    def verify(self) -> Report:
        """Verify the table as a stranger would."""
        return verify(self.worker().iceberg)

    def places(self) -> list[tuple[Any, ...]]:
        """Return where each row stands, as it is stored."""
        rows = self.worker().iceberg.scan(selected_fields=PLACE).to_arrow().to_pylist()
        return sorted((row[lake.OFFSET], row[lake.ROW] or 0, row[lake.ROWS] or 1) for row in rows)


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    """An empty lake."""
    return Planted(tmp_path)


def test_a_table_has_the_columns_only_once_it_has_such_a_record(planted: Planted) -> None:
    """Until then it is as releases before know it; from then on they refuse it."""
    records = chain([1, 1, 3, 1])
    planted.add([*joined.from_iterable(records[:2])])
    plain = planted.worker().iceberg
    planted.add(records[2], highest=Height(4, 2))
    planted.add(records[3], highest=Height(6))
    wide = planted.worker().iceberg

    assert not lake.has_row_columns(plain)
    assert "1" == plain.properties[lake.PROPERTY_LAYOUT]
    assert lake.has_row_columns(wide)
    assert "2" == wide.properties[lake.PROPERTY_LAYOUT]
    assert [(0, 0, 1), (2, 0, 1), (4, 0, 3), (4, 1, 3), (4, 2, 3), (6, 0, 1)] == planted.places()
    assert planted.verify().ok


def test_two_workers_meet_such_a_record_at_the_same_time(planted: Planted) -> None:
    """Both have loaded the table before it had the columns; each partition is one's."""
    planted.add(record(0, 1))
    first, second = planted.worker(), planted.worker()
    planted.add(record(2, 2, before=0), worker=first)
    rows = rows_of(record(0, 4, partition=1))
    second.commit(LakeBatch("patients", rows, {1: None}, {1: Stand("t", "", 1, {(TOPIC, 0, 1): Height(0, 3)})}))

    assert [(0, 0, 1), (0, 0, 4), (0, 1, 4), (0, 2, 4), (0, 3, 4), (2, 0, 2), (2, 1, 2)] == planted.places()
    assert {(TOPIC, 0, 1): Height(0, 3)} == planted.worker().stands()[1].highest
    assert planted.verify().ok


def test_a_frozen_worker_is_refused_also_at_the_first_such_record(planted: Planted) -> None:
    """It adds the columns too, and finds them there: what it asserts is what it has checked, not what it then loads."""
    planted.add(record(0, 1))
    successor, frozen = planted.worker(), planted.worker()
    batches = [
        LakeBatch("patients", rows_of(record(2, 2, before=0)), {0: 1}, {0: Stand("t", "", 2, {STREAM: Height(2, 1)})})
        for _ in range(2)
    ]
    successor.commit(batches[0])

    with pytest.raises(OffsetsMoved):
        frozen.commit(batches[1])
    assert [(0, 0, 1), (2, 0, 2), (2, 1, 2)] == planted.places()


def test_a_worker_that_knows_no_such_columns_goes_on_writing_ordinary_records(planted: Planted) -> None:
    """It has loaded the table before them."""
    planted.add(record(0, 1))
    early = planted.worker()
    planted.add(record(2, 2, before=0))
    early.load()
    planted.add(record(4, 1, before=2), worker=early)

    assert planted.verify().ok


def test_a_batch_may_hold_runs_with_and_without_them() -> None:
    """What a record lacks that made one change is null, which says so."""
    runs = [Run(Assignment("lake", "t", number), [Message(number, None, b"")]) for number in range(2)]
    rows = [rows_of(record(0, 1)), rows_of(record(0, 2, partition=1))]
    parts = [Part(run, of_run, 1) for run, of_run in zip(runs, rows, strict=True)]
    batch, dropped = lake_batch("patients", parts, {run.assignment: Place() for run in runs})

    assert 0 == dropped
    assert [None, 0, 1] == batch.rows.column(lake.ROW).to_pylist()
    assert {(TOPIC, 0, 1): Height(0, 1)} == batch.after[1].highest


@given(st.lists(st.integers(1, 3), min_size=1, max_size=5), st.data())
def test_both_ways_of_the_rule_let_the_same_through(counts: list[int], data: st.DataObject) -> None:
    """At once where all of a run is new, row by row where some of it is not."""
    changes = [*joined.from_iterable(chain(counts))]
    cut = data.draw(st.integers(0, len(changes) - 1))
    begun, highest = new_rows(rows_of(changes[:cut]), {})
    rest, reached = new_rows(rows_of(changes[cut:]), highest)
    all_but_begun, reached_again = new_rows(rows_of(changes), highest)

    assert (cut, len(changes) - cut) == (len(begun), len(rest))
    assert reached == reached_again
    assert rest.column(lake.POSITION).to_pylist() == all_but_begun.column(lake.POSITION).to_pylist()


Row = tuple[int, int, int | None, int]  # offset, which of its record, previous, how many the record made


def rows_judged(rows: Sequence[Row]) -> tuple[int, int]:
    """Return the gaps and overlaps of rows that each stand in a file of their own."""
    report = Report("t")
    judge(
        STREAM,
        [Stretch(o, o, previous, 0, row, row, count - 1 - row) for o, row, previous, count in rows],
        ["file"],
        report,
    )
    return report.gaps, report.overlaps


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_any_missing_or_doubled_change_of_a_record_is_found(counts: list[int], data: st.DataObject) -> None:
    """Whichever it is, but for the first of all, and the last ones behind which nothing came."""
    rows: list[Row] = [
        (2 * number, row, 2 * number if row else (2 * number - 2 if number else None), count)
        for number, count in enumerate(counts)
        for row in range(count)
    ]
    victim = data.draw(st.integers(0, len(rows) - 1))
    missing = rows[:victim] + rows[victim + 1 :]

    assert (0, 0) == rows_judged(rows)
    assert (0, 1) == rows_judged([*rows, rows[victim]])
    assert (int(0 < victim < len(rows) - 1), 0) == rows_judged(missing)


@settings(deadline=None, max_examples=15)
@given(counts=st.lists(st.integers(1, 4), min_size=2, max_size=6), data=st.data())
def test_the_lake_is_whole_or_verify_says_what_is_not(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], data: st.DataObject
) -> None:
    """Over files that part records anywhere, with the end that the table itself names."""
    changes = [*joined.from_iterable(chain(counts))]
    victim = data.draw(st.integers(1, len(changes) - 1))
    cut = data.draw(st.integers(0, len(changes)))
    twice = data.draw(st.booleans())
    end = Height(2 * len(counts) - 2, counts[-1] - 1)
    damaged = changes[: victim + 1] + changes[victim:] if twice else changes[:victim] + changes[victim + 1 :]
    reports = []
    for number, planted_changes in enumerate((changes, damaged)):
        planted = Planted(tmp_path_factory.mktemp(f"lake-{number}"))
        for part in (planted_changes[:cut], planted_changes[cut:]):
            if part:
                planted.add(part, highest=end)
        reports.append(planted.verify())

    assert [True, False] == [report.ok for report in reports]
    assert (int(not twice), int(twice)) == (reports[1].gaps, reports[1].overlaps)


def test_a_finding_says_which_change_of_a_record_it_is(planted: Planted) -> None:
    """And which was before it: the second of record 2 is missing, then the last of it, then record 6's first."""
    (first, second, third, fourth) = chain([1, 4, 1, 2])
    planted.add([*first, second[0], second[2], *third, fourth[1]], highest=Height(6, 1))
    found = [(f.offset, f.row, f.expected, f.expected_row) for f in planted.verify().findings]

    assert [(2, 2, 2, 0), (4, 0, 2, 2), (6, 1, 4, 0)] == found


def test_the_verb_says_it_too(planted: Planted, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In its table, and as JSON."""
    config = tmp_path / "headgate.yaml"
    config.write_text(f"lake: {{warehouse: '{planted.config.warehouse}'}}\n")
    planted.add(record(4711, 3)[::2])
    codes = [entry.run(["lake", "verify", "patients", "--config", str(config), *more]) for more in ([], ["--json"])]
    out = capfd.readouterr().out

    assert [ExitCode.FOUND] * 2 == codes
    assert "4711 row 2" in out
    assert '"row": 2' in out


def test_the_end_of_a_stream_may_be_within_a_record(planted: Planted) -> None:
    """What the lake has not said to have is on its way; what it has, and is not there, is a gap."""
    planted.add(record(0, 3)[:2], highest=Height(0, 1))
    whole = planted.verify()
    planted.add([], highest=Height(0, 2))
    rolled_back = planted.verify()

    assert whole.ok
    assert [(0, 2, 0, 1)] == [(f.offset, f.row, f.expected, f.expected_row) for f in rolled_back.findings]


def test_views_and_rebuilds_read_such_a_table(planted: Planted) -> None:
    """The last change of each row wins, and says where it was read."""
    planted.add([*record(0, 1), *record(2, 3, before=0)], highest=Height(2, 2))
    connection = open_lake_sql(planted.config)
    names = connection.execute("SELECT id, name FROM patients_latest ORDER BY id").fetchall()
    connection.close()
    with LatestChanges(planted.config, spec_of(), ["name"]) as latest:
        keys = latest.prepare([0])
        batches = list(latest.batches(expired_before=rows_of(record(0, 1)).column(lake.INGESTED)[0].as_py()))
    origins = sorted(orjson.loads(value)["source"]["origin"][3:] for batch in batches for value in batch.values)

    assert [(0, "name 2"), (1, "name 2"), (2, "name 2")] == names
    assert (3, [[2], [2, 1], [2, 2]]) == (keys, origins)
