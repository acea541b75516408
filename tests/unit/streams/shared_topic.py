"""A stage on a topic that several tables share, with a broker in memory: what was written is what a new one finds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from connectors.transport.chunk import Assignment, Group, Run
from schemas.change import HEADER_FIRST_ORIGIN
from schemas.config import read_config
from schemas.errors import HeadgateError, TransactionAborted
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from sinks.quarantine import Quarantined, read_quarantined
from streams.chains import Chains
from streams.normalize import NormalizeStage
from streams.output_topics import Output
from streams.tables import TableDirectory
from tests.unit.fakes import Consumer, Record, Writer
from tests.unit.streams.dms_specs import dms_spec

NAMES = TopicNames()
TOPIC, TOPIC_ID = "dms-task", "id"


class Shared:
    """NORMALIZE and what it is wired to."""

    def __init__(self, *specs: TableSpec, failures: Sequence[HeadgateError] = (), config: str = "") -> None:
        """Begin with these tables, else with the patients and the visits of the topic."""
        wanted = specs or (dms_spec("patients", TOPIC), dms_spec("visits", TOPIC))
        self.tables = TableDirectory({spec.table: TableEntry(spec=spec) for spec in wanted})
        self.writer, self.consumer = Writer(*failures), Consumer()
        self.kept: dict[bytes, bytes] = {}
        self.ensured: list[dict[str, int]] = []
        self.there: set[str] = set()  # topics that others have made
        self.refused_outputs: set[str] = set()  # that the broker does not let be made
        self.asked: list[set[str]] = []  # of which it was asked whether they are there
        self._config = read_config(config, name="c")
        self.stage = self.made()

    def made(self) -> NormalizeStage:
        """Return a new worker's stage."""

        async def ensure(wanted: Mapping[str, Output]) -> dict[str, int]:
            self.ensured.append({topic: output.partitions for topic, output in wanted.items()})
            for topic in sorted(self.refused_outputs & wanted.keys()):
                raise TransactionAborted(f"creating {topic}: the broker refuses", topic=topic)
            return {topic: output.partitions for topic, output in wanted.items()}

        async def exist(topics: Collection[str]) -> Collection[str]:
            self.asked.append(set(topics))
            return self.there & set(topics)

        return NormalizeStage(
            self._config, names=NAMES, tables=self.tables, writer=self.writer, consumer=self.consumer,
            chains=Chains(NAMES.normalize_previous, lambda: self.kept), ensure_outputs=ensure, exist=exist,
            clock=lambda: 1.0,
        )  # fmt: skip

    def step(self, *runs: Run) -> None:
        """Have the stage work on a group."""
        asyncio.run(self.stage.step(Group(list(runs), self.consumer)))
        self.kept |= {each.key: each.value for each in self.of(NAMES.normalize_previous) if each.key is not None}

    def restarted(self, before: Assignment) -> Assignment:
        """Have a new worker go on where the offsets were committed; return its assignment."""
        self.stage = self.made()
        made = Assignment("main", before.topic, before.partition)
        made.generation, made.topic_id = before.generation, before.topic_id
        mine = [each for each in self.writer.advances if each.assignment.key == before.key]
        made.metadata = mine[-1].metadata if mine else ""
        return made

    def apply(self, *specs: TableSpec, **changes: Any) -> None:
        """Register specs, and tell the stage; `changes` are those of the entries."""
        records = {spec.table: TableEntry(spec=spec, **changes).model_dump_json().encode() for spec in specs}
        changed = self.tables.update({table.encode(): data for table, data in records.items()})
        asyncio.run(self.stage.tables_changed(changed))

    def of(self, topic: str) -> list[Record]:
        """Return what was written to a topic."""
        return [each for each in self.writer.records if each.topic == topic]

    def changes(self, table: str) -> list[Any]:
        """Return what was written to a table's output topic."""
        return [each.content for each in self.of(NAMES.changes(table))]

    def chain(self, table: str) -> list[tuple[int | None, int]]:
        """Return `previous` and the origin offset of each change of a table."""
        return [(each["source"]["previous"], each["source"]["origin"][3]) for each in self.changes(table)]

    def parked(self, table: str) -> list[Record]:
        """Return what was parked of a table."""
        return self.of(NAMES.parked(table))

    def parked_offsets(self, table: str) -> list[int]:
        """Return at which offsets of the topic what was parked of a table was read."""
        return [json.loads(each.headers[HEADER_FIRST_ORIGIN] or b"")[3] for each in self.parked(table)]

    def quarantined(self) -> list[Quarantined]:
        """Return what is in quarantine."""
        return [read_quarantined(each.value) for each in self.of(NAMES.quarantine)]

    def read_again(self, before: Assignment, *, topic_id: str = "") -> Assignment:
        """Have a new worker read the partition in the next generation, of the same life of the topic or of another."""
        made = self.restarted(before)
        made.generation, made.topic_id, made.metadata = before.generation + 1, topic_id or before.topic_id, ""
        return made


def partition(number: int = 0, *, generation: int = 0) -> Assignment:
    """Return a partition of the topic."""
    made = Assignment("main", TOPIC, number)
    made.generation, made.topic_id = generation, TOPIC_ID
    return made
