"""FEATURES: changes of the output topics become the latest values of entities in Redis.

Promise: a group is done once Redis has acknowledged every row of it. One script per bucket writes rows and the bucket's
offsets; positions decide inside Redis, so what comes again, or late, changes nothing. Redis may come back with less
than it acknowledged: the offsets that it keeps show that, and the partitions go back to the lowest of them (places.py),
or are filled from the lake where the log does not reach that far (rebuild.py).
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from math import isinf
from typing import Any, Protocol

import structlog

from schemas.config import Config
from schemas.errors import HeadgateError, TableStopped
from schemas.failpoints import failpoint
from schemas.table import TableEntry, views_that_emit
from schemas.topics import TopicNames
from sinks.redis.fold import Gatherer
from sinks.redis.layout import offset_field
from sinks.redis.rows import TableRows
from sinks.redis.standing import Standing
from sinks.redis.store import FeatureStore
from streams.avro_outputs import reader_of
from streams.floor_sweeps import LOOK_SECONDS, FloorSweeps, raise_floors
from streams.places import Lags, Logs, Places
from streams.rebuild import Rebuild
from streams.relay import Relay
from streams.repeating import again_and_again
from streams.rounds import Piece, rounds
from streams.schema_gate import SchemaGate, versions_in
from streams.settings import is_transactional
from streams.sweep import SWEEP_SECONDS, Sweep

LOG = structlog.get_logger(__name__)

ROUND_ROWS = 2_000  # what is decoded while Redis works on what was sent before
ROUND_ARGUMENTS = 200_000  # a command may have about a million
ROUNDS_IN_FLIGHT = 3
MOVE_SECONDS = 30.0  # how often buckets without rows are moved, and all are looked at
SETTLE_SECONDS = 1.0  # how often it is said how far views are that are not complete


class Consumer(Protocol):
    """What this stage asks of the transport."""

    async def seek(self, assignment: Any, offset: int) -> bool:
        """Read a partition anew from `offset`."""

    async def pause(self, topic: str, reason: TableStopped) -> None:
        """Stop reading a table."""

    async def resume(self, topic: str) -> None:
        """Read a table again that was paused."""


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
        logs: Logs | None = None,
        lags: Lags = dict,
    ) -> None:
        """Ask `logs` where topics begin and end now, `lags` what is still to be read of them."""
        self._config = config
        self._names = names
        self._tables = tables
        self._consumer = consumer
        self._relay = relay
        self._store = FeatureStore(config.redis, clock=clock, message_bytes_max=config.kafka.message_bytes_max)
        self.gate = SchemaGate(names, versions_in(tables))
        self._changes = reader_of(config)
        self._older: Collection[str] = ()  # topics of the group in work that have changes of an older schema version
        self._readers: dict[str, TableRows | None] = {}
        self._versions: dict[str, int | None] = {}  # of the spec that each reader was made of
        self._stopped: dict[str, TableStopped] = {}  # topics whose views cannot be kept
        self._places = Places(
            self._store,
            consumer,
            fields_of=self._fields,
            transactional=is_transactional(config),
            logs=logs,
            lags=lags,
        )
        self._rebuild = Rebuild(
            config,
            names=names,
            tables=tables,
            store=self._store,
            places=self._places,
            reader_of=self._reader,
            pause=self._pause,
            clock=clock,
        )
        self._places.on_held = self._rebuild.want
        self._sweep = Sweep(
            config, store=self._store, places=self._places, views_of=self._view_ids, logs=logs, clock=clock
        )
        self._floors = FloorSweeps(self._store, self._places, reader_of=self._reader)
        self._resumed: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
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
        self._resumed = {table: entry.resumed for table, entry in self._tables.items()}
        self._tasks = [
            asyncio.create_task(again_and_again(self._move, MOVE_SECONDS)),
            asyncio.create_task(again_and_again(self._settle, SETTLE_SECONDS)),
            asyncio.create_task(again_and_again(self._sweep.once, SWEEP_SECONDS)),
            asyncio.create_task(again_and_again(self._floors.once, LOOK_SECONDS)),
            asyncio.create_task(self._rebuild.run()),
        ]

    async def stop(self) -> None:
        """Move all offsets to what is done, so that a successor repeats nothing, and leave."""
        if self._relay is not None:
            await self._relay.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
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
        return {**self._counts, **self._store.counts, **self._rebuild.counts, **self._sweep.counts, **relayed}

    def waits_for(self) -> HeadgateError | None:
        """Return what the relay waits for, None if nothing."""
        return self._relay.trouble if self._relay is not None else None

    @property
    def last_error(self) -> HeadgateError | None:
        """What a rebuild waits for."""
        return next(iter(self._rebuild.trouble.values()), None)

    def filling(self) -> dict[str, Standing]:
        """Return how far the tables are whose views are not complete."""
        return {self._names.table_of(topic): at for topic, at in self._places.filling().items()}

    def sweeping(self) -> set[str]:
        """Return the tables of which rows below a floor may still be in Redis, as far as this worker sweeps them."""
        return set(map(self._names.table_of, self._floors.sweeping))

    async def step(self, group: Any) -> None:
        """Write a group and say that it is done.

        Raises:
            SinkUnavailable: Redis does not answer; nothing is known of the group's rows.
            SourceUnavailable: a schema version is not known yet, and the tables' topic does not answer.
            PoisonRecord: a value is not the contract's, or a row is too large.
        """
        let_in = await self.gate.let_in(group.runs)
        self._older = let_in.older
        for topic, stopped in let_in.stopped.items():
            await self._pause(topic, stopped)
        await self._places.go_back(await self._store.ensure())
        await self._pause_stopped({run.topic for run in group.runs})
        runs = [run for run in group.runs if not run.lost and len(run) and run.topic not in self._stopped]
        new = {run.assignment: run.first for run in reversed(runs) if self._places.is_new(run.assignment)}
        if new:
            await self._places.begin(new)
        failpoint("features.before_write")
        if await self._write([run for run in runs if not run.lost]):
            await self._places.go_back(await self._store.read_again())
        failpoint("features.after_write")
        for run in runs:
            self._places.read(run)
        await self._places.settle()
        group.done(runs)

    async def starts(self, assignments: Sequence[Any]) -> dict[Any, int]:
        """Return where to begin: the lowest offset that Redis has for a partition, where that is below Kafka's.

        A partition of which a bucket knows nothing begins at 0: its view is new there, or Redis lost it. Where the log
        does not reach back to that offset, it is filled from the lake.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        await self._places.go_back(await self._store.ensure())
        await self._pause_stopped({assignment.topic for assignment in assignments})
        return await self._places.starts(assignments)

    async def tables_changed(self, changed: set[str]) -> None:
        """Take up specs that changed; for a view that is new, its table is read from the beginning, or from the lake.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        self._stopped.clear()
        self._readers.clear()  # any of them may own, or no longer own, a view's name
        if self._relay is not None:
            await self._relay.tables_changed()
        await self._places.go_back(await self._store.ensure())
        await self._places.change({self._names.changes(table) for table in changed})
        for table in changed & self._tables.keys():
            resumed = self._tables[table].resumed
            if resumed > self._resumed.get(table, 0):
                await self._resume(self._names.changes(table))
            self._resumed[table] = resumed

    async def _pause(self, topic: str, reason: TableStopped) -> None:
        await self._consumer.pause(topic, reason)

    async def _resume(self, topic: str) -> None:
        """Go on with a table whose history is gone: from the lake if that has it now, else without it."""
        if self._places.held(topic):
            await self._consumer.resume(topic)
            self._rebuild.accept(topic)

    async def _write(self, runs: Sequence[Any]) -> bool:
        """Send `runs`, a few rounds at a time; return whether Redis turned out to have lost something."""
        flying: list[asyncio.Task[bool]] = []
        lost = False
        try:
            for pieces in rounds(runs, self._rows_max(runs)):
                gatherers, behind = self._gather(pieces)
                alone = gatherers[0].handover is not None  # its steps, and what comes behind it, are in this order
                while flying and (alone or len(flying) >= ROUNDS_IN_FLIGHT):
                    lost |= await flying.pop(0)
                flying.append(self._store.write(gatherers, behind))
                await asyncio.sleep(0)  # hands the round to the socket before the next one is decoded
                if alone:
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

    def _gather(self, pieces: Sequence[Piece]) -> tuple[list[Gatherer], dict[str, int]]:
        """Decode a round: its rows, in parts where a key changes twice, and the offset behind it for each field."""
        gatherers = [self._store.gatherer()]
        behind: dict[str, int] = {}
        for piece in pieces:
            reader = self._reader(piece.run.topic)
            if reader is not None:
                self._gather_piece(gatherers, reader, piece)
                if self._places.stands_by(piece.run):
                    behind.update(dict.fromkeys(self._fields(piece.run.assignment), piece.next))
        failpoint("features.after_decode")
        return gatherers, behind

    def _gather_piece(self, gatherers: list[Gatherer], reader: TableRows, piece: Piece) -> None:
        entry = self._tables.get(self._names.table_of(piece.run.topic))
        apart = entry is not None and entry.replayed_apart
        kept, values, offsets = piece.records_for(self.name, replayed_apart=apart)
        if not values:
            return
        values = self._changes.as_json(values)
        changes, longest = reader.decode(values, older=piece.run.topic in self._older), max(map(len, values))
        assignment = piece.run.assignment
        news = bisect_left(offsets, self._places.news_begin(assignment))
        where = f"{assignment.topic_id}|{assignment.partition}|"
        for part in filter(len, (range(news), range(news, len(offsets)))):
            for plan in reader.plans:
                below = self._places.history_below(assignment, plan.id)
                plan.loading, plan.filling = offsets[part[0]] < below, isinf(below)
            while part:
                some = changes[part.start : part.stop]
                stop = part.start + gatherers[-1].takes(reader, some)
                origin = partial(_origin, where, offsets[part.start : stop])
                replayed = partial(piece.is_silent, kept[part.start : stop])
                some = changes[part.start : stop]
                floors = gatherers[-1].add(reader, some, origin, value_bytes_max=longest, replayed=replayed)
                for at in floors:
                    raise_floors(gatherers[-1], reader, values[part.start + at], replay=replayed(at))
                part = range(stop, part.stop)  # noqa: PLW2901 - what is left of it
                if part:
                    gatherers.append(self._store.gatherer())
        self._counts["changes"] += len(changes)

    def _reader(self, topic: str) -> TableRows | None:
        """Return what decodes a topic's values; None: the table is gone or has no view."""
        table = self._names.table_of(topic)
        version = self.gate.known(table)
        if table not in self._readers or self._versions.get(table) != version:
            self._versions[table] = version
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
        views = self._view_ids(assignment.topic)
        return [offset_field(view, assignment.topic, assignment.partition) for view in views]

    def _view_ids(self, topic: str) -> list[str]:
        reader = self._reader(topic)
        return [plan.id for plan in reader.plans] if reader is not None else []

    async def _move(self) -> None:
        """Move the offsets of buckets without rows, and look whether all are there: else a quiet loss is not seen."""
        await self._places.go_back(await self._store.ensure())
        self._places.drop_lost()
        await self._places.go_back(await self._store.move_all())

    async def _settle(self) -> None:
        """Say of views that are not complete how far they are, or that they are complete."""
        if self._places.filling():
            await self._places.go_back(await self._store.ensure())
            await self._places.settle(quiet=True)
            await self._places.tell()


def _origin(where: str, offsets: Sequence[int], index: int) -> str:
    return f"{where}{offsets[index]}"
