"""Debezium's envelopes as Avro, and as JSON of a JSON Schema, behind the id of a schema that a registry knows.

Each record is brought into the form in which JsonConverter would have written it, with a word for its schema where that
would have put a schema block; from there on it is read as debezium-json is, so both say the same of the same change.
Names of columns are as Avro has them: `odd-name` comes as `odd_name`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from connectors import wire
from connectors.formats.avro import AvroDecoder
from connectors.formats.avro_json import Shape, shape_of
from connectors.formats.avro_schema import Field, Type
from connectors.formats.base import PartitionMemory, Records, origin_offsets
from connectors.formats.connect_schema import fields_of_envelope, fields_of_struct
from connectors.formats.debezium_json import NEW_KEY, OLD_KEY, DebeziumDecoder
from connectors.formats.envelope import SOURCES, SourceName
from connectors.formats.keys import KeyReader
from connectors.formats.reading import Reader
from connectors.formats.reasons import Rejection, rejection
from schemas.batch import Decoded, Rejected
from schemas.config import LimitsConfig
from schemas.errors import ConfigurationError
from schemas.table import TableEntry

Headers = Sequence[tuple[str, bytes | None]] | None
_WORD = "avro"  # {"schema":{"avro":3},"payload":…}: the schema that was compiled as the fourth
_KEY_HEADERS = frozenset({NEW_KEY, OLD_KEY})
FRAMES = (b"\x00", b"\x01", b"\x03")
_encode = msgspec.json.Encoder().encode
_READ = frozenset({"before", "after", "source", "transaction", "op"})
_SOURCES: tuple[type[msgspec.Struct], ...] = (SourceName, *SOURCES.values())
_READ_OF_SOURCE = frozenset(name for type_ in _SOURCES for name in type_.__struct_fields__)
_PLAIN = frozenset({"null", "boolean", "int", "long", "string", "union"})


class DebeziumAvro:
    """The format `debezium-avro`."""

    name = "debezium-avro"

    def __init__(self, schemas: wire.Schemas | None = None) -> None:
        """`schemas` is the registry; without one there are no decoders."""
        self._schemas = schemas

    def asking(self, schemas: wire.Schemas) -> DebeziumAvro:
        """Return the format with its registry."""
        return DebeziumAvro(schemas)

    def decoder(self, entry: TableEntry, limits: LimitsConfig) -> DebeziumAvroDecoder:
        """Return a decoder for the table.

        Raises:
            ConfigurationError: no registry is configured, an encoding is unknown or does not fit its column, or a name
                cannot be read.
        """
        if self._schemas is None:
            raise ConfigurationError(
                "format debezium-avro needs a schema registry, and none is configured",
                hint="say in the configuration where it is: registry: {urls: [https://host:8081]}",
            )
        return DebeziumAvroDecoder(entry, limits, self._schemas)


class DebeziumAvroDecoder(DebeziumDecoder):
    """Decodes one table; it learns schemas as their ids come."""

    def __init__(self, entry: TableEntry, limits: LimitsConfig, schemas: wire.Schemas) -> None:
        """Prepare for the table's spec.

        Raises:
            ConfigurationError: an encoding is unknown or does not fit its column, or a name cannot be read.
        """
        super().__init__(entry, limits)
        self._values = Texts(schemas, limits, "value", fields_of_envelope, unread=_unread)
        self._keys = Texts(schemas, limits, "key", fields_of_struct)
        # The limit in bytes holds for what comes; JSON of it may be longer.
        unlimited = limits.model_copy(update={"record_bytes_max": sys.maxsize})
        self._reader = Reader(entry.spec, unlimited, fields_of=self._values.fields)
        self._key_readers = {
            dialect: KeyReader(
                entry.spec, dialect, limits.record_depth_max, fields_of=lambda word: self._keys.fields(word) or {}
            )
            for dialect in self._key_readers
        }

    def decode(self, records: Records, memory: PartitionMemory) -> Decoded:
        """Return what the records say, each in exactly one place; `memory` keeps what the next call must know.

        Raises:
            RegistryUnavailable: the registry does not answer for an id that is new; nothing was decoded.
        """
        written = _Written(records, self._values, self._keys)
        decoded = super().decode(written, memory)
        if written.faults:
            decoded.rejected = [_own(rejected, written.faults) for rejected in decoded.rejected]
        return decoded


def _own(rejected: Rejected, faults: dict[int, Rejection]) -> Rejected:
    """Return the rejection with the fault of Avro in it, where that is why it was none of JSON."""
    fault = faults.get(rejected.index)
    return rejected if fault is None else Rejected(rejected.index, rejection(fault.reason, fault.message))


class _Written:
    """Records as JsonConverter would have written them; empty, which is no JSON, where `faults` has why not."""

    def __init__(self, records: Records, values: Texts, keys: Texts) -> None:
        self.topic, self.partition = records.topic, records.partition
        self.faults: dict[int, Rejection] = {}
        self._records, self._values, self._keys = records, values, keys

    def values(self) -> list[bytes | None]:
        """Return the values."""
        texts, faults = self._values.read(self._records.values(), self._records.headers)
        self.faults = faults | self.faults
        return texts

    def keys(self) -> list[bytes | None]:
        """Return the keys; the fault of a value goes before that of its key."""
        texts, faults = self._keys.read(self._records.keys(), self._records.headers)
        self.faults = faults | self.faults
        return texts

    def offsets(self) -> list[int]:
        """Return the offsets."""
        return self._records.offsets()

    def time_ms(self, index: int, /) -> int:
        """Return the time that Kafka has of one record."""
        return self._records.time_ms(index)

    def origin_offsets(self) -> list[int]:
        """Return the offsets that may become part of a position."""
        return origin_offsets(self._records)

    def headers(self, index: int) -> Headers:
        """Return the headers of one record; keys in them may be framed too, where the header converter does that."""
        return [
            (name, self._key(raw, index) if name in _KEY_HEADERS and raw is not None and raw[:1] in FRAMES else raw)
            for name, raw in self._records.headers(index) or ()
        ]

    def _key(self, raw: bytes, index: int) -> bytes | None:
        texts, faults = self._keys.read([bytes(raw)], None)
        if faults:
            self.faults.setdefault(index, faults[0])
        return texts[0]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """What is made of a registered schema. Without `decoder` its payloads are JSON already."""

    decoder: AvroDecoder | None = None
    shape: Shape | None = None
    head: bytes = b""

    def text(self, payload: bytes) -> bytes:
        """Return the JSON of a payload.

        Raises:
            Rejection: it is not of this schema.
        """
        if self.decoder is None:
            return payload
        value = self.decoder.decode(payload)
        if self.shape is not None:
            value = self.shape(value)
        return b"%b%b}" % (self.head, _encode(value))


class Texts:
    """Makes JSON of the values, or of the keys, of a table."""

    def __init__(
        self,
        schemas: wire.Schemas,
        limits: LimitsConfig,
        side: wire.Side,
        fields_of: Callable[[Type], dict[str, Any] | None],
        *,
        unread: Callable[[Type], Collection[Field]] = lambda _root: (),
    ) -> None:
        """`unread` returns the fields of a schema that the texts need not have."""
        self._schemas, self._limits, self._side, self._fields_of = schemas, limits, side, fields_of
        self._unread = unread
        self._framing = schemas.framing
        self._compiled: dict[wire.SchemaId, _Compiled | Rejection] = {}
        self._fields: list[dict[str, Any] | None] = []

    def fields(self, word: Any) -> dict[str, Any] | None:
        """Return the fields of the schema that a record's word names."""
        number = word.get(_WORD) if isinstance(word, dict) else None
        known = isinstance(number, int) and 0 <= number < len(self._fields)
        return self._fields[number] if known else None  # type: ignore[index]

    def read(
        self, values: list[bytes | None], headers: Callable[[int], Headers] | None
    ) -> tuple[list[bytes | None], dict[int, Rejection]]:
        """Return the texts, empty where there is a fault, and the faults by index.

        Raises:
            RegistryUnavailable: the registry does not answer for an id that is new.
        """
        texts = [None if value is None else b"" for value in values]
        largest = self._limits.record_bytes_max
        faults: dict[int, Rejection] = {}
        if max((len(value) for value in values if value is not None), default=0) > largest:
            faults = {
                index: Rejection("too_large", f"{len(value)} bytes, above {largest}")
                for index, value in enumerate(values)
                if value is not None and len(value) > largest
            }
            values = [None if index in faults else value for index, value in enumerate(values)]
        unframed = wire.unframe(values, self._framing, side=self._side, headers=headers)
        faults |= unframed.faults
        for schema_id, places in unframed.ids.items():
            compiled = self._of(schema_id)
            for place in places:
                try:
                    texts[place] = _text(compiled, unframed.payloads[place])
                except Rejection as exc:
                    faults[place] = exc
        if self._side == "key":
            self._take_plain(values, texts, unframed.faults, faults)
        return texts, faults

    def _take_plain(
        self,
        values: list[bytes | None],
        texts: list[bytes | None],
        unframed: dict[int, Rejection],
        faults: dict[int, Rejection],
    ) -> None:
        """Take keys that are JSON without a frame: a topic's key may have another converter than its value."""
        for place in unframed:
            value = values[place]
            if value is not None and value.startswith(b"{"):
                texts[place] = value
                del faults[place]

    def _of(self, schema_id: wire.SchemaId) -> _Compiled | Rejection:
        known = self._compiled.get(schema_id)
        if known is not None:
            return known
        try:
            registered = self._schemas.schema(schema_id)
        except Rejection as exc:
            return exc  # not kept: the registry may know it tomorrow
        try:
            made: _Compiled | Rejection = self._compile(registered)
        except Rejection as exc:
            made = Rejection(exc.reason, f"schema {schema_id}: {exc.message}")
        self._compiled[schema_id] = made
        return made

    def _compile(self, registered: wire.Registered) -> _Compiled:
        if registered.kind == "JSON":
            return _Compiled()
        if registered.kind != "AVRO":
            raise Rejection("bad_registered_schema", "it is of a kind that this format does not read")
        decoder = AvroDecoder(registered.text, registered.references, limits=self._limits, unread=self._unread)
        self._fields.append(self._fields_of(decoder.type))
        head = b'{"schema":{"%b":%d},"payload":' % (_WORD.encode(), len(self._fields) - 1)
        return _Compiled(decoder, shape_of(decoder.type), head)


def _unread(root: Type) -> list[Field]:
    """Return the plain fields of an envelope that no decoder reads: other times, and most of what says who sent it."""
    fields = {each.name: each for each in root.fields}
    if not fields.keys() >= {"op", "source", "after"}:
        return []
    found = [each for name, each in fields.items() if name not in _READ]
    found += [each for each in fields["source"].type.fields if each.name not in _READ_OF_SOURCE]
    return [each for each in found if {each.type.kind, *(branch.kind for branch in each.type.branches)} <= _PLAIN]


def _text(compiled: _Compiled | Rejection, payload: bytes | None) -> bytes:
    if isinstance(compiled, Rejection):
        raise Rejection(compiled.reason, compiled.message)
    assert payload is not None, "what has an id has a payload"
    return compiled.text(payload)
