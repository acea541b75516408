"""Changes of the contract as Avro: from their JSON and back, by the schemas of `schemas/contract_avro.py`. Pure.

Promise: what comes back says what the JSON said, of every year and of every float; only numbers may be written
otherwise (`1` comes back as `1.0` where the column is a float). Readers of output topics take both forms side by side:
`as_json` gives back JSON for either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import fastavro
import msgspec

from connectors.contract_rows import read_column, read_timestamp
from connectors.formats.avro import AvroDecoder
from connectors.formats.avro_schema import Type, bare, resolved
from connectors.formats.reasons import Rejection
from connectors.wire import Framing, SchemaId, Schemas, part
from schemas.config import LimitsConfig
from schemas.contract import Contract
from schemas.contract_avro import avro_key_schema, avro_value_schema, field_of
from schemas.contract_avro_values import EXACT, KEYS, ORIGINS, Columns, change_from, columns_of
from schemas.errors import PoisonRecord
from schemas.types import ColumnType, Kind

FRAME = b"\x00"
_FRAMING = Framing()
_HINT = "is another writer on the topic?"
_ROWS = ("before", "after")

_encode = msgspec.json.encode
_decode = msgspec.json.decode


class ChangeWriter:
    """Writes the changes of one contract; `value_id` and `key_id` are those of its schemas in the registry."""

    def __init__(self, contract: Contract, value_id: int, key_id: int | None) -> None:
        """Prepare its schemas."""
        self._columns = dict(contract.columns)
        self._key = {name: contract.columns[name] for name in contract.key}
        self._value_schema = _parsed(avro_value_schema(contract))
        key_schema = avro_key_schema(contract)
        self._key_schema = None if key_schema is None else _parsed(key_schema)
        self._value_frame, self._key_frame = _frame(value_id), _frame(key_id or 0)

    def record(self, key: bytes | None, value: bytes) -> tuple[bytes | None, bytes]:
        """Return key and value of a change, given as JSON, as Avro behind the ids of their schemas."""
        change = _decode(value)
        written = self._value_frame + _written(self._value_schema, self._change(change))
        if key is None:
            return None, written
        assert self._key_schema is not None, "a record with a key is of a table with one"
        return self._key_frame + _written(self._key_schema, _to_fields(change["key"], self._key)), written

    def _change(self, change: dict[str, Any]) -> dict[str, Any]:
        after, unavailable = change["after"], change["unavailable"]
        absent = [] if after is None else [n for n in self._columns if n not in after and n not in unavailable]
        source = change["source"]
        return {
            **change,
            **{name: _to_fields(change[name], self._key) for name in KEYS},
            **{name: _to_fields(change[name], self._columns) for name in _ROWS},
            "ts": read_timestamp(change["ts"]),
            "absent": absent,
            "source": {"rows": 1, **source, **{name: _origin_of(source[name]) for name in ORIGINS}},
        }


class ChangeReader:
    """Reads changes of any table by the schemas of their ids."""

    def __init__(self, schemas: Schemas | None, limits: LimitsConfig) -> None:
        """Without `schemas`, where there is no registry, all is taken for JSON."""
        self._schemas, self._limits = schemas, limits
        self._known: dict[SchemaId, _Form] = {}

    def as_json(self, values: Sequence[bytes]) -> Sequence[bytes]:
        """Return the values as JSON; those that are JSON, all of them nearly always, are what they were.

        Raises:
            PoisonRecord: it names the index of the first value that is no change in Avro.
            RegistryUnavailable: nothing is known of an id now.
        """
        if self._schemas is None or not any(value[:1] == FRAME for value in values):
            return values
        return [self._read(index, value) for index, value in enumerate(values)]

    def _read(self, index: int, value: bytes) -> bytes:
        if value[:1] != FRAME:
            return value
        try:
            schema_id, payload = part(value, _FRAMING)
            return self._form(schema_id).as_json(payload)
        except (Rejection, KeyError, TypeError, ValueError, OverflowError) as exc:
            # The chained message may hold a piece of the value, which no error of ours carries.
            what = (
                f"record {index} is no change in Avro ({exc.message if isinstance(exc, Rejection) else 'its fields'})"
            )
            raise PoisonRecord("bad_contract", what, hint=_HINT) from None

    def _form(self, schema_id: SchemaId) -> _Form:
        form = self._known.get(schema_id)
        if form is None:
            assert self._schemas is not None, "else nothing is taken for Avro"
            registered = self._schemas.schema(schema_id)
            form = self._known[schema_id] = _Form(registered.text, self._limits)
        return form


class _Form:
    """One registered schema of changes, and what its fields say of columns."""

    def __init__(self, text: str, limits: LimitsConfig) -> None:
        self._decoder = AvroDecoder(text, limits=limits)
        fields = {field.name: field.type for field in self._decoder.type.fields}
        self._columns, self._key = _columns_of(fields["after"]), _columns_of(fields["key"])

    def as_json(self, payload: bytes) -> bytes:
        """Return the change that a payload holds."""
        return _encode(change_from(self._decoder.decode(payload), self._columns, self._key))


def _parsed(schema: dict[str, Any]) -> Any:
    return fastavro.parse_schema(bare(resolved(_encode(schema).decode())))


def _written(schema: Any, value: Any) -> bytes:
    stream = BytesIO()
    fastavro.schemaless_writer(stream, schema, value)
    return stream.getvalue()


def _frame(schema_id: int) -> bytes:
    return FRAME + schema_id.to_bytes(4, "big")


def _origin_of(origin: Sequence[Any] | None) -> dict[str, Any] | None:
    if origin is None:
        return None
    topic, generation, partition, offset, *row = origin
    return {"topic": topic, "generation": generation, "partition": partition, "offset": offset, "row": [*row, 0][0]}


# ── columns ──


def _to_fields(row: Mapping[str, Any] | None, columns: Mapping[str, ColumnType]) -> dict[str, Any] | None:
    """Return a row of the contract's JSON by the names of its fields; columns that it does not have are null."""
    if row is None:
        return None
    return {field_of(name): _to_avro(read_column(row.get(name), type_, name), type_) for name, type_ in columns.items()}


def _to_avro(value: Any, column: ColumnType) -> Any:
    if value is None:
        return None
    if column.kind is Kind.DECIMAL:
        number = int(EXACT.scaleb(value, column.scale))
        return number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)
    if column.kind is Kind.LIST:
        assert column.element is not None, "a list has an element"
        element = column.element
        return [_to_avro(item, element) for item in value]
    return value


def _columns_of(node: Type) -> Columns:
    """Return the columns of a row's or a key's type."""
    (record,) = [branch for branch in node.branches if branch.kind == "record"]
    return columns_of(field.raw for field in record.fields)
