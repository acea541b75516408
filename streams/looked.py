"""What Headgate makes of records, one by one and without a topic to write to: for whoever asks, and for tests."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from connectors import wire
from connectors.captured import OneRecord
from connectors.formats import format_of
from connectors.formats.base import Decoder, PartitionMemory
from connectors.formats.connect_schema import fields_of_envelope
from connectors.formats.debezium_avro import FRAMES, Texts
from connectors.formats.inspection import side_kind
from connectors.formats.reasons import Rejection, rejection
from schemas.change import Origin
from schemas.config import LimitsConfig, MasksConfig
from schemas.epoch import epoch_at
from schemas.errors import ConfigurationError, HeadgateError, PoisonRecord
from schemas.table import TableEntry, TableSpec
from sinks.topics import encode_changes
from streams.apart import Picked, decode_nameless
from streams.epochs import of_epoch, topics_of
from streams.evolving import TableEvolves, evolving, take_up_here
from streams.floors import floor_of_epoch, has_floors
from streams.mask_keys import MaskKeys
from streams.masking import masking
from streams.tables import Readers, TableDirectory

CHANGE, QUARANTINE = "change", "quarantine"
_KINDS = {"schema_change": "schema"}  # of what is skipped, where the stages' counters have another name
_NO_LIMIT = 1 << 62
_RANK_DIGITS = 6  # of a position: what says how exact the order is, where a format has such
_Place = tuple[str, int, str]  # topic, partition, table


class Looked(msgspec.Struct):
    """A record, or one of its changes: what it is; of a change its value as `headgate.changes.<table>` has it.

    Else what is wrong. A change with an error has no value: it stops its table, such as a truncate.
    """

    origin: Origin
    kind: str
    table: str | None
    change: msgspec.Raw | None
    error: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Life:
    """A topic as it lives now, by its id, and registered tables: of which epoch its records are for each of them."""

    topic_id: str
    entries: Mapping[str, TableEntry]

    def entry(self, spec: TableSpec) -> TableEntry:
        """Return an entry with a spec, and with the epochs of the table's own, where it is registered."""
        known = self.entries.get(spec.table, TableEntry(spec=spec))
        return TableEntry(spec=spec, epoch=known.epoch, epochs=known.epochs, resynced=known.resynced)

    def epoch(self, entry: TableEntry, record: OneRecord) -> int:
        """Return the epoch of a record of the topic."""
        starts = entry.epochs.get(record.topic, ())
        return epoch_at(starts, entry.epoch, self.topic_id, record.partition, record.offset)


NO_LIFE = Life("", {})


class Looker:
    """Decodes records of some tables in the order in which they come; it remembers what a worker would."""

    def __init__(
        self,
        specs: Mapping[str, TableSpec],
        limits: LimitsConfig,
        schemas: wire.Schemas | None = None,
        *,
        past_stops: bool = False,
        mask_keys: MaskKeys | None = None,
        life: Life = NO_LIFE,
    ) -> None:
        """Prepare for the tables; `schemas` is the registry of those whose records name their schema by an id.

        With `life` all records are of its topic, and of the epochs of the tables that it knows; else of the first one.
        `past_stops` shows a row at which its table would stop as the change that it is after all, and only counts it.
        Masks hold here too; `mask_keys` are those that they need.

        Raises:
            ConfigurationError: a spec asks for what its format cannot read, or for a registry or key that is not there.
        """
        self._limits, self._schemas, self._past_stops = limits, schemas, past_stops
        self._mask_keys = MaskKeys(MasksConfig()) if mask_keys is None else mask_keys
        self._life = life
        self._passing: dict[tuple[str, int], Decoder] = {}  # by table and epoch
        self.stopped: Counter[str] = Counter()  # why tables would stop, by reason
        self._texts = None if schemas is None else Texts(schemas, limits, "value", fields_of_envelope)
        self.noted: Counter[str] = Counter()  # what went through but is worth a word, such as a null in place of NaN
        self._tables = TableDirectory({name: life.entry(spec) for name, spec in specs.items()})
        entries = {name: self._tables.unmasked(name) for name in self._tables}
        self._decoders = {(name, entry.epoch): self._decoder_of(entry) for name, entry in entries.items()}
        self.evolved: dict[str, TableSpec] = {}  # of tables that took up what their records have, as they are now
        self._memories: dict[_Place, Memories] = {}
        self._previous: dict[_Place, int | None] = {}

    def look(self, record: OneRecord) -> list[Looked]:
        """Return what becomes of a record, each change that it makes apart; never raises for what is in it.

        Raises:
            RegistryUnavailable: it names a schema that is asked for, and the registry does not answer.
        """
        try:
            readers = self._tables.of_topic(record.topic)
        except HeadgateError as error:
            return [_looked(record, QUARANTINE, None, error=error)]
        if readers is not None:
            return self._routed(record, readers)
        try:
            kind = side_kind(self._text_of(record), depth_max=self._limits.record_depth_max)
        except Rejection as fault:
            return [_looked(record, QUARANTINE, None, error=rejection(fault.reason, fault.message))]
        if kind is None:
            return [_looked(record, QUARANTINE, None, error=_unregistered(f"topic {record.topic}"))]
        return [_looked(record, _KINDS.get(kind, kind), None)]

    def floors(self) -> dict[str, str]:
        """Return by table the position of its floor, where a resync is complete: the records, or somebody, said so."""
        found = {}
        for name in self._tables:
            entry, said = self._tables[name], [memory for place, memory in self._memories.items() if place[2] == name]
            if topics_of(entry) and (entry.resynced == entry.epoch or any(each.ended(entry.epoch) for each in said)):
                found[name] = floor_of_epoch(entry.epoch)
        return found

    def _decoder_of(self, entry: TableEntry) -> Decoder:
        """Return a decoder; that of a table which asks for it evolves, though nothing that it finds is written."""
        spec = entry.spec
        if (stop := self._mask_keys.stop_of(entry)) is not None:
            raise ConfigurationError(stop.message, hint=stop.hint)
        decoder = masking(format_of(spec.format, self._schemas).decoder(entry, self._limits), entry, self._mask_keys)
        evolves = spec.unknown_columns == "add" or spec.type_changes in {"text", "new_column"}
        return evolving(decoder, entry, self._limits, self._schemas) if evolves else decoder

    def _evolve(self, stop: TableEvolves) -> None:
        """Decode by a spec that takes what was found, as a worker does."""
        take_up_here(self._tables, stop)
        self.evolved[stop.table] = self._tables[stop.table].spec
        for decoders in (self._decoders, self._passing):
            for known in [each for each in decoders if each[0] == stop.table]:
                del decoders[known]

    def _epoch(self, table: str, record: OneRecord) -> int:
        return self._life.epoch(self._tables.unmasked(table), record)

    def _decoder(self, table: str, record: OneRecord) -> Decoder:
        epoch = self._epoch(table, record)
        if (table, epoch) not in self._decoders:
            self._decoders[table, epoch] = self._decoder_of(of_epoch(self._tables.unmasked(table), epoch))
        return self._decoders[table, epoch]

    def _text_of(self, record: OneRecord) -> bytes | None:
        """Return the value of a record that no table reads, as JSON where it stands behind the id of a known schema."""
        if self._texts is None or record.value is None or record.value[:1] not in FRAMES:
            return record.value
        (text,), faults = self._texts.read([record.value], record.headers)
        for fault in faults.values():
            raise fault
        return text

    def _routed(self, record: OneRecord, readers: Readers) -> list[Looked]:
        split = readers.split([record.value])
        if split.by_table:
            return [looked for table in split.by_table for looked in self._decoded(record, table)]
        if split.unregistered:
            return [_looked(record, QUARANTINE, None, error=_unregistered(f"a table of topic {record.topic}"))]
        decoder = self._decoder(readers.first.spec.table, record)
        ((_, decoded),) = decode_nameless(decoder, Picked(record, [0], record.topic))
        if decoded.rejected:
            return [_looked(record, QUARANTINE, None, error=decoded.rejected[0].error)]
        kind = next(iter(decoded.skipped))
        return [_looked(record, _KINDS.get(kind, kind), None)]

    def _past(self, table: str, record: OneRecord) -> Decoder:
        """Return a decoder that remembers nothing and applies a truncate, unless one of another topic would do that."""
        place = (table, self._epoch(table, record))
        if place not in self._passing:
            entry = of_epoch(self._tables.unmasked(table), place[1])
            if len(entry.spec.topics) == 1:
                entry = entry.model_copy(update={"spec": entry.spec.model_copy(update={"truncate": "apply"})})
            decoder = format_of(entry.spec.format, self._schemas).decoder(entry, self._limits)
            self._passing[place] = masking(decoder, entry, self._mask_keys)
        return self._passing[place]

    def _decoded(self, record: OneRecord, table: str) -> list[Looked]:
        place = (record.topic, record.partition, table)
        memory = self._memories.setdefault(place, Memories()).at(record.offset)
        decoded = self._decoder(table, record).decode(record, memory)
        while isinstance(decoded.stop, TableEvolves):
            self._evolve(decoded.stop)
            decoded = self._decoder(table, record).decode(record, memory)
        if decoded.stop is not None:
            self.stopped[getattr(decoded.stop, "reason", decoded.stop.kind)] += 1
            if self._past_stops:
                decoded = self._past(table, record).decode(record, PartitionMemory())
        self.noted.update(decoded.noted)
        if decoded.rejected:
            return [_looked(record, QUARANTINE, table, error=decoded.rejected[0].error)]
        if decoded.stop is not None:
            return [_looked(record, CHANGE, table, error=decoded.stop)]
        if decoded.skipped:
            kind = next(iter(decoded.skipped))
            return [_looked(record, _KINDS.get(kind, kind), table)]
        stream, previous = (record.topic, 0, record.partition), self._previous.get(place)
        is_floor = has_floors(decoded.batch)  # then it is all that the record makes
        changes, last, _ = encode_changes(decoded.batch, stream, None if is_floor else previous, bytes_max=_NO_LIMIT)
        self._previous[place] = previous if is_floor else last
        return [_looked(record, CHANGE, table, row, change=value) for row, (_, value) in enumerate(changes)]


class Memories:
    """What a worker would remember of a table in a partition before each of its records, in whatever order they come.

    Of a partition they come by rising offsets. In a file they may be sorted otherwise, or stand there twice: what is
    behind a record in its partition was not seen before it.
    """

    def __init__(self) -> None:
        """Have seen nothing."""
        self._offsets: list[int] = []  # from which on each memory but the last holds
        self._memories: list[PartitionMemory] = []
        self._next = 0
        self._current = PartitionMemory()

    def ended(self, epoch: int) -> bool:
        """Say whether the end of a snapshot was among the last records, and these are of an epoch."""
        return self._current.epoch == epoch and self._current.ended

    def at(self, offset: int) -> PartitionMemory:
        """Return the memory to decode the record at `offset` with; what it becomes counts for those behind it."""
        if offset < self._next:
            place = bisect_right(self._offsets, offset) - 1
            return self._memories[place].copy() if place >= 0 else PartitionMemory()
        last = self._memories[-1] if self._memories else PartitionMemory()
        if (last.streamed, last.last[:_RANK_DIGITS]) != (self._current.streamed, self._current.last[:_RANK_DIGITS]):
            self._offsets.append(self._next)
            self._memories.append(self._current.copy())
        self._next = offset + 1
        return self._current


def _unregistered(what: str) -> PoisonRecord:
    return PoisonRecord("unregistered", f"no spec names {what}", hint="name its table's spec with --spec")


def _looked(
    record: OneRecord,
    kind: str,
    table: str | None,
    row: int = 0,
    *,
    change: bytes | None = None,
    error: HeadgateError | None = None,
) -> Looked:
    said: dict[str, str] | None = None
    if error is not None:
        said = {"kind": getattr(error, "reason", "") or error.kind, "message": error.message, "hint": error.hint}
    raw: Any = None if change is None else msgspec.Raw(change)
    origin = (record.topic, 0, record.partition, record.offset)
    return Looked((*origin, row) if row else origin, kind, table, raw, said)
