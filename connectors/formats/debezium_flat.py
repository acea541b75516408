"""Debezium's flattened records (ExtractNewRecordState): the row alone, with what the transformation was told to add.

Each record is given back the envelope that it had, as far as it says it, and is then read as `debezium-json` reads
envelopes: rows, keys, schema blocks, unavailable values and poison alike. A null, as no bytes, as JSON or behind a
schema block, deletes its key; a row with `__deleted` is a delete and never an update.

Order: where each change says its place in the source's log, deletes included, by that; else by the record's offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import ValidationError

from connectors.formats.base import PartitionMemory, Records, origin_offsets
from connectors.formats.debezium_json import OLD_KEY, DebeziumDecoder
from connectors.formats.envelope import SOURCES
from connectors.formats.flat_facts import (
    DELETED,
    NULL,
    Facts,
    FlatOptions,
    header_facts,
    known_facts,
    micros_of,
    names_of,
    placed_by,
    source_of,
    text_of,
)
from connectors.formats.inspection import inspect, side_record
from connectors.formats.keys import ESCAPED_COLON
from connectors.formats.part import Part
from connectors.formats.positions import positions
from connectors.formats.reasons import Rejection
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.errors import ConfigurationError
from schemas.position import FLAT_BY_SOURCE, flat_position, flat_position_of
from schemas.table import TableEntry

NO_TIME = "no_time"  # neither the record nor Kafka says when: 1970 stands for it, and is counted
_SCHEMAS_KEPT = 16
_EPOCH_DIGITS = 4
_MILLI_US = 1_000
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class DebeziumFlat:
    """The format `debezium-flat`."""

    name = "debezium-flat"

    def decoder(self, entry: TableEntry, limits: LimitsConfig) -> FlatDecoder:
        """Return a decoder for the table.

        Raises:
            ConfigurationError: an encoding or an option is unknown or does not fit.
        """
        return FlatDecoder(entry, limits)


@dataclass(frozen=True, slots=True)
class _Flat:
    """A flattened record: its fields as JSON, and the schema block of the envelope that it gets, empty without one."""

    value: bytes
    payload: bytes
    fields: dict[str, Any]
    prefix: bytes = b""


@dataclass(slots=True)
class _Enveloped:
    """Flattened records with envelopes of their own; it fits `Records`."""

    records: Records
    found: list[bytes | None]

    @property
    def topic(self) -> str:
        return self.records.topic

    @property
    def partition(self) -> int:
        return self.records.partition

    def values(self) -> list[bytes | None]:
        return self.found

    def keys(self) -> list[bytes | None]:
        return self.records.keys()

    def offsets(self) -> list[int]:
        return self.records.offsets()

    def time_ms(self, index: int, /) -> int:
        return self.records.time_ms(index)

    def origin_offsets(self) -> list[int]:
        return origin_offsets(self.records)

    def headers(self, index: int, /) -> Sequence[tuple[str, bytes | None]] | None:
        return self.records.headers(index)


class FlatDecoder(DebeziumDecoder):
    """Decodes one table; it learns schema blocks and columns as they come."""

    alone = True  # whether a null is one delete more depends on what was seen before it

    def __init__(self, entry: TableEntry, limits: LimitsConfig) -> None:
        """Prepare for the table's spec.

        Raises:
            ConfigurationError: an encoding or an option is unknown or does not fit.
        """
        super().__init__(entry, limits)
        self._options = _options(entry)
        self._fields = names_of(self._options.prefix, self._options.fields)
        self._headers = names_of(self._options.header_prefix, self._options.fields)
        self._blocks: dict[bytes, bytes] = {}
        self._limits, self._by_source, self._lost = limits, set[int](), set[int]()

    def decode(self, records: Records, memory: PartitionMemory) -> Decoded:
        """Return what the records say, each in exactly one place; `memory` keeps what the next call must know."""
        memory.enter(self._epoch)
        run = _Run(records, memory.last[_EPOCH_DIGITS:].startswith(FLAT_BY_SOURCE))
        enveloped = _Enveloped(records, [self._enveloped(run, i, value) for i, value in enumerate(records.values())])
        self._by_source, self._lost = run.by_source, run.lost
        decoded = super().decode(enveloped, memory)
        if not run.named:
            decoded.batch.connector = ""
        if run.timeless:
            decoded.noted[NO_TIME] = run.timeless
        return decoded

    def _place(self, part: Part, origins: list[int]) -> dict[int, Rejection]:
        found, part.snapshots, faults = positions(part.codes, part.sources, origins, self._epoch)
        part.positions = [
            (flat_position_of(position) if position else "")
            if index in self._by_source
            else flat_position(self._epoch, at)
            for index, position, at in zip(part.indices, found, origins, strict=True)
        ]
        faults = {i: fault for i, fault in faults.items() if part.indices[i] in self._by_source}
        lost = "it does not say its place, but changes before it did, and would win: resync the table"
        return faults | {i: Rejection("bad_position", lost) for i, at in enumerate(part.indices) if at in self._lost}

    def _enveloped(self, run: _Run, index: int, value: bytes | None) -> bytes | None:
        """Return the envelope of a record; as it is, one that is no row, for it is named or refused as any is."""
        if value is None or value == NULL:
            return self._deleted(run, index, b"")
        if len(value) > self._limits.record_bytes_max:
            return value
        try:
            flat = _Flat(value, value, _fields(value))
            if flat.fields.keys() == {"schema", "payload"} and not flat.fields.keys() <= self._spec.columns.keys():
                payload, schema = bytes(flat.fields["payload"]), bytes(flat.fields["schema"])
                if value.count(b":") != 2 + payload.count(b":") + schema.count(b":"):
                    inspect(value, depth_max=self._depth_max)  # one of them stands there twice
                prefix = self._prefix(schema)
                if payload == NULL:
                    return self._deleted(run, index, prefix)
                flat = _Flat(value, payload, _fields(payload), prefix)
            _check_unique(flat, depth_max=self._depth_max)
            return self._row(run, index, flat)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Rejection):
            return value

    def _row(self, run: _Run, index: int, flat: _Flat) -> bytes:
        row: dict[str, Any] = {}
        fields = flat.fields
        facts: Facts = {}
        columns, added = self._spec.columns, self._options.prefix or DELETED
        for name, raw in fields.items():
            fact = self._fields.get(name)
            if fact is not None:
                facts[fact] = bytes(raw)
            if name in columns or not (fact is not None or name == DELETED or name.startswith(added)):
                row[name] = raw
        if self._is_no_row(fields, row):
            run.by_source.add(index)
            return flat.value
        deleted = bytes(fields.get(DELETED, NULL))
        headers = run.records.headers(index) if DELETED not in fields or "op" not in facts else None
        told = header_facts(headers, self._headers)
        connector = self._connector(told | facts)
        if DELETED in fields or placed_by(told, connector) is not None:
            self._note_place(run, index, told | facts, connector)
        if run.says_places and index not in run.by_source:
            run.lost.add(index)
        code = _code(deleted, told | facts, headers or ())
        image = _encode(row)
        rows = (image, NULL) if code == b'"d"' else (NULL, image)
        return flat.prefix + self._made(run, index, told | facts, code, rows) + (b"}" if flat.prefix else b"")

    def _is_no_row(self, fields: dict[str, Any], row: dict[str, Any]) -> bool:
        """Tell what the transformation passes on as it is: envelopes of messages, transactions, heartbeats."""
        if "op" in fields and "source" in fields and not {"op", "source"} <= self._spec.columns.keys():
            return True
        if row.keys() <= self._spec.columns.keys():
            return False
        return side_record(dict.fromkeys(fields) | _texts(fields)) is not None

    def _deleted(self, run: _Run, index: int, prefix: bytes) -> bytes | None:
        """Return the envelope of a delete that is a null; None for a tombstone behind a delete that was a row."""
        told = header_facts(run.records.headers(index), self._headers)
        connector = self._connector(told)
        placed = placed_by(told, connector) is not None and self._options.order == "auto"
        if run.keys[index] is None and not self._spec.key:
            return None
        if not placed and run.says_places:
            return None
        self._note_place(run, index, told, connector)
        return prefix + self._made(run, index, told, b'"d"', (NULL, NULL)) + (b"}" if prefix else b"")

    def _note_place(self, run: _Run, index: int, facts: Facts, connector: str | None) -> None:
        if self._options.order == "auto" and placed_by(facts, connector) is not None:
            run.by_source.add(index)
            if facts.get("op") != b'"r"' and facts.get("snapshot", NULL) in {NULL, b'"false"', b"false"}:
                run.says_places = True

    def _connector(self, facts: Facts) -> str | None:
        """Return the connector that the spec or the record names."""
        return self._options.connector or text_of(facts, "connector") or None

    def _made(self, run: _Run, index: int, facts: Facts, code: bytes, rows: tuple[bytes, bytes]) -> bytes:
        named = self._connector(facts) or placed_by(facts, None)
        run.named = run.named or named is not None
        micros = micros_of(facts)
        if micros is None:
            micros = run.timestamp(index)
        source = source_of(facts, named if named in SOURCES else "postgresql", micros)
        return b'{"before":%b,"after":%b,"source":%b,"op":%b}' % (*rows, source, code)

    def _prefix(self, schema: bytes) -> bytes:
        """Return the schema block of an envelope whose rows have the fields of `schema`."""
        known = self._blocks.get(schema)
        if known is None:
            described = msgspec.json.decode(schema)
            fields = described.get("fields") if isinstance(described, dict) else None
            block = {"type": "struct", "fields": [{"type": "struct", "fields": fields or [], "field": "after"}]}
            known = b'{"schema":' + _encode(block) + b',"payload":'
            self._blocks = dict(list(self._blocks.items())[-_SCHEMAS_KEPT:]) | {schema: known}
        return known


class _Run:
    """What is seen of a run as its records are read: which say their place, and which do not although others did."""

    def __init__(self, records: Records, says_places: bool) -> None:  # noqa: FBT001 - what was seen before the run
        self.records, self.says_places, self.named = records, says_places, False
        self.keys = records.keys()
        self.by_source: set[int] = set()
        self.lost: set[int] = set()
        self.timeless = 0

    def timestamp(self, index: int) -> int:
        """Return the time that Kafka has of a record, 0 if it has none."""
        at = self.records.time_ms(index)
        self.timeless += at < 0
        return max(at, 0) * _MILLI_US


def _options(entry: TableEntry) -> FlatOptions:
    try:
        options = FlatOptions.model_validate(entry.spec.options)
    except ValidationError as exc:
        wrong = ", ".join(".".join(map(str, error["loc"])) for error in exc.errors())
        raise ConfigurationError(
            f"table {entry.spec.table}: options: {wrong} is none, or has a value that it does not take",
            hint=f"options of debezium-flat are {', '.join(FlatOptions.model_fields)} (docs/tables.md)",
        ) from None
    if unknown := sorted(options.fields.keys() - known_facts()):
        raise ConfigurationError(
            f"table {entry.spec.table}: options.fields: {', '.join(unknown)} is nothing that is looked for",
            hint=f"known are {', '.join(sorted(known_facts()))}",
        )
    return options


def _check_unique(flat: _Flat, *, depth_max: int) -> None:
    """Raise what `inspect` raises where a field stands twice: each has one colon beside those of its value."""
    inside = sum(name.count(":") + bytes(raw).count(b":") for name, raw in flat.fields.items())
    if flat.payload.count(b":") != inside + len(flat.fields) or ESCAPED_COLON in flat.payload:
        inspect(flat.payload, depth_max=depth_max)


def _texts(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the values of fields that are texts, by which records beside the rows are told."""
    return {name: msgspec.json.decode(raw) for name, raw in fields.items() if bytes(raw).startswith(b'"')}


def _code(deleted: bytes, facts: Facts, headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Return the operation: a delete that is a row says so; the insert of a changed key names the old one."""
    if deleted in {b'"true"', b"true"}:
        return b'"d"'
    if deleted not in {b'"false"', b"false", NULL}:
        return b'"?"'
    op = facts.get("op", NULL)
    if op != NULL:
        return op
    return b'"c"' if any(name == OLD_KEY for name, _ in headers) else b'"u"'
