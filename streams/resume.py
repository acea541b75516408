"""Going on: what people decided about topics that moved, and tables that a worker paused by itself taken up again.

Both come through `headgate.tables`, which every worker follows. A table is taken up again by giving its topics a new
life in this worker: where each partition begins is found out anew, from where the stage stands and from what was
decided, and nothing of the old life is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from time import monotonic
from typing import Protocol

import structlog

from connectors.transport.book import Book
from connectors.transport.chunk import Assignment
from connectors.transport.history import Decided
from connectors.transport.snapshot import TransportView
from schemas.config import Config
from schemas.errors import TableStopped
from schemas.table import Decision, TableEntry
from schemas.topics import TopicNames
from streams.registration import ensure_own_topics
from streams.settings import client_settings
from streams.tables import TableDirectory, reads

LEAVE_SECONDS_MAX = 30.0  # a rebalance waits for what was begun
_LOOK_SECONDS = 0.05

log = structlog.get_logger("streams.resume")


AddTopics = Callable[[Collection[str]], Awaitable[None]]


class Consumer(Protocol):
    """What this asks of the transport."""

    async def resume(self, topic: str) -> None:
        """Read a topic again that a stage paused."""

    async def remove_topics(self, topics: Collection[str]) -> None:
        """Read topics no more."""

    def assignments(self) -> list[Assignment]:
        """Return what this worker has."""

    def snapshot(self) -> TransportView:
        """Return how that stands."""


def book_of(config: Config, stage: str) -> Book:
    """Return what a stage that keeps its stand in Kafka alone remembers of partitions where Kafka forgets."""
    topic = TopicNames(config.kafka.topic_prefix).stage_state(stage)
    return Book(topic, client_settings(config), ensure=lambda: ensure_own_topics(config, [topic]))


def decided(names: TopicNames, tables: TableDirectory) -> Decided:
    """Return what tells the decisions about a topic, as of the entries now: each holds for all tables that read it."""

    def find(topic: str) -> list[Decision]:
        return [entry.decisions[topic] for entry in entries_of(topic, names, tables) if topic in entry.decisions]

    return find


def entries_of(topic: str, names: TopicNames, tables: TableDirectory) -> list[TableEntry]:
    """Return the tables that a topic belongs to, as their source or output; none where that is not certain."""
    if topic.startswith(names.changes("")):
        entry = tables.get(names.table_of(topic))
        return [] if entry is None else [entry]
    try:
        readers = tables.of_topic(topic)
    except TableStopped:  # tables lay claim to it that cannot share it; that it is paused for
        return []
    return [] if readers is None else list(readers.entries.values())


async def take_up_again(
    consumer: Consumer, add_topics: AddTopics, entry: TableEntry, before: TableEntry | None, names: TopicNames
) -> bool:
    """Try again what this worker paused of a table if somebody has asked for it since `before`; tell whether it did.

    `add_topics` reads topics in the lanes that they belong to.
    """
    if before is None or entry.resumed <= before.resumed:
        return False
    table = entry.spec.table
    own = _own_topics(entry, names)
    view = consumer.snapshot()
    assigned = {each.topic for each in view.partitions}
    mine = {topic for topic in assigned | set(view.paused_topics) if topic in own or reads(entry.spec, topic)}
    stopped = mine & {each.topic for each in view.partitions if each.stopped} | mine & set(view.paused_topics)
    decided_anew = {topic for topic in mine if entry.decisions.get(topic) != before.decisions.get(topic)}
    for topic in stopped:
        await consumer.resume(topic)
    topics = (stopped | decided_anew) & assigned
    if not topics:
        return bool(stopped)
    log.info("taken_up_again", table=table, topics=sorted(topics)[:20])
    subscribed = [*sorted(own & topics), *(entry.spec.topics if topics - own else ())]
    await consumer.remove_topics(subscribed)
    await _left(consumer, topics)
    await add_topics(subscribed)
    return True


async def let_go(
    consumer: Consumer, before: Mapping[str, TableEntry], tables: Mapping[str, TableEntry], names: TopicNames
) -> None:
    """Read those topics again that this worker paused and that tables read no more; `before` are these as they were.

    One may have been paused for a table that is gone, and others may read it: where it was not, it is paused again for
    what it was. One that nobody reads is paused no more if somebody has it read later.
    """
    paused = sorted(consumer.snapshot().paused_topics)
    left = set[str]()
    for table, entry in before.items() if paused else ():
        was, is_still = _of_table(entry, names), _of_table(tables.get(table), names)
        left |= {topic for topic in paused if was(topic) and not is_still(topic)}
    for topic in sorted(left):
        await consumer.resume(topic)
    if left:
        log.info("let_go", topics=sorted(left)[:20])


def _of_table(entry: TableEntry | None, names: TopicNames) -> Callable[[str], bool]:
    """Return what tells whether a topic is a table's own, or one that it reads; of no table there is none."""
    if entry is None:
        return lambda _: False
    own = _own_topics(entry, names)
    return lambda topic: topic in own or reads(entry.spec, topic)


def _own_topics(entry: TableEntry, names: TopicNames) -> set[str]:
    table = entry.spec.table
    return {names.changes(table), names.parked(table), *(names.features(each.view) for each in entry.spec.features)}


async def _left(consumer: Consumer, topics: Collection[str]) -> None:
    """Wait until none of `topics` is this worker's; what comes back later than that is taken up at the next resume."""
    deadline = monotonic() + LEAVE_SECONDS_MAX
    while any(each.topic in topics for each in consumer.assignments()):
        if monotonic() > deadline:
            log.warning("not_taken_up_again", topics=sorted(topics)[:20])
            return
        await asyncio.sleep(_LOOK_SECONDS)
