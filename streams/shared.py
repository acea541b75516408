"""Topics that several tables share, in NORMALIZE: each record goes to the table that it names.

Promise: each table's changes, their order within the partition, and what is rejected of it are as if the table had the
topic alone. `previous` and what a decoder remembers are kept by table in `headgate.normalize.previous`, written in the
transaction of the changes. What comes of a table that is paused, or behind a record that stopped it, is parked
(parking.py): the others go on. Only where a table takes up what its records have does the topic wait, for a moment.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from connectors.formats.base import PartitionMemory
from connectors.transport.chunk import Assignment, Run
from connectors.transport.transaction import Outbox
from schemas.batch import Decoded
from schemas.errors import ConfigurationError, TableStopped
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.apart import Once, Picked, decode_nameless
from streams.attempt import Attempt, Emitter, PartitionState, state_of
from streams.chains import Chain, Chains, Parked
from streams.epochs import epoch_of
from streams.evolving import TableEvolves
from streams.parking import Parking, is_parked
from streams.tables import Readers, Split


class _Part(NamedTuple):
    """Records of one table, decoded; `memory` is what is remembered after them, None where they come again."""

    entry: TableEntry
    records: Picked
    decoded: Decoded
    memory: PartitionMemory | None


class SharedTopics:
    """The part of the stage that works on them."""

    def __init__(self, emitter: Emitter, chains: Chains, names: TopicNames, *, parked_bytes_max: int) -> None:
        """`chains` are those of the stage's main lane; `parked_bytes_max` is for each table and partition."""
        self._emitter, self._chains, self._names, self._bytes_max = emitter, chains, names, parked_bytes_max

    async def take_up(self, runs: Iterable[Run], work: Attempt) -> None:
        """Know the chains of those partitions that have them, before the first attempt.

        Raises:
            SourceUnavailable: the broker does not answer.
            ConfigurationError: a newer version wrote them, or somebody else.
        """
        await self._chains.take_up({run.assignment for run in runs if is_chained(run, work)})

    async def look(self, assignments: Iterable[Assignment]) -> None:
        """Know what is parked in partitions before a record of them comes; where it cannot be read, their step says so.

        Raises:
            SourceUnavailable: the broker does not answer.
        """
        with suppress(ConfigurationError):
            await self._chains.take_up(assignments)

    def run(self, work: Attempt, outbox: Outbox, readers: Readers, run: Run) -> None:
        """Write what one run becomes."""
        assignment, records = run.assignment, Once(run)
        chain, split = self._chain(work, assignment), readers.split(records.values())
        work.count("read", len(run))
        work.nexts[assignment] = run.next
        work.states[assignment] = PartitionState(chained=True)
        parking = Parking(work, self._emitter, self._names, readers, chain, bytes_max=self._bytes_max)
        parts, end = self._decoded(work, run, records, readers, split, chain, parking)
        for entry, some, decoded, memory in parts:
            table, batch = entry.spec.table, decoded.batch
            previous = chain.before(table, batch.offsets[0]) if batch else None
            chain.reach(table, self._emitter.emit(work, outbox, entry, run, batch, previous))
            if memory is not None:
                chain.remember(table, memory)
            self._emitter.account(work, outbox, table, run, decoded, some.indices)
        parking.write(outbox, run, records, end)
        if nameless := _below(split.nameless, end):
            picked = Picked(records, nameless, run.topic)
            for some, decoded in decode_nameless(self._emitter.decoders.of(readers.first), picked):
                self._emitter.account(work, outbox, None, run, decoded, some.indices)
        for name, indices in split.unregistered.items():
            self._emitter.unregistered(work, outbox, run, _below(indices, end), f"{name[:_NAME_SHOWN]} of {run.topic}")

    def write(self, work: Attempt, outbox: Outbox) -> None:
        """Write the chains beside the changes, at the end of an attempt."""
        for assignment, chain in work.chains.items():
            self._chains.write(outbox, assignment, chain)

    def settle(self, work: Attempt) -> None:
        """Take it that what an attempt wrote is durable."""
        for assignment, chain in work.chains.items():
            self._chains.settle(assignment, chain)

    def _chain(self, work: Attempt, assignment: Assignment) -> Chain:
        """Return the chain of this attempt; the first one goes on where the topic's only table stood before."""
        if assignment not in work.chains:
            chain = work.chains[assignment] = self._chains.attempt(assignment)
            state = state_of(assignment)
            if not state.chained and state.table:
                chain.take_over(state.table, state.previous, state.memory)
        return work.chains[assignment]

    def parks(self, run: Run, entry: TableEntry) -> bool:
        """Tell whether a table's records of a run, whose chain is taken up, go to where they are parked."""
        return is_parked(entry, self._chains.attempt(run.assignment).parked().get(entry.spec.table))

    def parked(self) -> dict[str, list[Parked]]:
        """Return what is parked in partitions that are this worker's, by table; from any thread."""
        return self._chains.parked()

    def _decoded(
        self, work: Attempt, run: Run, records: Once, readers: Readers, split: Split, chain: Chain, parking: Parking
    ) -> tuple[list[_Part], int]:
        """Return what each table's records say, and the index at which all of it ends: the first stop's, or the end.

        Where a table stops, the records before the stop are decoded again, so that no table knows what lies behind it.
        """
        end = len(run)
        if (full := parking.take(split.by_table)) is not None:
            end = self._stop(work, run, records, *full)
        while True:
            parts = [
                part
                for table, indices in split.by_table.items()
                if (some := _below(indices, end))
                for part in self._parts(readers.entries[table], run, Picked(records, some, run.topic), chain)
            ]
            stops = [(_stop_index(part), part) for part in parts if part.decoded.stop is not None]
            if not stops:
                return parts, end
            first, stopped = min(stops, key=lambda stop: stop[0])
            stop, table = _stop_of(stopped), stopped.entry.spec.table
            behind = split.by_table[table][bisect_left(split.by_table[table], first) :]
            if isinstance(stop, TableEvolves) or not parking.begin(table, stop, behind, split.by_table):
                end = self._stop(work, run, records, first, stop)

    @staticmethod
    def _stop(work: Attempt, run: Run, records: Once, index: int, stop: TableStopped) -> int:
        """Stop the topic at a record of the run, and return its index."""
        work.stops[run.assignment] = stop
        work.nexts[run.assignment] = records.offsets()[index]
        return index

    def _parts(self, entry: TableEntry, run: Run, records: Picked, chain: Chain) -> Iterator[_Part]:
        """Yield one table's records decoded; what comes again apart, as without transactions it does after a crash.

        What is remembered is as of the last change: rows of a snapshot that come again would contradict it.
        """
        table, decoder = entry.spec.table, self._emitter.decoders.of(entry, epoch_of(entry, run))
        known = bisect_left(records.offsets(), chain.reached(table) + 1)
        if known:
            again = records.part(0, known)
            yield _Part(entry, again, decoder.decode(again, PartitionMemory()), None)
        if known < len(records.indices):
            memory, news = chain.memory(table), records.part(known, len(records.indices))
            yield _Part(entry, news, decoder.decode(news, memory), memory)


_NAME_SHOWN = 200


def is_chained(run: Run, work: Attempt) -> bool:
    """Tell whether a run's partition keeps what it remembers by table."""
    readers = work.readers.get(run.topic)
    return readers is not None and (readers.shared or state_of(run.assignment).chained)


def _below(indices: list[int], end: int) -> list[int]:
    return indices if not indices or indices[-1] < end else indices[: bisect_left(indices, end)]


def _stop_index(part: _Part) -> int:
    assert part.decoded.stop_index is not None, "a stop says where"
    return part.records.indices[part.decoded.stop_index]


def _stop_of(part: _Part) -> TableStopped:
    """Return why the topic stops: it says which of its tables it is."""
    stop, table = part.decoded.stop, part.entry.spec.table
    assert stop is not None, "the table stopped"
    if isinstance(stop, TableEvolves):  # it names its table, and goes on by itself
        return stop
    return TableStopped(stop.reason, f"{table}: {stop.message}", hint=stop.hint)
