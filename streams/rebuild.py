"""Views filled from the lake where neither Redis nor the log has their rows, beside the stream.

The lake's current rows at a snapshot go through the same script as changes do. The partitions are read on from that
snapshot's offsets meanwhile: positions make the order of the two indifferent, so live changes do not wait. Until all is
through the offsets in Redis stand still, so a worker that dies leaves the rebuild to its successor, from the beginning;
so does Redis, if it is connected to anew meanwhile: what was acknowledged before may be lost.

Each owner fills the partitions that it owns, all of a table together, one table after the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from schemas.config import Config
from schemas.errors import HeadgateError, PoisonRecord, SinkUnavailable, TableStopped
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from sinks.redis.fold import Gatherer
from sinks.redis.handover import MOVES_AT_ONCE, gifts_of_rows
from sinks.redis.rows import TableRows
from sinks.redis.store import FeatureStore
from sinks.redis.updates import causes
from streams.floor_sweeps import raise_floors
from streams.place import Place, begins_late, history_gone
from streams.places import Places
from streams.sweep import REDRIVE_LAG_HOURS

if TYPE_CHECKING:
    from sinks.lake.latest import LatestBatch, LatestChanges
    from sinks.lake.stand import Stand

LOG = structlog.get_logger("streams.features")

ROUND_ROWS = 2_000
ROUND_ARGUMENTS = 200_000
ROUNDS_IN_FLIGHT = 2
TELL_SECONDS = 10.0  # how often the log says how far a rebuild is
_RETRY_SECONDS = 0.5
_RETRY_SECONDS_MAX = 15.0
_BACK_SECONDS = 0.1

T = TypeVar("T")
Pause = Callable[[str, TableStopped], Awaitable[None]]


@dataclass(slots=True)
class _Fill:
    """One rebuild of a table's partitions: what it began with."""

    topic: str
    reader: TableRows
    began: dict[Place, int]  # with the losses that each had
    connection: int
    origins: dict[int, str]  # by partition: where a delete is said to stand in the output topic

    def partitions(self) -> list[int]:
        return [place.assignment.partition for place in self.began]


class Rebuild:
    """Fills what is held, for as long as it takes."""

    def __init__(
        self,
        config: Config,
        *,
        names: TopicNames,
        tables: Mapping[str, TableEntry],
        store: FeatureStore,
        places: Places,
        reader_of: Callable[[str], TableRows | None],
        pause: Pause,
        clock: Callable[[], float],
    ) -> None:
        """Take places from `places`, and the rows of a topic by `reader_of`."""
        self._config = config
        self._names = names
        self._tables = tables
        self._store = store
        self._places = places
        self._reader_of = reader_of
        self._pause = pause
        self._clock = clock
        self._wanted: dict[str, float] = {}  # topic → when to try
        self._waits: dict[str, float] = {}  # topic → seconds waited last
        self._accepted: set[str] = set()  # topics that go on without what cannot be had
        self._some = asyncio.Event()
        self._thread: ThreadPoolExecutor | None = None
        self.trouble: dict[str, HeadgateError] = {}
        self.counts = {"rebuilds": 0, "rebuilt_rows": 0, "rebuild_rows_skipped": 0}

    def want(self, topic: str) -> None:
        """Have the held partitions of a topic filled."""
        self._wanted.setdefault(topic, 0.0)
        self._some.set()

    def accept(self, topic: str) -> None:
        """Have them filled, or go on without what neither log nor lake has: somebody has decided so."""
        if self._places.held(topic):
            self._accepted.add(topic)
            self._wanted[topic] = 0.0
            self._some.set()

    async def run(self) -> None:
        """Fill what is wanted; runs until it is cancelled."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rebuild")
        try:
            while True:
                self._some.clear()
                for topic in [topic for topic, at in self._wanted.items() if at <= time.monotonic()]:
                    await self._try(topic)
                next_at = min(self._wanted.values(), default=None)
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if next_at is None else max(next_at - time.monotonic(), 0.0)):
                        await self._some.wait()
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _try(self, topic: str) -> None:
        """Fill a topic's partitions, or say when to try again; what stops the table pauses it."""
        try:
            await self._fill(topic)
        except TableStopped as stopped:
            self._drop(topic)
            await self._pause(topic, stopped)
            return
        except Exception as error:  # noqa: BLE001 - this method decides: it is tried again, and `status` says why
            seconds = min(self._waits.get(topic, _RETRY_SECONDS / 2) * 2, _RETRY_SECONDS_MAX)
            self._waits[topic], self._wanted[topic] = seconds, time.monotonic() + seconds
            known = error if isinstance(error, HeadgateError) else _unknown(topic, error)
            self.trouble[topic] = known
            LOG.warning("features.rebuild_waits", topic=topic, error=known.message)
            return
        self._drop(topic)
        if self._places.held(topic) and self._reader_of(topic) is not None:
            self.want(topic)  # what came, or was lost, meanwhile

    def _drop(self, topic: str) -> None:
        self._wanted.pop(topic, None)
        self._waits.pop(topic, None)
        self.trouble.pop(topic, None)

    async def _fill(self, topic: str) -> None:
        """Fill the held partitions of a topic.

        Raises:
            TableStopped: the lake does not have what is missing.
            Unavailable: Redis, the lake or Kafka does not answer, or Redis may have lost what was sent.
        """
        entry = self._tables.get(self._names.table_of(topic))
        reader = self._reader_of(topic)
        places = self._places.held(topic)
        if entry is None or reader is None or not places:
            return
        await self._places.go_back(await self._store.ensure())
        began, connection = {place: place.losses for place in places}, self._store.connection
        await self._places.ask_logs(places)
        try:
            latest = await self._opened(entry, reader, places)
        except TableStopped as stopped:
            if topic not in self._accepted:
                raise
            self._accepted.discard(topic)
            LOG.warning("features.history_given_up", topic=topic, error=stopped.message)
            await self._places.give_up(places)
            return
        try:
            origins = {p.assignment.partition: _origin_of(p, latest.stands) for p in places}
            for place in places:
                stand = latest.stands.get(place.assignment.partition)
                if stand is not None:
                    await self._places.read_from(place, stand.next_offset)
            await self._send(latest, _Fill(topic, reader, began, connection, origins))
        except asyncio.CancelledError:
            latest.interrupt()
            raise
        finally:
            await asyncio.shield(self._apart(latest.close))
        await self._end(began, connection)
        self._accepted.discard(topic)

    async def _opened(self, entry: TableEntry, reader: TableRows, places: Sequence[Place]) -> LatestChanges:
        """Open the lake's table at its snapshot.

        Raises:
            TableStopped: it has not all that the log lacks.
        """
        first = places[0].assignment
        where = f"{first.topic}[{first.partition}]"
        if not entry.spec.lake.enabled:
            raise history_gone(where, first.low, "the table does not go to the lake")
        try:
            latest = await self._apart(lambda: _open(self._config, entry.spec, reader.used))
        except TableStopped as stopped:
            raise history_gone(where, first.low, stopped.message) from stopped
        for place in places:
            at, stand = place.assignment, latest.stands.get(place.assignment.partition)
            lacks, late = self._places.lake_lacks(at, stand), begins_late(stand)
            if late and not lacks and at.topic in self._accepted:
                LOG.warning("features.history_given_up", topic=at.topic, error=late)
            elif why := lacks or late:
                await self._apart(latest.close)
                raise history_gone(f"{at.topic}[{at.partition}]", at.low, why)
        return latest

    async def _send(self, latest: LatestChanges, fill: _Fill) -> None:
        """Send the rows of the lake, a bounded number at a time."""
        began_at = told_at = time.monotonic()
        counted = next(iter(fill.began))  # one place counts for all of the table
        for place in fill.began:
            place.done = place.total = 0
        counted.total = await self._apart(lambda: latest.prepare(fill.partitions()))
        if (floor := await self._apart(latest.floor)) is not None:
            await self._raise_floors(floor, fill)
        LOG.info("features.rebuild", topic=fill.topic, partitions=sorted(fill.partitions()), keys=counted.total)
        hours = self._config.limits.redrive_max_age_hours + REDRIVE_LAG_HOURS
        before = datetime.fromtimestamp(self._clock(), UTC) - timedelta(hours=hours)
        moves = latest.moves(fill.partitions())
        while (moved := await self._apart(lambda: next(moves, None))) is not None:  # before what they ended is gone
            changes = fill.reader.decode(moved.values, older=True)
            await self._store.note(fill.reader, changes, moved.since, opened=fill.connection)
        batches = latest.batches(expired_before=before)
        sent = 0
        while (batch := await self._apart(lambda: next(batches, None))) is not None:
            sent += await self._send_batch(batch, fill)
            counted.done = min(sent, counted.total)  # a key may take more than one change
            if time.monotonic() - told_at > TELL_SECONDS:
                told_at = time.monotonic()
                LOG.info("features.rebuilding", topic=fill.topic, rows=sent, keys=counted.total)
        gifts = latest.handed(fill.partitions())
        while (batch := await self._apart(lambda: next(gifts, None))) is not None:
            await self._give(batch, fill)
        self.counts["rebuilds"] += 1
        self.counts["rebuilt_rows"] += sent
        LOG.info("features.rebuilt", topic=fill.topic, rows=sent, seconds=round(time.monotonic() - began_at, 1))

    async def _raise_floors(self, floor: bytes, fill: _Fill) -> None:
        """Have the views' floors in Redis again: it may hold older rows, from a backup."""
        gatherer = self._store.gatherer()
        for plan in fill.reader.plans:
            plan.loading = True
        raise_floors(gatherer, fill.reader, floor)
        await self._store.write([gatherer], {})

    async def _send_batch(self, batch: LatestBatch, fill: _Fill) -> int:
        """Send one batch and return once Redis has it; return how many changes that were."""
        flying: list[asyncio.Task[bool]] = []
        rows_max = max(1, min(ROUND_ROWS, ROUND_ARGUMENTS // max(fill.reader.arguments, 1)))
        sent = 0
        try:
            for first in range(0, len(batch.values), rows_max):
                part = slice(first, first + rows_max)
                gatherer = await self._gathered(batch.values[part], batch.partitions[part], batch.expired[part], fill)
                if self._store.connection != fill.connection:
                    raise SinkUnavailable("Redis was connected to anew", hint="the rebuild begins again")
                if any(place.losses != losses for place, losses in fill.began.items()):
                    raise SinkUnavailable("Redis lost something meanwhile", hint="the rebuild begins again")
                sent += len(batch.values[part])
                flying.append(self._store.write([gatherer], {}))
                await asyncio.sleep(0)  # live changes have their turn
                if len(flying) >= ROUNDS_IN_FLIGHT:
                    await flying.pop(0)
            while flying:
                await flying.pop(0)
        finally:
            await asyncio.gather(*flying, return_exceptions=True)
        return sent

    async def _give(self, batch: LatestBatch, fill: _Fill) -> None:
        """Give rows what they have from the keys that they had before."""
        rows_max = max(1, min(MOVES_AT_ONCE, ROUND_ARGUMENTS // max(fill.reader.arguments, 1)))
        for plan in fill.reader.plans:
            plan.loading = True
        plans = {plan.id: plan for plan in fill.reader.plans}
        for first in range(0, len(batch.values), rows_max):
            changes = fill.reader.decode(batch.values[first : first + rows_max], older=True)
            said = {plan.id: causes(changes, lambda _: False, loading=True) for plan in fill.reader.plans if plan.emits}
            await self._store.give(gifts_of_rows(fill.reader, changes, said), plans, opened=fill.connection)

    async def _gathered(self, values: list[bytes], partitions: list[int], expired: list[bool], fill: _Fill) -> Gatherer:
        """Return a round of rows; an old delete is sent only where its row is still there, and one too large is not."""
        changes = fill.reader.decode(values, older=True)  # the lake's table may have other types than the spec of now
        if any(expired):
            kept = await self._not_buried(changes, expired, fill.reader)
            changes, values, partitions = (
                [changes[i] for i in kept], [values[i] for i in kept], [partitions[i] for i in kept],
            )  # fmt: skip
        for plan in fill.reader.plans:
            plan.loading = True
        gatherer = self._store.gatherer()
        longest = max(map(len, values), default=0)
        try:
            gatherer.add(fill.reader, changes, lambda index: fill.origins[partitions[index]], value_bytes_max=longest)
        except PoisonRecord:
            gatherer = self._store.gatherer()
            for change, partition in zip(changes, partitions, strict=True):
                try:
                    origin = fill.origins[partition]
                    gatherer.add(fill.reader, [change], lambda _, o=origin: o, value_bytes_max=longest)  # type: ignore[misc]
                except PoisonRecord:  # the stream has put it in quarantine when it came
                    self.counts["rebuild_rows_skipped"] += 1
        return gatherer

    async def _not_buried(self, changes: list[Any], expired: list[bool], reader: TableRows) -> list[int]:
        """Return the places of changes that are no old deletes, or of which Redis still has the row, from a backup."""
        old = [index for index, is_old in enumerate(expired) if is_old]
        keys = reader.keys([changes[index] for index in old])
        rows = [(plan.kind, plan.id, key) for key in keys for plan in reader.plans]
        found = await self._store.are_there(rows)
        per_key = len(reader.plans)
        dead = {index for at, index in enumerate(old) if not any(found[at * per_key : (at + 1) * per_key])}
        return [index for index in range(len(changes)) if index not in dead]

    async def _end(self, began: Mapping[Place, int], connection: int) -> None:
        """Return once the offsets in Redis have moved on.

        Raises:
            SinkUnavailable: Redis may have lost something meanwhile.
        """
        while any(place.back is not None and not place.assignment.lost for place in began):
            await asyncio.sleep(_BACK_SECONDS)  # a partition that does not read yet
            await self._places.go_back(await self._store.ensure())
        if not await self._places.filled(began, connection):
            raise SinkUnavailable("Redis lost something, or was connected to anew", hint="the rebuild begins again")

    async def _apart(self, work: Callable[[], T]) -> T:
        """Do what blocks on the rebuild's thread.

        Raises:
            SinkUnavailable: catalogue, file system or DuckDB raised something; the lake is asked again.
        """
        assert self._thread is not None, "it runs"
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except HeadgateError:
            raise
        except Exception as exc:
            name = type(exc).__name__
            full = "OutOfMemory" in name
            hint = "raise limits.rebuild_bytes_max" if full else "see whether it answers: `headgate check`"
            raise SinkUnavailable(f"the lake could not be read: {name}", hint=hint) from exc


def _open(config: Config, spec: TableSpec, columns: Sequence[str]) -> LatestChanges:
    """Open a table of the lake. The import takes seconds and 150 MB, and is seldom needed."""
    from sinks.lake.latest import LatestChanges  # noqa: PLC0415

    return LatestChanges(config.lake, spec, columns, bytes_max=config.limits.rebuild_bytes_max)


def _origin_of(place: Place, stands: Mapping[int, Stand]) -> str:
    """Return where a delete of the lake is said to stand: at the last place where it can, its own is not known."""
    stand = stands.get(place.assignment.partition)
    last = max((stand.next_offset if stand is not None else 0) - 1, 0)
    return f"{place.assignment.topic_id}|{place.assignment.partition}|{last}"


def _unknown(topic: str, error: Exception) -> HeadgateError:
    return SinkUnavailable(f"{topic} could not be filled again: {type(error).__name__}", hint="it is tried again")
