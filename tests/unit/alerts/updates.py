"""A table with a view, and the ALERTS stage on fakes that reads the updates of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from connectors.transport.chunk import Assignment, Group, Run
from schemas.config import Config
from schemas.table import RuleStart, TableEntry, TableSpec
from schemas.topics import TopicNames
from streams.alert_state import PartitionState, read_states
from streams.alerts import AlertsStage
from streams.rule_views import with_own_views
from streams.rules import RuleEngine
from tests.unit.alerts.chain import VIEW, entity_of
from tests.unit.fakes import Consumer, Message, Writer

NOW = 1_795_203_957.0  # 2026-11-20T19:45:57Z
NAMES = TopicNames("hg")

HIGH = {"rule": "high", "kind": "threshold", "of": "level", "above": 6.0, "rearm_below": 5.5, "view": VIEW}


@cache
def _engine() -> RuleEngine:
    return RuleEngine()


def entry_of(*rules: dict[str, Any], starts: dict[str, RuleStart] | None = None, **spec: Any) -> TableEntry:
    """Return a table with a view of all its columns and these rules, complete as `apply` makes it."""
    view = {"view": VIEW, "entity": "patient", "columns": ["status", "level", "note"], **spec.pop("view", {})}
    table = {
        "table": "patients",
        "topics": ["t"],
        "key": ["id"],
        "columns": {"id": "long", "ward": "string", "status": "string", "level": "decimal(6,2)", "note": "string"},
        "features": [view],
        "rules": list(rules),
        **spec,
    }
    return TableEntry(spec=with_own_views(TableSpec.model_validate(table), _engine()), rules_from=starts or {})


class Bench:
    """A stage with fakes around it, and the partitions of the view's topic."""

    def __init__(self, *entries: TableEntry, writer: Writer | None = None, **kafka: Any) -> None:
        self.tables = {each.spec.table: each for each in entries}
        self.writer, self.consumer = writer or Writer(), Consumer()
        self.assignments: dict[tuple[str, int], Assignment] = {}
        self.stage = AlertsStage(
            Config.model_validate({"kafka": kafka}),
            names=NAMES,
            tables=self.tables,
            writer=self.writer,
            consumer=self.consumer,
            load_states=self.load_states,
            clock=lambda: NOW,
        )

    async def load_states(self, view: str, partitions: Sequence[int]) -> dict[int, PartitionState]:
        """Return what is remembered, as it was written."""
        entries: dict[bytes, bytes] = {}
        for record in self.writer.records:
            if record.topic == NAMES.alerts_state(view) and record.partition in partitions:
                assert record.key is not None
                entries.pop(record.key, None)
                if record.value is not None:
                    entries[record.key] = record.value
        return read_states(entries, partitions)

    async def assignment(self, partition: int = 0, *, view: str = VIEW, committed: int | None = None) -> Assignment:
        """Return the life of a partition, taken up at first."""
        topic = NAMES.features(view)
        if (topic, partition) not in self.assignments:
            made = self.assignments[topic, partition] = Assignment(self.stage.lane_of(topic), topic, partition)
            made.topic_id, made.low, made.committed = "id-1", 0, committed
            await self.stage.starts([made])
        return self.assignments[topic, partition]

    async def run(self, *updates: bytes, first: int = 0, partition: int = 0, view: str = VIEW) -> Run:
        """Return a run of these updates."""
        messages = [Message(first + at, entity_of(each), each) for at, each in enumerate(updates)]
        return Run(await self.assignment(partition, view=view), messages)

    async def feed(self, *updates: bytes, first: int = 0, view: str = VIEW) -> list[dict[str, Any]]:
        """Hand over a group; return the alerts that it brought."""
        had = len(self.alerts())
        await self.stage.step(Group([await self.run(*updates, first=first, view=view)], self.consumer))
        return self.alerts()[had:]

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts written so far."""
        return [record.content for record in self.writer.records if record.topic == NAMES.alerts]


def keys(alerts: list[dict[str, Any]]) -> list[int]:
    """Return whose alerts these are."""
    return [int(alert["key"]["id"]) for alert in alerts]
