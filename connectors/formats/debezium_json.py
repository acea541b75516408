"""Debezium's envelopes as JSON, with and without schema blocks, of the connectors that envelope.py lists.

Promise: `decode` never raises for a record and puts each in exactly one place. C does what is done per record (msgspec
decodes an envelope, its row and all checks of types in one call); Python and Arrow do the rest by column (part.py).
What is unusual about a record makes it slow, not wrong: it is looked at in full (reading.py, inspection.py).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from connectors.formats.base import PartitionMemory, Records, origin_offsets
from connectors.formats.changes import find_stop, gather, name_source, note_load, remember
from connectors.formats.compressed import unordered
from connectors.formats.envelope import DIALECTS, MysqlSource
from connectors.formats.events import WEAK_ORDER
from connectors.formats.keys import KeyReader
from connectors.formats.part import (
    Part,
    check_keys_unique,
    check_rows,
    convert_rows,
    find_unavailable,
    read_keys,
    read_times,
)
from connectors.formats.positions import positions
from connectors.formats.reading import Reader, Reading
from connectors.formats.reasons import Rejection, rejection
from connectors.formats.side_events import take_side_events
from connectors.formats.traps import NULL_OR_DEFAULT, count_defaults
from connectors.formats.truncates import leave_out_ignored
from connectors.formats.zero_keys import check_zero_keys
from schemas.batch import Batch, Decoded, Rejected
from schemas.config import LimitsConfig
from schemas.errors import ConfigurationError
from schemas.table import TableEntry

NEW_KEY, OLD_KEY = "__debezium.newkey", "__debezium.oldkey"
KEY_FROM_ROW = "key_from_row"
UNREPRESENTABLE = "unrepresentable"
_CHANGES_KEY = frozenset("cd")


class DebeziumJson:
    """The format `debezium-json`."""

    name = "debezium-json"

    def decoder(self, entry: TableEntry, limits: LimitsConfig) -> DebeziumDecoder:
        """Return a decoder for the table.

        Raises:
            ConfigurationError: an encoding is unknown or does not fit its column, or a name cannot be read.
        """
        return DebeziumDecoder(entry, limits)


class DebeziumDecoder:
    """Decodes one table; it learns schema blocks and columns as they come."""

    alone = False

    def __init__(self, entry: TableEntry, limits: LimitsConfig) -> None:
        """Prepare for the table's spec.

        Raises:
            ConfigurationError: an encoding is unknown or does not fit its column, or a name cannot be read.
        """
        if others := entry.spec.sent_as():
            raise ConfigurationError(
                f"column {next(iter(others.values()))}: `sent_as` is not for format {entry.spec.format}",
                hint="register the column under the name that its source gives it now",
            )
        self._spec, self._depth_max, self._epoch = entry.spec, limits.record_depth_max, entry.epoch
        self._reader = Reader(entry.spec, limits)
        dialects = set(DIALECTS.values()) if entry.spec.key else set()
        self._key_readers = {dialect: KeyReader(entry.spec, dialect, self._depth_max) for dialect in dialects}

    def decode(self, records: Records, memory: PartitionMemory) -> Decoded:
        """Return what the records say, each in exactly one place; `memory` keeps what the next call must know."""
        values = records.values()
        memory.enter(self._epoch)
        reading = self._reader.read(values)
        decoded = Decoded(Batch(self._spec.table), unknown_columns=reading.unknown_columns)
        raw_keys = records.keys() if self._key_readers else []
        origins = origin_offsets(records)
        parts = [self._part(layout, indices, reading, values) for layout, indices in reading.members.items()]
        for part in parts:
            self._finish(part, raw_keys, origins, decoded)
            self._key_changes(part, records)
        find_stop(self._spec, parts, memory, decoded)
        take_side_events(self._spec, reading.skipped, reading.rejected, decoded)
        end = len(values) if decoded.stop_index is None else decoded.stop_index
        gather(parts, end, decoded.batch, records.offsets())
        remember(decoded.batch, memory)
        note_load(parts, end, memory)
        if decoded.batch.offsets:
            name_source(decoded.batch, parts[0].payloads[0])
            if isinstance(parts[0].sources[0], MysqlSource):
                _note(decoded, WEAK_ORDER, unordered(decoded.batch))
        decoded.skipped = Counter(name for index, name in reading.skipped.items() if index < end)
        decoded.rejected = _rejected(parts, reading.rejected, end)
        leave_out_ignored(self._spec, decoded)
        return decoded

    def _part(self, layout: Any, indices: list[int], reading: Reading, values: list[Any]) -> Part:
        if len(indices) == len(values) and not layout.prefix:
            return Part(layout, indices, values, reading.entries, reading.joined or b"".join(values))
        whole = len(indices) == len(values)
        payloads = values if whole else [values[index] for index in indices]
        entries = reading.entries if whole else [reading.entries[index] for index in indices]
        if layout.prefix:  # each has it, for it was read behind it
            size = len(layout.prefix)
            payloads = [payload[size:-1] for payload in payloads]
        return Part(layout, indices, payloads, entries, b"".join(payloads))

    def _finish(self, part: Part, raw_keys: list[bytes | None], origins: list[int], decoded: Decoded) -> None:
        """Bring a part into the contract's form."""
        check_keys_unique(part, depth_max=self._depth_max)  # first: a row named twice may seem to be none
        check_rows(part)
        find_unavailable(part)
        if part.layout.defaults:
            _note(decoded, NULL_OR_DEFAULT, count_defaults(part.layout.defaults, part.afters))
        _note(decoded, UNREPRESENTABLE, convert_rows(part))
        if self._key_readers:
            whole = len(part.indices) == len(raw_keys)
            raws = raw_keys if whole else [raw_keys[index] for index in part.indices]
            from_rows = read_keys(part, self._key_readers[part.layout.dialect], self._spec.key, raws)
            _note(decoded, KEY_FROM_ROW, from_rows)
            check_zero_keys(part, self._spec.key)
        own = origins if len(part.indices) == len(origins) else [origins[index] for index in part.indices]
        part.reject(self._place(part, own))
        read_times(part)

    def _place(self, part: Part, origins: list[int]) -> dict[int, Rejection]:
        """Say where the changes of a part stand, and which are rows of a snapshot; return those without a place."""
        part.positions, part.snapshots, faults = positions(part.codes, part.sources, origins, self._epoch)
        return faults

    def _key_changes(self, part: Part, records: Records) -> None:
        """Read the other key of changes of keys from the headers of inserts and deletes: no other record has it."""
        if not self._key_readers or _CHANGES_KEY.isdisjoint(part.codes):
            return
        reader = self._key_readers[part.layout.dialect]
        headers, indices = records.headers, part.indices
        for i in [i for i, code in enumerate(part.codes) if code in _CHANGES_KEY]:
            found = headers(indices[i])
            if not found:
                continue
            wanted = NEW_KEY if part.codes[i] == "d" else OLD_KEY
            for name, raw in found:
                if name == wanted and raw is not None:
                    try:
                        part.other_keys[i] = reader.one(bytes(raw))
                    except Rejection as exc:
                        part.reject({i: exc})


def _note(decoded: Decoded, name: str, count: int) -> None:
    if count:
        decoded.noted[name] = decoded.noted.get(name, 0) + count


def _rejected(parts: list[Part], unread: dict[int, Rejection], end: int) -> list[Rejected]:
    faults = dict(unread)
    for part in parts:
        faults.update({part.indices[place]: fault for place, fault in part.faults.items()})
    return [
        Rejected(index, rejection(fault.reason, fault.message or "the value cannot be read"))
        for index, fault in sorted(faults.items())
        if index < end
    ]
