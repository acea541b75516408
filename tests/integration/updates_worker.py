"""A FEATURES worker whose view emits, and relays beside it, on a real Redis; Kafka is a list."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from connectors.transport.chunk import Assignment, Run
from connectors.transport.producer import Outbox, Work
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.latest import LatestTopics
from streams.relay import Relay
from streams.schema_gate import nothing_new
from tests.integration.features_worker import SPEC, Worker
from tests.oracles import Shape, Verdict, ViewShape, check_updates, read_stored
from tests.oracles.topic import Record
from tests.services import RedisServer, until
from tests.unit.fakes import assignment_of

BUCKETS, PARTITIONS = 8, 4
EMITTING: dict[str, Any] = copy.deepcopy(SPEC)
EMITTING["features"] = [{**EMITTING["features"][0], "emit": True}]


class Topic:
    """What a relay writes to; `fails` is raised instead, once."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.fails: BaseException | None = None
        self.bytes_max = 1_000_000

    async def start(self) -> None:
        """Connect to nothing."""

    async def close(self) -> None:
        """Leave nothing."""

    async def put(self, fill: Callable[[Outbox], None]) -> None:
        """Keep what is written."""
        if self.fails is not None:
            error, self.fails = self.fails, None
            raise error
        fill(Outbox(self._keep, self.bytes_max))

    def partitions_max(self) -> None:
        """Allow any number of output partitions."""

    async def write(self, runs: Sequence[Run], work: Work) -> None:
        """Keep what is written by those who still own their partitions, or nothing."""
        if live := [run for run in runs if not run.lost]:
            kept: list[tuple[Any, ...]] = []
            work(Outbox(lambda *record: kept.append(record), 1_000_000), live)
            for record in kept:
                self._keep(*record)

    def _keep(self, topic: str, value: bytes | None, key: bytes, partition: int, *rest: Any) -> None:
        headers = tuple(rest[-1]) if rest else ()
        self.records.append(Record(topic, partition, len(self.records), key, value, headers))


class Assigned:
    """A transport that has given this worker partitions of the empty topic."""

    def __init__(self, partitions: Iterable[int]) -> None:
        self.mine = [assignment_of(TopicNames().relay, number) for number in partitions]
        for assignment in self.mine:
            assignment.start = 0
        self.added: list[str] = []
        self.failure: BaseException | None = None

    def assignments(self) -> list[Assignment]:
        """Return what is assigned."""
        return self.mine

    async def add_topics(self, lane: str, topics: Iterable[str]) -> None:
        """Note them."""
        self.added += topics

    async def fail(self, error: BaseException) -> None:
        """Note the end."""
        self.failure = error


def emitting_worker(server: RedisServer, prefix: str, log: list[bytes | None], **redis: Any) -> Worker:
    """Return a worker whose view emits."""
    one = Worker(server.address, prefix, log, **redis)
    one.tables["patients"] = TableEntry.model_validate({"spec": EMITTING})
    return one


def relay_of(
    one: Worker, topic: Topic, consumer: Assigned | None = None, *, fails: list[BaseException] | None = None,
    asked: list[str] | None = None,
) -> Relay:  # fmt: skip
    """Return a relay beside a worker, of all its buckets unless told otherwise; making topics `fails` as often.

    Those that it has made are `asked`.
    """

    async def ensure_topics(topics: Iterable[str]) -> Mapping[str, int]:
        if fails:
            raise fails.pop()
        if asked is not None:
            asked.extend(topics)
        return {name: BUCKETS if name == TopicNames().relay else PARTITIONS for name in topics}

    return Relay(
        one.config, names=TopicNames(), tables=one.tables, consumer=consumer or Assigned(range(BUCKETS)), writer=topic,
        latest=LatestTopics(TopicNames(), one.tables, writer=topic, catch_up=nothing_new), ensure_topics=ensure_topics,
    )  # fmt: skip


@asynccontextmanager
async def relaying(relay: Relay) -> AsyncIterator[Relay]:
    """Run a relay meanwhile."""
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


def waiting(one: Worker, server: RedisServer) -> int:
    """Return how many entries wait in all outboxes."""
    with server.client() as client:
        return sum(client.xlen(f"{one.config.redis.key_prefix}:{{b{bucket}}}:out") for bucket in range(BUCKETS))


async def drained(one: Worker, server: RedisServer) -> None:
    """Wait until nothing waits for the relay."""
    await until(lambda: waiting(one, server) == 0)


def judge(one: Worker, server: RedisServer, topic: Topic) -> list[Verdict]:
    """Ask the oracle of what was written, and of what is in Redis now."""
    views = ViewShape.all_of(Shape.of(EMITTING))
    records = sorted(topic.records, key=lambda record: record.partition)  # as a reader gets them; stable
    with server.client() as client:
        stored = read_stored(client, one.config.redis.key_prefix)
    return check_updates(views, {"latest": records}, stored, buckets=BUCKETS)
