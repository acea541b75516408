"""Parking: records of a table that is paused, or has stopped, in a topic that others share, so that these go on.

Promise: a parked record stands on `headgate.parked.<table>` once, in the partition of its origin's number, with its
own key, value and headers, sealed where the table has masks, and where it was read; this and that it was parked are in
the transaction that moves the offset. What stopped a table is kept with it, so that whoever takes the partition over
parks on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from connectors.formats.base import PartitionMemory
from connectors.transport.chunk import Headers, Run
from connectors.transport.transaction import Outbox
from schemas.change import HEADER_FIRST_ORIGIN, HEADER_MEMORY
from schemas.errors import RecordTooLarge, TableStopped
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.apart import Once
from streams.attempt import Attempt, Emitter
from streams.chains import Chain, Parked
from streams.floors import PartitionsWanted
from streams.mask_keys import MISSING
from streams.poison import time_header
from streams.tables import Readers, TableDirectory

PARKED_LANE = "parked"

Exist = Callable[[Collection[str]], Awaitable[Collection[str]]]


def is_parked(entry: TableEntry, known: Parked | None) -> bool:
    """Tell whether records of a table are parked in a partition of which this is `known`.

    They are while somebody has it paused; where a record stopped it, until somebody has it resumed.
    """
    if entry.paused is not None:
        return True
    return known is not None and bool(known.reason) and entry.resumed <= known.resumed


class ParkedTopics:
    """The topics of parked records that are there, as far as this worker knows."""

    def __init__(self, names: TopicNames, tables: TableDirectory, exist: Exist) -> None:
        """Know none yet; `exist` returns those of some topics that exist."""
        self._names, self._tables, self._exist = names, tables, exist
        self._there: set[str] = set()

    async def look(self, tables: Iterable[str]) -> None:
        """Look whether others have parked records of these tables.

        Raises:
            SourceUnavailable: the broker does not answer.
        """
        # Of all of them, in one question: one that has its topics alone now may have shared them before.
        if unknown := {self._names.parked(table) for table in tables if table in self._tables} - self._there:
            self._there.update(await self._exist(unknown))

    def add(self, topics: Iterable[str]) -> list[str]:
        """Know topics that are there; return those that are to be read from now on."""
        new = set(topics) - self._there
        self._there |= new
        return [topic for topic in sorted(new) if topic in self.topics()]

    def topics(self) -> set[str]:
        """Return the topics to be read: those of tables that are registered, and that nobody has paused."""
        return {topic for topic in self._there if self._is_read(topic)}

    def _is_read(self, topic: str) -> bool:
        entry = self._tables.get(self._names.parked_table(topic) or "")
        return entry is not None and entry.paused is None


class Parking:
    """What is parked of one run of a topic that several tables share, in one attempt."""

    def __init__(
        self, work: Attempt, emitter: Emitter, names: TopicNames, readers: Readers, chain: Chain, *, bytes_max: int
    ) -> None:
        """Park nothing yet. A partition has room for `bytes_max` of each table, and what one run adds to it."""
        self._work, self._emitter, self._names = work, emitter, names
        self._readers, self._chain, self._bytes_max = readers, chain, bytes_max
        self.records: dict[str, list[int]] = {}

    def take(self, by_table: dict[str, list[int]]) -> tuple[int, TableStopped] | None:
        """Take the records of parked tables out of `by_table`; return where the topic must stop.

        It must where there is no room for them, or no key to seal them with. A table that has a topic alone is not
        parked: nobody waits for it there.
        """
        full: list[tuple[int, TableStopped]] = []
        for table in list(by_table):
            entry, known = self._readers.entries[table], self._chain.parked().get(table)
            if not is_parked(entry, known) or (known is None and len(self._readers.entries) == 1):
                self._chain.park(table, None)
                stop = self._work.refused.get(table)
                if stop is not None and not self.begin(table, stop, by_table[table], by_table):
                    full.append((by_table[table][0], stop))
                continue
            indices = self.records[table] = by_table.pop(table)
            if (key := self._missing_key(table)) is not None:
                full.append((indices[0], _no_key(table, key)))
            elif known is None:
                self._chain.park(table, Parked(entry.resumed))
            elif known.nbytes >= self._bytes_max:
                full.append((indices[0], _full(self._names.parked(table), table, known)))
        return min(full, key=lambda stop: stop[0], default=None)

    def begin(self, table: str, stop: TableStopped, indices: list[int], by_table: dict[str, list[int]]) -> bool:
        """Park a table that stopped, from the first of `indices` on; False where the topic has to stop instead."""
        if len(self._readers.entries) == 1 or self._missing_key(table) is not None:
            return False
        self._work.parked.append(stop)
        self.records[table] = indices
        by_table[table] = [index for index in by_table[table] if index < indices[0]]
        resumed = self._readers.entries[table].resumed
        self._chain.park(table, Parked(resumed, reason=stop.reason, message=stop.message, hint=stop.hint))
        return True

    def _missing_key(self, table: str) -> str | None:
        """Return the name of the key without which records of a table may not be kept, None where they may."""
        seal = self._emitter.sealing.of(self._readers, table)
        return seal.name if seal is not None and seal.cipher is None else None

    def write(self, outbox: Outbox, run: Run, records: Once, end: int) -> None:
        """Write what is parked of the records before `end`.

        Raises:
            PartitionsWanted: nobody has made the topic yet, or it has too few partitions.
        """
        for table, indices in self.records.items():
            topic = self._names.parked(table)
            if self._work.outputs.get(topic, 0) <= run.partition:
                raise PartitionsWanted(topic, run.topic, run.partition + 1)
            self._write(outbox, run, records, table, [index for index in indices if index < end])

    def _write(self, outbox: Outbox, run: Run, records: Once, table: str, indices: Sequence[int]) -> None:
        keys, values, offsets = records.keys(), records.values(), records.offsets()
        topic, generation, count, nbytes = self._names.parked(table), run.assignment.generation, 0, 0
        seal = self._emitter.sealing.of(self._readers, table)
        for index in indices:
            key, value, own = keys[index], values[index], run.headers(index)
            if seal is not None:
                (value, own), key = seal.record(value, key, own, run.time_ms(index)), None
            origin = msgspec.json.encode((run.topic, generation, run.partition, offsets[index]))
            memory = [] if count else _memory_header(self._chain.memory(table))
            time = time_header(run.time_ms(index)) if seal is None else []
            headers: Headers = [*own, *time, *memory, (HEADER_FIRST_ORIGIN, origin)]
            try:
                outbox.produce(topic, run.partition, key, value, headers)
            except RecordTooLarge as error:  # with our headers it is above the limit
                self._emitter.quarantine(self._work, outbox, run, index, error, table)
                continue
            count, nbytes = count + 1, nbytes + len(key or b"") + len(value or b"")
        if count:
            self._work.count("parked", count)
            self._chain.park(table, self._chain.parked()[table].more(count, nbytes, self._chain.memory(table)))


def _memory_header(memory: PartitionMemory) -> Headers:
    """Return what a decoder has seen of the table before, so that who reads the parked records knows it."""
    seen = memory.streamed or memory.loaded
    return [(HEADER_MEMORY, memory.to_text().encode())] if seen else []


def _full(topic: str, table: str, known: Parked) -> TableStopped:
    return TableStopped(
        "parked_full",
        f"{topic} holds {known.nbytes} bytes of one partition, and {table} is still paused",
        hint=f"`headgate tables resume {table}`; or raise limits.parked_bytes_max, or remove the table",
    )


def _no_key(table: str, name: str) -> TableStopped:
    return TableStopped(
        MISSING,
        f"{table} waits, its records have columns with masks, and there is no mask key {name!r} to seal them with",
        hint=f"name one under masks.keys and start the workers again, or `headgate tables resume {table}`",
    )


class Waiting(msgspec.Struct, frozen=True):
    """What is parked of a table in this worker's partitions, and why, where a record stopped it."""

    records: int
    bytes: int
    reason: str = ""
    hint: str = ""


def waiting(parked: Mapping[str, Sequence[Parked]], tables: Mapping[str, TableEntry]) -> dict[str, Waiting]:
    """Return what is parked, by table, of tables that have not gone on since."""
    found = {}
    for table, some in parked.items():
        entry = tables.get(table)
        those = [each for each in some if entry is not None and is_parked(entry, each)]
        if those:
            sums = Counter[str]()
            for each in those:
                sums.update({"records": each.records, "bytes": each.nbytes})
            why = next((each for each in those if each.reason), None)
            reason, hint = (f"{why.reason}: {why.message}", why.hint) if why is not None else ("", "")
            found[table] = Waiting(sums["records"], sums["bytes"], reason, hint)
    return found
