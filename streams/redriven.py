"""The lane of NORMALIZE that reads `headgate.redrive`: quarantined records, sent again with their original bytes.

Promise: as for a source topic. Output, quarantine, chains and offsets of a group are one Kafka transaction; each record
is on an output topic once, in quarantine once more, or counted as skipped. A redriven change has its origin here and
names the first one; which change of a row wins is decided by position, so it passes nothing that came later. Whatever
is wrong with a record or its table sends that record back to quarantine: the lane itself never stops for one table.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.formats.base import Decoder
from connectors.transport.chunk import Assignment, Group, Run
from connectors.transport.transaction import Advance, Outbox
from schemas.batch import Batch
from schemas.config import Config
from schemas.errors import (
    HeadgateError,
    PoisonRecord,
    SourceUnavailable,
    TableStopped,
    TransactionAborted,
)
from schemas.table import TableEntry
from schemas.topics import TopicNames
from sinks.quarantine import reason_of
from streams.apart import (
    Again,
    Picked,
    decode_apart,
    decode_nameless,
    oldest_resent,
    side_by_side,
    too_old,
    without_old,
)
from streams.attempt import output_too_large, produce_changes
from streams.avro_outputs import OutputForms
from streams.chains import Chain, Chains, waited_for
from streams.decoders import Decoders
from streams.evolutions import Evolutions
from streams.evolving import EvolveFirst, ImpatientDecoder
from streams.floors import write_floors
from streams.mask_keys import mask_keys_of
from streams.poison import Origin, parted, quarantined
from streams.sealing import Opened, Sealing, closed
from streams.stage import BaseStage
from streams.tables import Readers, TableDirectory

REDRIVE_LANE = "redrive"
_REGISTER = "register it; in a topic of several tables by the `source_table` that its records say"

EnsureOutputs = Callable[[Mapping[str, int]], Awaitable[Mapping[str, int]]]


@dataclass(slots=True)
class _Work:
    """One attempt at a group: nothing of it counts until its transaction is durable."""

    outputs: dict[str, int] = field(default_factory=dict)  # how many partitions those of floors have
    chains: dict[Assignment, Chain] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[tuple[str, str]] = field(default_factory=Counter)
    emitted: Counter[tuple[str, str]] = field(default_factory=Counter)


class RedriveLane:
    """What NORMALIZE does with the redrive topic; `stage` counts it, `writer` is the stage's own."""

    def __init__(  # noqa: PLR0913 - what it works with, each handed in
        self,
        config: Config,
        *,
        names: TopicNames,
        tables: TableDirectory,
        writer: Any,
        chains: Chains,
        ensure_outputs: EnsureOutputs,
        stage: BaseStage,
        evolutions: Evolutions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`ensure_outputs` makes or enlarges output topics to so many partitions, and returns how many each has.

        Without `evolutions` no table takes up what redriven records have.
        """
        self._config, self._names, self._tables, self._writer = config, names, tables, writer
        self._chains, self._ensure_outputs, self._clock = chains, ensure_outputs, clock
        self._stage, self._evolutions = stage, evolutions
        self._forms = OutputForms(config, names)
        self._sealing = Sealing(mask_keys_of(config.masks))
        self._last: tuple[Run, Run | Opened] | None = None
        self._decoders, self._evolving = Decoders(config), Decoders(config, evolve=evolutions is not None)
        self._fixed: set[str] = set()  # tables that could not take up what the records of this group have
        self._ensured: dict[str, int] = {}
        self._refused: set[str] = set()  # tables whose output refused the last attempt

    async def step(self, group: Group) -> None:
        """Write the group's changes, what fails again, chains and offsets in one transaction."""
        runs = group.runs
        with waited_for():
            await self._chains.take_up({run.assignment for run in runs})
        work = _Work()
        while True:
            try:
                await self._ensure(runs)
                await write_floors(
                    lambda: self._writer.write(
                        runs, lambda outbox, live: self._attempt(work, outbox, live), parted=True
                    ),
                    work.outputs,
                    lambda floor: self._ensure_outputs({floor.output: self._ensured[floor.output]}),
                )
            except (TransactionAborted, SourceUnavailable) as error:
                self._blame(error)
                raise
            except EvolveFirst as first:
                await self._evolve(first)
            else:
                break
        self._refused.clear()
        self._fixed.clear()
        self._last = None
        self._settle(work)
        group.done(runs)

    async def _evolve(self, first: EvolveFirst) -> None:
        """Have a table take up what its records have; one that cannot has them back in quarantine."""
        assert self._evolutions is not None, "no decoder says so without"
        await self._evolutions.take_up(first.stop)
        table = first.entry.spec.table
        if table in self._tables and self._tables.unmasked(table) is first.entry:
            self._fixed.add(table)

    def _decoder_of(self, entry: TableEntry, epoch: int) -> Decoder:
        if entry.spec.table in self._fixed:
            return self._decoders.of(entry, epoch)
        return ImpatientDecoder(self._evolving.of(entry, epoch), entry)

    async def on_poison(self, run: Run, error: BaseException) -> None:
        """Put one record back in quarantine that no attempt could get through; its successors go on."""
        work = _Work()

        def put(outbox: Outbox, runs: Sequence[Run]) -> list[Advance]:
            for one in runs:
                self._quarantine(work, outbox, one, 0, error)
            return [Advance(one.assignment, one.next) for one in runs]

        await self._writer.write([run], put)
        self._settle(work)

    def _settle(self, work: _Work) -> None:
        for assignment, chain in work.chains.items():
            self._chains.settle(assignment, chain)
        self._stage.counts.update(work.counts)
        self._stage.quarantined.update(work.quarantined)
        self._stage.emitted.update(work.emitted)

    # ── one attempt, on the writer's thread ──

    def _attempt(self, work: _Work, outbox: Outbox, runs: Sequence[Run]) -> list[Advance]:
        work.__init__(work.outputs)  # type: ignore[misc]  # after an abort everything is counted anew
        nexts: dict[Assignment, int] = {}
        for run in runs:
            if run.assignment not in work.chains:
                work.chains[run.assignment] = self._chains.attempt(run.assignment)
            self._run(work, outbox, run)
            nexts[run.assignment] = run.next
        for assignment, chain in work.chains.items():
            self._chains.write(outbox, assignment, chain)
        return [Advance(assignment, offset) for assignment, offset in nexts.items()]

    def _run(self, work: _Work, outbox: Outbox, run: Run) -> None:
        records = self._opened(run)
        again = Again(records)
        firsts = [parted(run.headers(index))[1] for index in range(len(run))]
        by_table: dict[str, tuple[TableEntry, list[int]]] = {}
        nameless: dict[str, tuple[TableEntry, list[int]]] = {}
        for index, (first, value) in enumerate(zip(firsts, again.values(), strict=True)):
            is_closed = isinstance(records, Opened) and records.is_closed(index)
            found = closed() if is_closed else self._route(first, value)
            if isinstance(found, HeadgateError):
                self._quarantine(work, outbox, run, index, found)
                continue
            entries, named = found
            for entry in entries:
                (by_table if named else nameless).setdefault(entry.spec.table, (entry, []))[1].append(index)
        for entry, indices in by_table.values():
            for epoch, some in side_by_side(again, indices, firsts, entry):
                self._table(work, outbox, run, (entry, epoch), some, firsts)
        for entry, indices in nameless.values():
            for _, some in side_by_side(again, indices, firsts, entry):
                self._nameless(work, outbox, run, entry, some)

    def _route(self, first: Origin | None, value: bytes | None) -> tuple[list[TableEntry], bool] | HeadgateError:
        """Return the tables of a record that was read at `first`, or why they cannot be told, or not be read now.

        They are several where tables stand beside each other: whichever had it in quarantine, by position it changes
        nothing of the others. Of a topic of several tables a record may name none: then it is the first table's to say
        what it is.
        """
        if first is None:
            return PoisonRecord(
                "no_first_origin",
                f"a record of {self._names.redrive} does not say where it was read at first",
                hint="only `headgate quarantine redrive` writes to this topic",
            )
        try:
            readers = self._tables.of_topic(first[0])
        except TableStopped as stop:
            return PoisonRecord(stop.reason, stop.message, hint=stop.hint)
        split = readers.split([value]) if readers is not None else None
        if readers is None or split is None or split.unregistered:
            return PoisonRecord("unregistered", f"no table is registered for a record of {first[0]}", hint=_REGISTER)
        entries = [readers.first] if split.nameless else [readers.entries[table] for table in split.by_table]
        for entry in entries:
            if (why := self._cannot_be_written(entry)) is not None:
                return why
        return entries, not split.nameless

    def _cannot_be_written(self, entry: TableEntry) -> PoisonRecord | None:
        table = entry.spec.table
        if entry.paused:
            return PoisonRecord("table_paused", f"{table} is paused", hint=f"headgate tables resume {table}")
        if table in self._refused:
            return PoisonRecord(
                "output_refused",
                f"{self._names.changes(table)} refused a write",
                hint="look at the topic: does it exist, and how large may a record be? Then redrive it again",
            )
        return None

    def _nameless(self, work: _Work, outbox: Outbox, run: Run, entry: TableEntry, records: Picked) -> None:
        """Skip or put back records that name no table of theirs."""
        for some, decoded in decode_nameless(self._decoders.of(entry), records):
            for each in decoded.rejected:
                self._quarantine(work, outbox, run, some.indices[each.index], each.error)
            work.counts.update({f"skipped_{reason}": n for reason, n in decoded.skipped.items()})

    def _table(
        self, work: _Work, outbox: Outbox, run: Run, of: tuple[TableEntry, int], records: Picked,
        firsts: list[Origin | None],
    ) -> None:  # fmt: skip
        """Work on records of one table and epoch that once stood in one stream, in their order."""
        now, (entry, epoch) = run.offsets(), of
        for some, decoded in decode_apart(self._decoder_of(entry, epoch), records):
            batch, old = without_old(decoded.batch, oldest_resent(self._clock(), self._config.limits))
            at_first = dict(zip(some.offsets(), some.indices, strict=True))
            faults = {some.indices[each.index]: each.error for each in decoded.rejected}
            faults |= {at_first[offset]: too_old(self._config.limits.redrive_max_age_hours) for offset in old}
            batch.offsets = [now[at_first[offset]] for offset in batch.offsets]
            faults |= self._emit(work, outbox, run, entry, batch, {now[i]: i for i in some.indices}, firsts)
            for index, error in sorted(faults.items()):
                self._quarantine(work, outbox, run, index, error, entry.spec.table)
            work.counts.update({f"skipped_{reason}": n for reason, n in decoded.skipped.items()})

    def _emit(
        self, work: _Work, outbox: Outbox, run: Run, entry: TableEntry, batch: Batch, places: Mapping[int, int],
        firsts: list[Origin | None],
    ) -> dict[int, HeadgateError]:  # fmt: skip
        """Produce the batch in its order; return what is too large, by index in the run."""
        if not batch:
            return {}
        table, chain = entry.spec.table, work.chains[run.assignment]
        first_origins = {offset: first for offset in batch.offsets if (first := firsts[places[offset]]) is not None}
        previous = chain.before(table, batch.offsets[0])
        produced = produce_changes(outbox, self._forms, entry, run, batch, previous, work.outputs, first_origins)
        chain.reach(table, produced.last)
        work.counts["redriven"] += produced.emitted.total()
        work.emitted.update(produced.emitted)
        return {places[offset]: output_too_large(produced.room) for offset in produced.too_large}

    def _quarantine(
        self, work: _Work, outbox: Outbox, run: Run, index: int, error: BaseException, table: str | None = None
    ) -> None:
        """Put one record back; `table` is the one that refused it, None where it has yet to be told."""
        first, records = parted(run.headers(index))[1], self._opened(run)
        table = table or self._table_of(first, records.values()[index])
        readers = self._readers(first[0]) if first is not None else None
        seal = self._sealing.of_read(records, index, readers, table)
        value = quarantined(
            self._config, records, error, stage=self._stage.name, table=table, at=self._clock(), index=index,
            generation=run.assignment.generation, seal=seal,
        )  # fmt: skip
        outbox.produce(self._names.quarantine, None, None, value, None)
        work.counts[f"quarantined_{reason_of(error)}"] += 1
        work.counts["redriven_in_vain"] += 1
        work.quarantined[table or "", reason_of(error)] += 1

    def _opened(self, run: Run) -> Run | Opened:
        """Return a run's records with the sealed ones opened: once, however many of them go back."""
        if self._last is None or self._last[0] is not run:
            self._last = run, self._sealing.opened_run(run)
        return self._last[1]

    def _table_of(self, first: Origin | None, value: bytes | None) -> str | None:
        readers = self._readers(first[0]) if first is not None else None
        return None if readers is None else readers.table_of(value)

    def _readers(self, topic: str) -> Readers | None:
        try:
            return self._tables.of_topic(topic)
        except TableStopped:  # several lay claim to it
            return None

    # ── topics ──

    async def _ensure(self, runs: Sequence[Run]) -> None:
        """Make or enlarge the outputs: each has a partition for each of its origins."""
        wanted: dict[str, int] = {}
        for run in runs:
            firsts = {first[0] for i in range(len(run)) if (first := parted(run.headers(i))[1]) is not None}
            fed = [readers for topic in firsts if (readers := self._readers(topic)) is not None]
            tables = {table for readers in fed for table in readers.entries}
            for output in map(self._names.changes, tables - self._refused):
                if self._ensured.get(output, 0) <= run.partition:
                    wanted[output] = max(run.partition + 1, wanted.get(output, 0))
        if wanted:
            self._ensured.update(await self._ensure_outputs(wanted))

    def _blame(self, error: TransactionAborted | SourceUnavailable) -> None:
        """Have the next attempt put back what is for a table whose output an abort named."""
        outputs = self._names.changes("")
        if error.topic is not None and error.topic.startswith(outputs):
            self._ensured.pop(error.topic, None)  # it may be gone, or smaller than it was
            self._refused.add(self._names.table_of(error.topic))
