"""NORMALIZE: what one group becomes, and what a second attempt, a stop and a revocation leave behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from connectors.transport.chunk import Assignment, Group, Run
from schemas.config import read_config
from schemas.document import read_document
from schemas.errors import POLICY, Policy, RegistryUnavailable, SourceUnavailable, TableStopped, TransactionAborted
from schemas.output import Output as OutputSpec
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from streams.chains import Chains
from streams.normalize import NormalizeStage
from streams.output_topics import EnsureOutputs, Output
from streams.tables import TableDirectory
from tests.services.registry import SchemaRegistry
from tests.unit.fakes import Consumer, Message, Writer

TOPIC = "clinic.public.patients"
SPEC = f"""
table: patients
topics: [{TOPIC}]
key: [id]
columns: {{id: int, name: string}}
"""


def _stage(writer: Writer, consumer: Consumer, config: str = "") -> NormalizeStage:
    return _stage_and_tables(writer, consumer, config)[0]


async def _ensure_all(wanted: Mapping[str, Output]) -> dict[str, int]:
    return {topic: output.partitions for topic, output in wanted.items()}


def _stage_and_tables(
    writer: Writer, consumer: Consumer, config: str = "", ensure: EnsureOutputs = _ensure_all
) -> tuple[NormalizeStage, TableDirectory]:
    tables = TableDirectory({"patients": TableEntry(spec=read_document(SPEC, TableSpec, name="spec"))})
    stage = NormalizeStage(
        read_config(config, name="c"),
        names=TopicNames(),
        tables=tables,
        writer=writer,
        consumer=consumer,
        chains=Chains(TopicNames().normalize_previous, dict),
        ensure_outputs=ensure,
    )
    return stage, tables


def _event(lsn: int, row: int, op: str = "c") -> bytes:
    after = None if op in {"d", "t"} else {"id": row, "name": f"n{lsn}"}
    source = {
        "connector": "postgresql", "name": "clinic", "ts_us": 1_795_219_394_000_000, "snapshot": "false", "db": "d",
        "sequence": f'["{lsn - 1}","{lsn}"]', "schema": "public", "table": "patients", "txId": 7, "lsn": lsn,
    }  # fmt: skip
    before = {"id": row, "name": None} if op == "d" else None
    return json.dumps({"before": before, "after": after, "source": source, "op": op}, separators=(",", ":")).encode()


def _run(assignment: Assignment, first: int, values: Sequence[bytes | None], keys: Sequence[Any] = ()) -> Run:
    found = keys or [_key(value) for value in values]
    return Run(
        assignment, [Message(first + i, key, value) for i, (key, value) in enumerate(zip(found, values, strict=True))]
    )


def _key(value: bytes | None) -> bytes | None:
    try:
        event = json.loads(value or b"{}")
        return b'{"id":%d}' % (event["after"] or event["before"])["id"]
    except (ValueError, KeyError, TypeError):
        return b'{"id":1}'


def _step(stage: NormalizeStage, consumer: Consumer, *runs: Run) -> None:
    asyncio.run(stage.step(Group(list(runs), consumer)))


def test_each_change_names_the_one_before_it_in_its_partition() -> None:
    """A subscriber sees a gap by it, across groups and runs."""
    writer, consumer = Writer(), Consumer()
    stage, a = _stage(writer, consumer), Assignment("main", TOPIC, 2)

    _step(stage, consumer, _run(a, 10, [_event(1, 1), None, _event(2, 2)]))
    _step(stage, consumer, _run(a, 20, [_event(3, 3)]))

    assert [None, 10, 12] == [each.content["source"]["previous"] for each in writer.records]
    assert [[TOPIC, 0, 2, offset] for offset in (10, 12, 20)] == [
        each.content["source"]["origin"] for each in writer.records
    ]
    assert {("headgate.changes.patients", 2)} == {(each.topic, each.partition) for each in writer.records}
    assert [13, 21] == [advance.next_offset for advance in writer.advances]
    assert 1 == stage.counters()["skipped_tombstone"]


def test_a_successor_goes_on_from_the_metadata_of_the_committed_offset() -> None:
    """`previous` moves with the offset, so that a repeat carries the same value."""
    writer, consumer = Writer(), Consumer()
    _step(_stage(writer, consumer), consumer, _run(Assignment("main", TOPIC, 0), 10, [_event(1, 1)]))
    successor = Assignment("main", TOPIC, 0)
    successor.metadata = writer.advances[-1].metadata

    _step(_stage(writer, consumer), consumer, _run(successor, 11, [_event(2, 2)]))

    assert 10 == writer.records[-1].content["source"]["previous"]


def test_an_aborted_attempt_leaves_nothing_behind() -> None:
    """The second attempt writes what the first would have, and counts it once."""
    writer, consumer = Writer(TransactionAborted("aborted")), Consumer()
    stage, a = _stage(writer, consumer), Assignment("main", TOPIC, 0)
    run = _run(a, 10, [_event(1, 1), _event(2, 2)])

    with pytest.raises(TransactionAborted):
        _step(stage, consumer, run)
    _step(stage, consumer, run)

    assert [None, 10] == [each.content["source"]["previous"] for each in writer.records]
    assert 2 == stage.counters()["emitted"]
    assert {("patients", "insert"): 2} == stage.emitted


def test_a_bad_record_goes_to_quarantine_and_its_neighbours_go_on() -> None:
    """One bad thing stops one thing, and `previous` of the next names the last good one."""
    writer, consumer = Writer(), Consumer()
    stage = _stage(writer, consumer)

    _step(stage, consumer, _run(Assignment("main", TOPIC, 0), 10, [_event(1, 1), b"{nonsense", _event(2, 2)]))

    bad = [each.content for each in writer.records if each.topic == "headgate.quarantine"]
    good = [each.content for each in writer.records if each.topic != "headgate.quarantine"]
    assert [("broken_json", [TOPIC, 0, 0, 11])] == [(value["reason"], value["origin"]) for value in bad]
    assert [None, 10] == [value["source"]["previous"] for value in good]
    assert "nonsense" not in bad[0]["message"]


def test_a_registry_that_is_away_holds_a_group_back_and_quarantines_nothing() -> None:
    """The step raises what its lane tries again by; when the registry is back, the same group goes through."""
    writer, consumer = Writer(), Consumer()
    with SchemaRegistry() as registry:
        config = f"registry: {{urls: ['{registry.url}'], timeout_seconds: 15}}"
        stage, tables = _stage_and_tables(writer, consumer, config)
        spec = read_document(f"{SPEC}format: debezium-avro\n", TableSpec, name="spec")
        tables.update({b"patients": TableEntry(spec=spec).model_dump_json().encode()})
        registry.register("patients-value", "{}", kind="JSON", number=7)
        run = _run(Assignment("main", TOPIC, 0), 10, [b"\0\0\0\0\x07" + _event(1, 1)], [b'{"id":1}'])
        registry.manner = "error"

        with pytest.raises(RegistryUnavailable) as caught:
            _step(stage, consumer, run)
        held = list(writer.records)
        registry.manner = "right"
        _step(stage, consumer, run)

    assert POLICY[caught.value.kind] is Policy.RETRY
    assert [] == held
    assert ["headgate.changes.patients"] == [each.topic for each in writer.records]


def test_a_topic_that_two_tables_read_stops_no_other_topic_and_goes_on_once_the_specs_are_mended() -> None:
    """Nothing of it is written, skipped or put in quarantine; the others flow."""
    writer, consumer = Writer(), Consumer()
    stage, tables = _stage_and_tables(writer, consumer)
    for table, pattern in {"p": r"^town\..*", "q": r"^.*\.people$"}.items():
        spec = SPEC.replace("table: patients", f"table: {table}").replace(f"[{TOPIC}]", f"['{pattern}']")
        tables.update(
            {table.encode(): TableEntry(spec=read_document(spec, TableSpec, name="s")).model_dump_json().encode()}
        )
    twice = consumer.run(Assignment("main", "town.people", 0), 5, [_event(1, 1)])

    _step(stage, consumer, twice, _run(Assignment("main", TOPIC, 0), 10, [_event(2, 2)]))
    _step(stage, consumer, consumer.run(twice.assignment, 5, [_event(1, 1)]))

    assert ["headgate.changes.patients"] == [each.topic for each in writer.records]
    assert ("claimed_twice", True) == (consumer.paused["town.people"].reason, twice.lost)

    tables.update({b"q": None})
    asyncio.run(stage.tables_changed({"q"}))
    _step(stage, consumer, consumer.run(twice.assignment, 5, [_event(1, 1)]))

    assert {} == consumer.paused
    assert "headgate.changes.p" == writer.records[-1].topic


def test_a_truncate_stops_its_table_at_the_record() -> None:
    """What stands before it is written; it and what follows wait for a decision."""
    writer, consumer = Writer(), Consumer()
    stage, a = _stage(writer, consumer), Assignment("main", TOPIC, 0)
    truncate = _event(2, 0, "t")

    _step(stage, consumer, _run(a, 10, [_event(1, 1), truncate, _event(3, 3)]), _run(a, 13, [_event(4, 4)]))

    assert [1] == [each.content["key"]["id"] for each in writer.records]
    assert [(a, 10, 11)] == [(run.assignment, run.first, run.next) for run in consumer.done_runs]
    assert "truncate" == consumer.paused[TOPIC].reason
    assert [11] == [advance.next_offset for advance in writer.advances]


def test_what_was_written_beside_a_stop_is_done_before_the_pause() -> None:
    """A pause reads again what is not done: other partitions of the table would be written twice at a resume."""
    writer, consumer = Writer(), Consumer()
    stage, other, stopped = _stage(writer, consumer), Assignment("main", TOPIC, 0), Assignment("main", TOPIC, 1)
    whole = consumer.run(other, 10, [_event(1, 1), _event(2, 2)])
    half = consumer.run(stopped, 20, [_event(3, 3), _event(4, 0, "t"), _event(5, 5)])

    _step(stage, consumer, whole, half)

    assert [(0, 10, 12), (1, 20, 21)] == [(run.partition, run.first, run.next) for run in consumer.done_runs]
    assert (False, True) == (whole.lost, half.lost)


@pytest.mark.parametrize("refused", [TransactionAborted, SourceUnavailable], ids=["aborted", "without transactions"])
def test_a_write_that_names_an_output_pauses_only_its_table(
    refused: type[TransactionAborted | SourceUnavailable],
) -> None:
    """The rest of the group is written by the next attempt."""
    writer, consumer = Writer(refused("refused", topic="headgate.changes.patients")), Consumer()
    a = Assignment("main", TOPIC, 0)

    with pytest.raises(refused):
        _step(_stage(writer, consumer), consumer, _run(a, 10, [_event(1, 1)]))

    assert "output_refused" == consumer.paused[TOPIC].reason
    assert [(a, 10)] == consumer.sought


def test_a_table_whose_output_cannot_be_made_is_paused_and_stops_no_other() -> None:
    """Neither at the start of a worker, nor when a record of it comes; once it can be made, the table goes on."""
    writer, consumer, refused = Writer(), Consumer(), {"headgate.changes.patients"}
    made: list[str] = []

    async def ensure(wanted: Mapping[str, Output]) -> dict[str, int]:
        for topic in sorted(refused & wanted.keys()):
            raise TransactionAborted(f"creating {topic}: the broker refuses", topic=topic)
        made.extend(wanted)
        return {topic: max(output.partitions, 1) for topic, output in wanted.items()}

    stage, tables = _stage_and_tables(writer, consumer, ensure=ensure)
    visits = SPEC.replace("patients", "visits")
    tables.update({b"visits": TableEntry(spec=read_document(visits, TableSpec, name="v")).model_dump_json().encode()})
    of_visits = Assignment("main", "clinic.public.visits", 0)
    run = consumer.run(Assignment("main", TOPIC, 0), 10, [_event(1, 1)])

    asyncio.run(stage.start())
    with pytest.raises(TransactionAborted):
        _step(stage, consumer, run)
    _step(stage, consumer, _run(of_visits, 20, [_event(1, 1)]))
    stopped = consumer.paused[TOPIC]
    refused.clear()
    _step(stage, consumer, _run(Assignment("main", TOPIC, 0), 10, [_event(1, 1)]))

    assert ("output_refused", [(0, 10)]) == (stopped.reason, consumer.seeks)
    assert ["headgate.changes.visits", "headgate.changes.patients"] == made
    assert ["headgate.changes.visits", "headgate.changes.patients"] == [each.topic for each in writer.records]


def test_what_an_output_refused_is_read_again_from_its_first_record() -> None:
    """Also where the group holds several runs of one partition."""
    writer, consumer = Writer(TransactionAborted("aborted", topic="headgate.changes.patients")), Consumer()
    a = Assignment("main", TOPIC, 0)

    with pytest.raises(TransactionAborted):
        _step(_stage(writer, consumer), consumer, _run(a, 10, [_event(1, 1)]), _run(a, 11, [_event(2, 2)]))

    assert 10 == consumer.at[a]


def test_what_was_fetched_of_a_table_that_was_removed_waits_until_it_is_registered_again() -> None:
    """Committed past, it would lack for ever: nobody says that a table will not come back in a second."""
    writer, consumer = Writer(), Consumer()
    stage, tables = _stage_and_tables(writer, consumer, "unregistered: quarantine")
    entry, a = tables["patients"].model_dump_json().encode(), Assignment("main", TOPIC, 0)
    asyncio.run(stage.tables_changed(tables.update({b"patients": None})))

    _step(stage, consumer, _run(a, 10, [_event(1, 1), _event(2, 2)]))
    left = list(writer.advances), list(consumer.done_runs), stage.counters().get("read"), stage.last_error
    paused = consumer.paused[TOPIC].reason
    asyncio.run(stage.tables_changed(tables.update({b"patients": entry})))
    _step(stage, consumer, _run(a, 10, [_event(1, 1), _event(2, 2)]))

    assert ([], [], None, None) == left
    assert "unregistered" == paused
    assert {} == consumer.paused
    assert [10, 11] == [each.content["source"]["origin"][3] for each in writer.records]
    assert [12] == [advance.next_offset for advance in writer.advances]


def test_a_table_that_is_removed_while_another_topic_is_paused_is_not_passed_over_either() -> None:
    """Between the look at the tables and the write nothing is awaited."""
    writer, consumer = Writer(), Consumer()
    stage, tables = _stage_and_tables(writer, consumer)
    pause = consumer.pause

    async def paused_meanwhile(topic: str, reason: TableStopped) -> None:
        tables.update({b"patients": None})
        await pause(topic, reason)

    consumer.pause = paused_meanwhile  # type: ignore[method-assign]
    other, mine = Assignment("main", "clinic.public.gone", 0), Assignment("main", TOPIC, 0)

    _step(stage, consumer, _run(other, 0, [_event(1, 1)]), _run(mine, 10, [_event(2, 2)]))

    assert {"clinic.public.gone", TOPIC} == consumer.paused.keys()
    assert [] == writer.advances


def test_what_the_producer_waits_for_is_what_the_stage_waits_for() -> None:
    """So `status` tells of a broker that holds a transaction up."""
    writer, away = Writer(), SourceUnavailable("a transaction waits for the broker")
    stage = _stage(writer, Consumer())
    assert stage.waits_for() is None

    writer.waits = away

    assert away is stage.waits_for()


def test_a_table_whose_schema_the_registry_refuses_is_paused_and_nothing_of_it_is_written() -> None:
    """It goes on once somebody has decided; with its schemas taken its changes are Avro."""
    with SchemaRegistry() as registry:
        writer, consumer = Writer(), Consumer()
        config = f"registry: {{urls: ['{registry.url}']}}"
        stage, tables = _stage_and_tables(writer, consumer, config)
        spec = tables["patients"].spec.model_copy(update={"output": OutputSpec(format="avro")})
        tables.update({b"patients": TableEntry(spec=spec).model_dump_json().encode()})
        assignment = Assignment("main", TOPIC, 0)
        registry.register("headgate.changes.patients-value", '"string"')
        registry.refusals["headgate.changes.patients-value"] = "it is another type"

        _step(stage, consumer, consumer.run(assignment, 0, [_event(10, 1)]))
        assert ("schema_incompatible", []) == (consumer.paused[TOPIC].reason, writer.records)
        registry.refusals.clear()
        _step(stage, consumer, _run(assignment, 0, [_event(10, 1)]))

    (record,) = writer.records
    assert b"\x00" == record.value[:1] == (record.key or b"")[:1]
