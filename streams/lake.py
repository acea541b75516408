"""LAKE: changes from the output topics into Iceberg tables, in micro-batches by rows, bytes or age.

Promise: each change of a topic is in its table exactly once. Where the lake stands is stored in the commit that holds
the rows, and read from there on assignment; a batch whose partitions somebody else has written meanwhile is discarded.
What is held in memory is bounded by `buffer_bytes_max`: then a step waits for commits, and the consumer pauses.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Protocol

import structlog

from connectors.transport.chunk import by_topic
from schemas.config import Config
from schemas.errors import BugError, HeadgateError, SourceMoved, TableStopped
from schemas.failpoints import failpoint
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from sinks.lake.commit import LakeBatch
from sinks.lake.sink import Lake
from sinks.lake.stand import OffsetsMoved, Stand, check_topic, same_topic
from streams.avro_outputs import reader_of
from streams.lake_buffer import Part, Place, TableBuffer, TableRuns, lake_batch, live_parts
from streams.schema_gate import SchemaGate, versions_in
from streams.stage import BaseStage

_RETRY_SECONDS = 0.5
_RETRY_SECONDS_MAX = 30.0
_TICK_SECONDS_MAX = 1.0

log = structlog.get_logger(__name__)


class Consumer(Protocol):
    """The part of the consumer service that LAKE needs."""

    def done(self, runs: Iterable[Any]) -> None:
        """Say that runs are durable."""

    async def seek(self, assignment: Any, offset: int) -> bool:
        """Read an assignment again from `offset`; its unfinished runs are lost."""

    async def pause(self, topic: str, reason: TableStopped) -> None:
        """Read nothing of a topic; its unfinished runs are lost."""

    async def give_up(self, runs: Iterable[Any]) -> None:
        """Say that runs will not be finished by this worker."""


class LakeStage(BaseStage):
    """The stage between the output topics and the lake."""

    name = "lake"

    def __init__(
        self,
        config: Config,
        *,
        names: TopicNames,
        tables: Mapping[str, TableEntry],
        consumer: Consumer,
        clock: Callable[[], float] = time.time,
        lake: Lake | None = None,
    ) -> None:
        """Write through `lake`, or one of the configuration's own."""
        super().__init__()
        self._config = config
        self._limits = config.lake
        self._names = names
        self._tables = tables
        self._consumer = consumer
        self._clock = clock
        self._lake = lake or Lake(config.lake, clock=clock)
        self.gate = SchemaGate(names, versions_in(tables))
        self._changes = reader_of(config)
        self._running: dict[str, TableRuns] = {}
        self._places: dict[Any, Place] = {}
        self._leaving: set[Any] = set()  # assignments whose open batches were given up: nothing may come behind the gap
        self._held_bytes = 0  # of buffers and of commits in progress
        self._eased = asyncio.Event()  # a commit ended, or parts were dropped
        self._stopping = False
        self._ticker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to flush by age."""
        self._ticker = asyncio.create_task(self._flush_by_age(), name="lake-age")

    async def stop(self) -> None:
        """Commit what can be within the drain limit; give up the rest, which the successor reads again."""
        flushes = [flush for flush in map(self._flush, list(self._running)) if flush is not None]
        if flushes:
            await asyncio.wait(flushes, timeout=self._config.limits.drain_seconds)
        self._stopping = True
        self._eased.set()
        tasks = [task for task in (self._ticker, *flushes) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._lake.close()

    def topics(self) -> list[str]:
        """Return the output topics of the tables that go to the lake."""
        return [self._names.changes(table) for table, entry in self._tables.items() if entry.spec.lake.enabled]

    async def starts(self, assignments: Sequence[Any]) -> Mapping[Any, Any]:
        """Return the next offsets that the lake has stored, or the error for a topic that it cannot go on with.

        Raises:
            SinkUnavailable: the lake does not answer.
        """
        answers: dict[Any, int | SourceMoved] = {}
        for topic, ours in by_topic(assignments).items():
            entry = self._tables.get(self._names.table_of(topic))
            if entry is None:
                continue
            try:
                stands = (await self._lake.open(entry.spec, fresh=True)).stands()
            except (TableStopped, BugError) as error:  # one table stops, not all that are assigned with it
                reason = error.reason if isinstance(error, TableStopped) else "lake_stand"
                moved = SourceMoved(reason, error.message, hint=error.hint)
                answers.update(dict.fromkeys(ours, moved))
                continue
            for assignment in ours:
                answer = self._start_of(assignment, stands.get(assignment.partition))
                if answer is not None:
                    answers[assignment] = answer
        self._forget_lost_places()
        return answers

    def _start_of(self, assignment: Any, stand: Stand | None) -> int | SourceMoved | None:
        place = self._places.setdefault(assignment, Place())
        place.reset(stand)
        if stand is None:  # new to the lake, or its table was moved aside: it is filled from what the log still holds
            return assignment.low if (assignment.committed or 0) > assignment.low else None
        topic, topic_id, partition = assignment.topic, assignment.topic_id, assignment.partition
        accepted = assignment.decision is not None
        try:
            check_topic(stand, topic=topic, topic_id=topic_id, partition=partition, accepted=accepted)
        except SourceMoved as moved:
            return moved
        return stand.next_offset if same_topic(stand, topic_id) else int(assignment.low)

    def _forget_lost_places(self) -> None:
        for assignment in [one for one in self._places if one.lost]:
            del self._places[assignment]
        self._leaving = {assignment for assignment in self._leaving if not assignment.lost}

    async def step(self, group: Any) -> None:
        """Copy the group's changes into the buffers; return once these are below their limit.

        Raises:
            PoisonRecord: a value is not what the contract says; nothing of the group was taken.
            SinkUnavailable: a table must be opened, and the lake does not answer.
            SourceUnavailable: a schema version is not known yet, and the tables' topic does not answer.
        """
        work: list[tuple[TableRuns, list[Any]]] = []
        let_in = await self.gate.let_in(group.runs)
        for topic, stopped in let_in.stopped.items():
            await self._pause(topic, stopped)
        for topic, runs in by_topic(run for run in group.live() if run.topic not in let_in.stopped).items():
            entry = self._tables.get(self._names.table_of(topic))
            if entry is None or not entry.spec.lake.enabled:
                group.done(runs)  # the table has left the lake since these were fetched
                continue
            table = await self._opened(topic, entry.spec)
            if table is not None:
                work.append((table, runs))
        read = await asyncio.to_thread(_read_all, work, self._now(), let_in.older)
        failpoint("lake.after_decode")
        late: list[Any] = []
        for (table, runs), rows in zip(work, read, strict=True):
            late += self._hold(table.buffer, runs, rows)
            group.taken(runs)
        if late:
            await self._give_up(late, {run.topic for run in late})
        for table, _ in work:
            self._flush_if_full(table.spec.table)
        await self._below_limit()

    def _hold(self, buffer: TableBuffer, runs: Sequence[Any], rows: Sequence[Any]) -> list[Any]:
        """Buffer what was read and is not lost; return the runs of partitions that are leaving, which came too late.

        What came before them was given up: committed, they would carry the offset over a gap.
        """
        now = monotonic()
        late = [run for run in runs if not run.lost and run.assignment in self._leaving]
        for run, of_run in zip(runs, rows, strict=True):
            if not run.lost and run not in late:
                self._places.setdefault(run.assignment, Place())
                buffer.add(Part(run, of_run, of_run.nbytes), now)
                self._held_bytes += of_run.nbytes
        return late

    async def _opened(self, topic: str, spec: TableSpec) -> TableRuns | None:
        """Return the table, or None once its topic is paused: the lake's table cannot become what the spec says."""
        try:
            return await self._runs_of(spec)
        except TableStopped as stopped:
            await self._pause(topic, stopped)
            return None

    async def _pause(self, topic: str, stopped: TableStopped) -> None:
        self.last_error = stopped
        log.warning("lake.table_stopped", topic=topic, reason=stopped.reason)
        await self._consumer.pause(topic, stopped)

    async def _runs_of(self, spec: TableSpec) -> TableRuns:
        """Return the table's reader and buffer; rows of an older spec are committed before the first of a new one."""
        known = self._running.get(spec.table)
        if known is not None and known.spec == spec:
            return known
        if known is not None:
            await self._emptied(known)
        await self._lake.open(spec)
        self._running[spec.table] = made = TableRuns(spec, self._changes)
        return made

    async def _emptied(self, table: TableRuns) -> None:
        while (flush := self._flush(table.spec.table)) is not None:
            await asyncio.wait([flush])

    async def _below_limit(self) -> None:
        """Wait until the buffers are below their limit, the largest going first."""
        while self._held_bytes >= self._limits.buffer_bytes_max and not self._stopping:
            self._eased.clear()
            idle = [name for name, table in self._running.items() if table.flush is None and table.buffer.parts]
            if idle:
                self._flush(max(idle, key=lambda name: self._running[name].buffer.nbytes))
            self.counts["waits_for_commits"] += 1
            await self._eased.wait()

    def _flush_if_full(self, name: str) -> None:
        buffer = self._running[name].buffer
        if buffer.rows >= self._limits.commit_rows_max or buffer.nbytes >= self._limits.commit_bytes_max:
            self._flush(name)

    async def _flush_by_age(self) -> None:
        tick_seconds = min(_TICK_SECONDS_MAX, self._limits.commit_age_seconds / 4)
        while True:
            await asyncio.sleep(tick_seconds)
            now = monotonic()
            for name, table in list(self._running.items()):
                since = table.buffer.since
                if since is not None and now - since >= self._limits.commit_age_seconds:
                    self._flush(name)

    def _flush(self, name: str) -> asyncio.Task[None] | None:
        """Begin a commit of the table's buffer, or return the one in progress; None if there is nothing to commit."""
        table = self._running[name]
        if table.flush is None and table.buffer.parts:
            table.flush = asyncio.create_task(self._commit(table, table.buffer.take()), name=f"lake-commit-{name}")
        return table.flush

    async def _commit(self, table: TableRuns, parts: list[Part]) -> None:
        """Commit `parts` for as long as it takes; at the end they are durable, discarded, or lost."""
        held = sum(part.nbytes for part in parts)
        try:
            batch: LakeBatch | None = None
            dropped = 0
            for attempt in itertools.count():
                live = live_parts(parts)
                if not live:
                    return
                if batch is None or len(live) < len(parts):
                    parts = live
                    batch, dropped = lake_batch(table.spec.table, parts, self._places)
                if await self._settled(table, parts, batch):
                    self.counts["repeats_dropped"] += dropped
                    return
                await asyncio.sleep(_backoff_seconds(attempt))
        finally:
            self._held_bytes -= held
            table.flush = None
            self._eased.set()
            if table.buffer.parts and not self._stopping:
                self._flush_if_full(table.spec.table)

    async def _settled(self, table: TableRuns, parts: list[Part], batch: LakeBatch) -> bool:
        """Write the batch once; return False where it must be tried again."""
        try:
            await self._written(table, parts, batch)
        except Exception as error:  # noqa: BLE001 - this method decides: the caller tries again
            # The rows are in no other place than here, so there is nothing to do but to try again; `status` shows it.
            self.last_error = error if isinstance(error, HeadgateError) else BugError(f"lake: {type(error).__name__}")
            self.counts["commits_failed"] += 1
            log.warning("lake.commit_failed", table=batch.table, rows=len(batch.rows), error=str(self.last_error))
            return False
        return True

    async def _written(self, table: TableRuns, parts: list[Part], batch: LakeBatch) -> None:
        """Write the batch, or discard it where it can never be written.

        Raises:
            SinkUnavailable: nothing is known of it.
        """
        began = time.perf_counter()
        try:
            written = await self._lake.write(batch)
        except OffsetsMoved as moved:
            await self._go_where(table, moved, parts)
            return
        except TableStopped as stopped:
            await self._pause(self._names.changes(table.spec.table), stopped)
            return
        failpoint("lake.after_write")
        for part in parts:
            if part.run.assignment in self._places:  # else it has left and was forgotten meanwhile
                self._places[part.run.assignment].reset(batch.after[part.run.partition])
        self._consumer.done([part.run for part in parts])
        self.counts["commits"] += 1
        self.counts["rows_committed"] += written.rows
        self.counts["bytes_written"] += written.bytes
        self.counts["commit_milliseconds"] += int((time.perf_counter() - began) * 1000)
        self.last_error = None

    async def _go_where(self, table: TableRuns, moved: OffsetsMoved, parts: list[Part]) -> None:
        """Discard `parts` and go on from where the lake stands, where the partition is still ours."""
        self.counts["offsets_moved"] += 1
        log.info("lake.offsets_moved", table=table.spec.table, partitions=sorted(moved.stands), parts=len(parts))
        for assignment in {part.run.assignment for part in parts}:
            stand, place = moved.stands.get(assignment.partition), self._places.get(assignment)
            if stand is None and (place is None or place.stored is None):  # new to the lake, or no longer ours
                await self._consumer.give_up([part.run for part in parts if part.run.assignment is assignment])
                continue
            if stand is None:
                lost = TableStopped(
                    "lake_replaced",
                    f"lake table {table.spec.table} has lost where it stood in partition {assignment.partition}",
                    hint="somebody replaced the table; `headgate tables resume TABLE` fills it from the output topic",
                )
                await self._pause(assignment.topic, lost)
                return
            await self._consumer.seek(assignment, stand.next_offset)
            if place is not None:
                place.reset(stand)
        self._drop(lambda part: part.run.lost)

    def _drop(self, is_gone: Callable[[Part], bool]) -> list[Part]:
        gone = [part for table in self._running.values() for part in table.buffer.drop(is_gone)]
        self._held_bytes -= sum(part.nbytes for part in gone)
        self._eased.set()
        return gone

    async def leaving(self, assignments: Sequence[Any]) -> None:
        """Give up the open batches of partitions that leave; commits in progress may end within the drain limit."""
        self._leaving.update(assignments)
        topics = {assignment.topic for assignment in assignments}
        given_up = self._drop(lambda part: part.run.assignment in self._leaving)
        await self._give_up([part.run for part in given_up], topics)

    async def _give_up(self, runs: Sequence[Any], topics: set[str]) -> None:
        """Have runs read again by whoever owns their partitions next, once what is being committed has ended."""
        flushes = [
            table.flush
            for name, table in self._running.items()
            if table.flush is not None and self._names.changes(name) in topics
        ]
        if flushes:
            await asyncio.wait(flushes, timeout=self._config.limits.drain_seconds / 2)
        await self._consumer.give_up(runs)

    async def tables_changed(self, changed: set[str]) -> None:
        """Commit what was read with the old specs; new specs are taken up by the next step."""
        for name in changed & self._running.keys():
            entry = self._tables.get(name)
            if entry is None or entry.spec != self._running[name].spec:
                self._flush(name)

    def counters(self) -> dict[str, float]:
        """Return the counts, and what is held now."""
        buffers = [table.buffer for table in self._running.values()]
        return {
            **super().counters(),
            "buffered_rows": sum(buffer.rows for buffer in buffers),
            "buffered_bytes": self._held_bytes,
        }

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _read_all(
    work: Sequence[tuple[TableRuns, list[Any]]], ingested: datetime, older: Container[str]
) -> list[list[Any]]:
    return [table.read(runs, ingested, older=runs[0].topic in older) for table, runs in work]


def _backoff_seconds(attempt: int) -> float:
    """Return how long to wait before the next attempt: doubling, with jitter, so that workers do not meet again."""
    jitter = 0.5 + random.random() / 2  # noqa: S311  not a secret
    return float(min(_RETRY_SECONDS * 2 ** min(attempt, 10), _RETRY_SECONDS_MAX) * jitter)
