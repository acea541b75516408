"""The relay: feature updates from the outboxes in Redis to `headgate.features.<view>`, rows to the latest topics.

Promise: an entry leaves its outbox only after all its updates are durable in Kafka, so none is lost. A relay that died
or was frozen in between writes some again; their numbers let readers drop them. Who owns a partition of
`headgate.relay`, a topic that is always empty, relays the buckets of its number.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import structlog

from connectors.transport.chunk import Assignment, Headers
from connectors.transport.producer import Outbox
from schemas.config import KIB, MIB, Config
from schemas.errors import HeadgateError, SourceUnavailable, TransactionAborted, Unavailable
from schemas.failpoints import failpoint
from schemas.feature_update import HEADER_VIEW
from schemas.output import latest_view_name
from schemas.table import TableEntry, TableSpec, views_that_emit
from schemas.topics import TopicNames
from sinks.redis.outbox import Outboxes, Size
from sinks.redis.updates import Entry, LatestRows, Updates, updates_of
from streams.latest import LatestTopics, Record, records_of

RELAY_LANE = "relay"
READ_BYTES = 8 * MIB  # what a round aims to hold
ENTRY_BYTES = 16 * KIB  # of an entry, before any was seen
ENTRIES_MAX = 64  # of a bucket in one round
IDLE_SECONDS = 0.1  # how often outboxes are looked into that other workers fill
MEASURE_SECONDS = 5.0
BACKOFF_SECONDS = 0.2
BACKOFF_SECONDS_MAX = 5.0

LOG = structlog.get_logger(__name__)

# Makes the topics that are missing, and returns how many partitions each has.
EnsureTopics = Callable[[Iterable[str]], Awaitable[Mapping[str, int]]]


class Consumer(Protocol):
    """What the relay asks of the transport."""

    def assignments(self) -> list[Any]:
        """Return what is assigned to this worker."""

    async def add_topics(self, lane: str, topics: Iterable[str]) -> None:
        """Read topics too."""

    async def fail(self, error: BaseException) -> None:
        """End the worker."""


class Writer(Protocol):
    """What it writes with: `connectors.transport.producer.PlainWriter`."""

    async def start(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Leave."""

    async def put(self, fill: Callable[[Outbox], None]) -> Any:
        """Write what `fill` puts into an outbox; durable when this returns."""


class Relay:
    """Relays the buckets that are this worker's."""

    def __init__(
        self,
        config: Config,
        *,
        names: TopicNames,
        tables: Mapping[str, TableEntry],
        consumer: Consumer,
        writer: Writer,
        latest: LatestTopics,
        ensure_topics: EnsureTopics,
    ) -> None:
        """Do nothing before `start`, and nothing then while no view emits."""
        self.trouble: HeadgateError | None = None
        self._config, self._names, self._tables = config, names, tables
        self._consumer, self._writer, self._latest, self._ensure_topics = consumer, writer, latest, ensure_topics
        self._outboxes = Outboxes(config.redis)
        self._partitions: dict[str, int] = {}  # of the topics that are there
        self._entry_bytes = float(ENTRY_BYTES)
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._stopping = False
        self._read_topics = self.topics()  # what its lane was given
        self._measured_at = 0.0
        self._size = Size(0, 0)
        self._counts: Counter[str] = Counter()

    def topics(self) -> list[str]:
        """Return what its lane reads: the empty topic, if a view emits."""
        return [self._names.relay] if self._emitting() else []

    def counters(self) -> dict[str, float]:
        """Return what was counted, and what waits in this worker's outboxes."""
        if self._task is None:
            return {}
        return {
            **self._counts,
            **self._latest.counts,
            "outbox_entries": self._size.entries,
            "outbox_bytes": self._size.nbytes,
        }

    async def start(self) -> None:
        """Make the topics and begin, if a view emits; repeatable.

        Raises:
            SourceUnavailable: Kafka does not answer.
        """
        if self._emitting():
            await self._ensure()
            await self._begin()

    async def stop(self) -> None:
        """Finish the round in hand, so that nothing of it is written again, and leave."""
        self._stopping = True
        self._woken.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=self._config.limits.drain_seconds / 2)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._writer.close()
            await self._latest.close()
        await self._outboxes.close()

    async def step(self, group: Any) -> None:
        """Let a record go: its topic is empty, unless somebody else wrote to it."""
        group.done()

    async def tables_changed(self) -> None:
        """Begin with the first view that emits; views that emit no more are relayed to their end."""
        wanted = self._emitting()
        # A topic that is wanted no more may be deleted, and a broker may make it anew as nobody wants it.
        self._partitions = {t: n for t, n in self._partitions.items() if t in wanted or t == self._names.relay}
        if wanted:
            await self._begin()
            self.wake()

    def wake(self) -> None:
        """Look into the outboxes at once: something was appended."""
        self._woken.set()

    async def _begin(self) -> None:
        if self._task is None:
            await self._writer.start()
            self._task = asyncio.create_task(self._relay())

    async def _ensure(self, *others: str) -> None:
        """Have the topics of all views that emit, before their first update: readers may subscribe; and `others`."""
        wanted = {self._names.relay, *self._emitting(), *others}
        if missing := sorted(wanted - self._partitions.keys()):
            self._partitions |= await self._ensure_topics(missing)

    def _emitting(self) -> set[str]:
        """Return the topics of the views that emit."""
        specs = [entry.spec for entry in self._tables.values()]
        return {self._topic(spec, view) for spec in specs for view in views_that_emit(spec)}

    def _topic(self, spec: TableSpec, view: str) -> str:
        is_latest = view == latest_view_name(spec.table)
        return self._names.latest(spec.table) if is_latest else self._names.features(view)

    def _owned(self) -> dict[int, Assignment]:
        """Return the buckets that are ours: each is of the partition of its number, modulo how many there are.

        A partition is only once it is known where it begins: what its owner before has begun to write is over then.
        """
        count = self._partitions[self._names.relay]
        ours = [a for a in self._consumer.assignments() if a.topic == self._names.relay and not a.lost and a.start >= 0]
        mine = {assignment.partition: assignment for assignment in ours}
        return {b: mine[b % count] for b in range(self._config.redis.buckets) if b % count in mine}

    async def _relay(self) -> None:
        seconds = BACKOFF_SECONDS
        while not self._stopping:
            try:
                moved = await self._round()
            except (Unavailable, TransactionAborted) as error:
                if isinstance(error, (TransactionAborted, SourceUnavailable)) and error.topic is not None:
                    self._partitions.pop(error.topic, None)  # it may be gone
                if self.trouble is None:
                    LOG.warning("relay.waits", error=error.message, hint=error.hint)
                self.trouble = error
                await self._pause(seconds)
                seconds = min(2 * seconds, BACKOFF_SECONDS_MAX)
            except Exception as error:  # noqa: BLE001 - what does not pass by itself ends the worker
                await self._consumer.fail(error)
                return
            else:
                self.trouble, seconds = None, BACKOFF_SECONDS
                if not moved:
                    await self._pause(IDLE_SECONDS)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()

    async def _round(self) -> bool:
        """Relay what waits, up to a round's bytes; return whether there was any.

        Raises:
            SinkUnavailable: Redis does not answer.
            SourceUnavailable: Kafka does not answer.
        """
        await self._ensure()
        if not self._read_topics:
            self._read_topics = [self._names.relay]
            await self._consumer.add_topics(RELAY_LANE, self._read_topics)
        owned = self._owned()
        buckets = list(owned)
        await self._measure(buckets)
        count = int(READ_BYTES / self._entry_bytes / max(len(buckets), 1))
        entries = await self._outboxes.read(buckets, min(max(count, 1), ENTRIES_MAX)) if buckets else []
        if not entries:
            return False
        self._entry_bytes = max(1.0, sum(len(entry.payload) for entry in entries) / len(entries))
        found = self._found(entries)
        await self._ensure(*found.topics)  # also of what emits no more
        partitions = self._partitions  # of this round: tables may change meanwhile
        failpoint("relay.before_write")
        rows, updates = found.rows_without_record, 0  # left out
        if found.rows:  # first: what is refused here would have the updates written again and again
            owners = list({owned[bucket]: None for bucket, _ in found.rows})
            rows += await self._latest.write(owners, found.rows, found.records, partitions)
        if found.updates:
            updates = await self._put(found.updates, partitions)
        failpoint("relay.after_write")
        await self._outboxes.remove(entries)
        self._counts["updates_relayed"] += sum(len(some.records) for _, some in found.updates) - updates
        self._left_out(rows, updates)
        return True

    def _left_out(self, rows: int, updates: int) -> None:
        """Count and tell what could not be written: one record must not stand in the way of all others."""
        if rows or updates:
            self._counts["latest_left_out"] += rows
            self._counts["updates_left_out"] += updates
            LOG.warning("relay.left_out", latest_rows=rows, updates=updates)

    def _found(self, entries: Sequence[Entry]) -> _Found:
        """Return what entries hold, with its bucket, in their order."""
        found = _Found([], [], [], set())
        for entry in entries:
            try:
                of_entry = updates_of(entry)
            except ValueError as error:  # another writer's: it would stand in the way of ours for ever
                LOG.warning("relay.foreign_entry", bucket=entry.bucket, id=entry.id.decode(), error=str(error))
                self._counts["outbox_foreign"] += 1
                continue
            rows = [some.latest for some in of_entry if some.latest is not None]
            found.updates.extend((entry.bucket, some) for some in of_entry if some.latest is None)
            found.rows.extend((entry.bucket, latest) for latest in rows)
            found.records.extend(map(records_of, rows))
        found.topics.update(self._names.features(some.view) for _, some in found.updates)
        found.topics.update(self._names.latest(latest.about.table) for _, latest in found.rows)
        return found

    async def _put(self, updates: Sequence[tuple[int, Updates]], partitions: Mapping[str, int]) -> int:
        """Write updates; return how many were left out, since they are larger than a record may be."""
        left_out = 0

        def fill(outbox: Outbox) -> None:
            nonlocal left_out
            left_out = 0
            for bucket, (view, records, _) in updates:
                topic = self._names.features(view)
                headers: Headers = [(HEADER_VIEW, view.encode())]
                room = outbox.room(headers)
                kept = [record for record in records if len(record[0]) + len(record[1]) <= room]
                left_out += len(records) - len(kept)
                outbox.produce_all(topic, bucket % partitions[topic], kept, headers)

        await self._writer.put(fill)
        return left_out

    async def _measure(self, buckets: Sequence[int]) -> None:
        now = time.monotonic()
        if now - self._measured_at >= MEASURE_SECONDS:
            self._measured_at = now
            self._size = await self._outboxes.size(buckets)


class _Found(NamedTuple):
    """What a round found: feature updates, and rows for latest topics with the records of each; the topics of both."""

    updates: list[tuple[int, Updates]]
    rows: list[tuple[int, LatestRows]]
    records: list[list[Record]]
    topics: set[str]

    @property
    def rows_without_record(self) -> int:
        """How many rows are not of their columns' types."""
        return sum(len(latest.rows) for _, latest in self.rows) - sum(map(len, self.records))
