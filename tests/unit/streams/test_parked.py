"""The lane of NORMALIZE that reads what was parked: what it becomes, beside the live records, and what stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from connectors.transport.chunk import Assignment, Group, Run
from schemas.change import HEADER_FIRST_ORIGIN
from schemas.epoch import EpochStart
from schemas.errors import SourceUnavailable, TransactionAborted
from schemas.evolution import Evolved
from schemas.table import Decision, TableEntry
from sinks.quarantine import read_quarantined
from streams.chains import Chains
from streams.evolutions import Evolutions
from streams.parked import ParkedLane
from tests.services.registry import SchemaRegistry
from tests.unit.fakes import Message, Record, run_of
from tests.unit.streams.dms_specs import dms_spec
from tests.unit.streams.shared_topic import NAMES, TOPIC, TOPIC_ID, Shared, partition
from tests.workloads.dms_topic import dms_record

P, V = "patients", "visits"
PARKED = NAMES.parked(V)


def _record(at: int, op: str = "update", row: int = 1, table: str = V) -> bytes:
    return dms_record(table, at, {"id": row, "name": f"n{at}"}, op)


def _load(row: int = 1) -> bytes:
    return dms_record(V, 0, {"id": row, "name": "loaded"}, "load")


class Bench(Shared):
    """A stage that has parked something of the visits, and the lane beside it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lane = self.made_lane()

    def made_lane(self) -> ParkedLane:
        """Return a new worker's lane."""

        async def ensure(wanted: Mapping[str, int]) -> Mapping[str, int]:
            self.ensured.append(dict(wanted))
            for topic in sorted(self.refused_outputs & wanted.keys()):
                raise TransactionAborted(f"enlarging {topic}: the broker refuses", topic=topic)
            return wanted

        return ParkedLane(
            self._config, names=NAMES, tables=self.tables, writer=self.writer, consumer=self.consumer, stage=self.stage,
            chains=Chains(NAMES.normalize_previous, lambda: self.kept), ensure_outputs=ensure, evolve=True,
            clock=lambda: 1.0,
        )  # fmt: skip

    def park(self, first: int, *values: bytes, number: int = 0) -> list[Record]:
        """Have the stage park these records, and return them as they stand on their topic."""
        before = len(self.parked(V))
        self.apply(dms_spec(V, TOPIC), paused="maintenance")
        self.step(run_of(partition(number), first, values))
        self.apply(dms_spec(V, TOPIC), resumed=1)
        return self.parked(V)[before:]

    def read(self, assignment: Assignment, first: int, records: list[Record]) -> Run:
        """Have the lane work on records of the topic, as one run."""
        messages = [
            Message(first + at, each.key, each.value, list(each.headers.items())) for at, each in enumerate(records)
        ]
        run = Run(assignment, messages)
        self.consumer.handed_out.append(run)
        asyncio.run(self.lane.step(Group([run], self.consumer)))
        self.kept |= {each.key: each.value for each in self.of(NAMES.normalize_previous) if each.key is not None}
        return run

    def origins(self, name: str = "origin") -> list[Any]:
        """Return what the visits' changes say of where they were read."""
        return [change["source"][name] for change in self.changes(V)]


def _parked(number: int = 0) -> Assignment:
    return Assignment("parked", PARKED, number)


def test_a_parked_change_names_both_of_its_origins_and_has_a_chain_of_its_own() -> None:
    """Beside that of the live changes, in the same partition of the output."""
    bench = Bench()
    records = bench.park(10, _record(1), _record(2), number=2)

    bench.step(run_of(partition(2), 12, [_record(3)]))
    bench.read(_parked(2), 0, records)

    assert [[TOPIC, 0, 2, 12], [PARKED, 0, 2, 0], [PARKED, 0, 2, 1]] == bench.origins()
    assert [None, [TOPIC, 0, 2, 10], [TOPIC, 0, 2, 11]] == bench.origins("first_origin")
    assert [None, None, 0] == bench.origins("previous")
    assert {2} == {each.partition for each in bench.of(NAMES.changes(V))}
    assert {NAMES.changes(V): 3} == bench.ensured[-1]
    assert 2 == bench.stage.counters()["unparked"]


def test_the_chain_outlives_the_worker() -> None:
    """And an aborted attempt leaves nothing of it."""
    bench = Bench()
    records = bench.park(10, _record(1), _record(2), _record(3))
    bench.read(_parked(), 0, records[:1])
    bench.writer.failures.append(TransactionAborted("aborted"))

    with pytest.raises(TransactionAborted):
        bench.read(_parked(), 1, records[1:])
    bench.lane = bench.made_lane()
    bench.read(_parked(), 1, records[1:])

    assert [None, 0, 1] == bench.origins("previous")


def test_what_was_seen_before_the_pause_stops_what_contradicts_it() -> None:
    """A load that came while the table was paused, after changes of before: what was parked waits there."""
    bench = Bench()
    bench.step(run_of(partition(), 9, [_record(1)]))
    records = bench.park(10, _record(2), _load(), _record(3))

    bench.read(_parked(), 0, records)

    assert [[TOPIC, 0, 0, 9], [PARKED, 0, 0, 0]] == bench.origins()
    assert "source_read_anew" == bench.consumer.paused[PARKED].reason
    assert 1 == bench.writer.advances[-1].next_offset
    assert "rows of a full load come after changes" in str(bench.stage.last_error)


def test_the_record_that_stopped_a_table_stops_what_was_parked_of_it_until_it_may_pass() -> None:
    """Its partition was parked from that record on."""
    bench = Bench()
    bench.step(run_of(partition(), 10, [_record(1), _load(), _record(2)]))
    records = bench.parked(V)

    bench.read(_parked(), 0, records)
    assert ("source_read_anew", 1) == (bench.consumer.paused[PARKED].reason, len(bench.changes(V)))
    bench.apply(dms_spec(V, TOPIC), resumed=1, epoch=1)  # as a resync does
    asyncio.run(bench.consumer.resume(PARKED))
    bench.read(_parked(), 0, records)

    assert [[PARKED, 0, 0, 0], [PARKED, 0, 0, 1]] == bench.origins()[1:]


def test_a_stop_that_somebody_has_settled_meanwhile_pauses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resume came between what was decoded and the pause: nobody would say it again."""
    bench = Bench()
    bench.step(run_of(partition(), 10, [_record(1), _load(), _record(2)]))
    records, write = bench.parked(V), bench.writer.write

    async def slow(*args: Any, **options: Any) -> Any:
        report = await write(*args, **options)
        resumed = TableEntry(spec=dms_spec(V, TOPIC), resumed=1, epoch=1)
        await bench.stage.tables_changed(bench.tables.update({V.encode(): resumed.model_dump_json().encode()}))
        return report

    monkeypatch.setattr(bench.writer, "write", slow)
    bench.read(_parked(), 0, records)
    assert ([(PARKED, "source_read_anew")], {}) == (bench.consumer.pauses[-1:], bench.consumer.paused)
    monkeypatch.undo()
    bench.read(_parked(), 0, records)

    assert [[PARKED, 0, 0, 0], [PARKED, 0, 0, 1]] == bench.origins()[1:]


def test_what_was_parked_again_contradicts_nothing_that_was_parked_before() -> None:
    """A topic that was read again for another table: what it holds is a stream of its own, of the epochs that it had.

    The epoch's start tells of the generation in which the topic was read first.
    """
    bench, values = Bench(), [_record(1), _load(), _record(2)]
    a = partition()
    bench.step(run_of(a, 10, values))
    bench.step(run_of(bench.read_again(a), 10, values))
    records = bench.parked(V)
    start = EpochStart(epoch=1, topic_id=TOPIC_ID, generation=0, offsets={0: 11})
    decision = Decision(topic_id=TOPIC_ID, generation=2, start={0: 11})
    bench.apply(dms_spec(V, TOPIC), resumed=1, epoch=1, epochs={TOPIC: [start]}, decisions={TOPIC: decision})

    bench.read(_parked(), 0, records[:4])
    bench.lane = bench.made_lane()
    bench.read(_parked(), 4, records[4:])

    assert {} == bench.consumer.paused
    firsts = bench.origins("first_origin")[1:]
    assert [(0, 11), (0, 12), (1, 10), (1, 11), (1, 12)] == [(first[1], first[3]) for first in firsts]
    assert ["0001", "0001", "0000", "0001", "0001"] == [each["position"][:4] for each in bench.changes(V)[1:]]


def test_rows_of_one_epoch_that_were_parked_twice_flow_twice() -> None:
    """Which one wins is decided by position."""
    bench, values = Bench(), [_load(), _record(1)]
    own, again = bench.park(10, *values), bench.park(10, *values)
    again = [each._replace(headers={HEADER_FIRST_ORIGIN: b'["%s",1,0,%d]' % (TOPIC.encode(), at)})
             for at, each in enumerate(again, 10)]  # fmt: skip

    bench.read(_parked(), 0, [*own, *again])

    assert ({}, 4) == (bench.consumer.paused, len(bench.changes(V)))


def test_loads_of_several_streams_do_not_contradict_each_other() -> None:
    """Records of another topic of the table stand between, with a memory of their own."""
    bench = Bench()
    own, other = bench.park(10, _record(1)), bench.park(20, _load())
    elsewhere = other[0]._replace(headers={"headgate.first-origin": b'["elsewhere",0,0,20]'})

    bench.read(_parked(), 0, [*own, elsewhere])

    assert ({}, 2) == (bench.consumer.paused, len(bench.changes(V)))


def test_a_bad_record_is_in_quarantine_where_it_was_read_at_first_with_its_own_headers() -> None:
    """So that it can be redriven; so is one that does not say where that was."""
    bench = Bench()
    (good, bad) = bench.park(10, _record(1), dms_record(V, 2, {"id": "no number"}))
    placeless = good._replace(headers={"own": b"1"})

    bench.read(_parked(), 0, [good, bad, placeless])

    found = {each.reason: each for each in map(read_quarantined, (r.value for r in bench.of(NAMES.quarantine)))}
    assert {"bad_type", "no_first_origin"} == set(found)
    assert ([TOPIC, 0, 0, 11], V) == (list(found["bad_type"].origin), found["bad_type"].table)
    assert [] == [name for name, _ in found["bad_type"].headers if name.startswith("headgate")]
    assert 1 == len(bench.changes(V))


def test_a_record_that_no_attempt_gets_through_goes_to_quarantine_alone() -> None:
    """Its successors go on."""
    bench = Bench()
    (record,) = bench.park(10, _record(1))
    run = Run(_parked(), [Message(5, record.key, record.value, list(record.headers.items()))])

    asyncio.run(bench.lane.on_poison(run, KeyError("x")))

    assert [("bug", V)] == [(each.reason, each.table) for each in bench.quarantined()]
    assert 6 == bench.writer.advances[-1].next_offset


def test_a_table_takes_up_what_its_parked_records_have() -> None:
    """It stops there for a moment, and goes on by itself, as with live records."""
    bench = Bench()
    wide = dms_spec(V, TOPIC, unknown_columns="add")
    bench.apply(wide, paused="maintenance")
    bench.step(run_of(partition(), 10, [dms_record(V, 1, {"id": 1, "name": "n", "beds": 4})]))
    bench.apply(wide, resumed=1)

    async def taken_up() -> None:
        written: list[Evolved] = []

        def write(evolved: Evolved) -> None:
            written.append(evolved)
            bench.tables.update({evolved.key: evolved.encoded()})

        evolutions = Evolutions("normalize-here-0", bench.tables, bench.consumer, write)  # type: ignore[arg-type]  # it is paused by what stops tables alone
        bench.stage._evolutions = evolutions  # noqa: SLF001 - the worker's own, of which there is none here
        record = bench.parked(V)[0]
        message = Message(0, record.key, record.value, list(record.headers.items()))
        await bench.lane.step(Group([Run(_parked(), [message])], bench.consumer))
        assert "evolving" == bench.consumer.paused[PARKED].reason
        async with asyncio.timeout(30):
            while bench.consumer.paused:  # noqa: ASYNC110 - whoever resumes it tells nobody
                await asyncio.sleep(0.01)
        await bench.lane.step(Group([Run(_parked(), [message])], bench.consumer))

    asyncio.run(taken_up())

    assert [4] == [int(change["after"]["beds"]) for change in bench.changes(V)]


@pytest.mark.parametrize("refused", [TransactionAborted, SourceUnavailable], ids=["aborted", "without transactions"])
def test_an_output_that_refuses_holds_up_what_was_parked_of_its_table(
    refused: type[TransactionAborted | SourceUnavailable],
) -> None:
    """It is read again from there."""
    bench = Bench()
    records = bench.park(10, _record(1))
    bench.writer.failures.append(refused("refused", topic=NAMES.changes(V)))

    with pytest.raises(refused):
        bench.read(_parked(), 0, records)

    assert ("output_refused", [(0, 0)]) == (bench.consumer.paused[PARKED].reason, bench.consumer.seeks)


def test_what_is_parked_of_a_table_whose_output_cannot_be_made_waits() -> None:
    """It ends no worker: other tables have theirs."""
    bench = Bench()
    records = bench.park(10, _record(1))
    bench.refused_outputs.add(NAMES.changes(V))

    with pytest.raises(TransactionAborted):
        bench.read(_parked(), 0, records)

    assert ("output_refused", [(0, 0)]) == (bench.consumer.paused[PARKED].reason, bench.consumer.seeks)


def test_a_table_whose_schema_the_registry_refuses_is_parked_and_waits_there_as_well() -> None:
    """The others of its topic go on; with its schemas taken, and resumed, its changes are Avro."""
    with SchemaRegistry() as registry:
        bench, subject = Bench(config=f"registry: {{urls: ['{registry.url}']}}"), f"{NAMES.changes(V)}-value"
        spec = dms_spec(V, TOPIC, output={"format": "avro"})
        bench.apply(spec)
        registry.register(subject, '"string"')
        registry.refusals[subject] = "it is another type"

        bench.step(run_of(partition(), 10, [_record(1, table=P), _record(2)]))
        bench.step(run_of(partition(), 12, [_record(3, table=P), _record(4)]))
        records = bench.parked(V)
        bench.read(_parked(), 0, records)
        assert ([(None, 10), (10, 12)], [11, 13]) == (bench.chain(P), bench.parked_offsets(V))
        assert [(PARKED, "schema_incompatible")] == [(at, stop.reason) for at, stop in bench.consumer.paused.items()]
        assert bench.stage.parking()[V].reason.startswith("schema_incompatible")
        assert [] == bench.of(NAMES.changes(V))
        registry.refusals.clear()
        bench.apply(spec, resumed=1)
        asyncio.run(bench.consumer.resume(PARKED))
        bench.read(_parked(), 0, records)
        bench.step(run_of(partition(), 14, [_record(5)]))

    assert [b"\x00"] * 3 == [each.value[:1] for each in bench.of(NAMES.changes(V))]


def test_what_is_of_no_table_any_more_is_left_where_it_is() -> None:
    """Somebody may register it again."""
    bench = Bench()
    records = bench.park(10, _record(1))
    asyncio.run(_removed(bench))

    run = bench.read(_parked(), 0, records)

    assert (True, []) == (run.lost, bench.changes(V))


async def _removed(bench: Bench) -> None:
    await bench.stage.tables_changed(bench.tables.update({V.encode(): None}))


def test_what_comes_again_without_transactions_contradicts_nothing() -> None:
    """Links were written, and the worker died before it committed."""
    bench = Bench()
    records = bench.park(10, _load(), _record(1))
    bench.read(_parked(), 0, records)

    bench.lane = bench.made_lane()
    bench.read(_parked(), 0, records)

    assert ({}, 4) == (bench.consumer.paused, len(bench.changes(V)))


async def test_what_was_never_read_begins_at_its_first_record_also_where_that_is_gone() -> None:
    """So that the transport says what retention has taken."""
    bench, fresh, read = Bench(), _parked(0), _parked(1)
    fresh.low, read.committed = 7, 3

    assert {fresh: 0} == dict(await bench.lane.starts([fresh, read]))
