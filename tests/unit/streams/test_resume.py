"""A table taken up again: which topics get a new life in this worker, and which are left alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from connectors.transport.chunk import Assignment
from connectors.transport.snapshot import PartitionView, TransportView
from schemas.table import Decision, TableEntry
from schemas.topics import TopicNames
from streams.resume import decided, let_go, take_up_again
from streams.tables import TableDirectory
from tests.unit.streams.dms_specs import dms_spec

SPEC = {"table": "patients", "topics": ["a", "^b.*"], "key": ["id"], "columns": {"id": "long"}}
VIEW = {"view": "visits", "entity": "patient", "columns": ["id"]}
ENTRY = TableEntry.model_validate({"spec": {**SPEC, "features": [VIEW]}})
ASKED = ENTRY.model_copy(update={"resumed": 1})


class Transport:
    """A consumer with partitions of some topics; those of removed topics leave."""

    def __init__(self, topics: dict[str, bool], paused: Collection[str] = ()) -> None:
        """Each topic of `topics` has one partition, held or not; `paused` are those that a stage paused."""
        self.held, self.paused = topics, set(paused)
        self.asked: list[tuple[str, Any]] = []
        self.mine = [Assignment("main", topic, 0) for topic in topics]

    async def resume(self, topic: str) -> None:
        self.paused.discard(topic)

    async def remove_topics(self, topics: Collection[str]) -> None:
        self.asked.append(("remove", list(topics)))
        self.mine = []

    async def add_topics(self, topics: Collection[str]) -> None:
        self.asked.append(("add", list(topics)))

    def assignments(self) -> list[Assignment]:
        return self.mine

    def snapshot(self) -> TransportView:
        views = [_view(topic, stopped=held or topic in self.paused) for topic, held in self.held.items()]
        return TransportView(views, [], dict.fromkeys(self.paused, "why"), 0, "")


def _view(topic: str, *, stopped: bool) -> PartitionView:
    return PartitionView(topic, 0, "main", "running", 0, 0, 0, 0, 0, None, None, -1, 0.0, "", "", stopped)


@pytest.mark.parametrize(
    ("transport", "entry", "asked"),
    [
        (Transport({"a": True, "x": True}), ASKED, [("remove", ["a", "^b.*"]), ("add", ["a", "^b.*"])]),
        (Transport({"b1": False}, paused=["b1"]), ASKED, [("remove", ["a", "^b.*"]), ("add", ["a", "^b.*"])]),
        (
            Transport({"headgate.changes.patients": True}), ASKED,
            [("remove", ["headgate.changes.patients"]), ("add", ["headgate.changes.patients"])],
        ),
        (
            Transport({"headgate.features.visits": True, "headgate.changes.patients": False}), ASKED,
            [("remove", ["headgate.features.visits"]), ("add", ["headgate.features.visits"])],
        ),
        (
            Transport({"headgate.parked.patients": True, "a": True}), ASKED,
            [("remove", ["headgate.parked.patients", "a", "^b.*"]), ("add", ["headgate.parked.patients", "a", "^b.*"])],
        ),
        (
            Transport({"headgate.parked.patients": True, "a": False}), ASKED,
            [("remove", ["headgate.parked.patients"]), ("add", ["headgate.parked.patients"])],
        ),
        (Transport({"a": False, "x": True}), ASKED, []),  # nothing of it is in trouble here
        (Transport({"a": True}), ENTRY, []),  # nobody asked
        (Transport({}, paused=["a"]), ASKED, []),  # paused, and not this worker's now
        (
            Transport({"a": False}),  # read where it stands, and to be read from elsewhere
            ASKED.model_copy(update={"decisions": {"a": Decision(topic_id="i", generation=1)}}),
            [("remove", ["a", "^b.*"]), ("add", ["a", "^b.*"])],
        ),
    ],
)  # fmt: skip
async def test_what_is_stopped_or_decided_gets_a_new_life(
    transport: Transport, entry: TableEntry, asked: list[tuple[str, Any]]
) -> None:
    """In this worker; other topics, and other tables, are not touched."""
    await take_up_again(transport, transport.add_topics, entry, ENTRY, TopicNames())

    assert asked == transport.asked
    assert set() == transport.paused or entry is ENTRY


@pytest.mark.parametrize(
    ("after", "paused"),
    [
        ({}, {"x"}),
        ({"patients": ASKED}, {"a", "b1", "x", "headgate.changes.patients"}),
        ({"patients": ENTRY.model_copy(update={"spec": ENTRY.spec.model_copy(update={"topics": ["a"]})})},
         {"a", "x", "headgate.changes.patients"}),
    ],
)  # fmt: skip
async def test_what_was_paused_is_let_go_with_the_table_that_read_it(
    after: dict[str, TableEntry], paused: set[str]
) -> None:
    """A table that is gone, or reads other topics now, holds up no other; those that nobody of them reads stay."""
    transport = Transport({"a": False}, paused=["a", "b1", "x", "headgate.changes.patients"])

    await let_go(transport, {"patients": ENTRY}, after, TopicNames())

    assert (paused, []) == (transport.paused, transport.asked)


async def test_what_is_paused_for_a_table_that_nobody_changed_stays_so() -> None:
    """It is not tried again because something else has happened."""
    transport = Transport({"a": False}, paused=["a"])

    await let_go(transport, {}, {"patients": ENTRY}, TopicNames())

    assert {"a"} == transport.paused


def test_a_decision_is_found_by_its_topic_whether_source_or_output() -> None:
    """Of a table that is gone, or of a topic that two tables read, there is none."""
    said = {topic: Decision(topic_id=topic, generation=1) for topic in ("a", "b1", "headgate.changes.patients")}
    entry = ENTRY.model_copy(update={"decisions": said})
    other = TableEntry.model_validate({"spec": {"table": "q", "topics": ["^b2"], "columns": {"id": "long"}}})
    find = decided(TopicNames(), TableDirectory({"patients": entry, "q": other}))

    assert {topic: [each] for topic, each in said.items()} == {topic: find(topic) for topic in said}
    assert [[]] * 3 == [find(topic) for topic in ("b2", "z", "headgate.changes.gone")]


def test_what_was_decided_for_one_table_of_a_shared_topic_holds_for_the_topic() -> None:
    """Each, whichever of its tables it was made for."""
    entries = {
        table: TableEntry(spec=dms_spec(table, "task"), decisions={"task": Decision(topic_id="t", generation=number)})
        for table, number in (("patients", 2), ("visits", 1))
    }
    entries["wards"] = TableEntry(spec=dms_spec("wards", "task"))

    said = decided(TopicNames(), TableDirectory(entries))("task")
    assert [2, 1] == [each.generation for each in said]
