"""NORMALIZE: records of any source format in, typed changes on output topics out, in each source partition's order.

Promise: output, quarantine and input offsets of a group are one Kafka transaction; a record is on the output topic
once, or in quarantine once, or counted as skipped. With `at_least_once` the group is flushed before its offsets are
committed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from connectors.formats import format_of
from connectors.formats.base import Decoder, PartitionMemory
from connectors.registry import registry_of
from connectors.transport.chunk import Assignment, Group, Headers, Run, by_topic
from connectors.transport.transaction import Advance, Outbox, WriteReport
from schemas.batch import Batch, Decoded
from schemas.change import HEADER_SCHEMA_VERSION, HEADER_TABLE
from schemas.config import Config
from schemas.errors import HeadgateError, PoisonRecord, RecordTooLarge, TableStopped, TransactionAborted
from schemas.failpoints import failpoint
from schemas.table import TableEntry
from schemas.topics import TopicNames
from sinks.quarantine import reason_of
from sinks.topics import encode_changes
from streams.poison import quarantined
from streams.stage import BaseStage
from streams.tables import TableDirectory
from streams.together import decode_together

GATHER_PARTITIONS = 50  # a transaction over more output partitions is slow however few its records (TRANSPORT.md)
GATHER_SECONDS = 0.2

_ENCODER = msgspec.json.Encoder(order=None)


class PartitionState(msgspec.Struct, frozen=True):
    """What NORMALIZE remembers of one source partition; it is committed with the offset, so that it moves with it."""

    previous: int | None = None
    memory: PartitionMemory = msgspec.field(default_factory=PartitionMemory)


class Output(NamedTuple):
    """What an output topic must have: as many partitions as its largest source topic, and at least so many."""

    sources: list[str]
    partitions: int = 0


@dataclass(slots=True)
class _Work:
    """One attempt at a group: nothing of it counts until its transaction is durable."""

    states: dict[Assignment, PartitionState] = field(default_factory=dict)
    memories: dict[Assignment, PartitionMemory] = field(default_factory=dict)
    nexts: dict[Assignment, int] = field(default_factory=dict)
    stops: dict[Assignment, TableStopped] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    quarantined: Counter[tuple[str, str]] = field(default_factory=Counter)
    unknown: dict[str, set[str]] = field(default_factory=dict)

    def count(self, name: str, n: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + n


class NormalizeStage(BaseStage):
    """The stage; `writer` is the transactional or the plain one of the transport."""

    name = "normalize"

    def __init__(
        self,
        config: Config,
        *,
        names: TopicNames,
        tables: TableDirectory,
        writer: Any,
        consumer: Any,
        ensure_outputs: Callable[[Mapping[str, Output]], Awaitable[Mapping[str, int]]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`ensure_outputs` makes or enlarges output topics, and returns how many partitions each has now."""
        super().__init__()
        self._config, self._names, self._tables = config, names, tables
        self._registry = registry_of(config.registry)
        self._writer, self._consumer, self._ensure_outputs, self._clock = writer, consumer, ensure_outputs, clock
        self._decoders: dict[str, tuple[TableEntry, Decoder]] = {}
        self._ensured: dict[str, int] = {}
        self._contested: set[str] = set()
        self._wide = False
        self.unknown_columns: dict[str, set[str]] = {}

    async def start(self) -> None:
        """Open the producer; a predecessor of the same slot is fenced from here on."""
        await self._writer.start()
        await self._ensure_known(set(self._tables))

    async def stop(self) -> None:
        """Close the producer."""
        await self._writer.close()

    def waits_for(self) -> HeadgateError | None:
        """Return what the producer waits for, None if nothing."""
        found: HeadgateError | None = self._writer.waits_for()
        return found

    def topics(self) -> list[str]:
        """Return the source topics of all tables that run."""
        return sorted({topic for entry in self._tables.values() if not entry.paused for topic in entry.spec.topics})

    def group_wait_seconds(self) -> float:
        """Return how long to gather: long only where the last transaction was wide."""
        return GATHER_SECONDS if self._wide else 0.0

    async def tables_changed(self, changed: set[str]) -> None:
        """Make decoders anew for changed specs."""
        for table in changed:
            self._decoders.pop(table, None)
        for topic in sorted(self._contested):
            if self._contest(topic) is None:
                self._contested.remove(topic)
                await self._consumer.resume(topic)
        await self._ensure_known(changed)

    async def step(self, group: Group) -> None:
        """Write the group's changes, quarantine and offsets in one transaction."""
        runs = await self._uncontested(group.runs)
        if not runs:
            return
        await self._ensure_read(runs)
        work = _Work()
        failpoint("normalize.before_write")
        try:
            report: WriteReport = await self._writer.write(runs, lambda outbox, live: self._attempt(work, outbox, live))
        except TransactionAborted as exc:
            await self._blame(exc, runs)
            raise
        failpoint("normalize.after_write")
        self._wide = report.partitions > GATHER_PARTITIONS
        self._settle(work)
        # Done before paused: a pause reads again from the first record that is not done, and these are written.
        written = [part for run in runs if (part := _written(run, work)) is not None]
        group.done(
            written,
            metadata={run: _metadata(work.states[run.assignment]) for run in written if run.assignment in work.states},
        )
        await self._stop_tables(work)

    async def on_poison(self, run: Run, error: BaseException) -> None:
        """Put one record in quarantine that no attempt could get through; its successors go on."""
        attempt = _Work()

        def work(outbox: Outbox, runs: Sequence[Run]) -> list[Advance]:
            for one in runs:
                self._quarantine(attempt, outbox, one, 0, error)
            return [Advance(one.assignment, one.next, _metadata(_state_of(one.assignment))) for one in runs]

        await self._writer.write([run], work)
        self._settle(attempt)

    # ── topics that the patterns of two tables catch ──

    async def _uncontested(self, runs: Sequence[Run]) -> Sequence[Run]:
        """Pause the topics that two tables read, until their specs are mended; return the runs of the others."""
        for topic in by_topic(runs):
            if (stop := self._contest(topic)) is not None:
                self.last_error = stop
                self._contested.add(topic)
                await self._consumer.pause(topic, stop)
        return [run for run in runs if run.topic not in self._contested]

    def _contest(self, topic: str) -> TableStopped | None:
        try:
            self._tables.of_topic(topic)
        except TableStopped as stop:
            return stop
        return None

    # ── one attempt, on the writer's thread ──

    def _attempt(self, work: _Work, outbox: Outbox, runs: Sequence[Run]) -> list[Advance]:
        work.__init__()  # type: ignore[misc]  # after an abort everything is counted anew
        for of_topic in by_topic(runs).values():
            self._topic(work, outbox, of_topic)
        failpoint("normalize.after_decode")
        return [Advance(a, offset, _metadata(work.states[a])) for a, offset in work.nexts.items()]

    def _topic(self, work: _Work, outbox: Outbox, runs: list[Run]) -> None:
        """Work on the runs of one topic, in their order."""
        entry = self._tables.of_topic(runs[0].topic)
        for run in runs:
            state = work.states.setdefault(run.assignment, _state_of(run.assignment))
            work.memories.setdefault(run.assignment, state.memory.copy())
        if entry is None:
            for run in runs:
                self._unregistered(work, outbox, run)
            return
        decoder = self._decoder(entry)
        memories = [work.memories[run.assignment] for run in runs]
        together = decode_together(decoder, entry, runs, memories)
        for index, run in enumerate(runs):
            if run.assignment not in work.stops:
                decoded = together[index] if together is not None else decoder.decode(run, memories[index])
                self._run(work, outbox, entry, run, decoded)

    def _run(self, work: _Work, outbox: Outbox, entry: TableEntry, run: Run, decoded: Decoded) -> None:
        assignment = run.assignment
        work.count("read", len(run))
        work.nexts[assignment] = run.next
        previous = self._emit(work, outbox, entry, run, decoded.batch)
        self._account(work, outbox, entry, run, decoded)
        if decoded.stop is not None:
            assert decoded.stop_index is not None, "a stop says where"
            work.stops[assignment] = decoded.stop
            work.nexts[assignment] = run.offsets()[decoded.stop_index]
        work.states[assignment] = PartitionState(previous, work.memories[assignment])

    def _decoder(self, entry: TableEntry) -> Decoder:
        known = self._decoders.get(entry.spec.table)
        if known is None or known[0] is not entry:
            known = (entry, format_of(entry.spec.format, self._registry).decoder(entry, self._config.limits))
            self._decoders[entry.spec.table] = known
        return known[1]

    def _emit(self, work: _Work, outbox: Outbox, entry: TableEntry, run: Run, batch: Batch) -> int | None:
        """Produce the batch in its order; return the origin offset of the last change that went out."""
        assignment = run.assignment
        version = b"%d" % entry.schema_version
        headers: Headers = [(HEADER_TABLE, entry.spec.table.encode()), (HEADER_SCHEMA_VERSION, version)]
        records, previous, too_large = encode_changes(
            batch, (run.topic, assignment.generation, run.partition), work.states[assignment].previous,
            bytes_max=outbox.room(headers),
        )  # fmt: skip
        outbox.produce_all(self._names.changes(entry.spec.table), run.partition, records, headers)
        for offset in too_large:
            self._quarantine(work, outbox, run, run.offsets().index(offset), _too_large(outbox.room(headers)))
        work.count("emitted", len(records))
        return previous

    def _account(self, work: _Work, outbox: Outbox, entry: TableEntry, run: Run, decoded: Decoded) -> None:
        for reason, n in decoded.skipped.items():
            work.count(f"skipped_{reason}", n)
        for name, n in decoded.noted.items():
            work.count(f"noted_{name}", n)
        for rejected in decoded.rejected:
            self._quarantine(work, outbox, run, rejected.index, rejected.error)
        if decoded.unknown_columns:
            work.unknown.setdefault(entry.spec.table, set()).update(decoded.unknown_columns)

    def _unregistered(self, work: _Work, outbox: Outbox, run: Run) -> None:
        work.count("read", len(run))
        work.nexts[run.assignment] = run.next
        if self._config.unregistered == "ignore":
            work.count("skipped_unregistered", len(run))
            return
        error = PoisonRecord(
            "unregistered", f"no table is registered for {run.topic}", hint="register it, or set unregistered: ignore"
        )
        for index in range(len(run)):
            self._quarantine(work, outbox, run, index, error)

    def _quarantine(self, work: _Work, outbox: Outbox, run: Run, index: int, error: BaseException) -> None:
        entry = self._tables.of_topic(run.topic)
        reason = reason_of(error)
        work.count(f"quarantined_{reason}")
        work.quarantined[entry.spec.table if entry else "", reason] += 1
        value = quarantined(
            self._config,
            run,
            error,
            stage=self.name,
            table=entry.spec.table if entry else None,
            at=self._clock(),
            index=index,
            generation=run.assignment.generation,
        )
        outbox.produce(self._names.quarantine, None, None, value, None)

    # ── after the transaction, in the event loop ──

    def _settle(self, work: _Work) -> None:
        for assignment, state in work.states.items():
            assignment.state = state
        self.counts.update(work.counts)
        self.quarantined.update(work.quarantined)
        for table, columns in work.unknown.items():
            self.unknown_columns.setdefault(table, set()).update(columns)

    async def _stop_tables(self, work: _Work) -> None:
        """Pause the tables that stopped, each partition at the record that stopped it."""
        for assignment, stop in work.stops.items():
            self.last_error = stop
            await self._consumer.pause(assignment.topic, stop)

    async def _blame(self, error: TransactionAborted, runs: Sequence[Run]) -> None:
        """Pause the table whose output an abort named, and take its runs out of the group."""
        table = self._table_of_output(error.topic)
        for run in reversed(runs):  # the first one of a partition is sought last
            entry = self._tables.of_topic(run.topic)
            if entry is not None and entry.spec.table == table:
                self._ensured.pop(self._names.changes(table), None)  # it may be gone, or smaller than it was
                stop = TableStopped(
                    "output_refused", f"{error.topic} refused a write: {error.message}", hint=error.hint
                )
                await self._consumer.pause(run.topic, stop)
                await self._consumer.seek(run.assignment, run.first)

    def _table_of_output(self, topic: str | None) -> str | None:
        return None if topic is None or topic == self._names.quarantine else self._names.table_of(topic)

    async def _ensure_known(self, tables: set[str]) -> None:
        """Make the outputs of tables whose topics are named, all at once, before their first record comes."""
        specs = [entry.spec for table in tables if (entry := self._tables.get(table)) is not None]
        named = {spec.table: [topic for topic in spec.topics if not topic.startswith("^")] for spec in specs}
        await self._ensure({self._names.changes(table): Output(topics) for table, topics in named.items() if topics})

    async def _ensure_read(self, runs: Sequence[Run]) -> None:
        """Make or enlarge what the runs need: an output has a partition for each of its origins."""
        wanted: dict[str, Output] = {}
        for run in runs:
            entry = self._tables.of_topic(run.topic)
            if entry is not None:
                output = self._names.changes(entry.spec.table)
                if self._ensured.get(output, 0) <= run.partition:
                    least = max(run.partition + 1, wanted[output].partitions if output in wanted else 0)
                    wanted[output] = Output([run.topic], least)
        await self._ensure(wanted)

    async def _ensure(self, wanted: Mapping[str, Output]) -> None:
        if wanted:
            self._ensured.update(await self._ensure_outputs(wanted))


def _written(run: Run, work: _Work) -> Run | None:
    """Return what of a run was written: all of it, or what stands before the record that stopped its table."""
    if run.lost or run.assignment not in work.stops:
        return run
    stopped_at = work.nexts[run.assignment]
    if run.next <= stopped_at:
        return run
    return run.slice(0, run.offsets().index(stopped_at)) if run.first < stopped_at else None


def _too_large(bytes_max: int) -> RecordTooLarge:
    return RecordTooLarge(
        f"the change takes more than {bytes_max} bytes",
        hint="raise kafka.message_bytes_max and the output topic's max.message.bytes, or leave columns out",
        reason="output_too_large",
    )


def _state_of(assignment: Assignment) -> PartitionState:
    """Return the state of a partition: this worker's, else the one committed with its offset."""
    if assignment.state is None:
        text = assignment.metadata
        found = msgspec.json.decode(text, type=PartitionState) if text else PartitionState()
        # Behind a gap nobody knows what the change before was: the chain breaks there, so that its readers see it.
        assignment.state = found if assignment.gap is None else PartitionState(None, found.memory)
    state: PartitionState = assignment.state
    return state


def _metadata(state: PartitionState) -> str:
    return _ENCODER.encode(state).decode()
