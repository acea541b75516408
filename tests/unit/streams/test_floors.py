"""Floors in NORMALIZE: in every partition of the output, outside the subscriber's rule, and never below a resync."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from connectors.transport.chunk import Assignment, Group, Run
from schemas.batch import Batch
from schemas.config import read_config
from schemas.document import read_document
from schemas.errors import ConfigurationError, TransactionAborted
from schemas.position import mysql_position, postgresql_position
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from streams.chains import Chains
from streams.floors import floor_of_epoch, pieces
from streams.normalize import NormalizeStage
from streams.output_topics import Output
from streams.tables import TableDirectory
from tests.unit.fakes import Consumer, Message, Record, Writer
from tests.unit.streams import test_redriven as redriven
from tests.unit.streams.test_normalize import SPEC, TOPIC, _event, _key

OUTPUT = "headgate.changes.patients"


class Bench:
    """A stage whose table applies truncates, and whose output has more partitions than it was made with."""

    def __init__(self, *failures: TransactionAborted, partitions: int = 3, policy: str = "apply") -> None:
        self.writer, self.consumer, self.partitions = Writer(*failures), Consumer(), partitions
        self.asked: list[Mapping[str, Output]] = []
        self.tables = TableDirectory({"patients": TableEntry(spec=self.spec(policy))})
        self.stage = NormalizeStage(
            read_config("", name="c"),
            names=TopicNames(),
            tables=self.tables,
            writer=self.writer,
            consumer=self.consumer,
            chains=Chains(TopicNames().normalize_previous, dict),
            ensure_outputs=self._ensure,
        )

    @staticmethod
    def spec(policy: str) -> TableSpec:
        """Return the table's spec with a policy."""
        return read_document(f"{SPEC}truncate: {policy}\n", TableSpec, name="spec")

    def change(self, policy: str) -> None:
        """Apply the spec with another policy."""
        entry = TableEntry(spec=self.spec(policy)).model_dump_json().encode()
        asyncio.run(self.stage.tables_changed(self.tables.update({b"patients": entry})))

    async def _ensure(self, wanted: Mapping[str, Output]) -> dict[str, int]:
        self.asked.append(wanted)
        return {topic: max(output.partitions, self.partitions) for topic, output in wanted.items()}

    def step(self, assignment: Assignment, first: int, *values: bytes) -> None:
        """Work on a run."""
        messages = [Message(first + at, _key(value), value) for at, value in enumerate(values)]
        asyncio.run(self.stage.step(Group([Run(assignment, messages)], self.consumer)))

    def of(self, partition: int) -> list[Record]:
        """Return what was written to a partition of the output."""
        return [each for each in self.writer.records if (each.topic, each.partition) == (OUTPUT, partition)]


def test_a_floor_stands_in_every_partition_and_between_its_neighbours_in_its_own() -> None:
    """With its own origin, and the headers of its table."""
    bench = Bench()

    bench.step(Assignment("main", TOPIC, 1), 10, _event(1, 1), _event(2, 0, "t"), _event(3, 3))

    assert [1, 3, 1] == [len(bench.of(partition)) for partition in range(3)]
    assert ["insert", "floor", "insert"] == [each.content["op"] for each in bench.of(1)]
    floors = [each for each in bench.writer.records if each.content["op"] == "floor"]
    assert 1 == len({each.value for each in floors})
    assert [TOPIC, 0, 1, 11] == floors[0].content["source"]["origin"]
    assert postgresql_position(0, 1, 2, streamed=True) == floors[0].content["position"]
    assert (None, b"patients") == (floors[0].key, floors[0].headers["headgate.table"])
    assert {} == bench.consumer.paused


def test_it_names_no_change_before_it_and_none_names_it() -> None:
    """Also the first change of a later group."""
    bench, assignment = Bench(), Assignment("main", TOPIC, 0)

    bench.step(assignment, 10, _event(1, 1), _event(2, 0, "t"), _event(3, 3), _event(4, 0, "t"))
    bench.step(assignment, 14, _event(5, 5))

    said = [(each.content["op"], each.content["source"]["previous"]) for each in bench.of(0)]
    assert [("insert", None), ("floor", None), ("insert", 10), ("floor", None), ("insert", 12)] == said


def test_how_many_partitions_there_are_is_asked_when_a_floor_comes() -> None:
    """Another worker may have enlarged the output since this one asked."""
    bench, assignment = Bench(partitions=1), Assignment("main", TOPIC, 0)
    bench.step(assignment, 10, _event(1, 1))
    bench.partitions = 5

    bench.step(assignment, 11, _event(2, 0, "t"))

    assert [2, 1, 1, 1, 1] == [len(bench.of(partition)) for partition in range(5)]
    assert [TOPIC] == bench.asked[-1][OUTPUT].sources


def test_an_aborted_attempt_writes_a_floor_once() -> None:
    """And counts it once."""
    bench, assignment = Bench(TransactionAborted("aborted")), Assignment("main", TOPIC, 0)
    with pytest.raises(TransactionAborted):
        bench.step(assignment, 10, _event(2, 0, "t"))

    bench.step(assignment, 10, _event(2, 0, "t"))

    assert [1, 1, 1] == [len(bench.of(partition)) for partition in range(3)]
    assert 1 == bench.stage.counters()["emitted"]


@pytest.mark.parametrize(("policy", "ops"), [("apply", ["floor", "insert"]), ("ignore", ["insert"])])
def test_a_table_that_stopped_goes_on_at_the_truncate_once_its_spec_says_how(policy: str, ops: list[str]) -> None:
    """It is read again from there, with the decoder of the new spec."""
    bench, assignment = Bench(policy="pause", partitions=1), Assignment("main", TOPIC, 0)
    bench.step(assignment, 10, _event(2, 0, "t"), _event(3, 3))
    stopped, written = set(bench.consumer.paused), list(bench.writer.records)

    bench.change(policy)
    bench.step(assignment, 10, _event(2, 0, "t"), _event(3, 3))

    assert ({TOPIC}, []) == (stopped, written)
    assert ops == [each.content["op"] for each in bench.of(0)]


def test_one_that_is_sent_again_is_a_floor_as_well() -> None:
    """Its position is that of its source, so it takes nothing that came later."""
    bench = redriven.Bench(specs=[text.replace("{", "{truncate: apply, ", 1) for text in redriven.SPECS])

    bench.step(redriven.run_of(redriven.event_of("t")))

    assert [] == bench.reasons()
    assert [0, 1, 2] == [each.partition for each in bench.of(OUTPUT)]
    assert {"floor"} == {change["op"] for change in bench.changes()}
    assert [[redriven.PATIENTS, 0, 2, 7]] * 3 == [each["source"]["first_origin"] for each in bench.changes()]


def test_a_completed_resync_has_its_floor_between_two_epochs() -> None:
    """Below whatever a connector has at its lowest, also a full load of DMS, which has zeros behind its epoch."""
    highest = [postgresql_position(3, 2**64 - 1, 2**64 - 1, streamed=True), "0003" + "9" * 100]
    zeros = "0004" + "0" * 52
    lowest = [postgresql_position(4, 0, 0, streamed=False), mysql_position(4, "bin.0", 0, 0, streamed=False), zeros]

    assert max(highest) < floor_of_epoch(4) < min(lowest)


def test_a_batch_is_parted_at_its_floors() -> None:
    """In its order, with nothing lost and nothing empty."""
    operations = ["floor", "insert", "delete", "floor", "floor", "insert"]
    batch = Batch("t", offsets=list(range(6)), operations=operations, positions=list("abcdef"))
    for name in ("keys", "old_keys", "new_keys", "befores", "afters", "ts", "unavailable", "transactions", "snapshots"):
        setattr(batch, name, [None] * 6)
    parted = [(some.operations, some.offsets, is_floor) for some, is_floor in pieces(batch)]

    assert [
        (["floor"], [0], True), (["insert", "delete"], [1, 2], False), (["floor"], [3], True), (["floor"], [4], True),
        (["insert"], [5], False),
    ] == parted  # fmt: skip
    assert [] == list(pieces(Batch("t")))


@pytest.mark.parametrize("topics", ["[a, b]", "[^clinic]"])
def test_a_table_of_several_topics_cannot_apply_truncates(topics: str) -> None:
    """A truncate of one would take the rows of all."""
    with pytest.raises(ConfigurationError, match="a table of one topic"):
        read_document(SPEC.replace(f"[{TOPIC}]", topics) + "truncate: apply\n", TableSpec, name="spec")
