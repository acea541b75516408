"""Resyncs in NORMALIZE: which epoch records get, and when the floor of one is written, once."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Collection, Mapping
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.transport.chunk import Assignment, Group, Run
from connectors.transport.history import Key
from schemas.config import read_config
from schemas.document import read_document
from schemas.epoch import EpochStart
from schemas.errors import TransactionAborted
from schemas.table import Decision, TableEntry, TableSpec
from schemas.topics import TopicNames
from streams.chains import Chains
from streams.final_rows import FinalRows
from streams.normalize import NormalizeStage
from streams.output_topics import Output
from streams.resyncs import MARKERS_MAX, Stand
from streams.tables import TableDirectory
from tests.unit.fakes import Consumer, Message, Record, Writer
from tests.unit.formats.captures import records
from tests.unit.streams.test_normalize import SPEC, TOPIC, _event, _key

OUTPUT, PARKED = "headgate.changes.patients", "headgate.parked.patients"
BEGINS = {0: 12, 1: 20}


def snapshot_row(row: int, mark: str = "true") -> bytes:
    """Return a row of an initial snapshot, as Debezium sends it from PostgreSQL."""
    event = json.loads(_event(900, row))
    event["source"] |= {"snapshot": mark, "sequence": '[null,"900"]'}
    return json.dumps({**event, "op": "r"}, separators=(",", ":")).encode()


class Owner(Consumer):
    """A consumer that says what it has."""

    def __init__(self) -> None:
        super().__init__()
        self.own: list[Assignment] = []

    def assignments(self) -> list[Assignment]:
        """Return what this worker has."""
        return self.own


class Bench:
    """A worker with both partitions of a topic; the broker knows what it committed, and where the logs end."""

    def __init__(
        self,
        *failures: TransactionAborted,
        spec: str = SPEC,
        resynced: int = 0,
        begins: Mapping[int, int] = BEGINS,
    ) -> None:
        self.writer, self.consumer = Writer(*failures), Owner()
        start = EpochStart(epoch=1, topic_id="id", generation=0, offsets=dict(begins))
        self.entry = TableEntry(
            spec=read_document(spec, TableSpec, name="spec"), epoch=1, epochs={TOPIC: [start]}, resynced=resynced
        )
        self.tables = TableDirectory({"patients": self.entry})
        self.kept: dict[bytes, bytes] = {}
        self.stage = self.made()
        self.parts = [self._assigned(number) for number in BEGINS]
        self.ends: dict[int, int] = {}
        self.parked: dict[int, tuple[int | None, int]] = {}  # of what is parked, where it was read to, and its end
        self.holes: set[Key] = set()  # partitions whose last offsets are markers
        self.asked_for_records: list[Mapping[Key, tuple[int, int]]] = []

    def made(self) -> NormalizeStage:
        """Return a new worker's stage."""
        return NormalizeStage(
            read_config("", name="c"), names=TopicNames(), tables=self.tables, writer=self.writer,
            consumer=self.consumer, chains=Chains(TopicNames().normalize_previous, lambda: dict(self.kept)),
            ensure_outputs=self._ensure, broker=self, clock=count(1_795_219_394.0).__next__,
        )  # fmt: skip

    def _assigned(self, number: int) -> Assignment:
        made = Assignment("main", TOPIC, number)
        made.topic_id, made.start = "id", 10
        self.consumer.own.append(made)
        return made

    @staticmethod
    async def _ensure(wanted: Mapping[str, Output]) -> dict[str, int]:
        return {topic: max(output.partitions, 2) for topic, output in wanted.items()}

    async def stands(self, topics: Collection[str]) -> Mapping[Key, Stand]:
        """Return what was committed last of each partition."""
        assert {TOPIC} <= set(topics) <= {TOPIC, PARKED}
        parked = self.parked if PARKED in topics else {}
        found = {(PARKED, number): Stand("p", 0, at, "", end) for number, (at, end) in parked.items()}
        for part in self.parts:
            last = next((each for each in reversed(self.writer.advances) if each.assignment is part), None)
            at, text = (part.start, part.metadata) if last is None else (last.next_offset, last.metadata)
            end = self.ends.get(part.partition, at)
            found[part.key] = Stand("id", part.generation, at, text, end)
        return found

    async def with_records(self, stretches: Mapping[Key, tuple[int, int]]) -> set[Key]:
        """Return the partitions whose last offsets are records."""
        self.asked_for_records.append(stretches)
        return set(stretches) - self.holes

    def again(self) -> None:
        """Have a new worker read the topic in its next generation, from wherever the next step says."""
        self._keep()
        parts, self.parts, self.consumer.own = self.parts, [], []
        self.stage = self.made()
        for part in parts:
            made = self._assigned(part.partition)
            made.generation = part.generation + 1
            self.parts.append(made)

    def step(self, number: int, first: int, *values: bytes | None) -> None:
        """Work on a run."""
        messages = [Message(first + at, _key(value), value) for at, value in enumerate(values)]
        asyncio.run(self.stage.step(Group([Run(self.parts[number], messages)], self.consumer)))
        self._keep()

    def _keep(self) -> None:
        for record in self.writer.records:
            if record.topic == TopicNames().normalize_previous and record.key is not None:
                self.kept[record.key] = record.value

    def look(self) -> dict[str, Any]:
        """Have the worker look, and return how far it says that it is."""
        asyncio.run(self.stage.resyncs.look())
        return self.stage.resyncing().get("patients", {})

    def floors(self) -> list[Record]:
        """Return the floors that were written."""
        return [each for each in self.writer.records if each.topic == OUTPUT and each.content["op"] == "floor"]

    def changes(self) -> list[Any]:
        """Return what stands on the output."""
        return [each.content for each in self.writer.records if each.topic == OUTPUT]

    def positions(self) -> list[str]:
        """Return epoch and operation of all changes."""
        return [f"{change['position'][:4]} {change['op']}" for change in self.changes()]


def test_records_before_the_epoch_keep_the_one_before_and_its_snapshot_stops_nothing() -> None:
    """In one run, and again in another: the epoch is that of the place."""
    bench = Bench()

    bench.step(0, 10, _event(1, 1), _event(2, 2), snapshot_row(1), snapshot_row(2), _event(3, 3))

    assert ["0000 insert", "0000 insert", "0001 snapshot", "0001 snapshot", "0001 insert"] == bench.positions()
    assert {} == bench.consumer.paused
    previous = [each.content["source"]["previous"] for each in bench.writer.records]
    assert [None, 10, 11, 12, 13] == previous
    assert 15 == bench.writer.advances[-1].next_offset


@given(st.sets(st.integers(1, 7)), st.integers(8, 16))
def test_epochs_and_chains_are_the_same_however_the_records_are_parted(cuts: set[int], begins: int) -> None:
    """In runs of any length, and wherever the epoch begins: before, within or behind them."""
    values = [_event(1, 1), None, _event(2, 2), snapshot_row(1), snapshot_row(2), _event(3, 3), _event(4, 1), None]
    whole, parts = Bench(begins={0: begins}), Bench(begins={0: begins})
    places = [0, *sorted(cuts), len(values)]

    whole.step(0, 8, *values)
    for low, high in pairwise(places):
        if not parts.consumer.paused:
            parts.step(0, 8 + low, *values[low:high])

    assert whole.changes() == parts.changes()
    assert whole.consumer.paused.keys() == parts.consumer.paused.keys()
    last, other = (bench.writer.advances[-1] for bench in (whole, parts))
    assert whole.consumer.paused or (last.next_offset, last.metadata) == (other.next_offset, other.metadata)


def test_a_snapshot_that_was_not_decided_about_stops_its_table_as_ever() -> None:
    """Also in the new epoch, after its first change."""
    bench = Bench()

    bench.step(0, 10, _event(1, 1), _event(2, 2), snapshot_row(1), _event(3, 3), snapshot_row(1))

    assert "source_read_anew" == bench.consumer.paused[TOPIC].reason
    assert 14 == bench.writer.advances[-1].next_offset


def test_the_floor_comes_once_all_partitions_have_passed_the_end_of_the_snapshot() -> None:
    """In every partition, at the beginning of the epoch, with an origin behind all that was read."""
    bench = Bench()
    bench.step(0, 12, snapshot_row(1), snapshot_row(2, "last_in_data_collection"))
    bench.step(1, 10, _event(1, 3))
    bench.ends = {0: 14, 1: 40}
    first = bench.look()
    bench.step(1, 20, *[snapshot_row(row) for row in range(3, 23)])

    bench.look()

    assert ("read", 1) == (first["snapshot"], first["left"])
    assert [("floor", "0001")] * 2 == [(each.content["op"], each.content["position"]) for each in bench.floors()]
    assert ([0, 1], 1) == ([each.partition for each in bench.floors()], len({each.value for each in bench.floors()}))
    assert [TOPIC, 0, 0, 14] == bench.floors()[0].content["source"]["origin"]
    assert {} == bench.look()
    assert 2 == len(bench.floors())


def test_without_its_end_a_snapshot_is_under_way() -> None:
    """And says how far it is."""
    bench = Bench()
    bench.step(0, 12, snapshot_row(1), snapshot_row(2))
    bench.step(1, 10, _event(1, 3))

    said = bench.look()

    assert {"epoch": 1, "rows": 2, "partitions": 2, "begun": 1, "snapshot": "open", "left": 2} == said
    assert [] == bench.floors()


def test_a_change_behind_the_rows_of_a_snapshot_ends_it() -> None:
    """Older connectors mark only the last row of all tables, and some tools none."""
    bench = Bench()
    bench.step(0, 12, snapshot_row(1))
    bench.step(0, 13, _event(950, 2))
    bench.step(1, 20, _event(951, 2))

    bench.look()

    assert 2 == len(bench.floors())


def test_changes_alone_end_no_snapshot() -> None:
    """A connector that was told to take none streams at once; somebody has to say when the rows are there."""
    bench = Bench()
    bench.step(0, 12, _event(950, 2))
    bench.step(1, 20, _event(951, 2))

    assert "open" == bench.look()["snapshot"]
    assert [] == bench.floors()


def test_by_the_operators_word_a_table_without_a_row_is_complete() -> None:
    """No record of the new life ever came: all rows go."""
    bench = Bench(resynced=1)
    bench.step(0, 10, _event(1, 1), _event(2, 2))
    bench.step(1, 10, *[_event(number, number) for number in range(10, 20)])

    bench.look()

    assert 2 == len(bench.floors())
    assert [TOPIC, 0, 0, 12] == bench.floors()[0].content["source"]["origin"]
    assert {} == bench.look()


def test_the_word_holds_for_the_epoch_that_it_was_said_of() -> None:
    """Not for one that is begun later."""
    bench = Bench(resynced=1)
    start = EpochStart(epoch=2, topic_id="id", generation=0, offsets={0: 13, 1: 21})
    later = bench.entry.model_copy(update={"epoch": 2, "epochs": {TOPIC: [*bench.entry.epochs[TOPIC], start]}})
    bench.tables.update({b"patients": later.model_dump_json().encode()})
    bench.step(0, 12, _event(1, 1), _event(2, 2))
    bench.step(1, 20, _event(3, 3), _event(4, 4))

    assert (2, "open") == ((said := bench.look())["epoch"], said["snapshot"])
    assert [] == bench.floors()


def test_markers_behind_the_last_record_hold_nothing_up() -> None:
    """A source that writes by transactions leaves them at the end of its log; but of many nobody asks."""
    bench = Bench()
    bench.step(0, 12, snapshot_row(1, "last"))
    bench.step(1, 20, snapshot_row(2))
    bench.ends, bench.holes = {0: 14, 1: 22}, {(TOPIC, 0)}
    waits = bench.look()
    bench.holes.add((TOPIC, 1))
    bench.look()
    far = Bench()
    far.step(0, 12, snapshot_row(1, "last"))
    far.step(1, 20, snapshot_row(2))
    far.ends = {1: 22 + MARKERS_MAX}
    far.look()

    assert (1, 2) == (waits["left"], len(bench.floors()))
    assert {(TOPIC, 0): (13, 14), (TOPIC, 1): (21, 22)} == bench.asked_for_records[0]
    assert [{}] == far.asked_for_records


def test_an_aborted_floor_is_written_once_by_the_next_look() -> None:
    """And the worker that dies behind it leaves the word to its successor."""
    bench = Bench()
    bench.step(0, 12, snapshot_row(1, "last"))
    bench.step(1, 20, snapshot_row(2))
    bench.writer.failures = [TransactionAborted("aborted")]
    with pytest.raises(TransactionAborted):
        bench.look()
    before = len(bench.floors())

    bench.look()
    successor = Bench()
    successor.parts[0].start, successor.parts[0].metadata = 13, bench.writer.advances[-1].metadata
    successor.look()

    assert (0, 2, 0) == (before, len(bench.floors()), len(successor.floors()))


def test_what_is_read_after_the_floor_remembers_that_it_was_written() -> None:
    """The offset moves on with the word."""
    bench = Bench()
    bench.step(0, 12, snapshot_row(1, "last"))
    bench.step(1, 20, snapshot_row(2))
    bench.look()

    bench.step(0, 13, _event(950, 3))
    bench.look()

    assert 2 == len(bench.floors())
    assert 12 == bench.writer.records[-1].content["source"]["previous"]
    assert '"floored":true' in bench.writer.advances[-1].metadata


def test_a_topic_that_is_to_be_read_anew_is_waited_for() -> None:
    """What was read of it before had positions of the old life."""
    bench = Bench(resynced=1)
    decision = Decision(topic_id="id", generation=1, start={0: 12, 1: 20})
    bench.tables.update(
        {b"patients": bench.entry.model_copy(update={"decisions": {TOPIC: decision}}).model_dump_json().encode()}
    )
    bench.step(0, 10, _event(1, 1), _event(2, 2), _event(3, 3))
    bench.step(1, 20, _event(4, 4))

    waits = bench.look()
    for part in bench.parts:
        part.generation = 1
    bench.look()

    assert (2, 2) == (waits["left"], len(bench.floors()))


def test_in_a_shared_topic_each_table_has_its_own_epochs_and_floors() -> None:
    """What is remembered of it stands beside the chains, and the other table hears nothing."""
    spec = f"{SPEC}source_table: public.patients\n"
    bench = Bench(spec=spec)
    bench.step(0, 10, _event(1, 1), _event(2, 2), snapshot_row(1, "last"))
    bench.step(1, 20, snapshot_row(2))

    bench.look()
    bench.look()
    bench.step(0, 13, _event(950, 3))
    bench.look()

    assert ["0000 insert", "0000 insert", "0001 snapshot", "0001 snapshot"] == bench.positions()[:4]
    assert (2, "0001 insert") == (len(bench.floors()), bench.positions()[-1])
    assert {} == bench.consumer.paused


def test_the_capture_of_a_lost_slot_comes_to_the_rows_of_its_source() -> None:
    """Row 1 was deleted before the slot was lost, row 4 after it: no record says the latter."""
    captured = [each for each in records("pg-new-slot-new-snapshot") if each["topic"].endswith(".public.t")]
    spec = SPEC.replace("{id: int, name: string}", "{id: int, v: string}")
    bench = Bench(spec=spec)
    start = EpochStart(epoch=1, topic_id="id", generation=0, offsets={0: 14, 1: 0})
    entry = bench.entry.model_copy(update={"epochs": {TOPIC: [start]}})
    bench.tables.update({b"patients": entry.model_dump_json().encode()})
    bench.parts[1].start = 0
    values = [(decoded(each["key"]), decoded(each["value"])) for each in captured]
    run = Run(bench.parts[0], [Message(at, key, value) for at, (key, value) in enumerate(values)])

    asyncio.run(bench.stage.step(Group([run], bench.consumer)))
    bench.look()
    final = FinalRows(entry.spec)
    for record in bench.writer.records:
        final.apply(record.value)

    assert {} == bench.consumer.paused
    assert 2 == len(bench.floors())
    assert [{"id": 2, "v": "after"}, {"id": 3, "v": "c3"}] == [each["row"] for each in final.documents()]


def decoded(text: str | None) -> bytes | None:
    """Return the bytes of a captured key or value."""
    return None if text is None else base64.b64decode(text)


def test_a_truncate_of_an_earlier_epoch_stops_nothing_any_more() -> None:
    """A resync goes on behind it."""
    bench = Bench()

    bench.step(0, 10, _event(1, 1), _event(2, 0, "t"), _event(3, 3))

    assert ["0000 insert", "0001 insert"] == bench.positions()
    assert {} == bench.consumer.paused
