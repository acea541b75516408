"""Resyncs in NORMALIZE: when all of a table's new snapshot was read, its floor is written, once.

Promise: the floor of an epoch is written by who has the first partition of the table's first topic, in one transaction
with that partition's offset and the word that it was written. By then NORMALIZE has read, in every partition, what
stood there when the snapshot's end was known, and all that was parked of the table: so its rows stand before the floor
in each partition of the output.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import msgspec
import structlog

from connectors.formats.base import PartitionMemory
from connectors.transport.chunk import Assignment, Headers
from connectors.transport.history import Key
from connectors.transport.transaction import Advance, Outbox
from schemas.batch import Batch
from schemas.change import HEADER_SCHEMA_VERSION, HEADER_TABLE, Operation
from schemas.errors import HeadgateError, TableStopped
from schemas.failpoints import failpoint
from schemas.table import TableEntry
from schemas.topics import TopicNames
from sinks.topics import encode_changes
from streams.attempt import PartitionState, metadata_of, read_state, state_of
from streams.chains import Chains, Link, topic_of
from streams.epochs import start_of, topics_of
from streams.floors import floor_of_epoch
from streams.stage import BaseStage
from streams.tables import TableDirectory

LOOK_SECONDS = 1.0
MARKERS_MAX = 100  # so many offsets behind the last record read may be markers; of more it is not asked

LOG = structlog.get_logger("streams.normalize")


class Stand(NamedTuple):
    """Where NORMALIZE stands in a partition: life, committed offset (None: none), stage's own text, the log's end."""

    topic_id: str
    generation: int
    next: int | None
    state: str
    end: int


class Broker(Protocol):
    """What is asked of the broker about partitions that other workers may have."""

    async def stands(self, topics: Collection[str]) -> Mapping[Key, Stand]:
        """Return all partitions of topics; those on which a transaction is open are left out."""

    async def with_records(self, stretches: Mapping[Key, tuple[int, int]]) -> set[Key]:
        """Return those partitions that hold a record in a stretch, from its first offset up to its second."""


_Seen = tuple[str, PartitionMemory]  # of which source topic, and what


@dataclass(slots=True)
class _Open:
    """A resync under way, as the owner of its first partition sees it."""

    epoch: int
    ends: dict[Key, int] = field(default_factory=dict)  # where partitions ended when the snapshot's end was known
    progress: dict[str, Any] = field(default_factory=dict)


class _Led(NamedTuple):
    """A resync whose first partition this worker has; `chained`: what that remembers is kept by table."""

    table: str
    entry: TableEntry
    topics: list[str]
    first: Assignment
    chained: bool


class Resyncs:
    """The resyncs whose first partition a worker has; who writes for these partitions holds `alone`."""

    def __init__(  # noqa: PLR0913 - what it works with, each handed in
        self,
        stage: BaseStage,
        *,
        names: TopicNames,
        tables: TableDirectory,
        writer: Any,
        consumer: Any,
        chains: Chains,
        ensure: Callable[[str, Collection[str]], Awaitable[int]],
        broker: Broker | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`ensure` returns how many partitions an output of these topics has; without `broker` none is completed."""
        self._stage, self._names, self._tables, self._writer = stage, names, tables, writer
        self._consumer, self._chains, self._ensure, self._broker = consumer, chains, ensure, broker
        self._clock = clock
        self.alone = asyncio.Lock()
        self._next: dict[Assignment, int] = {}
        self._open: dict[str, _Open] = {}
        self._said = ""

    @property
    def has_broker(self) -> bool:
        """Whether resyncs can be completed here at all."""
        return self._broker is not None

    def reached(self, nexts: Mapping[Assignment, int]) -> None:
        """Note up to where first partitions are durable."""
        for assignment, offset in nexts.items():
            if not assignment.partition:
                self._next[assignment] = offset

    def progress(self) -> dict[str, dict[str, Any]]:
        """Return how far resyncs are that are not complete, by table."""
        return {table: dict(each.progress) for table, each in self._open.items() if each.progress}

    async def run(self) -> None:
        """Look again and again; what is away is asked the next time."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
                self._said = ""
            except HeadgateError as error:
                if error.message != self._said:
                    LOG.warning("resync.waits", error=error.message, hint=error.hint)
                self._said = error.message

    async def look(self) -> None:
        """Go on with each resync as far as it can be told now.

        Raises:
            SourceUnavailable: the broker does not answer.
            TransactionAborted: a floor was not written; the next look does it again.
        """
        self._next = {each: offset for each, offset in self._next.items() if not each.lost}
        led = await self._led()
        self._open = {each.table: self._open.get(each.table) or _Open(each.entry.epoch) for each in led}
        if self._broker is None or not led:
            return
        # Of a table that has its topics alone as well: it may have shared them when something was parked.
        asked = {topic for each in led for topic in (*each.topics, self._names.parked(each.table))}
        stands = await self._broker.stands(sorted(asked))
        states = {key: read_state(stand.state) for key, stand in stands.items()}
        chained = any(state.chained or self._names.parked_table(key[0]) for key, state in states.items())
        kept = await self._chains.links() if chained else {}
        failure: HeadgateError | None = None
        for each in led:
            theirs = {key: stand for key, stand in stands.items() if key[0] in each.topics}
            parked = {key: stand for key, stand in stands.items() if key[0] == self._names.parked(each.table)}
            memories = [(key[0], _memory_of(each.table, key, theirs[key], states[key], kept)) for key in theirs]
            memories += [seen for key, stand in parked.items() for seen in _memories_in(stand, kept.get(key, {}))]
            try:
                await self._look_at(each, theirs, parked, memories, self._broker)
            except HeadgateError as error:  # another table's floor does not wait for this one's
                failure = error
        if failure is not None:
            raise failure

    async def _led(self) -> list[_Led]:
        """Return the resyncs that are not complete and whose first partition this worker has."""
        resynced = {table: topics for table, entry in self._tables.items() if (topics := topics_of(entry))}
        if not resynced:
            return []
        firsts = {
            each.topic: each
            for each in self._consumer.assignments()
            if not each.partition and not each.lost and each.start >= 0
        }
        led = []
        for table, topics in resynced.items():
            entry, first = self._tables.get(table), firsts.get(topics[0])
            if entry is None or first is None:
                continue
            chained = self._is_chained(first)
            if chained:
                await self._chains.take_up({first})
            memory = self._memory(table, first, chained=chained)
            if memory.epoch != entry.epoch or not memory.floored:
                led.append(_Led(table, entry, topics, first, chained))
        return led

    async def _look_at(
        self, led: _Led, stands: Mapping[Key, Stand], parked: Mapping[Key, Stand], memories: Sequence[_Seen],
        broker: Broker,
    ) -> None:  # fmt: skip
        """Go on with one; `parked` are the partitions of what was parked of its table, `memories` what was seen."""
        entry = led.entry
        opened = self._open[led.table]
        if opened.epoch != entry.epoch:
            opened = self._open[led.table] = _Open(entry.epoch)
        of_epoch = [(topic, each) for topic, each in memories if each.epoch == entry.epoch]
        ended = all(any(each.ended for topic, each in of_epoch if topic == name) for name in led.topics)
        said = entry.resynced == entry.epoch
        opened.progress = {
            "epoch": entry.epoch,
            "rows": sum(each.loaded for _, each in of_epoch),
            "partitions": len(stands),
            "begun": sum(_has_begun(entry, key, stand) for key, stand in stands.items()),
            "snapshot": "declared" if said else "read" if ended else "open",
            "left": len(stands),
        }
        if not (ended or said) or not stands:
            return
        for key, stand in stands.items():
            opened.ends.setdefault(key, stand.end)
        left = await self._left(entry, stands, parked, opened.ends, broker)
        opened.progress["left"] = len(left)
        if not left and self._tables.get(led.table) is entry:
            await self._write(led)

    async def _left(
        self, entry: TableEntry, stands: Mapping[Key, Stand], parked: Mapping[Key, Stand], ends: Mapping[Key, int],
        broker: Broker,
    ) -> set[Key]:  # fmt: skip
        """Return the partitions of which NORMALIZE has still to read what must stand before the floor.

        What is parked must all be read: it may have been put there only now.
        """
        left, stretches = set[Key](), dict[Key, tuple[int, int]]()
        for key, stand in stands.items():
            start = start_of(entry, key[0])
            assert start is not None, "topics are those of the epoch"
            to = max(ends[key], start.begins(key[1]))
            if stand.next is None or not _is_read(entry, key, stand) or to - stand.next > MARKERS_MAX:
                left.add(key)
            elif stand.next < to:
                stretches[key] = (stand.next, to)
        for key, stand in parked.items():
            if stand.end and (stand.next is None or stand.end - stand.next > MARKERS_MAX):
                left.add(key)
            elif stand.next is not None and stand.next < stand.end:
                stretches[key] = (stand.next, stand.end)
        return left | await broker.with_records(stretches)

    async def _write(self, led: _Led) -> None:
        table, entry, topics, mine, chained = led
        output = self._names.changes(table)
        partitions = await self._ensure(output, topics)
        async with self.alone:
            at = self._next.get(mine, mine.start)
            memory = self._memory(table, mine, chained=chained)
            memory.enter(entry.epoch)
            memory.floored = True
            floor = _floor(entry, at, self._clock())
            before, chain = state_of(mine), self._chains.attempt(mine)
            state = before if chained else PartitionState(before.previous, memory, before.table or table)
            if chained:
                chain.remember(table, memory)

            def work(outbox: Outbox, live: Any) -> list[Advance]:
                del live  # it is `mine`, or this is not called
                _produce(outbox, entry, output, partitions, mine, floor)
                if chained:
                    self._chains.write(outbox, mine, chain)
                failpoint("resync.before_floor")
                return [Advance(mine, at, metadata_of(state))]

            await self._writer.write([mine], work)
            failpoint("resync.after_floor")
            if mine.lost:
                return  # its next owner sees by the offset's text whether it was written
            mine.state = state
            if chained:
                self._chains.settle(mine, chain)
        self._open.pop(table, None)
        self._stage.emitted[table, Operation.FLOOR.value] += 1
        self._stage.counts["resyncs"] += 1
        LOG.info("resync.complete", table=table, epoch=entry.epoch)

    # ── what is remembered of partitions ──

    def _is_chained(self, mine: Assignment) -> bool:
        """Tell whether a partition keeps what it remembers by table."""
        try:
            readers = self._tables.of_topic(mine.topic)
        except TableStopped:  # it is paused, and stays so until specs are mended
            readers = None
        return (readers is not None and readers.shared) or state_of(mine).chained

    def _memory(self, table: str, mine: Assignment, *, chained: bool) -> PartitionMemory:
        return self._chains.attempt(mine).memory(table) if chained else state_of(mine).memory.copy()


def _memory_of(
    table: str, key: Key, stand: Stand, state: PartitionState, kept: Mapping[Key, Mapping[str, Link]]
) -> PartitionMemory:
    """Return what is remembered of a table in a partition, as of its committed offset."""
    link = kept.get(key, {}).get(table)
    seen = None if link is None else _remembered(link, stand)
    return state.memory if seen is None else seen


def _memories_in(stand: Stand, kept: Mapping[str, Link]) -> list[_Seen]:
    """Return what is remembered in a partition of parked records, by the topics that they were read from."""
    seen = ((topic_of(stream), _remembered(link, stand)) for stream, link in kept.items())
    return [(topic, memory) for topic, memory in seen if memory is not None]


def _remembered(link: Link, stand: Stand) -> PartitionMemory | None:
    held = link.held(stand.topic_id, stand.generation)
    return None if held is None or held.memory is msgspec.UNSET else held.memory


def _has_begun(entry: TableEntry, key: Key, stand: Stand) -> bool:
    start = start_of(entry, key[0])
    at_start = start is not None and stand.next is not None and stand.next >= start.begins(key[1])
    return at_start and _is_read(entry, key, stand)


def _is_read(entry: TableEntry, key: Key, stand: Stand) -> bool:
    """Tell whether a partition is read in the life of its topic in which the epoch begins, and as was decided last."""
    start, decision = start_of(entry, key[0]), entry.decisions.get(key[0])
    decided = decision.generation if decision is not None and decision.topic_id == stand.topic_id else 0
    return start is not None and start.topic_id == stand.topic_id and stand.generation >= decided


def _floor(entry: TableEntry, at: int, now: float) -> Batch:
    """Return the floor of an entry's epoch, whose origin is behind all that was read."""
    said = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    nothing: list[Any] = [None]
    return Batch(
        entry.spec.table, offsets=[at], operations=[Operation.FLOOR.value], keys=nothing, old_keys=nothing,
        new_keys=nothing, befores=nothing, afters=nothing, positions=[floor_of_epoch(entry.epoch)], ts=[said],
        unavailable=[[]], transactions=[None], snapshots=[False],
    )  # fmt: skip


def _produce(outbox: Outbox, entry: TableEntry, output: str, partitions: int, mine: Assignment, floor: Batch) -> None:
    """Write a floor to every partition of an output, in the same words."""
    headers: Headers = [
        (HEADER_TABLE, entry.spec.table.encode()),
        (HEADER_SCHEMA_VERSION, b"%d" % entry.schema_version),
    ]
    stream = (mine.topic, mine.generation, mine.partition)
    records, _, _ = encode_changes(floor, stream, None, bytes_max=outbox.room(headers))
    for partition in range(partitions):
        outbox.produce_all(output, partition, records, headers)
