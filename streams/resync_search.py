"""Where a table's new snapshot begins in a topic: found in its records, by what stops the table there.

In a partition of which changes were read, the first row of a new snapshot stops the table, and so says itself that it
is one. Elsewhere a snapshot's row may as well be one of the snapshot before: there, what was written at that time or
later is of the new life, and before it what has the very position of the row that was found, which all rows of one
snapshot have that a log's place is known of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from connectors.formats.base import Decoder, PartitionMemory
from connectors.transport.chunk import Assignment, Headers
from connectors.transport.history import Key
from connectors.transport.scan import Scanned, scan_between
from schemas.config import Config
from schemas.errors import TableStopped
from schemas.mask import Masks
from schemas.table import TableEntry
from streams.apart import Picked
from streams.attempt import read_state
from streams.chains import Chain
from streams.decide import Found
from streams.decoders import Decoders
from streams.epochs import epoch_in
from streams.registration import open_admin
from streams.settings import client_settings
from streams.tables import TableDirectory

TRUNCATE = "truncate"
STOPS = frozenset({"source_read_anew", "order_lost", TRUNCATE})
SLICE_RECORDS = 500
BEFORE_MS = 3_600_000  # how long before the row that was found a row of the same snapshot may have been written
EPOCH_DIGITS = 4

Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Begin:
    """Where the new life begins in a topic, by partition, and how that is known of each.

    `empty`: it begins without rows. In the partitions of `stops` the table stops there by itself, or right before.
    """

    offsets: dict[int, int]
    why: dict[int, str]
    empty: bool = False
    stops: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class _Stop:
    """A record at which the table stops: its offset, time, position without the epoch, and the reason."""

    offset: int
    timestamp_ms: int
    position: str
    reason: str


@dataclass(slots=True)
class _Records:
    """Consecutive records of one partition, as decoders read them."""

    topic: str
    partition: int
    records: list[Scanned] = field(default_factory=list)

    def values(self) -> list[bytes | None]:
        return [each.value for each in self.records]

    def keys(self) -> list[bytes | None]:
        return [each.key for each in self.records]

    def offsets(self) -> list[int]:
        return [each.offset for each in self.records]

    def time_ms(self, index: int, /) -> int:
        return self.records[index].timestamp_ms

    def headers(self, index: int) -> Headers:
        return list(self.records[index].headers)


def reached(mine: Assignment) -> int:
    """Return the offset that NORMALIZE reads next in a partition, as far as its log still holds it."""
    at = mine.committed if mine.committed is not None else mine.decided_start
    return max(at or 0, mine.low)


def _as_sent(entry: TableEntry) -> TableEntry:
    """Return a table's entry without its masks: positions alone are looked at, and that needs no key."""
    spec = entry.spec
    if not spec.is_masked:
        return entry
    columns = {name: column.model_copy(update={"mask": None}) for name, column in spec.columns.items()}
    return entry.model_copy(update={"spec": spec.model_copy(update={"columns": columns, "masks": Masks()})})


class Search:
    """Looks for the new snapshot of one table."""

    def __init__(
        self, config: Config, tables: TableDirectory, entry: TableEntry, chains: Mapping[Key, Chain], progress: Progress
    ) -> None:
        """Connect when first asked; `chains` are of all partitions. `progress` hears how many records were read."""
        self._tables, self._entry, self._progress = tables, _as_sent(entry), progress
        self._client, self._admin = client_settings(config), open_admin(config)
        self._chains, self._decoders = chains, Decoders(config)
        self._read = 0

    def begin(self, found: Found) -> Begin | None:
        """Return where the new snapshot begins in a topic; None if there is no record that says so.

        Raises:
            SourceUnavailable: Kafka does not answer.
        """
        stops = self._stops(found)
        if not stops:
            return None
        first = min(stops.values(), key=lambda stop: stop.timestamp_ms)
        if len(stops) < len(found.partitions) and first.timestamp_ms < 0:
            raise TableStopped(
                "no_times", f"the records of {found.topic} have no times", hint="say where with --from 0=4711,1=12"
            )
        offsets, why = dict[int, int](), dict[int, str]()
        for number, stop in stops.items():
            offsets[number] = stop.offset + (stop.reason == TRUNCATE)
            why[number] = f"the table stops there: {stop.reason}"
        rest = [number for number in found.partitions if number not in stops]
        for number, offset in self._by_time(found, rest, first).items():
            offsets[number], why[number] = offset, "by the time of the first row found, and by its position"
        empty = all(stop.reason == TRUNCATE for stop in stops.values())
        return Begin(offsets, why, empty=empty, stops=frozenset(stops))

    def _stops(self, found: Found) -> dict[int, _Stop]:
        """Return the first record at which the table stops, of those partitions that have one."""
        memories = self._memories(found)
        stretches = {number: (reached(mine), mine.high) for number, mine in found.partitions.items()}
        stops: dict[int, _Stop] = {}
        for records in self._slices(found.topic, stretches, enough=stops):
            if records.partition not in stops:
                mine = found.partitions[records.partition]
                stop = self._stop_in(records, mine, memories[records.partition])
                if stop is not None:
                    stops[records.partition] = stop
        return stops

    def _stop_in(self, records: _Records, mine: Assignment, memory: PartitionMemory) -> _Stop | None:
        ours = self._ours(records)
        if not ours.indices:
            return None
        epoch = epoch_in(self._entry, mine, records.records[0].offset)
        decoded = self._decoder(epoch).decode(ours, memory)
        if decoded.stop is None or decoded.stop.reason not in STOPS:
            return None
        assert decoded.stop_index is not None, "a stop says where"
        index = ours.indices[decoded.stop_index]
        at = records.records[index]
        return _Stop(at.offset, at.timestamp_ms, self._position(records, index, epoch), decoded.stop.reason)

    def _position(self, records: _Records, index: int, epoch: int) -> str:
        """Return the position of one record without its epoch, as if it was the first; empty if it has none."""
        alone = self._decoder(epoch).decode(Picked(records, [index], records.topic), PartitionMemory())
        positions = alone.batch.positions
        return positions[0][EPOCH_DIGITS:] if positions else ""

    def _by_time(self, found: Found, rest: list[int], first: _Stop) -> dict[int, int]:
        """Return where partitions begin that do not say it themselves."""
        if not rest:
            return {}
        keys = [(found.topic, number) for number in rest]
        at, before = (self._offsets_at(found, keys, first.timestamp_ms - earlier) for earlier in (0, BEFORE_MS))
        begins = dict(at)
        if not first.position or first.reason == TRUNCATE:
            return begins
        seen = set[int]()
        stretches = {number: (before[number], at[number]) for number in rest}
        for records in self._slices(found.topic, stretches, enough=seen):
            if records.partition in seen:
                continue
            mine = found.partitions[records.partition]
            for offset, position, snapshot in self._changes(records, mine):
                if snapshot and position == first.position:
                    seen.add(records.partition)
                    begins[records.partition] = offset
                    break
        return begins

    def _offsets_at(self, found: Found, keys: list[tuple[str, int]], timestamp_ms: int) -> dict[int, int]:
        known = self._admin.offsets_at(keys, max(timestamp_ms, 0))
        return {number: known.get((topic, number), found.partitions[number].high) for topic, number in keys}

    def _changes(self, records: _Records, mine: Assignment) -> Iterator[tuple[int, str, bool]]:
        """Yield offset, position without epoch, and whether it is a row of a snapshot, of the changes among records."""
        ours = self._ours(records)
        if ours.indices:
            epoch = epoch_in(self._entry, mine, records.records[0].offset)
            batch = self._decoder(epoch).decode(ours, PartitionMemory()).batch
            positions = [position[EPOCH_DIGITS:] for position in batch.positions]
            yield from zip(batch.offsets, positions, batch.snapshots, strict=True)

    def _slices(
        self, topic: str, stretches: Mapping[int, tuple[int, int]], *, enough: dict[int, _Stop] | set[int]
    ) -> Iterator[_Records]:
        """Yield records of each partition, many at once and in order."""
        open_: dict[int, _Records] = {}
        for record in scan_between(topic, self._client, stretches, enough=enough):
            some = open_.setdefault(record.partition, _Records(topic, record.partition))
            some.records.append(record)
            if len(some.records) == SLICE_RECORDS:
                yield open_.pop(record.partition)
                self._read += SLICE_RECORDS
                self._progress("records read", self._read)
        yield from open_.values()

    def _ours(self, records: _Records) -> Picked:
        """Return the records of the table."""
        readers = self._tables.of_topic(records.topic)
        table = self._entry.spec.table
        indices = readers.split(records.values()).by_table.get(table, []) if readers is not None else []
        return Picked(records, indices, records.topic)

    def _decoder(self, epoch: int) -> Decoder:
        return self._decoders.of(self._entry, epoch)

    def _memories(self, found: Found) -> dict[int, PartitionMemory]:
        """Return what NORMALIZE remembers of the table in each partition, as of where it has decoded its records to."""
        states = {number: read_state(mine.metadata) for number, mine in found.partitions.items()}
        readers = self._tables.of_topic(found.topic)
        if (readers is not None and readers.shared) or any(state.chained for state in states.values()):
            table = self._entry.spec.table
            return {number: self._chains[mine.key].memory_at_head(table) for number, mine in found.partitions.items()}
        return {number: state.memory.copy() for number, state in states.items()}
