"""What the values of a change in Avro say, in the forms that the contract has in JSON: the way back from Avro. Pure.

They are given as the bytes have them, by the schemas of `schemas/contract_avro.py` and without their logical types: a
date is its number of days, a decimal its bytes, for the contract knows years and digits that Python's types do not.
Headgate's own stages and its subscribers' client both read by this, so that the same change says the same to both.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from decimal import Context, Decimal
from typing import Any

from schemas.contract_avro import COLUMN, TYPE
from schemas.moments import date_text, time_text, timestamp_text
from schemas.types import ColumnType, Kind, parse_type

Columns = Mapping[str, tuple[str, ColumnType]]  # by field: its column, and the column's type

KEYS = ("key", "old_key", "new_key")
ORIGINS = ("origin", "first_origin")
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
EXACT = Context(prec=100)  # Python's own would round a decimal of 38 digits


def columns_of(fields: Iterable[Mapping[str, Any]]) -> Columns:
    """Return the columns of a row's or a key's fields, as their schema has them.

    Raises:
        KeyError: a field has no name, or does not say the type of its column; it is none of ours.
        ConfigurationError: it says a type that there is not.
    """
    return {
        str(field["name"]): (str(field.get(COLUMN, field["name"])), parse_type(str(field[TYPE]))) for field in fields
    }


def change_from(change: Mapping[str, Any], columns: Columns, key: Columns) -> dict[str, Any]:
    """Return a change by its fields, whose rows have `columns` and whose keys those of `key`.

    Raises:
        KeyError, TypeError, ValueError: the fields are not those of a change.
    """
    gone = {*change["unavailable"], *change["absent"]}
    source = {**change["source"], **{name: _origin_from(change["source"][name]) for name in ORIGINS}}
    if source["rows"] == 1:
        del source["rows"]
    said = {
        **change,
        **{name: row_from(change[name], key) for name in KEYS},
        "before": row_from(change["before"], columns),
        "after": row_from(change["after"], columns, gone),
        "ts": timestamp_text(change["ts"]) + "Z",
        "source": source,
    }
    del said["absent"]
    return said


def row_from(
    row: Mapping[str, Any] | None, columns: Columns, gone: frozenset[str] | set[str] = frozenset()
) -> dict[str, Any] | None:
    """Return a row or a key by its fields, without the columns that are `gone`."""
    if row is None:
        return None
    return {name: _value_from(row[field], type_) for field, (name, type_) in columns.items() if name not in gone}


def _origin_from(origin: Mapping[str, Any] | None) -> list[Any] | None:
    if origin is None:
        return None
    found = [origin[name] for name in ("topic", "generation", "partition", "offset")]
    return [*found, origin["row"]] if origin["row"] else found


def _value_from(value: Any, column: ColumnType) -> Any:
    if value is None:
        return None
    if column.kind is Kind.LIST:
        assert column.element is not None, "a list has an element"
        element = column.element
        return [_value_from(item, element) for item in value]
    if column.kind is Kind.DECIMAL:
        return f"{EXACT.scaleb(Decimal(int.from_bytes(value, 'big', signed=True)), -column.scale):f}"
    read = _FORMS.get(column.kind)
    return value if read is None else read(value)


def _float(value: float) -> Any:
    return _NOT_FINITE.get(str(value), value)


_FORMS: dict[Kind, Callable[[Any], Any]] = {
    Kind.LONG: str,
    Kind.FLOAT: _float,
    Kind.DOUBLE: _float,
    Kind.DATE: date_text,
    Kind.TIME: time_text,
    Kind.TIMESTAMP: timestamp_text,
    Kind.TIMESTAMPTZ: lambda micros: f"{timestamp_text(micros)}Z",
    Kind.BINARY: lambda raw: base64.b64encode(raw).decode(),
}
