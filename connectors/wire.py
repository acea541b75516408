"""Framing: how keys and values say which schema they were written with. Pure functions on lists of values.

    0x00  id of 4 or 8 bytes   Confluent, Apicurio (8: its legacy form); Avro or JSON Schema behind it
    0x01  GUID of 16 bytes     Confluent
    0x03  0x00 or 0x05, UUID   AWS Glue; 0x05: zlib behind it
    headers                    Confluent `__value_schema_id`: the first or second form; Apicurio
                               `apicurio.value.globalId` and `.contentId`: 8 bytes; and the twins for keys

A null value is a tombstone and has no frame. Most records of a run share one id, so all are parted at once.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol
from uuid import UUID

from connectors.formats.reasons import Rejection

Side = Literal["key", "value"]
Place = Literal["payload", "headers", "either"]
Headers = Callable[[int], Sequence[tuple[str, bytes | None]] | None]

GLUE_MAGIC = b"\x03"
GLUE_PLAIN, GLUE_ZLIB = 0, 5
GUID_BYTES = 16
_GLUE_BYTES = 2 + GUID_BYTES
_LONG_BYTES = 8


class IdKind(StrEnum):
    """What an id is one of."""

    NUMBER = "number"  # the only numbers of a registry with Confluent's API; of Apicurio's, as its setting says
    GLOBAL = "global"
    CONTENT = "content"
    GUID = "guid"
    GLUE = "glue"


@dataclass(frozen=True, slots=True)
class SchemaId:
    """The id of a schema; a number, or a GUID in lower case with hyphens."""

    kind: IdKind
    value: int | str

    def __str__(self) -> str:
        """Say it as errors do."""
        return f"{self.kind} {self.value}"


@dataclass(frozen=True, slots=True)
class Framing:
    """How a topic's records are framed: how long numbers are, where ids stand, what may come of inflating.

    Where all numbers are known, `numbers` has them: an id of 8 bytes is told by being one of them, where 4 are none.
    """

    id_size: Literal[4, 8] = 4
    ids_in: Place = "payload"
    inflated_bytes_max: int = 4 * 1024 * 1024
    numbers: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """A schema as it was registered: its kind (AVRO, JSON, PROTOBUF), its text, and the texts that it refers to.

    Each reference stands behind those that it needs.
    """

    kind: str
    text: str
    references: tuple[str, ...] = ()


class Schemas(Protocol):
    """Knows the schemas of ids: a registry."""

    @property
    def framing(self) -> Framing:
        """How the records are framed whose schemas are here."""

    def schema(self, schema_id: SchemaId, /) -> Registered:
        """Return the schema of an id.

        Raises:
            Rejection: `unknown_schema`, where there is none.
            RegistryUnavailable: nothing is known of the id now.
        """


@dataclass(slots=True)
class Unframed:
    """Values without their frames: `payloads` are None for tombstones and where `faults` has a rejection.

    `ids` has the places of the values of each id, rising.
    """

    payloads: list[bytes | None]
    ids: dict[SchemaId, list[int]] = field(default_factory=dict)
    faults: dict[int, Rejection] = field(default_factory=dict)


def unframe(
    values: list[bytes | None], framing: Framing, *, side: Side = "value", headers: Headers | None = None
) -> Unframed:
    """Return the payloads of keys or values, and which schema each was written with.

    `headers` returns those of one record; asked for only where `framing.ids_in` is not `payload`.
    """
    if framing.ids_in == "payload" and (shared := _all_alike(values, framing)) is not None:
        return shared
    found = Unframed([None] * len(values))
    for index, value in enumerate(values):
        if value is None:
            continue
        try:
            schema, payload = _one(value, framing, side, headers, index)
        except Rejection as exc:
            found.faults[index] = exc
            continue
        found.payloads[index] = payload
        found.ids.setdefault(schema, []).append(index)
    return found


def _all_alike(values: list[bytes | None], framing: Framing) -> Unframed | None:
    """Return the values unframed if none is null, and all begin with the same id; None: look at each."""
    first = values[0] if values else None
    if first is None or first[:1] == GLUE_MAGIC or None in values:
        return None
    try:
        schema, payload = part(first, framing)
    except Rejection:
        return None
    size = len(first) - len(payload)
    frame = first[:size]
    if not all([value.startswith(frame) for value in values]):  # type: ignore[union-attr]  # noqa: C419 - a list is faster
        return None
    return Unframed([value[size:] for value in values], {schema: list(range(len(values)))})  # type: ignore[index]


def _one(value: bytes, framing: Framing, side: Side, headers: Headers | None, index: int) -> tuple[SchemaId, bytes]:
    if framing.ids_in != "payload" and headers is not None:
        found = of_headers(headers(index) or (), side)
        if found is not None:
            return found, value
    if framing.ids_in == "headers":
        raise Rejection("bad_framing", f"no header of the record holds the id of the schema of its {side}")
    return part(value, framing)


def part(value: bytes, framing: Framing) -> tuple[SchemaId, bytes]:
    """Return the id in front of one value, and what stands behind it.

    Raises:
        Rejection: `bad_framing` or `zip_bomb`.
    """
    match value[:1]:
        case b"\x00":
            size = _id_size(value, framing)
            frame = value[1 : 1 + size]
            _whole(frame, size)
            return SchemaId(IdKind.NUMBER, int.from_bytes(frame, "big")), value[1 + size :]
        case b"\x01":
            return _guid(value[1 : 1 + GUID_BYTES], IdKind.GUID), value[1 + GUID_BYTES :]
        case b"\x03":
            schema = _guid(value[2:_GLUE_BYTES], IdKind.GLUE)
            return schema, _glue(value[1], value[_GLUE_BYTES:], framing.inflated_bytes_max)
        case b"":
            raise Rejection("bad_framing", "the value is empty, and no tombstone")
        case _:
            raise Rejection("bad_framing", f"the first byte is {value[0]:#04x}, the mark of no frame")


def _id_size(value: bytes, framing: Framing) -> int:
    if framing.numbers is None or int.from_bytes(value[1:5], "big") in framing.numbers:
        return framing.id_size
    is_long = len(value) > _LONG_BYTES and int.from_bytes(value[1 : 1 + _LONG_BYTES], "big") in framing.numbers
    return _LONG_BYTES if is_long else framing.id_size


def _whole(frame: bytes, size: int) -> None:
    if len(frame) < size:
        raise Rejection("bad_framing", "the record ends inside its frame")


def _guid(frame: bytes, kind: IdKind) -> SchemaId:
    _whole(frame, GUID_BYTES)
    return SchemaId(kind, str(UUID(bytes=frame)))


def _glue(compression: int, rest: bytes, inflated_bytes_max: int) -> bytes:
    if compression == GLUE_PLAIN:
        return rest
    if compression == GLUE_ZLIB:
        return inflate(rest, inflated_bytes_max)
    raise Rejection("bad_framing", f"the frame of AWS Glue names compression {compression:#04x}")


def inflate(deflated: bytes, bytes_max: int) -> bytes:
    """Return what zlib makes of all of `deflated`; no more than `bytes_max` and a little are ever held.

    Raises:
        Rejection: `zip_bomb` where it is more, `bad_framing` where it is no zlib, cut off, or followed by more.
    """
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(deflated, bytes_max + 1)
    except zlib.error:
        raise Rejection("bad_framing", "the value is not deflated as its frame says") from None
    if len(inflated) > bytes_max:
        raise Rejection("zip_bomb", f"{len(deflated)} bytes inflate to more than {bytes_max}")
    if not stream.eof or stream.unused_data:
        raise Rejection("bad_framing", "the deflated value is cut off, or something follows it")
    return inflated


def of_headers(headers: Sequence[tuple[str, bytes | None]], side: Side) -> SchemaId | None:
    """Return the id that the headers of a record give for its key or its value, the last one if twice; None without.

    Raises:
        Rejection: `bad_framing`, where such a header is there and holds no id, or says that the value is no binary.
    """
    known = dict(headers)
    if f"__{side}_schema_id" in known:
        return _of_confluent(known[f"__{side}_schema_id"] or b"")
    if (known.get(f"apicurio.{side}.encoding") or b"").upper() == b"JSON":
        raise Rejection("bad_framing", f"the {side} is written in Avro's JSON, which is not read")
    for kind, name in ((IdKind.GLOBAL, "globalId"), (IdKind.CONTENT, "contentId")):
        if (raw := known.get(f"apicurio.{side}.{name}")) is not None:
            if len(raw) != _LONG_BYTES:
                raise Rejection("bad_framing", f"the header apicurio.{side}.{name} is not 8 bytes long")
            return SchemaId(kind, int.from_bytes(raw, "big"))
    return None


def _of_confluent(raw: bytes) -> SchemaId:
    schema, rest = part(raw, _OF_HEADER) if raw[:1] in (b"\x00", b"\x01") else (None, b"")
    if schema is None or rest:
        raise Rejection("bad_framing", "the header of the schema's id holds none")
    return schema


_OF_HEADER = Framing()
