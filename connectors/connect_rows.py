"""Rows of the contract as Kafka Connect's JsonConverter reads them with a schema block. Pure.

Types have the names that Debezium gives them, so that its sinks know them again: times keep their microseconds. Two
things that no JSON says differ: NaN is null there, and an infinity is a number that no double holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from connectors.contract_rows import read_column
from connectors.formats.connect_schema import DECIMAL, PRECISION
from schemas.types import ColumnType, Kind

_TYPES: dict[Kind, dict[str, Any]] = {
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.INT: {"type": "int32"},
    Kind.LONG: {"type": "int64"},
    Kind.FLOAT: {"type": "float"},
    Kind.DOUBLE: {"type": "double"},
    Kind.DATE: {"type": "int32", "name": "io.debezium.time.Date", "version": 1},
    Kind.TIME: {"type": "int64", "name": "io.debezium.time.MicroTime", "version": 1},
    Kind.TIMESTAMP: {"type": "int64", "name": "io.debezium.time.MicroTimestamp", "version": 1},
    Kind.TIMESTAMPTZ: {"type": "string", "name": "io.debezium.time.ZonedTimestamp", "version": 1},
    Kind.STRING: {"type": "string"},
    Kind.JSON: {"type": "string", "name": "io.debezium.data.Json", "version": 1},
    Kind.UUID: {"type": "string", "name": "io.debezium.data.Uuid", "version": 1},
    Kind.BINARY: {"type": "bytes"},
}
_AS_TEXT = frozenset({Kind.STRING, Kind.JSON, Kind.UUID, Kind.BINARY, Kind.TIMESTAMPTZ})
_FLOATS = frozenset({Kind.FLOAT, Kind.DOUBLE})
_WIDER = frozenset({Kind.LONG, Kind.DECIMAL, Kind.STRING})  # texts, which narrower values need not be
# The keys of a compacted topic must stay as they are when a column becomes wider.
_WIDEST = {Kind.INT: ColumnType(Kind.LONG), Kind.FLOAT: ColumnType(Kind.DOUBLE)}
_BEYOND = {math.inf: msgspec.Raw(b"1e999"), -math.inf: msgspec.Raw(b"-1e999")}

_encode = msgspec.json.Encoder(decimal_format="number").encode


def connect_type(column: ColumnType) -> dict[str, Any]:
    """Return the schema of a column's values, without whether they are optional."""
    if column.kind is Kind.LIST:
        assert column.element is not None, "a list has an element"
        return {"type": "array", "items": {**connect_type(column.element), "optional": True}}
    if column.kind is Kind.DECIMAL:
        parameters = {"scale": str(column.scale), PRECISION: str(column.precision)}
        return {"type": "bytes", "name": DECIMAL, "version": 1, "parameters": parameters}
    return _TYPES[column.kind]


def row_schema(columns: Mapping[str, ColumnType], name: str) -> bytes:
    """Return the schema block of rows that have these columns, each of which may be null."""
    fields = [{**connect_type(type_), "optional": True, "field": column} for column, type_ in columns.items()]
    return _encode({"type": "struct", "fields": fields, "optional": False, "name": name})


def key_schema(columns: Mapping[str, ColumnType], name: str) -> bytes:
    """Return the schema block of keys; a column that becomes wider does not alter it."""
    fields = [{**_key_type(type_), "optional": False, "field": column} for column, type_ in columns.items()]
    return _encode({"type": "struct", "fields": fields, "optional": False, "name": name})


def _key_type(column: ColumnType) -> dict[str, Any]:
    found = connect_type(_WIDEST.get(column.kind, column))
    return {**found, "parameters": {"scale": str(column.scale)}} if column.kind is Kind.DECIMAL else found


def connect_value(value: Any, column: ColumnType, name: str) -> Any:
    """Return a column's value, given as the contract's JSON has it, as the converter reads it.

    Elements of a list may have the form of before the column became wider.

    Raises:
        DoesNotFit: it is not of its type; the text names the column.
    """
    if value is None:
        return None
    if column.kind is Kind.LIST and isinstance(value, list):
        assert column.element is not None, "a list has an element"
        element = column.element
        return [connect_value(_widened(item, element), element, name) for item in value]
    read = read_column(value, column, name)
    if column.kind in _AS_TEXT:
        return value
    if column.kind in _FLOATS:
        return None if math.isnan(read) else _BEYOND.get(read, read)
    return read


def _widened(item: Any, element: ColumnType) -> Any:
    """Return an element in the form that it has now: what became a text is that of its JSON."""
    return _encode(item).decode() if element.kind in _WIDER and isinstance(item, (int, float)) else item


def with_schema(schema: bytes, payload: Mapping[str, Any]) -> bytes:
    """Return a record's key or value: the schema block, and what it describes."""
    return b'{"schema":%b,"payload":%b}' % (schema, _encode(payload))
