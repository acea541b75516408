"""Records of an output topic as what a subscriber is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from headgate.client.errors import ContractMismatch
from headgate.client.events import Change, Event, Floor, Origin, Tombstone
from headgate.client.values import DoesNotFit, RowReader, read_moment
from schemas.change import HEADER_REPLAY, HEADER_SCHEMA_VERSION, ChangeValue, Operation
from schemas.contract import Contract

if TYPE_CHECKING:
    from headgate.client.avro import AvroReader

FRAME = b"\x00"  # what is Avro begins with it, and no JSON does
_OFFSETS_END = 2**63
_REGISTRY = "give registry=, the address of the schema registry that Headgate's configuration names"
_decode = msgspec.json.Decoder(ChangeValue).decode


class Record(Protocol):
    """What this asks of a record: confluent-kafka's methods."""

    def key(self) -> bytes | None:
        """Its key."""

    def value(self) -> bytes | None:
        """Its value."""

    def headers(self) -> Any:
        """Its headers, name and value each, or None; those that are not ours, such as CloudEvents', are passed over."""

    def topic(self) -> str | None:
        """Its topic."""

    def partition(self) -> int | None:
        """Its partition."""

    def offset(self) -> int | None:
        """Its offset."""


class EventDecoder:
    """Decodes the records of one table's topic by its contract."""

    def __init__(self, contract: Contract, avro: AvroReader | None = None) -> None:
        """Know the columns of `contract`; `avro` reads what is Avro, and beside it all may be JSON."""
        self._contract, self._avro = contract, avro
        self._rows = RowReader(contract.columns)

    def decode(self, record: Record) -> Event:
        """Return what a record is.

        Raises:
            ContractMismatch: it is no change of this contract.
            RegistryUnavailable: it is Avro, and its schema cannot be had now.
        """
        headers: dict[str, bytes | None] = dict(record.headers() or ())
        version = _version(headers.get(HEADER_SCHEMA_VERSION))
        try:
            return self._event(record, headers, version)
        except DoesNotFit as exc:
            raise self._mismatch(record, str(exc), version, hint=exc.hint) from None
        except (ValueError, TypeError, RecursionError, msgspec.MsgspecError) as exc:
            # Its text may hold a piece of the value, which no error of ours carries.
            raise self._mismatch(record, f"no change of the contract ({type(exc).__name__})", version) from None

    def _mismatch(self, record: Record, why: str, version: int | None, *, hint: str = "") -> ContractMismatch:
        where = f"{record.topic()} partition {record.partition()} offset {record.offset()}"
        table, known = self._contract.table, self._contract.schema_version
        return ContractMismatch(where, why, table=table, known=known, found=version, hint=hint)

    def _event(self, record: Record, headers: dict[str, bytes | None], version: int | None) -> Event:
        partition, offset = int(record.partition() or 0), int(record.offset() or 0)
        read, data = self._rows.read, record.value()
        if data is None:
            key = record.key()
            return Tombstone(key=None if key is None else read(self._key(key)), partition=partition, offset=offset)
        value = self._value(data)
        source = value.source
        origin = _origin(source.origin)
        if value.op == Operation.FLOOR:
            ts = read_moment(value.ts)
            return Floor(position=value.position, ts=ts, origin=origin, partition=partition, offset=offset)
        if source.rows <= origin.row:
            raise DoesNotFit("its record made fewer changes")
        return Change(
            op=value.op,
            key=read(value.key),
            old_key=read(value.old_key),
            new_key=read(value.new_key),
            before=read(value.before),
            after=read(value.after),
            position=value.position,
            ts=read_moment(value.ts),
            unavailable=tuple(value.unavailable),
            connector=source.connector,
            source_name=source.name,
            source_table=source.table,
            tx=source.tx,
            snapshot=source.snapshot,
            origin=origin,
            first_origin=None if source.first_origin is None else _origin(source.first_origin),
            previous=source.previous,
            rows=source.rows,
            replay=HEADER_REPLAY in headers,
            schema_version=version,
            partition=partition,
            offset=offset,
        )

    def _value(self, data: bytes) -> ChangeValue:
        if data[:1] != FRAME:
            return _decode(data)
        return msgspec.convert(self._reader().change(data), ChangeValue)

    def _key(self, data: bytes) -> Any:
        return msgspec.json.decode(data) if data[:1] != FRAME else self._reader().key(data)

    def _reader(self) -> AvroReader:
        if self._avro is None:
            raise DoesNotFit("it is Avro, and no schema registry was named", hint=_REGISTRY)
        return self._avro


def _origin(elements: tuple[str | int, ...]) -> Origin:
    topic, *numbers = elements
    if not isinstance(topic, str) or not all(isinstance(each, int) and 0 <= each < _OFFSETS_END for each in numbers):
        raise DoesNotFit("its origin is none")
    generation, partition, offset, *row = (int(each) for each in numbers)
    return Origin(topic, generation, partition, offset, *row)


def _version(text: bytes | None) -> int | None:
    """Return what the header says; a topic that somebody copied by hand has none."""
    return int(text) if text is not None and text.isdigit() and len(text) <= len(str(_OFFSETS_END)) else None
