"""What workers write of themselves, and what is made of it on another machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.transport.embedded import EmbeddedBroker
from connectors.transport.lossy import QUEUE_RECORDS_MAX, LossyWriter
from connectors.transport.settings import ClientSettings
from connectors.transport.tail import Entry
from schemas.config import Config
from schemas.errors import SourceUnavailable
from schemas.topics import TopicNames
from streams.telling import Teller, encoded
from streams.workers import (
    GONE_SECONDS,
    StatusReader,
    WorkerState,
    merged,
    missing_stages,
    operation_sums,
    quarantine_sums,
    read_workers,
    stage_sums,
    state_of_record,
    states_of_records,
    table_sums,
)
from tests.services import wait_until

NOWHERE = ClientSettings(bootstrap="127.0.0.1:9")

pytestmark = pytest.mark.usefixtures("nothing_told_is_lost")


def row(table: str = "patients", **changes: Any) -> dict[str, Any]:
    """Return one table's figures."""
    figures = {"topic": f"changes.{table}", "partitions": 2, "lag": 3, "freshness_seconds": 4.0, "silence_seconds": 1.0}
    return {"table": table, **figures, "oldest_unfinished_seconds": None, "paused": None, "hint": "", **changes}


def worker(stage: str = "lake", slot: int = 0, state: str = "running", *tables: dict[str, Any]) -> WorkerState:
    """Return a worker that says this."""
    return WorkerState(stage, "here", slot, state, 1, status={"assigned": 4, "tables": list(tables)} if tables else {})


def record(at: float, **status: Any) -> Entry:
    """Return what a worker of LAKE wrote."""
    value = json.dumps({"v": 1, "stage": "lake", "instance": "a.b", "slot": 3, "pid": 7, "state": "running", **status})
    return Entry(0, 0, int(at * 1000), b"lake-a.b-3", value.encode())


@pytest.fixture(scope="module")
def broker() -> EmbeddedBroker:
    """The demo's broker."""
    return EmbeddedBroker()


@pytest.fixture
def config(broker: EmbeddedBroker, request: pytest.FixtureRequest) -> Config:
    """An installation of this test's own on it."""
    kafka = {"bootstrap": broker.bootstrap, "broker": "embedded", "guarantee": "at_least_once"}
    config = Config.model_validate({"kafka": {**kafka, "topic_prefix": request.node.name.replace("_", "-")[:100]}})
    broker.create_topics([TopicNames(config.kafka.topic_prefix).status])
    return config


@pytest.fixture
def teller(config: Config) -> Iterator[Teller]:
    """A worker that tells."""
    made = Teller(config, "lake-here-0", lambda: {"stage": "lake", "instance": "here", "slot": 0, "state": "running"})
    made.ready = True
    yield made
    made.end(None)


def test_a_worker_that_was_not_heard_of_for_long_is_gone_since_then() -> None:
    """By the time that stands beside its record, not by what it says."""
    fresh = state_of_record(record(1_000.0), now=1_000.0 + GONE_SECONDS)
    gone = state_of_record(record(1_000.0), now=1_001.0 + GONE_SECONDS)

    assert fresh is not None
    assert gone is not None
    assert ("running", "gone") == (fresh.state, gone.state)
    assert ("1970-01-01T00:16:40+00:00", "lake-a.b-3", 7) == (gone.since, gone.name, gone.pid)
    assert [False, True] == [fresh.is_sick, gone.is_sick]


def test_a_reader_whose_clock_is_behind_sees_who_is_gone() -> None:
    """By what others wrote since, which has the broker's time."""
    dead = record(1_000.0)
    fresh = Entry(0, 1, int((1_001.0 + GONE_SECONDS) * 1000), b"lake-a.b-4", dead.value)

    assert ["gone", "running"] == [each.state for each in states_of_records([dead, fresh], now=0.0)]


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"{}", b'{"stage": "lake", "instance": "x", "slot": "y"}'])
def test_what_tells_of_no_worker_is_passed_over(value: bytes | None) -> None:
    """A tombstone, and what others may write there."""
    assert state_of_record(Entry(0, 0, 1, b"k", value), now=1.0) is None


def test_what_was_quarantined_is_summed_over_the_workers_that_are_there() -> None:
    """By table and reason, over all stages."""
    rows = [{"table": "patients", "reason": "bad_type", "count": 2}, {"table": None, "reason": "bug", "count": 1}]
    workers = [
        WorkerState(stage, "here", 0, state, status={"quarantined": rows})
        for stage, state in (("normalize", "running"), ("lake", "waiting"), ("features", "gone"))
    ]

    assert [(None, "bug", 2), ("patients", "bad_type", 4)] == [
        (each["table"], each["reason"], each["count"]) for each in quarantine_sums(workers)
    ]
    assert [] == quarantine_sums([worker()])


def test_changes_are_summed_by_table_and_operation() -> None:
    """A row per table; the four operations are always told."""
    rows = [
        {"table": "patients", "operation": "snapshot", "count": 10},
        {"table": "patients", "operation": "floor", "count": 1},
        {"table": "visits", "operation": "delete", "count": 2},
    ]
    workers = [WorkerState("normalize", "here", slot, "running", status={"emitted": rows}) for slot in range(2)]

    nothing = {"snapshot": 0, "insert": 0, "update": 0, "delete": 0}
    assert [
        {"table": "patients", **nothing, "snapshot": 20, "floor": 2},
        {"table": "visits", **nothing, "delete": 4},
    ] == operation_sums(workers)


def test_a_resync_is_told_by_the_one_worker_that_completes_it() -> None:
    """The others, and those of an older release, say nothing of it."""
    progress = {"epoch": 1, "rows": 5}
    workers = [worker("normalize", 0, "running", row()), worker("normalize", 1, "running", row(resync=progress))]

    (of_table,) = table_sums(workers)

    assert progress == of_table["resync"]


def test_tables_are_summed_over_the_workers_that_are_there() -> None:
    """Partitions of one that is gone are read by others."""
    workers = [
        worker(
            "lake", 0, "running", row(oldest_unfinished_seconds=2.0), row("visits", paused="truncate", hint="resync")
        ),
        worker("lake", 1, "waiting", row(lag=4, freshness_seconds=9.0, silence_seconds=None, unknown_columns=["x"])),
        worker("lake", 2, "gone", row(lag=1_000)),
        worker("normalize", 0, "running", row(lag=None, freshness_seconds=None)),
    ]

    sums = table_sums(workers)

    assert [("lake", "patients", 2), ("lake", "visits", 1), ("normalize", "patients", 1)] == [
        (each["stage"], each["table"], each["workers"]) for each in sums
    ]
    both, paused, other = sums
    assert (4, 7, 4.0, 1.0, 2.0, ["x"]) == (
        both["partitions"], both["lag"], both["freshness_seconds"], both["silence_seconds"],
        both["oldest_unfinished_seconds"], both["unknown_columns"],
    )  # fmt: skip
    assert ("truncate", "resync") == (paused["paused"], paused["hint"])
    assert (None, None) == (other["lag"], other["freshness_seconds"])


def test_a_stage_without_a_worker_is_summed_and_missing() -> None:
    """As is one whose only worker is gone."""
    workers = [worker("lake", 0, "running", row(), row("visits", lag=1)), worker("alerts", 1, "gone", row())]
    stages = ["normalize", "alerts", "lake"]

    assert ["normalize", "alerts"] == missing_stages(stages, workers)
    assert [("normalize", 0, [], None), ("alerts", 0, ["alerts-here-1"], None), ("lake", 1, [], 4)] == [
        (each["stage"], each["workers"], each["not_there"], each["lag"]) for each in stage_sums(workers, stages)
    ]


def test_the_lag_of_a_topic_that_tables_share_is_a_stages_once() -> None:
    """Each of its tables waits for all of it, and has it in a row of its own."""
    tables = [row("patients", topic="task", lag=3), row("visits", topic="task", lag=3), row("wards", lag=4)]
    workers = [worker("normalize", slot, "running", *tables) for slot in range(2)]

    assert [14] == [each["lag"] for each in stage_sums(workers, ["normalize"])]


def test_a_local_worker_is_believed_before_what_it_wrote() -> None:
    """Its process is gone since less than its record is old; what it said last is still shown."""
    told = [worker("lake", 0, "running", row(lag=9)), worker("alerts", 0, "running", row())]
    local = [worker("lake", 0, "dead"), worker("normalize", 0, "running", row())]

    found = {each.name: each for each in merged(local, told)}

    assert ["alerts-here-0", "lake-here-0", "normalize-here-0"] == list(found)
    assert "dead" == found["lake-here-0"].state
    assert 9 == found["lake-here-0"].status["tables"][0]["lag"]


def test_a_state_fits_its_record_and_says_what_it_left_out() -> None:
    """Tables that are paused come first, then those that lag most."""
    tables = [row(f"t{n}", lag=n) for n in range(1_000)] + [row("p", paused="truncate", lag=0)]

    value = encoded({"stage": "lake", "tables": tables}, bytes_max=20_000)

    state = json.loads(value)
    assert len(value) <= 20_000
    assert 1_001 == len(state["tables"]) + state["tables_left_out"]
    assert ["p", "t999", "t998"] == [each["table"] for each in state["tables"][:3]]


def test_kafka_away_costs_nothing_and_is_bounded() -> None:
    """What finds no room is dropped, at once."""
    writer = LossyWriter(NOWHERE, message_bytes_max=100_000)
    for number in range(QUEUE_RECORDS_MAX + 100):
        writer.write("t", b"k", b"%d" % number)
    writer.close(0.1)

    assert 100 <= writer.dropped


def test_a_state_that_cannot_be_made_fails_nothing(config: Config) -> None:
    """It is told of in the log, once."""

    def broken() -> dict[str, Any]:
        raise KeyError("Ada")

    teller = Teller(config, "lake-here-0", broken)
    teller.ready = True
    teller.tell()
    teller.tell()
    teller.end(SourceUnavailable("away"))


def test_a_worker_is_read_elsewhere_until_it_ends_cleanly(config: Config, teller: Teller) -> None:
    """By its slot's name: the newest state, then none."""
    teller.tell()
    wait_until(lambda: read_workers(config), "the state is there")
    (found,) = read_workers(config)
    teller.end(None)
    wait_until(lambda: not read_workers(config), "the state is taken away")

    assert ("lake-here-0", "running") == (found.name, found.state)
    assert found.status["host"]


def test_a_worker_that_failed_leaves_why(config: Config, teller: Teller) -> None:
    """Its last state stays, until it is told of as gone."""
    teller.tell()
    teller.end(SourceUnavailable("no broker answers", hint="is it up?"))
    wait_until(lambda: [each.state for each in read_workers(config)] == ["failed"], "the last state")

    (found,) = read_workers(config)
    assert {"kind": "unavailable", "message": "no broker answers", "hint": "is it up?", "at": ""} == found.status[
        "last_error"
    ]


def test_what_is_written_later_is_followed(config: Config, teller: Teller) -> None:
    """For a page or a terminal that stays open."""
    teller.tell()
    wait_until(lambda: read_workers(config), "the state is there")
    reader = StatusReader(config).load()
    try:
        reader.follow()
        before = [each.state for each in reader.workers()]
        teller.end(None)
        wait_until(lambda: not reader.workers(), "the end is heard of")
    finally:
        reader.close()

    assert ["running"] == before


def test_nothing_is_written_before_the_topic_is_there_as_we_make_it(config: Config) -> None:
    """A broker that makes topics by itself would make one that is not compacted."""
    early = Teller(config, "lake-early-0", dict)
    early.tell()
    early.end(None)

    assert [] == read_workers(config)
