"""Values of rules in the JSON forms of the contract, and the SQL types of columns."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa

from schemas.types import ColumnType, Kind

_SQL_TYPES: dict[Kind, str] = {
    Kind.BOOLEAN: "BOOLEAN",
    Kind.INT: "INTEGER",
    Kind.LONG: "BIGINT",
    Kind.FLOAT: "FLOAT",
    Kind.DOUBLE: "DOUBLE",
    Kind.DATE: "DATE",
    Kind.TIME: "TIME",
    Kind.TIMESTAMP: "TIMESTAMP",
    Kind.TIMESTAMPTZ: "TIMESTAMP WITH TIME ZONE",
    Kind.STRING: "VARCHAR",
    Kind.JSON: "VARCHAR",
    Kind.UUID: "VARCHAR",
    Kind.BINARY: "BLOB",
}


def json_values(column: pa.ChunkedArray) -> list[Any]:
    """Return a column's values in the JSON forms of the contract."""
    return _json_forms(column.combine_chunks() if column.num_chunks != 1 else column.chunk(0))


def _json_forms(array: pa.Array) -> list[Any]:
    """Return the values in the JSON forms of the contract."""
    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _lists(array)
    if pa.types.is_map(kind):
        return [None if item is None else _json_forms(item) for item in _map_entries(array)]
    if pa.types.is_struct(kind):
        columns = {kind.field(index).name: _json_forms(column) for index, column in enumerate(array.flatten())}
        present = enumerate(array.is_valid().to_pylist())
        return [{name: values[at] for name, values in columns.items()} if here else None for at, here in present]
    return _each(array, kind)


def _each(array: pa.Array, kind: pa.DataType) -> list[Any]:
    if pa.types.is_timestamp(kind):
        micro = array.cast(pa.timestamp("us"), safe=False).cast(pa.string())
        return _mapped(micro, lambda text: text.replace(" ", "T") + ("Z" if kind.tz else ""))
    if pa.types.is_time(kind):
        return _mapped(array.cast(pa.time64("us"), safe=False).cast(pa.string()), str)
    if pa.types.is_integer(kind):
        wide = pa.types.is_int64(kind) or pa.types.is_uint64(kind) or pa.types.is_uint32(kind)
        return _mapped(array, str if wide else int)
    if pa.types.is_floating(kind):
        return _mapped(array, _float_form)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _mapped(array, lambda value: b64encode(value).decode())
    if pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_null(kind):
        return list(array.to_pylist())
    if pa.types.is_decimal(kind):
        return _mapped(array, lambda value: f"{value:f}")
    if pa.types.is_date(kind):
        return _mapped(array.cast(pa.string()), str)
    return _mapped(array, str)  # rare types inside of lists, as Arrow writes them


def _mapped(array: pa.Array, form: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else form(value) for value in array.to_pylist()]


def _lists(array: pa.Array) -> list[Any]:
    return [None if not item.is_valid else _json_forms(item.values) for item in array]


def _map_entries(array: pa.Array) -> Iterable[pa.Array | None]:
    return (item.values if item.is_valid else None for item in array)


def _float_form(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def sql_type(column: ColumnType) -> str:
    """Return DuckDB's type of a column."""
    if column.kind is Kind.DECIMAL:
        return f"DECIMAL({column.precision},{column.scale})"
    if column.kind is Kind.LIST:
        assert column.element is not None, "a list has an element"
        return f"{sql_type(column.element)}[]"
    return _SQL_TYPES[column.kind]


def quoted(name: str) -> str:
    """Return a name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
