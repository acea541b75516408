"""The lane of NORMALIZE that reads what was parked of tables, once they go on: beside the live records.

Promise: as for a source topic. A parked record's change has its origin on `headgate.parked.<table>` and names the first
one; which change of a row wins is decided by position, so it passes nothing that came meanwhile. Records are decoded in
the order in which they once stood in their stream, with what was seen of it before. One that stops its table stops
what is parked of it, at that record.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from connectors.formats.base import PartitionMemory
from connectors.transport.chunk import Assignment, Group, Headers, Run, by_topic
from connectors.transport.transaction import Advance, Outbox
from schemas.batch import Decoded
from schemas.change import HEADER_MEMORY
from schemas.config import Config
from schemas.errors import PoisonRecord, SourceUnavailable, TableStopped, TransactionAborted
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.apart import Again, Picked, side_by_side
from streams.attempt import Attempt, Emitter
from streams.chains import Chain, Chains, stream_name, waited_for
from streams.floors import write_floors
from streams.normalize import NormalizeStage
from streams.poison import Origin, parted
from streams.sealing import Opened, closed
from streams.tables import Readers, TableDirectory

EnsureOutputs = Callable[[Mapping[str, int]], Awaitable[Mapping[str, int]]]


class ParkedLane:
    """What NORMALIZE does with the topics of parked records; `stage` counts it, `writer` is the stage's own."""

    def __init__(  # noqa: PLR0913 - what it works with, each handed in
        self,
        config: Config,
        *,
        names: TopicNames,
        tables: TableDirectory,
        writer: Any,
        consumer: Any,
        chains: Chains,
        ensure_outputs: EnsureOutputs,
        stage: NormalizeStage,
        evolve: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`ensure_outputs` makes or enlarges output topics to so many partitions, and returns how many each has.

        With `evolve` tables take up what parked records have, by way of the stage.
        """
        self._names, self._tables, self._writer, self._consumer = names, tables, writer, consumer
        self._chains, self._ensure_outputs, self._stage = chains, ensure_outputs, stage
        self._emitter = Emitter(config, names=names, stage=stage.name, clock=clock, evolve=evolve)
        self.sealing = self._emitter.sealing
        self._ensured: dict[str, int] = {}

    async def starts(self, assignments: Sequence[Assignment]) -> Mapping[Assignment, int]:
        """Return where what was never read begins: at its first record, also where that is gone, so that it is said."""
        return {each: 0 for each in assignments if each.committed is None and each.decided_start is None}

    async def step(self, group: Group) -> None:
        """Write the group's changes, what is put aside, chains and offsets in one transaction."""
        registered, entries = await self._registered(group.runs)
        runs = await self._with_schemas(registered, entries)
        if not runs:
            return
        with waited_for():
            await self._chains.take_up({run.assignment for run in runs})
        opened = {run: self.sealing.opened_run(run) for run in runs}
        work = Attempt({topic: self._reader_of(entry) for topic, entry in entries.items()})
        try:
            await self._ensure(runs, entries)
            await write_floors(
                lambda: self._writer.write(
                    runs, lambda outbox, live: self._attempt(work, entries, opened, outbox, live), parted=True
                ),
                work.outputs,
                lambda wanted: self._ensure_outputs({wanted.output: self._ensured[wanted.output]}),
            )
        except (TransactionAborted, SourceUnavailable) as error:
            await self._blame(error, runs)
            raise
        self._settle(work)
        group.done([part for run in runs if (part := work.written(run)) is not None])
        await self._stage.stop_tables(work)

    async def on_poison(self, run: Run, error: BaseException) -> None:
        """Put one record in quarantine that no attempt could get through; its successors go on."""
        table = self._names.parked_table(run.topic)
        known = table is not None and table in self._tables
        work = Attempt(
            {run.topic: self._reader_of(self._tables.unmasked(table))} if table is not None and known else {}
        )

        def put(outbox: Outbox, runs: Sequence[Run]) -> list[Advance]:
            for one in runs:
                self._emitter.quarantine(work, outbox, self.sealing.opened_run(one), 0, error, table)
            return [Advance(one.assignment, one.next) for one in runs]

        await self._writer.write([run], put)
        self._settle(work)

    def _reader_of(self, entry: TableEntry) -> Readers:
        return Readers([entry], self._tables.beside(entry.spec.table))

    async def _registered(self, runs: Sequence[Run]) -> tuple[list[Run], dict[str, TableEntry]]:
        """Return what can be read, with the entry of each topic's table.

        What is of no table any more is left: nobody asks for it as soon as that has been taken up.
        """
        entries: dict[str, TableEntry] = {}
        for topic in by_topic(runs):
            table = self._names.parked_table(topic)
            if table is not None and table in self._tables:
                entries[topic] = self._tables.unmasked(table)
        if left := [run for run in runs if run.topic not in entries]:
            await self._consumer.give_up(left)
        return [run for run in runs if run.topic in entries], entries

    async def _with_schemas(self, runs: Sequence[Run], entries: Mapping[str, TableEntry]) -> Sequence[Run]:
        """Have the schemas registered of tables whose changes are Avro; what is parked of one that is refused waits."""
        refused = await self._emitter.forms.register(entries.values())
        for topic, entry in entries.items():
            if (stop := refused.get(entry.spec.table)) is not None:
                self._stage.last_error = stop
                await self._consumer.pause(topic, stop)
        return [run for run in runs if entries[run.topic].spec.table not in refused]

    async def _ensure(self, runs: Iterable[Run], entries: Mapping[str, TableEntry]) -> None:
        """Make or enlarge the outputs: each has a partition for each of its origins."""
        wanted: dict[str, int] = {}
        for run in runs:
            output = self._names.changes(entries[run.topic].spec.table)
            if self._ensured.get(output, 0) <= run.partition:
                wanted[output] = max(run.partition + 1, wanted.get(output, 0))
        if wanted:
            self._ensured.update(await self._ensure_outputs(wanted))

    def _settle(self, work: Attempt) -> None:
        for assignment, chain in work.chains.items():
            self._chains.settle(assignment, chain)
        self._stage.counts.update(work.counts)
        self._stage.quarantined.update(work.quarantined)
        self._stage.emitted.update(work.emitted)

    async def _blame(self, error: TransactionAborted | SourceUnavailable, runs: Sequence[Run]) -> None:
        """Have what is parked of the table wait whose output an abort named."""
        for run in reversed(runs):  # the first one of a partition is sought last
            if self._names.changes(self._names.parked_table(run.topic) or "") == error.topic:
                self._ensured.pop(error.topic, None)  # it may be gone, or smaller than it was
                what = f"{error.topic} refused a write: {error.message}"
                await self._consumer.pause(run.topic, TableStopped("output_refused", what, hint=error.hint))
                await self._consumer.seek(run.assignment, run.first)

    # ── one attempt, on the writer's thread ──

    def _attempt(
        self,
        work: Attempt,
        entries: Mapping[str, TableEntry],
        opened: Mapping[Run, Run | Opened],
        outbox: Outbox,
        runs: Sequence[Run],
    ) -> list[Advance]:
        work.begin()
        for run in runs:
            if run.assignment not in work.chains:
                work.chains[run.assignment] = self._chains.attempt(run.assignment)
            if run.assignment not in work.stops:
                self._run(work, outbox, entries[run.topic], run, opened[run])
        for assignment, chain in work.chains.items():
            self._chains.write(outbox, assignment, chain)
        return [Advance(assignment, offset) for assignment, offset in work.nexts.items()]

    def _run(self, work: Attempt, outbox: Outbox, entry: TableEntry, run: Run, opened: Run | Opened) -> None:
        table, now, chain, once = entry.spec.table, run.offsets(), work.chains[run.assignment], Again(opened)
        headers = [opened.headers(index) for index in range(len(run))]
        firsts = [parted(each)[1] for each in headers]
        work.count("unparked", len(run))
        work.nexts[run.assignment] = run.next
        if (stop := self._key_missing(entry, opened)) is not None:
            work.stops[run.assignment], work.nexts[run.assignment] = stop, run.first
            return
        indices = []
        for index, first in enumerate(firsts):
            if (fault := _fault(run.topic, first, opened, index)) is None:
                indices.append(index)
            else:
                self._emitter.quarantine(work, outbox, opened, index, fault, table)
        known = bisect_right([now[index] for index in indices], chain.reached(table))
        memories = {index: found for index in indices[known:] if (found := _memory_in(headers[index])) is not None}
        for again, those in ((True, indices[:known]), (False, indices[known:])):
            for epoch, some in side_by_side(once, those, firsts, entry, memories):
                stream = _stream(firsts[some.indices[0]])
                # What comes again without transactions would contradict what is remembered of it.
                memory = PartitionMemory() if again else _seen(chain, stream, memories.get(some.indices[0]))
                decoded = self._emitter.decoders.of(entry, epoch).decode(some, memory)
                if not self._emit(work, outbox, run, opened, entry, some, firsts, decoded):
                    chain.remember(stream, memory)
                    return
                if not again:
                    chain.remember(stream, memory)

    def _key_missing(self, entry: TableEntry, opened: Run | Opened) -> TableStopped | None:
        """Return why nothing is decoded that is sealed; a key that only some records want sends those to quarantine."""
        return self._emitter.mask_stop(entry) if isinstance(opened, Opened) else None

    def _emit(
        self, work: Attempt, outbox: Outbox, run: Run, opened: Run | Opened, entry: TableEntry, some: Picked,
        firsts: Sequence[Origin | None], decoded: Decoded,
    ) -> bool:  # fmt: skip
        """Write what some records became that once stood in one stream; False where one of them stopped the table."""
        table, now, chain = entry.spec.table, run.offsets(), work.chains[run.assignment]
        places = dict(zip(some.offsets(), some.indices, strict=True))
        batch = decoded.batch
        first_origins = {now[places[at]]: first for at in batch.offsets if (first := firsts[places[at]]) is not None}
        batch.offsets = [now[places[at]] for at in batch.offsets]
        previous = chain.before(table, batch.offsets[0]) if batch else None
        chain.reach(table, self._emitter.emit(work, outbox, entry, opened, batch, previous, first_origins))
        self._emitter.account(work, outbox, table, opened, decoded, some.indices)
        if decoded.stop is None:
            return True
        assert decoded.stop_index is not None, "a stop says where"
        work.stops[run.assignment] = decoded.stop
        work.nexts[run.assignment] = now[some.indices[decoded.stop_index]]
        return False


def _stream(first: Origin | None) -> str:
    """Return the name of the stream in which a record once stood, by which is kept what was seen of it.

    A topic that was read again was parked again: its records would contradict what was seen of them the first time.
    """
    assert first is not None, "what has no first origin is of no table"
    topic, generation, *_ = first
    return stream_name(topic, generation)


def _seen(chain: Chain, stream: str, said: PartitionMemory | None) -> PartitionMemory:
    """Return what is remembered of a stream in which records once stood, with what their first one says."""
    memory = chain.memory(stream)
    if said is not None and said.epoch >= memory.epoch:
        memory.enter(said.epoch)
        # That there were rows, not how many: those are counted where they were seen.
        memory.loaded, memory.ended = max(memory.loaded, min(said.loaded, 1)), memory.ended or said.ended
        if said.streamed:
            memory.saw(said.last)
    return memory


def _memory_in(headers: Headers) -> PartitionMemory | None:
    """Return what a parked record says was seen of its table before it; None where it says nothing."""
    if len(headers) < 2 or headers[-2][0] != HEADER_MEMORY:  # noqa: PLR2004 - ours are the last two
        return None
    try:
        return PartitionMemory.from_text((headers[-2][1] or b"").decode())
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _fault(topic: str, first: Origin | None, opened: Run | Opened, index: int) -> PoisonRecord | None:
    """Return why a record cannot be read, None if it can."""
    if isinstance(opened, Opened) and opened.is_closed(index):
        return closed()
    return _placeless(topic) if first is None else None


def _placeless(topic: str) -> PoisonRecord:
    return PoisonRecord(
        "no_first_origin",
        f"a record of {topic} does not say where it was read at first",
        hint="only NORMALIZE writes to this topic",
    )
