"""A replay while it runs: a table's records read again, in a group of its own, and emitted as a new generation.

Promise: output, quarantine and the group's offsets are one Kafka transaction, by a producer of the replay's own: a stop
at any moment loses and doubles nothing, and whoever runs the same replay next goes on there. Whoever begins it while
another runs it ends that one's right to write. Nothing of NORMALIZE is touched; which change of a row wins, between
generations, is decided by position.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from connectors.transport.chunk import Group, Run
from connectors.transport.group_offsets import Standing
from connectors.transport.ladder import Ladder
from connectors.transport.producer import PlainWriter, WriteReport
from connectors.transport.ranges import Range, RangeReader
from connectors.transport.resolve import Committed
from connectors.transport.topics import TopicAdmin
from connectors.transport.transaction import Advance, Outbox, TransactionalWriter
from schemas.batch import Batch, some_of
from schemas.change import HEADER_INTO, HEADER_REPLAY
from schemas.config import Config
from schemas.errors import SourceUnavailable, TableStopped, TransactionAborted, TransportFatal
from schemas.failpoints import failpoint
from schemas.replay import Replay
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.apart import Once, Picked
from streams.attempt import Attempt, Emitter, PartitionState, metadata_of, state_of
from streams.epochs import epoch_of, parted
from streams.floors import PartitionsWanted, write_floors
from streams.registration import open_admin, own_topic
from streams.replay import OPEN_SECONDS_MAX
from streams.replay_entry import RegisteredReplay, note_begun
from streams.replay_pace import STAGES, Followers, Pace
from streams.replay_ranges import what_is_left
from streams.settings import client_settings, group_of, is_transactional, producer_settings
from streams.tables import Readers

READ_RECORDS = 4_000  # of one transaction: short, for readers of the output topic wait for it as well
_LOOK_SECONDS = 0.5

log = structlog.get_logger("streams.replaying")


def slot_of(table: str) -> str:
    """Return the name of a table's replay, in its group, its transactional id and `headgate.status`."""
    return f"replay-{table}"


class Replaying:
    """One run of a replay, from where the last one stopped."""

    def __init__(
        self,
        config: Config,
        entry: TableEntry,
        replay: Replay,
        *,
        beside: Sequence[TableEntry] = (),
        rate_max: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read nothing yet. `entry` is the table as it runs, with its masks, and so are those that stand `beside` it.

        At most `rate_max` records a second are read.
        """
        self.replay, self.table = replay, entry.spec.table
        self.counts: Counter[str] = Counter()
        self.quarantined: Counter[tuple[str, str]] = Counter()
        self.stopped: TableStopped | None = None
        self._config, self._entry = config, entry
        self._names, self._admin = TopicNames(config.kafka.topic_prefix), open_admin(config)
        self._output = self._names.changes(self.table)
        self.pace = Pace(_followers(config, self._admin), rate_max, time.monotonic)
        self._readers = Readers([entry], beside)
        self._emitter = Emitter(
            config, names=self._names, stage="normalize", clock=clock, marks=_marks(replay),
            generation_of=lambda run: replay.topics[run.topic].generation,
        )  # fmt: skip
        self._transactional = is_transactional(config)
        settings = producer_settings(config, slot_of(self.table), transactional=self._transactional)
        self._writer: TransactionalWriter | PlainWriter = (
            TransactionalWriter(settings, self) if self._transactional else PlainWriter(settings)
        )
        self._ladder = Ladder("replay", self._step, self, on_poison=self._on_poison, report=_report)
        self._reader: RangeReader | None = None
        self._registered: RegisteredReplay | None = None

    @property
    def left(self) -> int:
        """How many offsets are left to be read; all of them before it has begun."""
        return self.replay.total if self._reader is None else self._reader.left

    def ranges(self) -> list[Range]:
        """Return what is left of each partition; none before it has begun."""
        return [] if self._reader is None else self._reader.ranges()

    async def run(self, stopping: asyncio.Event) -> bool:
        """Read on until all is through, or somebody wants it stopped; return whether it is through.

        Raises:
            TableStopped: a record stops the table; a topic is not the one that was to be read, or has lost records;
                Kafka has dropped where it stood; the table is registered with another spec, or this replay no more; or
                the schema registry refuses what the changes are written by.
            Unavailable: the broker does not answer; what was written stays, and the next run goes on.
            TransportFatal: somebody else runs the same replay.
        """
        if refused := await self._emitter.forms.register([self._entry]):
            raise refused[self.table]
        await self._writer.start()
        try:
            self._registered = await asyncio.to_thread(RegisteredReplay, self._config, self._entry, self.replay)
            self._reader = await asyncio.to_thread(self._open)
            await self._begin(self._reader)
            await self._read(self._reader, stopping)
        except TransportFatal as error:
            hint = "does somebody else run the same replay? If not, run it again to go on"
            raise TransportFatal(error.message, hint=hint) from error
        else:
            return not self.left
        finally:
            await self._writer.close()
            await asyncio.to_thread(self.pace.close)
            if self._reader is not None:
                await asyncio.to_thread(self._reader.close)
            if self._registered is not None:
                await asyncio.to_thread(self._registered.close)

    async def _begin(self, reader: RangeReader) -> None:
        """Have an offset stand in each partition before a record is read, and have it known: one that is gone is lost.

        In a transaction of the writer's: whoever was shut out sets none back.
        """
        firsts = [each for each in reader.ranges() if each.assignment.committed is None]
        advances = [Advance(each.assignment, each.next, metadata_of(state_of(each.assignment))) for each in firsts]
        if advances and isinstance(self._writer, TransactionalWriter):
            await self._writer.stand(advances)
        elif advances:
            await asyncio.to_thread(reader.commit, advances)
        if not self.replay.begun:
            await asyncio.to_thread(note_begun, self._config, self._entry, self.replay)

    async def _read(self, reader: RangeReader, stopping: asyncio.Event) -> None:
        most = min(READ_RECORDS, self._config.limits.group_records_max)
        outputs = [(self._output, number) for number in sorted({each.assignment.partition for each in reader.ranges()})]
        while reader.left:
            await self.pace.next(stopping, outputs, most)
            if stopping.is_set():
                return
            runs = await asyncio.to_thread(reader.read, most)
            if runs:
                await self._ladder.climb(runs)
            if self.stopped is not None:
                raise self.stopped
            self.pace.took(sum(map(len, runs)))

    # ── where it stands ──

    def _open(self) -> RangeReader:
        """Return what reads on where the group stands; the output has a partition for each of the origins."""
        topics, ids = self.replay.topics, self._admin.ids_now(self.replay.topics)
        for topic, what in topics.items():
            if ids.get(topic) != what.id:
                raise TableStopped(
                    "topic_made_anew",
                    f"{topic} is not the topic that was to be replayed: it was deleted or made anew since",
                    hint=f"`headgate tables replay {self.table} --cancel`, then begin anew",
                )
        keys = [(topic, number) for topic, what in topics.items() for number in what.ranges]
        committed, logs = self._committed(keys), self._admin.watermarks_now(keys)
        ranges = [what_is_left(self.replay, self.table, key, committed[key], logs[key][0]) for key in keys]
        self._ensure()
        return RangeReader(client_settings(self._config), group_of(self._config, slot_of(self.table)), ranges)

    def _committed(self, keys: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], Committed]:
        deadline = time.monotonic() + OPEN_SECONDS_MAX
        while True:
            found = self._admin.committed_now(group_of(self._config, slot_of(self.table)), keys)
            if len(found) == len(keys):
                return found
            if time.monotonic() > deadline:
                raise SourceUnavailable("a transaction is still open where the replay stands", hint="run it again")
            time.sleep(_LOOK_SECONDS)

    def _ensure(self) -> int:
        """Make the output, or enlarge it, and return how many partitions it has."""
        most = max(number for what in self.replay.topics.values() for number in what.ranges) + 1
        sources = self._admin.describe(self.replay.topics, allowed_only=True)
        partitions = max([most, *(said.partitions for said in sources.values())])
        return self._admin.ensure_all({self._output: own_topic(self._config, self._output, partitions=partitions)})[
            self._output
        ]

    # ── what the ladder and the writer ask ──

    def group_metadata_now(self, *, fresh: bool = False) -> Any:
        """Return the group's metadata, for a transaction."""
        assert self._reader is not None, "it reads before it writes"
        return self._reader.group_metadata_now(fresh=fresh)

    def done(self, runs: Iterable[Run], metadata: Mapping[Run, str] | None = None) -> None:
        """Take it that runs are durable; where the group stands was committed with them."""
        del metadata
        for run in runs:
            run.answer()

    def taken(self, runs: Iterable[Run]) -> None:
        """Buffer nothing."""
        raise AssertionError(f"a replay takes nothing: {list(runs)}")

    async def _step(self, group: Group) -> None:
        """Write the changes of a group, what is put aside, and where the group stands, in one transaction."""
        assert self._registered is not None, "it is followed before it is read"
        if (stop := self._registered.stop()) is not None:
            self._end(stop, group.runs)
            return
        work = self.begun()
        runs = parted(group.runs, work.readers)
        failpoint("replay.before_write")
        try:
            report = await write_floors(
                lambda: self._writer.write(runs, lambda outbox, live: self.attempt(work, outbox, live), parted=True),
                work.outputs,
                self._ensure_wanted,
            )
        except TransactionAborted as error:
            if error.topic is None:
                raise
            self._stop(TableStopped("output_refused", f"{error.topic}: {error.message}", hint=error.hint), runs)
            return
        failpoint("replay.after_write")
        await self._settle(work, report)
        group.done([part for run in runs if (part := work.written(run)) is not None])
        for stop in work.stops.values():
            self._stop(stop, runs)

    async def _ensure_wanted(self, wanted: PartitionsWanted) -> Mapping[str, int]:
        return {wanted.output: await asyncio.to_thread(self._ensure)}

    async def _on_poison(self, run: Run, error: BaseException) -> None:
        """Put one record in quarantine that no attempt could get through; its successors go on."""
        work = self.begun()

        def put(outbox: Outbox, live: Sequence[Run]) -> list[Advance]:
            for one in live:
                self._emitter.quarantine(work, outbox, one, 0, error, self.table)
            return [Advance(one.assignment, one.next, metadata_of(state_of(one.assignment))) for one in live]

        await self._settle(work, await self._writer.write([run], put))

    def _stop(self, stop: TableStopped, runs: Iterable[Run]) -> None:
        """End the replay at a record; what is behind it is left for the next run."""
        again = f"then run it again to go on there, or `headgate tables replay {self.table} --cancel`"
        self._end(TableStopped(stop.reason, stop.message, hint=f"{stop.hint}; {again}" if stop.hint else again), runs)

    def _end(self, stop: TableStopped, runs: Iterable[Run]) -> None:
        self.stopped = stop
        for run in runs:
            run.assignment.lost = True

    async def _settle(self, work: Attempt, report: WriteReport) -> None:
        if not self._transactional:
            assert self._reader is not None, "it reads before it writes"
            await asyncio.to_thread(self._reader.commit, report.advances)
        for assignment, state in work.states.items():
            assignment.state = state
        self.counts.update(work.counts)
        self.quarantined.update(work.quarantined)

    # ── one attempt, on the writer's thread ──

    def begun(self) -> Attempt:
        """Return what attempts at a group are counted in; it knows of which table the records are."""
        return Attempt(dict.fromkeys(self.replay.topics, self._readers))

    def attempt(self, work: Attempt, outbox: Outbox, runs: Sequence[Run]) -> list[Advance]:
        """Write what runs become, and return where the group stands behind them.

        Raises:
            PartitionsWanted: there is a floor among them, and `work` does not say how many partitions the output has.
        """
        work.begin()
        for run in runs:
            if run.assignment not in work.stops:
                self._run(work, outbox, run)
        return [Advance(each, offset, metadata_of(work.states[each])) for each, offset in work.nexts.items()]

    def _run(self, work: Attempt, outbox: Outbox, run: Run) -> None:
        assignment, entry = run.assignment, self._entry
        state = work.states.setdefault(assignment, state_of(assignment))
        work.count("read", len(run))
        work.nexts[assignment] = run.next
        records: Any = run
        indices: Sequence[int] | None = None
        if self._readers.shared:
            once = Once(run)
            indices = self._readers.split(once.values()).by_table.get(self.table, [])
            records = Picked(once, indices, run.topic)
            if not indices:
                return
        memory = state.memory.copy()
        decoded = self._emitter.decoders.of(entry, epoch_of(entry, run)).decode(records, memory)
        batch = self._within(decoded.batch)
        previous = self._emitter.emit(work, outbox, entry, run, batch, state.previous)
        self._emitter.account(work, outbox, self.table, run, decoded, indices)
        if decoded.stop is not None:
            assert decoded.stop_index is not None, "a stop says where"
            work.stops[assignment] = decoded.stop
            at = decoded.stop_index if indices is None else indices[decoded.stop_index]
            work.nexts[assignment] = run.offsets()[at]
        work.states[assignment] = PartitionState(previous, memory, self.table)

    def _within(self, batch: Batch) -> Batch:
        """Return the changes between the positions that were asked for; of a record all or none."""
        first, end = self.replay.first_position, self.replay.end_position
        if first is None and end is None:
            return batch
        offsets = {
            offset
            for offset, position in zip(batch.offsets, batch.positions, strict=True)
            if (first is None or position >= first) and (end is None or position < end)
        }
        return some_of(batch, [at for at, offset in enumerate(batch.offsets) if offset in offsets])


def _marks(replay: Replay) -> list[tuple[str, bytes | None]]:
    """Return the headers of each change: that it is of a replay, and who takes it where not those that usually do."""
    marks: list[tuple[str, bytes | None]] = [(HEADER_REPLAY, b"true")]
    if sorted(replay.into) != ["features", "lake"]:
        marks.append((HEADER_INTO, ",".join([*replay.into] or ["topic"]).encode()))
    return marks


def _followers(config: Config, admin: TopicAdmin) -> Followers:
    client = client_settings(config)
    stages = {stage: Standing(client, group_of(config, stage)) for stage in STAGES}
    return Followers(admin.watermarks_now, stages, time.monotonic)


def _report(event: str, fields: Mapping[str, object]) -> None:
    log.warning(event, **fields)
