"""The pass and the second look, with sides that change while they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from connectors.sources.base import Dialect, KeyRange, SourceTable
from schemas.errors import ConfigurationError
from schemas.types import ColumnType, parse_type
from streams.verify.compare import UNAVAILABLE
from streams.verify.run import Finding, Options, Report, Verification

COLUMNS = {"id": parse_type("long"), "name": parse_type("string")}
Rows = dict[int, str]


class Session:
    """A source that is SQL of DuckDB over rows of a dict."""

    def __init__(self, rows: Rows, left_open: str = "") -> None:
        self.rows, self.left_open = rows, left_open

    def run(self, query: str, parameters: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        with duckdb.connect() as connection:
            connection.execute("CREATE TABLE people (id BIGINT, name VARCHAR)")
            for row in self.rows.items():
                connection.execute("INSERT INTO people VALUES (?, ?)", row)
            return connection.execute(query.replace("%s", "?"), list(parameters)).fetchall()

    def moment(self) -> str:
        return "0/1"

    def leaves_open(self) -> str:
        return self.left_open

    def close(self) -> None:
        """Nothing is open."""


class Place:
    """A place whose rows are a dict."""

    def __init__(self, name: str, rows: Rows, columns: Mapping[str, ColumnType] = COLUMNS) -> None:
        self.name, self.held = name, rows
        self.columns = columns

    def rows(self, keys: pa.Table) -> pa.Table:
        found = [(key, self.held[key]) for key in keys["id"].to_pylist() if key in self.held]
        return pa.table(
            {
                "id": pa.array([key for key, _ in found], pa.int64()),
                "name": pa.array([name for _, name in found], pa.string()),
                UNAVAILABLE: pa.array([[]] * len(found), pa.list_(pa.string())),
            }
        )

    first_rows = rows

    def others(self, seen: str, bounds: pa.Table) -> pa.Table:
        seen_ids = {row[0] for row in WORKSPACES[-1].execute(f"SELECT id FROM {seen}").fetchall()}
        return pa.table({"id": pa.array([key for key in self.held if key not in seen_ids], pa.int64())})


WORKSPACES: list[duckdb.DuckDBPyConnection] = []


class Clock:
    """Time that passes only while somebody sleeps; each sleep runs what `then` says."""

    def __init__(self, then: Callable[[int], None] = lambda _: None) -> None:
        self.now, self.sleeps, self._then = 0.0, 0, then

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps += 1
        self._then(self.sleeps)


def verify(
    source: Rows, places: list[Place], clock: Clock, *, chunk: int = 2, settle: float = 10.0, left_open: str = ""
) -> Report:
    """Verify with a workspace of its own."""
    workspace = duckdb.connect()
    WORKSPACES.append(workspace)
    dialect = Dialect(lambda name: f'"{name}"', lambda quoted, _: f"CAST({quoted} AS VARCHAR)")
    table = SourceTable(Session(source, left_open), dialect, "people", ["id"], COLUMNS, KeyRange())
    options = Options(chunk_rows=chunk, settle_seconds=settle)
    return Verification("people", table, list(places), workspace, options, clock=clock, sleep=clock.sleep).run()


def people(count: int) -> Rows:
    """Return some rows."""
    return {number: f"name {number}" for number in range(count)}


def test_equal_sides_need_no_second_look() -> None:
    """All chunks are read, and nobody waits."""
    clock = Clock()
    report = verify(people(7), [Place("lake", people(7)), Place("redis", people(7))], clock)
    assert (report.equal, report.rows, report.chunks, report.findings, clock.sleeps) == (True, 7, 4, [], 0)
    assert all(place.checksum == place.source_checksum != 0 for place in report.places.values())


def test_what_arrives_while_it_is_looked_at_is_no_difference() -> None:
    """An insert, an update and a delete are on their way to the place."""
    source, held = people(4), people(4)
    source[1] = "new"
    source[9] = "born"
    del source[3]
    place = Place("lake", held)

    def arrive(sleeps: int) -> None:
        place.held = dict(source)

    report = verify(source, [place], Clock(arrive))
    assert (report.equal, report.findings, report.unsettled) == (True, [], 0)
    assert report.places["lake"].looked_at_again == 3


def test_what_stays_different_is_found_with_its_place_key_and_columns() -> None:
    """One wrong row in each of three places; where all places agree, the source stands alone."""
    source, lake, redis = people(8), people(8), people(8)
    lake[1] = "planted"
    redis[2] = "planted"
    source[3] = "planted"
    del lake[4]
    redis[77] = "nobody's"
    keys_only = Place("redis keys", people(8), {"id": COLUMNS["id"]})
    report = verify(source, [Place("lake", lake), Place("redis", redis), keys_only], Clock())
    assert sorted(report.findings, key=lambda each: each.key) == [
        Finding("lake", (1,), "values", ("name",)),
        Finding("redis", (2,), "values", ("name",)),
        Finding("source", (3,), "values", ("name",)),
        Finding("lake", (4,), "missing", ()),
        Finding("redis", (77,), "extra", ()),
    ]
    assert not report.equal


def test_a_row_that_keeps_changing_is_left_unjudged() -> None:
    """Not called different, and not called equal."""
    source, held = people(3), people(3)
    source[0] = "hot"

    def change(sleeps: int) -> None:
        source[0] = f"hot {sleeps}"

    report = verify(source, [Place("lake", held)], Clock(change))
    assert (report.findings, report.unsettled) == ([], 1)


class SlowPlace(Place):
    """A place that takes so long to answer, and then has what was there when it was asked; `arriving` comes behind."""

    def __init__(self, rows: Rows, clock: Clock, seconds: float, arriving: Rows | None = None) -> None:
        super().__init__("lake", rows)
        self._clock, self._seconds, self._arriving = clock, seconds, arriving or {}

    def rows(self, keys: pa.Table) -> pa.Table:
        found = super().rows(keys)
        self._clock.now += self._seconds
        self.held = {**self.held, **self._arriving}
        return found

    def first_rows(self, keys: pa.Table) -> pa.Table:
        return super().rows(keys)


def test_who_waits_for_nothing_is_told_of_a_row_that_is_missing() -> None:
    """Where all writers stand still, two looks are enough, and one is none."""
    held = people(4)
    del held[1]
    report = verify(people(4), [Place("lake", held)], Clock(), settle=0)
    assert report.findings == [Finding("lake", (1,), "missing", ())]
    assert (report.equal, report.unsettled) == (False, 0)


def test_a_row_is_judged_however_long_a_look_takes() -> None:
    """Also where one alone is longer than all the patience with rows that keep changing."""
    clock, held = Clock(), people(4)
    del held[1]
    report = verify(people(4), [SlowPlace(held, clock, 50.0)], clock, settle=10)
    assert report.findings == [Finding("lake", (1,), "missing", ())]
    assert (report.equal, report.unsettled) == (False, 0)


def test_the_time_that_a_look_takes_is_none_in_which_a_row_could_arrive() -> None:
    """The place shows what it had a moment after the source was read, though it says so much later."""
    clock, held = Clock(), people(4)
    del held[1]
    report = verify(people(4), [SlowPlace(held, clock, 15.0, arriving=people(4))], clock, settle=10)
    assert (report.equal, report.findings, report.unsettled) == (True, [], 0)


def test_a_row_that_changed_and_then_stands_still_is_judged_late() -> None:
    """Patience ends with what goes on changing, not with what stands still by then."""
    source, held = people(3), people(3)
    source[0] = "new"

    def change(sleeps: int) -> None:
        if sleeps <= 14:  # of two seconds each: up to 28 of the 30 that a row may go on changing
            source[0] = f"newer {sleeps}"

    report = verify(source, [Place("lake", held)], Clock(change), settle=10)
    assert report.findings == [Finding("lake", (0,), "values", ("name",))]
    assert (report.equal, report.unsettled) == (False, 0)


def test_a_place_that_lacks_everything_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are not judged one by one where the load is not over."""
    monkeypatch.setattr("streams.verify.run.EXTRAS_MAX", 5)
    report = verify(people(50), [Place("lake", {})], Clock())
    assert (report.too_many, report.equal, report.findings) == (True, False, [])
    assert report.rows < 50


def test_a_key_without_a_text_is_refused() -> None:
    """Before anything is read."""
    dialect = Dialect(str, lambda quoted, _: quoted)
    table = SourceTable(Session({}), dialect, "people", ["id"], {"id": parse_type("double")}, KeyRange())
    with pytest.raises(ConfigurationError, match="cannot be looked up by id"):
        Verification("people", table, [Place("lake", {})], duckdb.connect(), Options())


def test_what_leaves_the_order_of_changes_open_at_the_source_is_told() -> None:
    """A difference may come of it; it makes none by itself."""
    left_open = "binlog_transaction_compression=ON"

    report = verify({1: "Ada"}, [Place("lake", {1: "Ada"})], Clock(), left_open=left_open)

    assert (True, left_open) == (report.equal, report.leaves_open)
