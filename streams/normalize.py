"""NORMALIZE: records of any source format in, typed changes on output topics out, in each source partition's order.

Promise: output, quarantine and input offsets of a group are one Kafka transaction; a record is on the output topic
once, or in quarantine once, or counted as skipped. With `at_least_once` the group is flushed before its offsets are
committed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from connectors.transport.chunk import Group, Run, by_topic
from connectors.transport.transaction import Advance, Outbox, WriteReport
from schemas.batch import Decoded
from schemas.config import Config
from schemas.errors import ConfigurationError, HeadgateError, TableStopped, TransactionAborted
from schemas.failpoints import failpoint
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.attempt import Attempt, Emitter, PartitionState, metadata_of, state_of
from streams.chains import Chains
from streams.epochs import epoch_of, of_epoch, parted
from streams.evolutions import Evolutions
from streams.evolving import TableEvolves
from streams.floors import write_floors
from streams.resyncs import Broker, Resyncs
from streams.shared import SharedTopics, is_chained
from streams.stage import BaseStage
from streams.tables import TableDirectory
from streams.templates import Templates
from streams.together import decode_together

GATHER_PARTITIONS = 50  # a transaction over more output partitions is slow however few its records (TRANSPORT.md)
GATHER_SECONDS = 0.2


class Output(NamedTuple):
    """What an output topic must have: as many partitions as its largest source topic, and at least so many."""

    sources: list[str]
    partitions: int = 0


class NormalizeStage(BaseStage):
    """The stage; `writer` is the transactional or the plain one of the transport."""

    name = "normalize"

    def __init__(  # noqa: PLR0913 - each is another thing that a stage is made of
        self,
        config: Config,
        *,
        names: TopicNames,
        tables: TableDirectory,
        writer: Any,
        consumer: Any,
        chains: Chains,
        ensure_outputs: Callable[[Mapping[str, Output]], Awaitable[Mapping[str, int]]],
        evolutions: Evolutions | None = None,
        broker: Broker | None = None,
        templates: Templates | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`ensure_outputs` makes or enlarges output topics, and returns how many partitions each has now.

        Without `evolutions` no table takes up what its records have: what its spec refuses goes to quarantine.
        Without `broker` no resync is completed, and without `templates` none makes a table.
        """
        super().__init__()
        self._names, self._tables = names, tables
        self._writer, self._consumer, self._ensure_outputs = writer, consumer, ensure_outputs
        self._evolutions, self._templates = evolutions, templates
        self._emitter = Emitter(config, names=names, stage=self.name, clock=clock, evolve=evolutions is not None)
        self._shared = SharedTopics(self._emitter, chains)
        self.resyncs = Resyncs(
            self, names=names, tables=tables, writer=writer, consumer=consumer, chains=chains,
            ensure=self._ensure_floors, broker=broker, clock=clock,
        )  # fmt: skip
        self._looking: asyncio.Task[None] | None = None
        self._ensured: dict[str, int] = {}
        self._contested: set[str] = set()
        self._wide = False
        self.unknown_columns: dict[str, set[str]] = {}

    async def start(self) -> None:
        """Open the producer; a predecessor of the same slot is fenced from here on."""
        await self._writer.start()
        await self._ensure_known(set(self._tables))
        self._looking = asyncio.create_task(self.resyncs.run()) if self.resyncs.has_broker else None
        if self._templates is not None:
            self._templates.begin()

    async def stop(self) -> None:
        """Close the producer."""
        if self._templates is not None:
            await self._templates.close()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        if self._evolutions is not None:
            await self._evolutions.close()
        await self._writer.close()

    def waits_for(self) -> HeadgateError | None:
        """Return what the producer waits for, None if nothing."""
        found: HeadgateError | None = self._writer.waits_for()
        return found

    def resyncing(self) -> dict[str, dict[str, Any]]:
        """Return how far resyncs are, by table, as far as this worker completes them."""
        return self.resyncs.progress()

    def topics(self) -> list[str]:
        """Return the source topics of all tables that run."""
        return sorted({topic for entry in self._tables.values() if not entry.paused for topic in entry.spec.topics})

    def group_wait_seconds(self) -> float:
        """Return how long to gather: long only where the last transaction was wide."""
        return GATHER_SECONDS if self._wide else 0.0

    async def tables_changed(self, changed: set[str]) -> None:
        """Make decoders anew for changed specs."""
        for table in changed:
            self._emitter.decoders.forget(table)
        for topic in sorted(self._contested):
            if self._contest(topic) is None:
                self._contested.remove(topic)
                await self._consumer.resume(topic)
        await self._ensure_known(changed)

    async def step(self, group: Group) -> None:
        """Write the group's changes, quarantine and offsets in one transaction."""
        runs = await self._uncontested(group.runs)
        # Looked up once: a spec that changes meanwhile would find runs whose chains are not known.
        work = Attempt({topic: self._tables.of_topic(topic) for topic in by_topic(runs)})
        runs = await self._with_schemas(await self._with_chains(runs, work), work)
        if not runs:
            return
        runs = parted(runs, work.readers)
        await self._ensure_read(runs, work)
        failpoint("normalize.before_write")
        async with self.resyncs.alone:
            try:
                report: WriteReport = await write_floors(
                    lambda: self._writer.write(runs, lambda outbox, live: self._attempt(work, outbox, live)),
                    work.outputs,
                    lambda floor: self._ensure({floor.output: Output([floor.source], self._ensured[floor.output])}),
                )
            except TransactionAborted as exc:
                await self._blame(exc, runs, work)
                raise
            failpoint("normalize.after_write")
            self._wide = report.partitions > GATHER_PARTITIONS
            self._settle(work)
        # Done before paused: a pause reads again from the first record that is not done, and these are written.
        written = [part for run in runs if (part := work.written(run)) is not None]
        group.done(
            written,
            metadata={
                run: metadata_of(work.states[run.assignment]) for run in written if run.assignment in work.states
            },
        )
        await self._stop_tables(work)

    async def on_poison(self, run: Run, error: BaseException) -> None:
        """Put one record in quarantine that no attempt could get through; its successors go on."""
        readers = self._tables.of_topic(run.topic)
        attempt = Attempt({run.topic: readers})
        table = readers.table_of(run.values()[0]) if readers is not None else None

        def work(outbox: Outbox, runs: Sequence[Run]) -> list[Advance]:
            for one in runs:
                self._emitter.quarantine(attempt, outbox, one, 0, error, table)
                attempt.nexts[one.assignment] = one.next
            return [Advance(one.assignment, one.next, metadata_of(state_of(one.assignment))) for one in runs]

        async with self.resyncs.alone:
            await self._writer.write([run], work)
            self._settle(attempt)

    # ── topics that cannot be read now ──

    async def _with_chains(self, runs: Sequence[Run], work: Attempt) -> Sequence[Run]:
        """Take up the chains of shared topics; where they cannot be read, pause those, and return the other runs."""
        try:
            await self._shared.take_up(runs, work)
        except ConfigurationError as error:
            stop = TableStopped("chains_unreadable", error.message, hint=error.hint)
            self.last_error = stop
            chained = {run.topic for run in runs if is_chained(run, work)}
            for topic in sorted(chained):
                await self._consumer.pause(topic, stop)
            return [run for run in runs if run.topic not in chained]
        return runs

    async def _with_schemas(self, runs: Sequence[Run], work: Attempt) -> Sequence[Run]:
        """Have the schemas of tables registered whose changes are Avro; where one is refused, pause its topic."""
        refused: set[str] = set()
        for topic in by_topic(runs):
            readers = work.readers[topic]
            for entry in readers.entries.values() if readers is not None else ():
                if entry.spec.output.format != "avro" or self._emitter.forms.is_known(entry):
                    continue
                try:
                    await asyncio.to_thread(self._emitter.forms.of, entry)
                except TableStopped as stop:
                    self.last_error = stop
                    refused.add(topic)
                    await self._consumer.pause(topic, stop)
        return [run for run in runs if run.topic not in refused]

    async def _uncontested(self, runs: Sequence[Run]) -> Sequence[Run]:
        """Pause the topics of tables that cannot share them, until specs are mended; return the runs of the others.

        So is a topic of several tables of which one is paused, and one that no table reads any more: its records may
        not be passed over. Nothing is awaited after the last look.
        """
        while found := {topic: stop for topic in by_topic(runs) if (stop := self._contest(topic)) is not None}:
            for topic, stop in found.items():
                if stop.reason != "unregistered":  # its table was removed: it wants nothing of anybody
                    self.last_error = stop
                self._contested.add(topic)
                await self._consumer.pause(topic, stop)
            runs = [run for run in runs if run.topic not in found]
        return [run for run in runs if run.topic not in self._contested]

    def _contest(self, topic: str) -> TableStopped | None:
        """Return why records of a topic that were fetched are not to be worked on now, None if they are."""
        try:
            readers = self._tables.of_topic(topic)
        except TableStopped as stop:
            return stop
        if readers is None:  # its table was removed since: if it comes again, it goes on with them
            hint = "its table was removed; registered again, it goes on here"
            return TableStopped("unregistered", f"no table reads {topic} any more", hint=hint)
        paused = [table for table, entry in readers.entries.items() if entry.paused]
        if not paused or len(readers.entries) == 1:  # its topics are read no more as soon as it is paused
            return None
        message = f"{topic} also feeds {paused[0]}, which is paused"
        return TableStopped("table_paused", message, hint=f"`headgate tables resume {paused[0]}`")

    # ── one attempt, on the writer's thread ──

    def _attempt(self, work: Attempt, outbox: Outbox, runs: Sequence[Run]) -> list[Advance]:
        work.begin()
        for of_topic in by_topic(runs).values():
            self._topic(work, outbox, of_topic)
        self._shared.write(work, outbox)
        failpoint("normalize.after_decode")
        return [Advance(a, offset, metadata_of(work.states[a])) for a, offset in work.nexts.items()]

    def _topic(self, work: Attempt, outbox: Outbox, runs: list[Run]) -> None:
        """Work on the runs of one topic, in their order."""
        readers = work.readers[runs[0].topic]
        assert readers is not None, "a topic that no table reads is not worked on"
        for run in runs:
            work.states.setdefault(run.assignment, state_of(run.assignment))
        whole: dict[int, list[Run]] = {}  # by epoch
        for run in runs:
            if not is_chained(run, work):
                whole.setdefault(epoch_of(readers.first, run), []).append(run)
            elif run.assignment not in work.stops:
                self._shared.run(work, outbox, readers, run)
        for epoch, some in sorted(whole.items()):
            self._whole(work, outbox, readers.first, epoch, some)

    def _whole(self, work: Attempt, outbox: Outbox, entry: TableEntry, epoch: int, runs: list[Run]) -> None:
        """Work on runs of a topic whose records are all of one table, and of one epoch."""
        decoder = self._emitter.decoders.of(entry, epoch)
        memories = [work.memories.setdefault(run.assignment, work.states[run.assignment].memory.copy()) for run in runs]
        together = decode_together(decoder, of_epoch(entry, epoch), runs, memories)
        for index, run in enumerate(runs):
            if run.assignment not in work.stops:
                decoded = together[index] if together is not None else decoder.decode(run, memories[index])
                self._run(work, outbox, entry, run, decoded)

    def _run(self, work: Attempt, outbox: Outbox, entry: TableEntry, run: Run, decoded: Decoded) -> None:
        assignment, table = run.assignment, entry.spec.table
        work.count("read", len(run))
        work.nexts[assignment] = run.next
        previous = self._emitter.emit(work, outbox, entry, run, decoded.batch, work.states[assignment].previous)
        self._emitter.account(work, outbox, table, run, decoded)
        if decoded.stop is not None:
            assert decoded.stop_index is not None, "a stop says where"
            work.stops[assignment] = decoded.stop
            work.nexts[assignment] = run.offsets()[decoded.stop_index]
        work.states[assignment] = PartitionState(previous, work.memories[assignment], table)

    # ── after the transaction, in the event loop ──

    def _settle(self, work: Attempt) -> None:
        self._shared.settle(work)
        for assignment, state in work.states.items():
            assignment.state = state
        self.resyncs.reached(work.nexts)
        self.counts.update(work.counts)
        self.quarantined.update(work.quarantined)
        self.emitted.update(work.emitted)
        for table, columns in work.unknown.items():
            self.unknown_columns.setdefault(table, set()).update(columns)

    async def _stop_tables(self, work: Attempt) -> None:
        """Pause the tables that stopped, each partition at the record that stopped it; some go on by themselves."""
        for assignment, stop in work.stops.items():
            await self._consumer.pause(assignment.topic, stop)
            if self._evolutions is not None and isinstance(stop, TableEvolves):
                self.counts["evolutions"] += 1
                self._evolutions.begin(assignment.topic, stop)
            else:
                self.last_error = stop

    async def _blame(self, error: TransactionAborted, runs: Sequence[Run], work: Attempt) -> None:
        """Pause the topics of the table whose output an abort named, and take their runs out of the group."""
        table = self._table_of_output(error.topic)
        for run in reversed(runs):  # the first one of a partition is sought last
            readers = work.readers[run.topic]
            if table is not None and readers is not None and table in readers.entries:
                self._ensured.pop(self._names.changes(table), None)  # it may be gone, or smaller than it was
                stop = TableStopped(
                    "output_refused", f"{error.topic} refused a write: {error.message}", hint=error.hint
                )
                await self._consumer.pause(run.topic, stop)
                await self._consumer.seek(run.assignment, run.first)

    def _table_of_output(self, topic: str | None) -> str | None:
        return None if topic is None or topic == self._names.quarantine else self._names.table_of(topic)

    async def _ensure_known(self, tables: set[str]) -> None:
        """Make the outputs of tables whose topics are named, all at once, before their first record comes.

        So the keys of their masks are known then.
        """
        masked = [self._tables.unmasked(table) for table in tables if table in self._tables]
        if masked := [entry for entry in masked if entry.spec.is_masked]:
            await asyncio.to_thread(self._emitter.read_mask_keys, masked)
        specs = [entry.spec for table in tables if (entry := self._tables.get(table)) is not None]
        named = {spec.table: [topic for topic in spec.topics if not topic.startswith("^")] for spec in specs}
        await self._ensure({self._names.changes(table): Output(topics) for table, topics in named.items() if topics})

    async def _ensure_read(self, runs: Sequence[Run], work: Attempt) -> None:
        """Make or enlarge what the runs need: an output has a partition for each of its origins."""
        wanted: dict[str, Output] = {}
        for run in runs:
            readers = work.readers[run.topic]
            for output in map(self._names.changes, readers.entries if readers is not None else ()):
                if self._ensured.get(output, 0) <= run.partition:
                    least = max(run.partition + 1, wanted[output].partitions if output in wanted else 0)
                    wanted[output] = Output([run.topic], least)
        await self._ensure(wanted)

    async def _ensure_floors(self, output: str, sources: Collection[str]) -> int:
        """Return how many partitions an output has now, that a floor is to stand in."""
        return (await self._ensure({output: Output(sorted(sources), self._ensured.get(output, 0))}))[output]

    async def _ensure(self, wanted: Mapping[str, Output]) -> Mapping[str, int]:
        """Return how many partitions outputs have now; one whose sources may not be read is not made, and not told."""
        if wanted:
            self._ensured.update(await self._ensure_outputs(wanted))
        return {output: self._ensured[output] for output in wanted if output in self._ensured}
