"""NORMALIZE: records of any source format in, typed changes on output topics out, in each source partition's order.

Promise: output, quarantine and input offsets of a group are one Kafka transaction; a record is on the output topic
once, or in quarantine once, or counted as skipped. With `at_least_once` the group is flushed before its offsets are
committed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from connectors.transport.chunk import Assignment, Group, Run, by_topic
from connectors.transport.transaction import Advance, Outbox, WriteReport
from schemas.batch import Decoded
from schemas.config import Config
from schemas.errors import ConfigurationError, HeadgateError, SourceUnavailable, TableStopped, TransactionAborted
from schemas.failpoints import failpoint
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.attempt import Attempt, Emitter, PartitionState, metadata_of, state_of
from streams.chains import Chains
from streams.epochs import epoch_of, of_epoch, parted
from streams.evolutions import Evolutions
from streams.evolving import TableEvolves
from streams.floors import write_floors
from streams.output_topics import EnsureOutputs, OutputTopics
from streams.parking import PARKED_LANE, Exist, ParkedTopics, Waiting, waiting
from streams.resyncs import Broker, Resyncs
from streams.shared import SharedTopics, is_chained
from streams.stage import MAIN_LANE, BaseStage
from streams.tables import TableDirectory
from streams.templates import Templates
from streams.together import decode_together

GATHER_PARTITIONS = 50  # a transaction over more output partitions is slow however few its records (TRANSPORT.md)
GATHER_SECONDS = 0.2


async def _none_exist(topics: Collection[str]) -> Collection[str]:
    del topics
    return ()


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
        ensure_outputs: EnsureOutputs,
        evolutions: Evolutions | None = None,
        exist: Exist = _none_exist,
        broker: Broker | None = None,
        templates: Templates | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`ensure_outputs` makes or enlarges output topics, and returns how many partitions each has now.

        `exist` returns which of some topics are there.
        Without `evolutions` no table takes up what its records have: what its spec refuses goes to quarantine.
        Without `broker` no resync is completed, and without `templates` none makes a table.
        """
        super().__init__()
        self._names, self._tables = names, tables
        self._writer, self._consumer, self._outputs = writer, consumer, OutputTopics(names, ensure_outputs)
        self._evolutions, self._templates = evolutions, templates
        self._emitter = Emitter(config, names=names, stage=self.name, clock=clock, evolve=evolutions is not None)
        self._shared = SharedTopics(self._emitter, chains, names, parked_bytes_max=config.limits.parked_bytes_max)
        self._parked = ParkedTopics(names, tables, exist)
        self.resyncs = Resyncs(
            self, names=names, tables=tables, writer=writer, consumer=consumer, chains=chains,
            ensure=self._outputs.of_floor, broker=broker, clock=clock,
        )  # fmt: skip
        self._tasks: list[asyncio.Task[None]] = []
        self._contested: set[str] = set()
        self._refused: dict[str, TableStopped] = {}  # tables of shared topics whose output refused the last attempt
        self._wide = False
        self.unknown_columns: dict[str, set[str]] = {}

    async def start(self) -> None:
        """Open the producer; a predecessor of the same slot is fenced from here on."""
        await self._writer.start()
        await self._ensure_known(set(self._tables))
        await self._parked.look(set(self._tables))
        if topics := sorted(self._parked.topics()):  # the consumer answers once it is started, which is after this
            self._tasks.append(asyncio.create_task(self._consumer.add_topics(PARKED_LANE, topics)))
        if self.resyncs.has_broker:
            self._tasks.append(asyncio.create_task(self.resyncs.run()))
        if self._templates is not None:
            self._tasks.append(asyncio.create_task(self._templates.run()))

    async def stop(self) -> None:
        """Close the producer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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
        """Return the source topics of all tables that run, and the topics of what was parked of them."""
        sources = {topic for entry in self._tables.values() if not entry.paused for topic in entry.spec.topics}
        return sorted(sources | self._parked.topics())

    def lane_of(self, topic: str) -> str:
        """Return the lane that a topic added at run time is read by."""
        return MAIN_LANE if self._names.parked_table(topic) is None else PARKED_LANE

    def parking(self) -> dict[str, Waiting]:
        """Return what is parked of tables in this worker's partitions; from any thread."""
        return waiting(self._shared.parked(), self._tables)

    def group_wait_seconds(self) -> float:
        """Return how long to gather: long only where the last transaction was wide."""
        return GATHER_SECONDS if self._wide else 0.0

    async def starts(self, assignments: Sequence[Assignment]) -> Mapping[Assignment, int]:
        """Leave all starts to Kafka's commit; know what is parked there, so that the status says so.

        Raises:
            SourceUnavailable: the broker does not answer.
        """
        shared = [each for each in assignments if self._is_shared(each.topic)]
        if shared:
            await self._shared.look(shared)
        return {}

    def _is_shared(self, topic: str) -> bool:
        with suppress(TableStopped):  # tables that cannot share it: it is paused for that
            readers = self._tables.of_topic(topic)
            return readers is not None and readers.shared
        return False

    async def tables_changed(self, changed: set[str]) -> None:
        """Make decoders anew for changed specs."""
        for table in changed:
            self._emitter.decoders.forget(table)
        for topic in sorted(self._contested):
            if self._contest(topic) is None:
                self._contested.remove(topic)
                await self._consumer.resume(topic)
        await self._ensure_known(changed)
        await self._parked.look(changed)

    async def step(self, group: Group) -> None:
        """Write the group's changes, quarantine and offsets in one transaction."""
        runs = await self._uncontested(group.runs)
        # Looked up once: a spec that changes meanwhile would find runs whose chains are not known.
        readers = {topic: self._tables.of_topic(topic) for topic in by_topic(runs)}
        work = Attempt(readers, self._outputs.parked(), self._refused)
        runs = await self._with_schemas(await self._with_chains(runs, work), work)
        if not runs:
            return
        runs = parted(runs, work.readers)
        try:
            await self._outputs.of_runs(runs, work.readers, lambda run, table: self._parks(work, run, table))
            failpoint("normalize.before_write")
            async with self.resyncs.alone:
                report: WriteReport = await write_floors(
                    lambda: self._writer.write(
                        runs, lambda outbox, live: self._attempt(work, outbox, live), parted=True
                    ),
                    work.outputs,
                    self._outputs.wanted,
                )
                failpoint("normalize.after_write")
                self._refused.clear()
                self._wide = report.partitions > GATHER_PARTITIONS
                self._settle(work)
        except (TransactionAborted, SourceUnavailable) as exc:
            await self._blame(exc, runs, work)
            raise
        # Done before paused: a pause reads again from the first record that is not done, and these are written.
        written = [part for run in runs if (part := work.written(run)) is not None]
        group.done(
            written,
            metadata={
                run: metadata_of(work.states[run.assignment]) for run in written if run.assignment in work.states
            },
        )
        await self.stop_tables(work)
        if new := self._parked.add(self._outputs.parked()):
            await self._consumer.add_topics(PARKED_LANE, new)

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
        """Have the schemas of tables registered whose changes are Avro; have one parked, or paused, that is refused."""
        waiting: set[str] = set()
        for topic in by_topic(runs):
            readers = work.readers[topic]
            entries = readers.entries if readers is not None else {}
            running = [entry for entry in entries.values() if entry.paused is None]
            shared = len(entries) > 1
            for table, stop in (await self._emitter.forms.register(running, once=shared)).items():
                self.last_error = stop
                if shared:
                    self._refused[table] = stop
                else:
                    waiting.add(topic)
                    await self._consumer.pause(topic, stop)
        return [run for run in runs if run.topic not in waiting]

    async def _uncontested(self, runs: Sequence[Run]) -> Sequence[Run]:
        """Pause the topics of tables that cannot share them, until specs are mended; return the runs of the others.

        So is one that no table reads any more: its records may not be passed over. Nothing is awaited after the last
        look.
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
        return None

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

    def _parks(self, work: Attempt, run: Run, table: str) -> bool:
        """Tell whether a table's records of a run are parked, so that nothing is written to its output."""
        readers = work.readers[run.topic]
        assert readers is not None, "a topic that no table reads is not worked on"
        return readers.shared and (table in self._refused or self._shared.parks(run, readers.entries[table]))

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

    async def stop_tables(self, work: Attempt) -> None:
        """Pause the tables that stopped, each partition at the record that stopped it; some go on by themselves."""
        for stop in work.parked:
            self.last_error = stop
        for assignment, stop in work.stops.items():
            await self._consumer.pause(assignment.topic, stop)
            if self._evolutions is not None and isinstance(stop, TableEvolves):
                self.counts["evolutions"] += 1
                self._evolutions.begin(assignment.topic, stop)
            elif self._resumed_since(work, assignment.topic):
                await self._consumer.resume(assignment.topic)
            else:
                self.last_error = stop

    def _resumed_since(self, work: Attempt, topic: str) -> bool:
        """Tell whether somebody has resumed a table of a topic since an attempt looked: nobody would say so again."""
        readers = work.readers[topic]
        then = readers.entries.values() if readers is not None else ()
        now = [(entry, self._tables.get(entry.spec.table)) for entry in then]
        return any(entry.resumed < known.resumed for entry, known in now if known is not None)

    async def _blame(self, error: TransactionAborted | SourceUnavailable, runs: Sequence[Run], work: Attempt) -> None:
        """Have the table parked whose output an abort named; where it cannot be, pause its topics.

        Their runs are taken out of the group.
        """
        topic = error.topic or ""
        self._outputs.forget(topic)
        parked = self._names.parked_table(topic)
        table = self._names.table_of(topic) if topic.startswith(self._names.changes("")) else parked
        stop = TableStopped("output_refused", f"{topic} refused a write: {error.message}", hint=error.hint)
        for run in reversed(runs):  # the first one of a partition is sought last
            readers = work.readers[run.topic]
            if table is None or readers is None or table not in readers.entries:
                continue
            if parked is None and len(readers.entries) > 1:
                self._refused[table] = stop
                continue
            await self._consumer.pause(run.topic, stop)
            await self._consumer.seek(run.assignment, run.first)

    async def _ensure_known(self, tables: set[str]) -> None:
        """Make the outputs of tables, and read the keys of their masks, before their first record comes."""
        masked = [self._tables.unmasked(table) for table in tables if table in self._tables]
        if masked := [entry for entry in masked if entry.spec.is_masked]:
            await asyncio.to_thread(self._emitter.read_mask_keys, masked)
        await self._outputs.of_specs(entry.spec for table in tables if (entry := self._tables.get(table)) is not None)
