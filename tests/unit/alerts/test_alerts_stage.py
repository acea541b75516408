"""The ALERTS stage on fake runs and a fake writer: what is written, under which id and where, and what is not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from connectors.transport.chunk import Assignment, Group, Headers, Run
from schemas.config import Config
from schemas.errors import PoisonRecord, SinkUnavailable
from schemas.rule import alert_id
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from streams.alert_state import PartitionState, read_states
from streams.alerts import AlertsStage
from tests.unit.fakes import Consumer, Message, Writer

NOW = 1_795_203_957.0  # 2026-11-20T19:45:57Z
NAMES = TopicNames("hg")


def entry(*rules: dict[str, Any], table: str = "bills", key: Sequence[str] = ("id",)) -> TableEntry:
    """Return a table with these rules."""
    columns = {"id": "long", "amount": "decimal(12,2)", "note": "string"}
    spec = {
        "table": table,
        "topics": ["t"],
        "key": list(key),
        "before": "full",
        "columns": columns,
        "rules": list(rules),
    }
    return TableEntry(spec=TableSpec.model_validate(spec))


BIG = {"rule": "big", "when": "after.amount > 100", "values": {"amount": "after.amount"}, "severity": "critical"}


def value(offset: int, amount: str | None = "500.00", *, partition: int = 0, **fields: Any) -> bytes:
    """Return a contract value of origin `offset`."""
    row = None if amount is None else {"id": str(offset % 10), "amount": amount, "note": "n"}
    source: dict[str, Any] = {
        "connector": "postgresql",
        "name": "c",
        "table": "public.bills",
        "tx": None,
        "snapshot": fields.pop("snapshot", False),
        "origin": ["src", 0, partition, offset],
        "first_origin": None,
        "previous": None,
    }
    change: dict[str, Any] = {
        "op": "update",
        "key": {"id": str(offset % 10)},
        "old_key": None,
        "new_key": None,
        "before": None,
        "after": row,
        "position": f"{offset:045d}",
        "ts": "2026-11-20T19:45:50.000000Z",
        "unavailable": [],
        "source": source,
    }
    return json.dumps({**change, **fields}).encode()


class Bench:
    """A stage with fakes around it."""

    def __init__(self, *entries: TableEntry, guarantee: str = "exactly_once", **config: Any) -> None:
        kafka = {"guarantee": guarantee, **config}
        self.tables = {each.spec.table: each for each in entries}
        self.writer, self.consumer = Writer(), Consumer()
        self.stage = AlertsStage(
            Config.model_validate({"kafka": kafka}),
            names=NAMES,
            tables=self.tables,
            writer=self.writer,
            consumer=self.consumer,
            load_states=self.load_states,
            partitions=4,
            clock=lambda: NOW,
        )

    async def load_states(self, view: str, partitions: Sequence[int]) -> dict[int, PartitionState]:
        """Return what is remembered, as it was written."""
        topic = NAMES.alerts_state(view)
        entries = {r.key: r.value for r in self.writer.records if r.topic == topic and r.partition in partitions}
        return read_states({key: value for key, value in entries.items() if key and value is not None}, partitions)

    def run(
        self,
        *values: bytes | None,
        table: str = "bills",
        first: int = 0,
        assignment: Assignment | None = None,
        **message: Any,
    ) -> Run:
        """Return a run of these values."""
        assignment = assignment or Assignment("alerts", NAMES.changes(table), 0)
        return Run(assignment, [Message(first + at, b"k", each, **message) for at, each in enumerate(values)])

    async def step(self, *runs: Run) -> list[dict[str, Any]]:
        """Hand over a group; return the alerts written so far."""
        await self.stage.step(Group(list(runs), self.consumer))
        return self.alerts()

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts written so far."""
        return [record.content for record in self.writer.records if record.topic == NAMES.alerts]


async def test_a_firing_is_written_with_the_offsets_of_its_group() -> None:
    """What fired, and nothing else, and every partition's next offset beside it."""
    bench = Bench(entry(BIG))
    run = bench.run(value(1), value(2, "5.00"), None, value(3))

    alerts = await bench.step(run)

    assert ["1", "3"] == [alert["key"]["id"] for alert in alerts]
    assert [(run.assignment, 4)] == [(advance.assignment, advance.next_offset) for advance in bench.writer.advances]
    assert [run] == bench.consumer.done_runs


async def test_an_alert_says_what_fired_and_where() -> None:
    """All fields of it, and an id that anyone can compute."""
    bench = Bench(entry(BIG))

    alert = (await bench.step(bench.run(value(7))))[0]

    assert {
        "id": alert_id("big", 1, "bills", {"id": "7"}, f"{7:045d}"),
        "rule": "big",
        "rule_version": 1,
        "severity": "critical",
        "title": "",
        "table": "bills",
        "key": {"id": "7"},
        "op": "update",
        "position": f"{7:045d}",
        "ts": "2026-11-20T19:45:50.000000Z",
        "values": {"amount": "500.00"},
        "origin": ["src", 0, 0, 7],
        "late": False,
        "destinations": None,
        "view": None,
        "entity": None,
    } == alert


async def test_the_id_is_the_same_on_every_replay_and_in_every_grouping() -> None:
    """A receiver drops what it has by it."""
    one, two = Bench(entry(BIG)), Bench(entry(BIG))
    values = [value(at) for at in range(6)]

    together = await one.step(one.run(*values))
    for at, each in enumerate(values):
        apart = await two.step(two.run(each, first=100 + at))

    assert [alert["id"] for alert in together] == [alert["id"] for alert in apart]
    assert 6 == len({alert["id"] for alert in together})


async def test_rows_without_a_key_have_ids_of_their_own() -> None:
    """Even where their source gives several of them one position."""
    bench = Bench(entry(BIG, key=()))
    values = [value(at, key=None, position="1" * 45) for at in (1, 2)]

    alerts = await bench.step(bench.run(*values))

    assert 2 == len({alert["id"] for alert in alerts})


async def test_alerts_of_one_row_lie_in_one_partition() -> None:
    """So that they are delivered in order, whichever partition the changes came from."""
    bench = Bench(entry(BIG))

    await bench.step(*[bench.run(*[value(at + 10 * n) for at in range(10)], first=n) for n in range(5)])

    places: dict[bytes | None, set[int]] = {}
    for record in bench.writer.records:
        places.setdefault(record.key, set()).add(record.partition)
    assert (10, {1}) == (len(places), {len(each) for each in places.values()})
    assert 1 < len(set.union(*places.values()))


async def test_snapshots_and_replays_and_floors_fire_nothing() -> None:
    """They are no news."""
    bench = Bench(entry(BIG))
    replayed = bench.run(value(4), headers=[("headgate.replay", b"true")])

    alerts = await bench.step(
        bench.run(value(1, op="snapshot"), value(2, snapshot=True), value(3, op="floor", key=None)), replayed
    )

    assert [] == alerts
    assert 1 == bench.stage.counters()["replays_ignored"]
    assert 2 == len(bench.consumer.done_runs)


async def test_a_replay_fires_where_somebody_asked_for_it() -> None:
    """Under the ids of before, so that a receiver knows them again."""
    live, again = Bench(entry(BIG)), Bench(entry(BIG))
    asked: Headers = [("headgate.replay", b"true"), ("headgate.into", b"features,lake,alerts")]

    assert await live.step(live.run(value(4))) == await again.step(again.run(value(4), headers=asked))
    assert 1 == len(again.alerts())


async def test_an_old_alert_is_marked_late() -> None:
    """Older than the rule's limit when it was evaluated: written, counted, and for NOTIFY to leave out."""
    bench = Bench(entry({**BIG, "max_age_seconds": 60}))

    alerts = await bench.step(bench.run(value(1), value(2, ts="2026-11-20T19:44:00.000000Z")))

    assert [False, True] == [alert["late"] for alert in alerts]
    assert 1 == bench.stage.counters()["alerts_late"]


async def test_only_tables_with_rules_are_read() -> None:
    """The others cost nothing."""
    bench = Bench(entry(BIG), entry(table="quiet"))

    assert [NAMES.changes("bills")] == bench.stage.topics()


async def test_changed_rules_hold_for_what_is_read_from_then_on() -> None:
    """Without a restart."""
    bench = Bench(entry(BIG))
    await bench.step(bench.run(value(1)))
    bench.tables["bills"] = entry({**BIG, "version": 2, "when": "after.amount > 1000"})

    await bench.stage.tables_changed({"bills"})
    alerts = await bench.step(bench.run(value(2), value(3, "2000.00"), first=1))

    assert [("1", 1), ("3", 2)] == [(alert["key"]["id"], alert["rule_version"]) for alert in alerts]


async def test_a_table_whose_rules_are_refused_is_paused_and_its_neighbour_goes_on() -> None:
    """One bad thing stops one thing; a corrected rule sets it going again from where it stood."""
    bench = Bench(entry({**BIG, "when": "random() > 0"}, table="bad"), entry(BIG))
    bad = [bench.run(value(1), table="bad", first=5)]
    bad.append(bench.run(value(2), table="bad", first=6, assignment=bad[0].assignment))

    alerts = await bench.step(*bad, bench.run(value(3)))

    assert ["3"] == [alert["key"]["id"] for alert in alerts]
    assert "random" in bench.consumer.paused[NAMES.changes("bad")].message
    assert [(bad[0].assignment, 5)] == bench.consumer.sought
    bench.tables["bad"] = entry(BIG, table="bad")
    await bench.stage.tables_changed({"bad"})
    assert {} == bench.consumer.paused


async def test_an_error_of_a_rule_is_counted() -> None:
    """And the group goes on."""
    bench = Bench(entry({"rule": "broken", "when": "CAST(after.note AS INTEGER) > 0"}))

    alerts = await bench.step(bench.run(value(1), value(2)))

    assert ([], 2) == (alerts, bench.stage.counters()["rule_errors"])


async def test_nothing_counts_when_the_write_fails() -> None:
    """The group comes again and is then written once."""
    bench = Bench(entry(BIG))
    bench.writer.failures = [SinkUnavailable("away")]
    run = bench.run(value(1))
    with pytest.raises(SinkUnavailable):
        await bench.step(run)
    assert ([], {}) == (bench.consumer.done_runs, bench.stage.counters())

    alerts = await bench.step(run)

    assert (1, 1) == (len(alerts), bench.stage.counters()["alerts"])


async def test_a_run_that_is_lost_meanwhile_is_not_written() -> None:
    """Its next owner does it."""
    bench = Bench(entry(BIG))
    kept, lost = bench.run(value(1)), bench.run(value(2))
    lost.lose()

    alerts = await bench.step(kept, lost)

    assert ["1"] == [alert["key"]["id"] for alert in alerts]
    assert [kept.assignment] == [advance.assignment for advance in bench.writer.advances]


async def test_repeats_on_the_output_topic_fire_once() -> None:
    """With at_least_once: within a run, between runs and, by the committed metadata, after a restart."""
    bench = Bench(entry(BIG), guarantee="at_least_once")
    first = bench.run(value(1), value(2), value(2), value(1, partition=1), value(1))
    second = bench.run(value(2), value(3), first=5, assignment=first.assignment)
    await bench.step(first)
    await bench.step(second)
    restarted = Bench(entry(BIG), guarantee="at_least_once")
    successor = Assignment("alerts", first.topic, 0)
    successor.metadata = bench.consumer.metadata[second]

    alerts = await restarted.step(restarted.run(value(3), value(4), first=7, assignment=successor))

    origins = [alert["origin"][2:] for alert in bench.alerts()]
    assert [[0, 1], [0, 2], [1, 1], [0, 3]] == origins
    assert [[0, 4]] == [alert["origin"][2:] for alert in alerts]
    assert 3 == bench.stage.counters()["repeats_dropped"]


async def test_origins_of_a_run_that_was_not_written_do_not_count_as_seen() -> None:
    """A partition sought back in the middle of a write is read again, and fires then."""
    bench = Bench(entry(BIG), guarantee="at_least_once")
    run = bench.run(value(1))
    run.lose()
    await bench.step(run)

    alerts = await bench.step(bench.run(value(1), assignment=run.assignment))

    assert 1 == len(alerts)


async def test_values_that_do_not_fit_are_left_out_and_counted() -> None:
    """The alert goes out all the same."""
    bench = Bench(entry({**BIG, "values": {"note": "after.note || after.note"}}), message_bytes_max=16 * 1024)
    row = {"id": "1", "amount": "500.00", "note": "x" * 9_000}

    alerts = await bench.step(bench.run(value(1, after=row)))

    assert [{}] == [alert["values"] for alert in alerts]
    assert 1 == bench.stage.counters()["alerts_without_values"]


async def test_a_record_that_is_no_change_is_named_and_goes_to_quarantine() -> None:
    """The transport finds it by halving; its neighbours go on."""
    bench = Bench(entry(BIG))
    bad = bench.run(b'{"op": "update"}')
    with pytest.raises(PoisonRecord) as raised:
        await bench.step(bad)

    await bench.stage.on_poison(bad, raised.value)

    record = bench.writer.records[0]
    assert (NAMES.quarantine, "alerts", 1) == (
        record.topic,
        record.content["stage"],
        bench.writer.advances[0].next_offset,
    )
