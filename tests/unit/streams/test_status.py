"""What `status` says: pure figures of what a stage process knows of itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from connectors.transport.ladder import Trouble
from connectors.transport.snapshot import LaneView, PartitionView, TransportView
from schemas.document import read_document
from schemas.errors import ErrorKind, SinkUnavailable
from schemas.evolution import Evolved, Found
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from schemas.types import parse_type
from streams.parking import Waiting
from streams.stage import BaseStage
from streams.status import Standing, status_of
from streams.tables import TableDirectory
from tests.unit.streams.dms_specs import dms_spec

NOW = 1_795_219_400.0
SPEC = read_document("table: patients\ntopics: [src]\ncolumns: {id: int}", TableSpec, name="spec")


def _partition(**changes: Any) -> PartitionView:
    view = PartitionView(
        topic="headgate.changes.patients",
        partition=0,
        lane="main",
        status="running",
        position=10,
        done=10,
        committed=10,
        end=15,
        lag=5,
        unfinished_age_seconds=None,
        begun_age_seconds=None,
        last_timestamp_ms=int((NOW - 3) * 1000),
        idle_seconds=1.0,
        paused="",
        hint="",
    )
    return replace(view, **changes)


def _lane(trouble: Trouble | None = None) -> LaneView:
    return LaneView("main", 0, 100, paused=False, records_total=0, groups_total=0, trouble=trouble)


class Stage(BaseStage):
    """A stage that is told what to say."""

    name = "features"
    unknown_columns: dict[str, set[str]] = {}  # noqa: RUF012 - replaced where a test needs it

    def topics(self) -> list[str]:
        return []

    async def step(self, group: Any) -> None:
        raise AssertionError("nothing comes")


def _standing(*partitions: PartitionView, lane: LaneView | None = None, **changes: Any) -> Standing:
    away, says = changes.pop("broker_away", False), changes.pop("broker_says", "")
    view = TransportView(list(partitions), [lane or _lane()], {}, 0, "", broker_away=away, broker_says=says)
    standing = Standing(
        name="features",
        stage=Stage(),
        counters={"rows": 3},
        started_at="2026-11-21T00:00:00+00:00",
        started=True,
        stopping=False,
        waiting=None,
        view=view,
        tables=TableDirectory(),
        names=TopicNames(),
    )
    return replace(standing, **changes)


def test_a_table_shows_the_sum_of_its_lags_and_the_age_of_its_newest_change() -> None:
    """Lag, freshness and silence are three things: a source that is quiet is not late."""
    status = status_of(_standing(_partition(), _partition(partition=1, lag=7, idle_seconds=9.0)), now=NOW)

    (row,) = status["tables"]
    assert ("patients", 2, 12) == (row["table"], row["partitions"], row["lag"])
    assert pytest.approx(3.0, abs=0.01) == row["freshness_seconds"]
    assert 1.0 == row["silence_seconds"]


def test_the_relays_topic_is_nobodys_table() -> None:
    """It is always empty: its partitions only say who relays."""
    status = status_of(_standing(_partition(), _partition(topic="headgate.relay", lane="relay")), now=NOW)

    assert ["patients"] == [row["table"] for row in status["tables"]]
    assert 1 == status["assigned"]


@pytest.mark.parametrize(("changes", "shown"), [({"lag": 0}, 0), ({"lag": 3}, 1), ({"lag": 0, "paused": "moved"}, 1)])
def test_the_redrive_topic_is_shown_where_something_waits_on_it(changes: dict[str, Any], shown: int) -> None:
    """It is nobody's table, and nearly always empty."""
    status = status_of(_standing(_partition(), _partition(topic="headgate.redrive", **changes)), now=NOW)

    assert shown == [row["table"] for row in status["tables"]].count("headgate.redrive")
    assert 1 == status["assigned"]


def test_what_was_quarantined_is_told_by_table_and_reason() -> None:
    """What belongs to no table too."""
    counts = {("patients", "bad_type"): 2, ("", "unregistered"): 1, ("patients", "no_key"): 0}

    assert [
        {"table": None, "reason": "unregistered", "count": 1},
        {"table": "patients", "reason": "bad_type", "count": 2},
    ] == status_of(_standing(quarantined=counts), now=NOW)["quarantined"]


@pytest.mark.parametrize(
    ("standing", "state"),
    [
        (_standing(_partition()), "running"),
        (_standing(started=False), "starting"),
        (_standing(stopping=True), "stopping"),
        (_standing(broker_away=True), "waiting"),
        (_standing(waiting=SinkUnavailable("Redis does not answer")), "waiting"),
        (_standing(lane=_lane(Trouble(ErrorKind.UNAVAILABLE, "away", "", 1, NOW))), "waiting"),
        (_standing(lane=_lane(Trouble(ErrorKind.BUG, "oops", "", 1, NOW))), "running"),
        (_standing(_partition(status="resolving", lag=None)), "waiting"),
    ],
)
def test_the_state_is_one_word(standing: Standing, state: str) -> None:
    """An operator sees at a glance whether a stage works, and whether it is the stage or what it needs."""
    assert state == status_of(standing, now=NOW)["state"]


def test_a_topic_that_two_tables_read_is_shown_by_its_own_name() -> None:
    """The page says what is wrong; it does not fail itself."""
    specs = [read_document(f"table: {n}\ntopics: ['^s.*']\ncolumns: {{id: int}}", TableSpec, name="s") for n in "pq"]
    tables = TableDirectory({spec.table: TableEntry(spec=spec) for spec in specs})
    partition = _partition(topic="src", paused="claimed_twice: src is read by p and q")

    (row,) = status_of(_standing(partition, tables=tables), now=NOW)["tables"]

    assert ("src", "claimed_twice: src is read by p and q") == (row["table"], row["paused"])


def test_columns_that_a_spec_does_not_name_are_shown_with_their_table() -> None:
    """By name, and not more of them than somebody reads."""
    stage = Stage()
    stage.unknown_columns = {"patients": {f"c{n:02}" for n in range(30)}, "visits": {"other"}}

    (row,) = status_of(_standing(_partition(), stage=stage), now=NOW)["tables"]

    assert [f"c{n:02}" for n in range(20)] == row["unknown_columns"]


def test_columns_that_follow_the_source_are_shown_with_their_table() -> None:
    """What each is, and since when: whoever keeps the spec takes them up some day."""
    spec = read_document("table: patients\ntopics: [src]\ncolumns: {id: int}", TableSpec, name="s")
    tables = TableDirectory()
    tables.update({b"patients": TableEntry(spec=spec).model_dump_json().encode()})
    found = {"note": [Found(type=parse_type("string"), since="2026-11-26T14:00:00Z")]}
    evolved = Evolved(table="patients", slot="w", revision=1, columns=found)
    tables.update({evolved.key: evolved.encoded()})

    standing = replace(_standing(_partition(topic="src"), tables=tables), name="normalize")
    (row,) = status_of(standing, now=NOW)["tables"]

    assert [{"column": "note", "type": "string", "since": "2026-11-26T14:00:00Z"}] == row["evolved"]


def test_a_table_whose_rows_below_a_floor_are_being_deleted_says_so() -> None:
    """Until the last one is gone."""
    standing = _standing(_partition())
    before = status_of(standing, now=NOW)["tables"][0]["sweeping"]
    standing.stage.sweeping = lambda: {"patients"}  # type: ignore[attr-defined]

    assert (False, True) == (before, status_of(standing, now=NOW)["tables"][0]["sweeping"])


def test_a_table_under_resync_says_how_far_that_is() -> None:
    """As the worker knows that completes it."""
    standing = _standing(_partition())
    before = status_of(standing, now=NOW)["tables"][0]["resync"]
    standing.stage.resyncing = lambda: {"patients": {"epoch": 1}}  # type: ignore[attr-defined]

    assert (None, {"epoch": 1}) == (before, status_of(standing, now=NOW)["tables"][0]["resync"])


def test_an_entry_that_cannot_be_read_is_what_is_wrong() -> None:
    """Its table runs as it was, and not at all after the next start: somebody must know."""
    tables = TableDirectory()
    tables.update({b"visits": b'{"spec": 1}'})

    error = status_of(_standing(tables=tables), now=NOW)["last_error"]

    assert ("configuration", "apply the table again with this version") == (error["kind"], error["hint"])
    assert error["message"].startswith("visits: an entry of the tables' topic cannot be read: ")


def test_what_was_counted_is_told() -> None:
    """The stage's own counters, and what it put in quarantine."""
    assert {"rows": 3} == status_of(_standing(_partition()), now=NOW)["counters"]


def test_what_is_wrong_now_is_said_with_its_hint() -> None:
    """Without an error there is none; a broker that is away is one."""
    assert status_of(_standing(_partition()), now=NOW)["last_error"] is None
    error = status_of(_standing(broker_away=True), now=NOW)["last_error"]
    assert ("unavailable", "no broker answers") == (error["kind"], error["message"])
    assert error["hint"]


def test_why_no_broker_lets_us_in_is_said() -> None:
    """A password that was changed looks like a broker that is away, to whoever is told no more."""
    standing = _standing(broker_away=True, broker_says="b:9092: SASL authentication error: Invalid password")

    error = status_of(standing, now=NOW)["last_error"]

    assert "no broker lets us in: b:9092: SASL authentication error: Invalid password" == error["message"]
    assert "kafka.sasl" in error["hint"]


def test_a_table_that_somebody_paused_is_still_shown() -> None:
    """Nothing of it is read, so no partition would tell."""
    tables = TableDirectory({"patients": TableEntry(spec=SPEC, paused="for the night")})

    status = status_of(_standing(name="normalize", tables=tables), now=NOW)

    assert [("patients", "for the night")] == [(row["table"], row["paused"]) for row in status["tables"]]


@pytest.mark.parametrize(
    ("hint", "stopped", "said"),
    [
        ("clean up", True, "clean up; this worker alone paused it: `headgate tables resume"),
        ("", True, "this worker alone paused it: `headgate tables resume"),
        ("`headgate tables resume TABLE --anew`", True, "`headgate tables resume patients --anew`"),
        ("", False, ""),
    ],
)
def test_a_pause_that_a_worker_made_by_itself_is_shown_as_such(hint: str, *, stopped: bool, said: str) -> None:
    """With the verb that lifts it, which its own hint may have named already."""
    standing = _standing(_partition(paused="truncate", hint=hint, stopped=stopped))
    row = status_of(standing, now=0.0)["tables"][0]

    assert ("truncate", True) == (row["paused"], row["hint"].startswith(said) if said else row["hint"] == "")


def test_a_topic_of_several_tables_has_a_row_for_each() -> None:
    """With the same lag; a table that is paused has its own row alone, as one that is not read."""
    entries = {table: TableEntry(spec=dms_spec(table, "task")) for table in ("patients", "visits")}
    entries["wards"] = TableEntry(spec=dms_spec("wards", "task"), paused="maintenance")
    standing = _standing(_partition(topic="task"), name="normalize", tables=TableDirectory(entries))

    rows = status_of(standing, now=NOW)["tables"]

    assert [("patients", "task", 5, None), ("visits", "task", 5, None), ("wards", "task", None, "maintenance")] == [
        (row["table"], row["topic"], row["lag"], row["paused"]) for row in rows
    ]


def test_what_is_parked_of_a_paused_table_is_counted() -> None:
    """In the row of the pause; what was parked is of interest as long as something waits there."""
    entries = {"patients": TableEntry(spec=dms_spec("patients", "task"))}
    entries["wards"] = TableEntry(spec=dms_spec("wards", "task"), paused="maintenance")
    quiet, waits = _partition(topic="headgate.parked.patients", lag=0), _partition(topic="headgate.parked.wards")
    standing = _standing(
        _partition(topic="task"), quiet, waits, name="normalize", tables=TableDirectory(entries), stage=Parking()
    )

    rows = status_of(standing, now=NOW)["tables"]

    assert [
        ("wards", "headgate.parked.wards", 5, None, None),
        ("patients", "task", 5, None, None),
        ("wards", "task", None, "maintenance", {"records": 7, "bytes": 900}),
    ] == [(row["table"], row["topic"], row["lag"], row["paused"], row["parked"]) for row in rows]


def test_a_table_that_a_record_stopped_beside_others_says_why_and_what_to_do() -> None:
    """Though its topic is read on."""
    stopped = Waiting(1, 80, "truncate: the table was truncated at its source", "run resync")
    tables = TableDirectory({"wards": TableEntry(spec=dms_spec("wards", "task"))})
    standing = _standing(_partition(topic="task"), name="normalize", tables=tables, stage=Parking({"wards": stopped}))

    (row,) = status_of(standing, now=NOW)["tables"]

    assert (stopped.reason, {"records": 1, "bytes": 80}) == (row["paused"], row["parked"])
    assert row["hint"].startswith("run resync; then `headgate tables resume wards`")


class Parking(Stage):
    """A stage that has parked something."""

    def __init__(self, parked: dict[str, Waiting] | None = None) -> None:
        super().__init__()
        self._parked = parked or {"wards": Waiting(7, 900)}

    def parking(self) -> dict[str, Waiting]:
        """Return it."""
        return self._parked
