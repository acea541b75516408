"""The decoder of all formats that say their changes as `Events`: typed rows, keys, and one batch in order.

Promise: `decode` never raises for a record and puts each in exactly one place; of a record with several changes all go
out, or it is rejected whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET

from connectors.formats.base import PartitionMemory, Records
from connectors.formats.changes import OPERATIONS
from connectors.formats.events import Events, Unwrapper
from connectors.formats.keys import KeyReader
from connectors.formats.part import COMMIT_TIMES
from connectors.formats.raw_rows import RawRows
from connectors.formats.reasons import Rejection, rejection
from connectors.formats.side_events import take_side_events
from connectors.formats.truncates import CODE, leave_out_ignored, stop_at_truncate, stops
from schemas.batch import Batch, Decoded, Rejected, rows_of
from schemas.config import LimitsConfig
from schemas.errors import TableStopped
from schemas.table import TableEntry

_NOTHING: list[str] = []  # shared by all changes with nothing unavailable: nobody may add to it
_ROWLESS = frozenset("dt")


@dataclass(slots=True)
class _Typed:
    """The changes of a run with typed rows and keys, by place; `faults` are those that are refused."""

    afters: list[Any]
    befores: list[Any]
    keys: list[Any]
    ts: list[str]
    other_keys: dict[int, Any] = field(default_factory=dict)
    faults: dict[int, Rejection] = field(default_factory=dict)
    complete: set[str] = field(default_factory=set)  # columns that no row after a change lacks


@dataclass(frozen=True, slots=True)
class EventFormat:
    """A format by its unwrapper. `absent` is what a column means that a row does not have, unless a spec says it.

    `dialect` names the encodings of columns for which the spec names none; `keys_of_records` says that a record's key
    is a JSON object of the key's columns, as Debezium's is; `placeholder`, that a text of the spec's stands for what
    the source did not send.
    """

    name: str
    unwrapper: Callable[[TableEntry, LimitsConfig], Unwrapper]
    absent: str = "absent"
    dialect: str = "plain"
    keys_of_records: bool = False
    placeholder: bool = False

    def decoder(self, entry: TableEntry, limits: LimitsConfig) -> EventDecoder:
        """Return a decoder for the table.

        Raises:
            ConfigurationError: an encoding or an option of the spec is not one of this format.
        """
        return EventDecoder(self, entry, limits)


class EventDecoder:
    """Decodes one table; it learns columns as they come."""

    alone = False

    def __init__(self, format_: EventFormat, entry: TableEntry, limits: LimitsConfig) -> None:
        """Prepare for the table's spec.

        Raises:
            ConfigurationError: an encoding is unknown or does not fit its column, or an option is none.
        """
        self._spec, self._epoch, self._limits = entry.spec, entry.epoch, limits
        self._unwrapper = format_.unwrapper(entry, limits)
        self._placeholder, self._keys_of_records = format_.placeholder, format_.keys_of_records
        self._readers: dict[str, tuple[RawRows, KeyReader | None]] = {}
        self._use(format_.dialect)
        self._absent = entry.spec.absent or format_.absent
        self._trusted = entry.spec.before == "full"

    def _use(self, dialect: str) -> None:
        """Read rows and keys as `dialect` writes them: a format may learn it from its records."""
        if dialect not in self._readers:
            rows = RawRows(self._spec, self._limits, dialect, placeholder=self._placeholder)
            keys = KeyReader(self._spec, dialect, self._limits.record_depth_max) if self._spec.key else None
            self._readers[dialect] = rows, keys
        self._rows, self._key_reader = self._readers[dialect]

    def decode(self, records: Records, memory: PartitionMemory) -> Decoded:
        """Return what the records say, each in exactly one place; `memory` keeps what the next call must know."""
        memory.enter(self._epoch)
        events = self._unwrapper.unwrap(records)
        if events.dialect:
            self._use(events.dialect)
        decoded = Decoded(Batch(self._spec.table))
        typed = self._typed(events, records, decoded)
        rejected = dict(events.rejected)
        for place in sorted(typed.faults, reverse=True):
            rejected[events.indices[place]] = typed.faults[place]
        self._find_stop(events, rejected, memory, decoded)
        take_side_events(self._spec, events.skipped, rejected, decoded)
        end = len(records.values()) if decoded.stop_index is None else decoded.stop_index
        kept = [i for i, index in enumerate(events.indices) if index < end and index not in rejected]
        _gather(events, typed, kept, records.offsets(), decoded.batch)
        if not self._trusted:
            decoded.batch.befores = [None] * len(kept)
        _remember(decoded.batch, memory)
        _note_load(events, end, memory)
        decoded.skipped = Counter(name for index, name in events.skipped.items() if index < end)
        if events.noted:
            decoded.noted = Counter(events.noted[i] for i in kept if i in events.noted)
        decoded.rejected = [
            Rejected(index, rejection(fault.reason, fault.message))
            for index, fault in sorted(rejected.items()) if index < end
        ]  # fmt: skip
        leave_out_ignored(self._spec, decoded)
        return decoded

    def _typed(self, events: Events, records: Records, decoded: Decoded) -> _Typed:
        """Return the events with rows and keys in the contract's form."""
        count = len(events.indices)
        times, bad_times = (events.times, ()) if events.times else COMMIT_TIMES.apply(events.ts)
        typed = _Typed([None] * count, [None] * count, [None] * count, times)
        typed.faults |= {i: Rejection("bad_time", "the commit time is no time") for i in bad_times}
        unavailable = self._rows_of(events.afters, typed.afters, typed, decoded)
        for i, names in unavailable.items():
            events.unavailable[i] = events.unavailable.get(i, []) + names
        befores = events.befores if self._trusted else _of_deletes(events)
        self._rows_of(befores, typed.befores, typed, decoded)
        if None in typed.afters:
            for i, code in enumerate(events.codes):
                if typed.afters[i] is None and code not in _ROWLESS and i not in typed.faults:
                    typed.faults[i] = Rejection("no_row", "an insert, update or snapshot row without its row")
        if self._absent != "absent":
            self._fill_absent(events, typed)
        self._let_rests_follow(events, typed)
        if self._key_reader is not None:
            self._read_keys(self._key_reader, events, typed, records)
        return typed

    def _rows_of(self, raws: Sequence[Any], into: list[Any], typed: _Typed, decoded: Decoded) -> dict[int, list[str]]:
        """Type the rows that are there, and return what is unavailable in them, by place."""
        places: Sequence[int] = range(len(raws))
        if None in raws:
            places = [i for i, raw in enumerate(raws) if raw is not None]
            raws = [raws[i] for i in places]
        if not raws:
            return {}
        read = self._rows.read(raws)
        if len(places) == len(into):
            into[:] = read.rows
        else:
            for i, row in zip(places, read.rows, strict=True):
                into[i] = row
        if into is typed.afters:
            typed.complete = read.complete
        typed.faults |= {places[i]: fault for i, fault in read.faults.items()} | typed.faults
        decoded.unknown_columns |= read.unknown
        return {places[i]: names for i, names in read.unavailable.items()}

    def _fill_absent(self, events: Events, typed: _Typed) -> None:
        """Make columns that a row does not have null, or name them unavailable, as the spec or the format says."""
        places = [i for i, row in enumerate(typed.afters) if row is not None and i not in typed.faults]
        rows = [typed.afters[i] for i in places]
        for column in self._rows.plan.columns:
            attribute, name = column.attribute, column.name
            if name in typed.complete:
                continue
            values = list(map(column.read, rows))
            for i, row, value in zip(places, rows, values, strict=True):
                if value is not UNSET or name in events.unavailable.get(i, ()):
                    continue
                if self._absent == "null":
                    setattr(row, attribute, None)
                    if column.rest is not None:
                        setattr(row, column.rest.attribute, None)
                else:
                    events.unavailable.setdefault(i, []).append(name)

    def _let_rests_follow(self, events: Events, typed: _Typed) -> None:
        """Have the rest of a column unavailable where the column is, and nowhere else: no record says it by itself."""
        rests = {column.name: column.rest.name for column in self._rows.plan.columns if column.rest is not None}
        if not rests or not events.unavailable:
            return
        own = set(rests.values())
        for i, names in events.unavailable.items():
            kept = [name for name in names if name not in own]
            events.unavailable[i] = kept + [rests[name] for name in kept if name in rests]

    def _read_keys(self, reader: KeyReader, events: Events, typed: _Typed, records: Records) -> None:
        raws: list[bytes | None] = events.keys + [None] * (len(events.indices) - len(events.keys))
        if self._keys_of_records and not events.keys:
            keys = records.keys()
            raws = [keys[index] for index in events.indices]
        given = [i for i, raw in enumerate(raws) if raw is not None and events.codes[i] != CODE]
        found, faults = reader.read([raws[i] for i in given])  # type: ignore[misc]
        for i, key in zip(given, found, strict=True):
            typed.keys[i] = key
        typed.faults |= {given[i]: fault for i, fault in faults.items()} | typed.faults
        self._keys_of_rows(reader, events, typed, set(given))
        for i, raw in events.other_keys.items():
            try:
                typed.other_keys[i] = reader.one(raw)
            except Rejection as fault:
                typed.faults.setdefault(i, fault)

    def _keys_of_rows(self, reader: KeyReader, events: Events, typed: _Typed, given: set[int]) -> None:
        """Take keys from rows; a delete's row is `before`."""
        columns = [self._rows.plan.by_name(name) for name in self._spec.key]
        reads: list[Callable[[Any], Any]] = [column.read for column in columns if column is not None]
        assert len(reads) == len(columns), "the spec checks that a key is made of its columns"
        if not given and not typed.faults and None not in typed.afters and _ROWLESS.isdisjoint(events.codes):
            parts = [list(map(read, typed.afters)) for read in reads]
            if not any(None in part or UNSET in part for part in parts):
                typed.keys = list(map(reader.row_type, *parts))
                return
        for i, code in enumerate(events.codes):
            if i in given or i in typed.faults or code == CODE:
                continue
            row = typed.befores[i] if code == "d" else typed.afters[i]
            values = [None if row is None else read(row) for read in reads]
            if any(value is None or value is UNSET for value in values):
                typed.faults[i] = Rejection("no_key", "the record has no key, and its row is not complete in it")
                continue
            typed.keys[i] = reader.row_type(*values)

    def _find_stop(
        self, events: Events, rejected: dict[int, Rejection], memory: PartitionMemory, decoded: Decoded
    ) -> None:
        """Set where the table must stop: at a truncate, or where its source is loaded anew after changes of it."""
        truncated = stops(self._spec, events.codes)
        if not events.initial and not truncated and not _loses_order(events, memory):
            return
        seen, rank = memory.copy(), memory.last[: events.ranked]
        for i, index in enumerate(events.indices):
            if _is_change(events, i) and index not in rejected and events.positions[i][: events.ranked] < rank:
                stop = TableStopped(
                    "order_lost",
                    "the source no longer says the order of its changes as exactly as before",
                    hint="switch back on what the source left out (docs/positions.md), "
                    "or `headgate tables resync TABLE`",
                )
            elif truncated and events.codes[i] == CODE:
                stop = stop_at_truncate()
            elif i in events.initial and index not in rejected and _reads_anew(events, i, seen):
                stop = TableStopped(
                    "source_read_anew",
                    "rows of a full load come after changes of the same table",
                    hint="the source was loaded anew, and deletes in between are lost: `headgate tables resync TABLE`",
                )
            else:
                if _is_change(events, i) and index not in rejected:
                    seen.saw(events.positions[i])
                    rank = seen.last[: events.ranked]
                continue
            decoded.stop_index, decoded.stop = index, stop
            return


def _reads_anew(events: Events, place: int, seen: PartitionMemory) -> bool:
    return seen.streamed and (events.reads_anew is None or events.reads_anew(place, seen))


def _is_change(events: Events, place: int) -> bool:
    return not (events.snapshots and events.snapshots[place])


def _loses_order(events: Events, memory: PartitionMemory) -> bool:
    """Tell whether the ranks of the positions are not all one that is at least what was seen before."""
    ranks = {position[: events.ranked] for position in events.positions} if events.ranked else set()
    return bool(ranks) and (len(ranks) > 1 or max(ranks) < memory.last[: events.ranked])


def _of_deletes(events: Events) -> list[Any]:
    """Return the rows that were there before where they are asked for their keys: those of deletes."""
    if "d" not in events.codes or not events.befores:
        return [None] * len(events.codes)
    return [before if code == "d" else None for code, before in zip(events.codes, events.befores, strict=True)]


def _gather(events: Events, typed: _Typed, kept: list[int], offsets: list[int], batch: Batch) -> None:
    """Put the changes at the places `kept` into the batch."""
    whole = len(kept) == len(events.indices)

    def of(column: Sequence[Any], default: Any = None) -> list[Any]:
        if not column:
            return [default] * len(kept)
        return list(column) if whole else [column[i] for i in kept]

    codes = of(events.codes)
    batch.offsets = [offsets[events.indices[i]] for i in kept]
    batch.rows = rows_of(batch.offsets)
    batch.operations = [OPERATIONS[code] for code in codes]
    batch.keys, batch.afters, batch.befores = of(typed.keys), of(typed.afters), of(typed.befores)
    batch.positions, batch.ts = of(events.positions), of(typed.ts)
    batch.transactions, batch.snapshots = of(events.transactions), of(events.snapshots, default=False)
    missing, others = events.unavailable, typed.other_keys
    batch.unavailable = [missing.get(i, _NOTHING) for i in kept] if missing else [_NOTHING] * len(kept)
    batch.old_keys, batch.new_keys = [None] * len(kept), [None] * len(kept)
    for i, place in enumerate(kept if others else ()):
        (batch.new_keys if codes[i] == "d" else batch.old_keys)[i] = others.get(place)
    if not _ROWLESS.isdisjoint(codes):
        batch.afters = [None if code in _ROWLESS else row for code, row in zip(codes, batch.afters, strict=True)]
    batch.connector, batch.source_name, batch.source_table = events.connector, events.source_name, events.source_table


def _remember(batch: Batch, memory: PartitionMemory) -> None:
    """Note the changes of the batch that are not rows of a snapshot."""
    streamed = [at for at, snapshot in zip(batch.positions, batch.snapshots, strict=True) if not snapshot]
    if streamed:
        memory.saw(max(streamed))


def _note_load(events: Events, end: int, memory: PartitionMemory) -> None:
    """Note how much was seen of the load that an epoch begins with; it has ended with the first change behind it."""
    if not memory.epoch or memory.ended or not (memory.loaded or events.initial):
        return
    places = [place for place in events.initial if events.indices[place] < end]
    first = -1 if memory.loaded else min(places, default=len(events.indices))
    rest = range(first + 1, len(events.indices))
    ended = any(_is_change(events, place) and events.indices[place] < end for place in rest)
    memory.saw_load(len(places), ended=ended)
