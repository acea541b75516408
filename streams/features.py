"""FEATURES: changes of the output topics become the latest values of entities in Redis.

Promise: a group is done once Redis has acknowledged every row of it. One script per bucket writes rows and the bucket's
offsets; positions decide inside Redis, so what comes again, or late, changes nothing. Redis may come back with less
than it acknowledged: the offsets that it keeps show that, and the partitions go back to the lowest of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import structlog

from connectors.transport.history import lacks_only_a_marker
from schemas.change import is_replay
from schemas.config import Config
from schemas.errors import HeadgateError, SourceMoved, TableStopped
from schemas.failpoints import failpoint
from schemas.table import TableEntry, views_that_emit
from schemas.topics import TopicNames
from sinks.redis.fold import Gatherer
from sinks.redis.layout import offset_field
from sinks.redis.rows import TableRows
from sinks.redis.store import Fallen, FeatureStore
from streams.relay import Relay
from streams.settings import is_transactional

LOG = structlog.get_logger(__name__)

ROUND_ROWS = 2_000  # what is decoded while Redis works on what was sent before
ROUND_ARGUMENTS = 200_000  # a command may have about a million
ROUNDS_IN_FLIGHT = 3
MOVE_SECONDS = 30.0  # how often buckets without rows are moved, and all are looked at
MOVE_AGAIN_SECONDS = 1.0  # where Redis did not answer


class Consumer(Protocol):
    """What this stage asks of the transport."""

    async def seek(self, assignment: Any, offset: int) -> bool:
        """Read a partition anew from `offset`."""

    async def pause(self, topic: str, reason: TableStopped) -> None:
        """Stop reading a table."""


class Piece(NamedTuple):
    """Part of a run: the records from `start` up to `stop`, and the offset behind them."""

    run: Any
    start: int
    stop: int
    next: int


class FeaturesStage:
    """Keeps the views of all running tables in Redis."""

    name = "features"

    def __init__(
        self,
        config: Config,
        *,
        names: TopicNames,
        tables: Mapping[str, TableEntry],
        consumer: Consumer,
        relay: Relay | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._names = names
        self._tables = tables
        self._consumer = consumer
        self._relay = relay
        self._store = FeatureStore(config.redis, clock=clock, message_bytes_max=config.kafka.message_bytes_max)
        self._transactional = is_transactional(config)
        self._readers: dict[str, TableRows | None] = {}
        self._assignments: dict[tuple[str, int], Any] = {}
        self._stopped: dict[str, TableStopped] = {}  # topics whose views cannot be kept
        self._halted: set[Any] = set()  # assignments whose rows Redis lost and the log no longer has
        self._back: dict[Any, int] = {}  # where assignments must go back to; until they have, their offsets stand still
        self._mover: asyncio.Task[None] | None = None
        self._counts: Counter[str] = Counter()

    async def start(self) -> None:
        """Connect to Redis, begin to move the offsets of quiet buckets and to relay feature updates.

        Raises:
            SinkUnavailable: Redis does not answer.
            SourceUnavailable: Kafka does not answer.
            ConfigurationError: what is there under the prefix is not a layout that this version knows.
        """
        await self._store.ensure()
        if self._relay is not None:
            await self._relay.start()
        self._mover = asyncio.create_task(self._keep_moving())

    async def stop(self) -> None:
        """Move all offsets to what is done, so that a successor repeats nothing, and leave."""
        if self._relay is not None:
            await self._relay.stop()
        if self._mover is not None:
            self._mover.cancel()
            await asyncio.gather(self._mover, return_exceptions=True)
            self._mover = None
        try:
            async with asyncio.timeout(self._config.limits.drain_seconds / 2):
                await self._store.ensure()
                await self._store.move_all()  # also of partitions that have left: the consumer ended before
        except (HeadgateError, TimeoutError) as exc:  # the successor repeats some rows, which changes nothing
            LOG.warning("features.offsets_not_moved", error=type(exc).__name__)
        finally:
            await self._store.close()

    def topics(self) -> list[str]:
        """Return the output topics of the tables that run and have a view."""
        running = (entry.spec for entry in self._tables.values() if entry.paused is None)
        return sorted(self._names.changes(spec.table) for spec in running if spec.features)

    def counters(self) -> dict[str, float]:
        """Return what was counted since the start."""
        relayed = self._relay.counters() if self._relay is not None else {}
        return {**self._counts, **self._store.counts, **relayed}

    def waits_for(self) -> HeadgateError | None:
        """Return what the relay waits for, None if nothing."""
        return self._relay.trouble if self._relay is not None else None

    async def step(self, group: Any) -> None:
        """Write a group and say that it is done.

        Raises:
            SinkUnavailable: Redis does not answer; nothing is known of the group's rows.
            PoisonRecord: a value is not the contract's, or a row is too large.
        """
        await self._go_back(await self._store.ensure())
        await self._pause_stopped({run.topic for run in group.runs})
        runs = [run for run in group.runs if not run.lost and len(run) and run.topic not in self._stopped]
        new = {run.assignment: run.first for run in reversed(runs) if self._is_new(run.assignment)}
        taken_up = await self._take_up(list(new))
        await self._seek({assignment: offset for assignment, offset in taken_up.items() if offset < new[assignment]})
        failpoint("features.before_write")
        if await self._write([run for run in runs if not run.lost]):
            await self._go_back(await self._store.read_again())
        failpoint("features.after_write")
        for run in runs:
            if self._stands_by(run):
                self._store.reach(self._fields(run.assignment), run.next)
        group.done(runs)

    async def starts(self, assignments: Sequence[Any]) -> dict[Any, int]:
        """Return where to begin: the lowest offset that Redis has for a partition, where that is below Kafka's.

        A partition of which a bucket knows nothing begins at 0: its view is new there, or Redis lost it.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        await self._go_back(await self._store.ensure())
        await self._pause_stopped({assignment.topic for assignment in assignments})
        starts: dict[Any, int] = {}
        for assignment, offset in (await self._take_up(assignments)).items():
            if assignment.committed is None or offset < assignment.committed:
                starts[assignment] = max(offset, assignment.low)
                if self._is_gone(assignment, offset):
                    await self._history_gone(assignment, offset)
        return starts

    async def tables_changed(self, changed: set[str]) -> None:
        """Take up specs that changed; for a view that is new, its table is read from the beginning.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        self._stopped.clear()
        self._readers.clear()  # any of them may own, or no longer own, a view's name
        self._drop_lost()
        if self._relay is not None:
            await self._relay.tables_changed()
        topics = {self._names.changes(table) for table in changed}
        again = [a for a in self._assignments.values() if a.topic in topics and self._is_new(a)]
        if again:
            await self._go_back(await self._store.ensure())
            await self._seek(await self._take_up(again))

    async def _write(self, runs: Sequence[Any]) -> bool:
        """Send `runs`, a few rounds at a time; return whether Redis turned out to have lost something."""
        flying: list[asyncio.Task[bool]] = []
        lost = False
        try:
            for pieces in rounds(runs, self._rows_max(runs)):
                flying.append(self._store.write(*self._gather(pieces)))
                await asyncio.sleep(0)  # hands the round to the socket before the next one is decoded
                if len(flying) >= ROUNDS_IN_FLIGHT:
                    lost |= await flying.pop(0)
            while flying:
                lost |= await flying.pop(0)
        finally:
            await asyncio.gather(*flying, return_exceptions=True)  # the first error is on its way; none is left behind
            if self._relay is not None:
                self._relay.wake()
        return lost

    def _rows_max(self, runs: Sequence[Any]) -> int:
        readers = [reader for run in runs if (reader := self._reader(run.topic)) is not None]
        widest = max((reader.arguments for reader in readers), default=1)
        return max(1, min(ROUND_ROWS, ROUND_ARGUMENTS // widest))

    def _gather(self, pieces: Sequence[Piece]) -> tuple[Gatherer, dict[str, int]]:
        """Decode a round: its rows by bucket, and the offset behind it for each field."""
        gatherer = self._store.gatherer()
        behind: dict[str, int] = {}
        for piece in pieces:
            reader = self._reader(piece.run.topic)
            if reader is not None:
                self._gather_piece(gatherer, reader, piece)
                if self._stands_by(piece.run):
                    behind.update(dict.fromkeys(self._fields(piece.run.assignment), piece.next))
        failpoint("features.after_decode")
        return gatherer, behind

    def _stands_by(self, run: Any) -> bool:
        """Say whether all that comes before `run` is in Redis, or on its way there."""
        return not run.lost and run.assignment not in self._halted and run.assignment not in self._back

    def _gather_piece(self, gatherer: Gatherer, reader: TableRows, piece: Piece) -> None:
        values = piece.run.values()[piece.start : piece.stop]
        offsets = piece.run.offsets()[piece.start : piece.stop]
        kept: Sequence[int] = range(len(values))
        if None in values:  # a tombstone of compaction: the delete before it says the same
            kept = [index for index, value in enumerate(values) if value is not None]
            values, offsets = [values[index] for index in kept], [offsets[index] for index in kept]
        if not values:
            return
        changes = reader.decode(values)
        where = f"{piece.run.assignment.topic_id}|{piece.run.partition}|"
        gatherer.add(
            reader,
            changes,
            lambda index: f"{where}{offsets[index]}",
            value_bytes_max=max(map(len, values)),
            replayed=lambda index: is_replay(piece.run.headers(piece.start + kept[index])),
        )
        self._counts["changes"] += len(changes)

    def _reader(self, topic: str) -> TableRows | None:
        """Return what decodes a topic's values; None: the table is gone or has no view."""
        table = self._names.table_of(topic)
        if table not in self._readers:
            try:
                self._readers[table] = self._new_reader(table)
            except TableStopped as exc:
                self._readers[table], self._stopped[topic] = None, exc
        return self._readers[table]

    async def _pause_stopped(self, topics: set[str]) -> None:
        """Pause those of `topics` whose views cannot be kept; until then nothing of them counts as done."""
        for topic in sorted(topics):
            if self._reader(topic) is None and topic in self._stopped:
                await self._consumer.pause(topic, self._stopped[topic])

    def _new_reader(self, table: str) -> TableRows | None:
        entry = self._tables.get(table)
        if entry is None or not entry.spec.features:
            return None
        for view in entry.spec.features:
            owner = min(t for t, other in self._tables.items() if any(v.view == view.view for v in other.spec.features))
            if owner != table:
                raise TableStopped(
                    "view_name_taken",
                    f"view {view.view} of {table} has the name of one of {owner}",
                    hint="give it another name: views are looked up by it",
                )
        return TableRows(entry.spec, entry.spec.features, views_that_emit(entry.spec))

    def _fields(self, assignment: Any) -> list[str]:
        reader = self._reader(assignment.topic)
        plans = reader.plans if reader is not None else []
        return [offset_field(plan.id, assignment.topic, assignment.partition) for plan in plans]

    def _is_new(self, assignment: Any) -> bool:
        known = self._assignments.get((assignment.topic, assignment.partition)) is assignment
        return not known or not self._store.knows(self._fields(assignment))

    def _drop_lost(self) -> None:
        """Forget partitions that left, and views that are gone: their fields are another worker's to move."""
        for key in [key for key, assignment in self._assignments.items() if assignment.lost]:
            self._halted.discard(self._assignments.pop(key))
        self._store.keep({field for assignment in self._assignments.values() for field in self._fields(assignment)})

    async def _take_up(self, assignments: Sequence[Any]) -> dict[Any, int]:
        """Read the fields of partitions and return the lowest offset of each; of another topic: pause."""
        if not assignments:
            return {}
        self._drop_lost()
        fields = {assignment: self._fields(assignment) for assignment in assignments}
        accepted = {field: a.topic_id for a in assignments if a.decision is not None for field in fields[a]}
        if accepted:
            await self._store.begin_anew(accepted)
        offsets = await self._store.take_up({field: a.topic_id for a in assignments for field in fields[a]})
        found: dict[Any, int] = {}
        moved: list[Any] = []
        for assignment in assignments:
            own = [offsets[field] for field in fields[assignment]]
            if None in own:
                moved.append(assignment)
                continue
            self._assignments[assignment.topic, assignment.partition] = assignment
            if known := [offset for offset in own if offset is not None]:
                found[assignment] = min(known)
        for assignment in moved:
            await self._consumer.pause(assignment.topic, _moved(assignment))
        return found

    async def _go_back(self, fallen: Fallen) -> None:
        """Go back in the partitions for which Redis holds less than it acknowledged."""
        back: dict[Any, int] = {}
        for assignment in self._assignments.values():
            offsets = [fallen[field] for field in self._fields(assignment) if field in fallen]
            if offsets and not assignment.lost:
                back[assignment] = min(offsets)
        await self._seek(back)

    async def _seek(self, back: Mapping[Any, int]) -> None:
        """Go back in partitions, also in those that could not before: one refuses that does not read yet."""
        for assignment, offset in back.items():
            LOG.warning("features.go_back", topic=assignment.topic, partition=assignment.partition, offset=offset)
            self._back[assignment] = min(offset, self._back.get(assignment, offset))
        for assignment, offset in list(self._back.items()):
            if self._back.get(assignment) != offset:  # it went there meanwhile
                continue
            if self._is_gone(assignment, offset):
                self._halted.add(assignment)
                await self._history_gone(assignment, offset)
            elif not await self._consumer.seek(assignment, offset) and not assignment.lost:
                continue
            if self._back.get(assignment) == offset:
                del self._back[assignment]

    def _is_gone(self, assignment: Any, offset: int) -> bool:
        """Say whether the log no longer holds what comes at `offset`; a last transaction's marker is no loss."""
        only_a_marker = self._transactional and lacks_only_a_marker(offset, assignment.low, assignment.high)
        return offset < assignment.low and not only_a_marker

    async def _history_gone(self, assignment: Any, offset: int) -> None:
        where = f"{assignment.topic}[{assignment.partition}]"
        stopped = TableStopped(
            "history_gone",
            f"Redis needs {where} from offset {offset}, and its log begins at {assignment.low}",
            hint="a rebuild comes in a later version; after a resume, rows that never change again are missing",
        )
        await self._consumer.pause(assignment.topic, stopped)

    async def _keep_moving(self) -> None:
        seconds = MOVE_SECONDS
        while True:
            await asyncio.sleep(seconds)
            seconds = MOVE_SECONDS
            try:
                await self._go_back(await self._store.ensure())
                self._drop_lost()
                await self._go_back(await self._store.move_all())
            except Exception as exc:  # noqa: BLE001 - the next step meets the same trouble and says so; this goes on
                LOG.warning("features.offsets_not_moved", error=type(exc).__name__)
                seconds = min(MOVE_SECONDS, MOVE_AGAIN_SECONDS)  # its connection broke: what else did Redis lose?


def rounds(runs: Sequence[Any], rows_max: int) -> Iterator[list[Piece]]:
    """Cut runs into rounds of at most `rows_max` records, in order."""
    pieces: list[Piece] = []
    room = rows_max
    for run in runs:
        start, count = 0, len(run)
        while start < count:
            stop = min(count, start + room)
            pieces.append(Piece(run, start, stop, run.next if stop == count else run.offsets()[stop]))
            room -= stop - start
            start = stop
            if room == 0:
                yield pieces
                pieces, room = [], rows_max
    if pieces:
        yield pieces


def _moved(assignment: Any) -> SourceMoved:
    return SourceMoved(
        "topic_id",
        f"{assignment.topic} is not the topic whose changes are in Redis: its id is another",
        hint="it was made anew: `headgate tables resume TABLE --anew` goes on with it, without what was lost",
    )
