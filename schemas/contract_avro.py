"""The Avro schemas of a table's changes and keys, as a schema registry takes them.

Promise: schemas of two contracts that `schemas/compatibility.py` calls compatible read each other's data, in both
directions, by Avro's own rules of resolution (https://avro.apache.org/docs/1.12.0/specification/#schema-resolution):

- Every column but those of a key is a union with null, and null by default.
- An `int` is an Avro `long`, a `float` a `double`, and a decimal has all digits that there are, from the start: Avro
  promotes in one direction only, and decimals not at all.
- A column's field is named by the column alone, so that another column never gives it another name.

Avro has a field for every column, whatever the change has: of those that are null in it, `unavailable` names the ones
that the source did not send, `absent` the ones that the change does not have. The others are null.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from schemas.contract import Contract
from schemas.errors import ConfigurationError
from schemas.types import DECIMAL_PRECISION_MAX, ColumnType, Kind

COLUMN = "headgate.column"  # the property of a field that names the column, where the field has another name
TYPE = "headgate.type"  # the property of a field that has the column's type

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")
_DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": DECIMAL_PRECISION_MAX}
_PLAIN: dict[Kind, Any] = {
    Kind.BOOLEAN: "boolean",
    Kind.INT: "long",
    Kind.LONG: "long",
    Kind.FLOAT: "double",
    Kind.DOUBLE: "double",
    Kind.DATE: {"type": "int", "logicalType": "date"},
    Kind.TIME: {"type": "long", "logicalType": "time-micros"},
    Kind.TIMESTAMP: {"type": "long", "logicalType": "local-timestamp-micros"},
    Kind.TIMESTAMPTZ: {"type": "long", "logicalType": "timestamp-micros"},
    Kind.STRING: "string",
    Kind.JSON: "string",
    Kind.UUID: {"type": "string", "logicalType": "uuid"},
    Kind.BINARY: "bytes",
}


def avro_value_schema(contract: Contract) -> dict[str, Any]:
    """Return the schema of a change: the fields of the contract under their own names, and `absent`.

    Raises:
        ConfigurationError: two columns would have one name.
    """
    _check_names(contract)
    fields = [
        _field("op", "string", doc="insert, update, delete, snapshot or floor"),
        _optional("key", _record("Key", _key_fields(contract))),
        _optional("old_key", "Key"),
        _optional("new_key", "Key"),
        _optional("before", _record("Row", _row_fields(contract))),
        _optional("after", "Row"),
        _field("position", "string", doc="where the change stands in the source's log; compare as text"),
        _field("ts", _PLAIN[Kind.TIMESTAMPTZ], doc="the source's commit time, never for order"),
        _names("unavailable", "columns that the source did not send"),
        _names("absent", "columns that the change does not have"),
        _field("source", _source()),
    ]
    return {**_record("Change", fields, doc=f"A change of {contract.table}"), "namespace": namespace_of(contract)}


def avro_key_schema(contract: Contract) -> dict[str, Any] | None:
    """Return the schema of a record's key, None for a table without one; it is the `Key` of the change."""
    if not contract.key:
        return None
    return {**_record("Key", _key_fields(contract)), "namespace": namespace_of(contract)}


def namespace_of(contract: Contract) -> str:
    """Return the namespace of a table's records."""
    return "headgate.changes." + ".".join(map(_as_name, contract.table.split(".")))


def field_of(column: str) -> str:
    """Return the name of a column's field: its own where Avro takes it, else one that no other column has."""
    if _NAME.fullmatch(column):
        return column
    return f"{_as_name(column)}_{hashlib.sha256(column.encode()).hexdigest()[:8]}"


def avro_type(type_: ColumnType) -> Any:
    """Return the Avro type of a column's values, without null; a list's elements may be null."""
    match type_.kind:
        case Kind.DECIMAL:
            return {**_DECIMAL, "scale": type_.scale}
        case Kind.LIST:
            assert type_.element is not None, "a list has an element"
            return {"type": "array", "items": ["null", avro_type(type_.element)]}
        case _:
            return _PLAIN[type_.kind]


def _check_names(contract: Contract) -> None:
    columns: dict[str, str] = {}
    for column in contract.columns:
        other = columns.setdefault(field_of(column), column)
        if other != column:
            raise ConfigurationError(
                f"{contract.table}: columns {other} and {column} have one name in Avro, {field_of(column)}",
                hint="give one of them another name, or write this table's changes as JSON",
            )


def _as_name(text: str) -> str:
    """Return a text in the letters that Avro takes for a name."""
    name = _NOT_IN_NAMES.sub("_", text)
    return name if _NAME.fullmatch(name) else f"_{name}"


def _key_fields(contract: Contract) -> list[dict[str, Any]]:
    return [
        {"name": field_of(name), "type": avro_type(contract.columns[name]), **_said_of(name, contract.columns[name])}
        for name in contract.key
    ]


def _row_fields(contract: Contract) -> list[dict[str, Any]]:
    return [
        {**_optional(field_of(name), avro_type(type_)), **_said_of(name, type_)}
        for name, type_ in contract.columns.items()
    ]


def _said_of(name: str, type_: ColumnType) -> dict[str, str]:
    return {TYPE: str(type_)} if field_of(name) == name else {TYPE: str(type_), COLUMN: name}


def _source() -> dict[str, Any]:
    """Return the type of `source`; an origin's `row` is which change of its record it is, from 0 on."""
    origin = [
        _field("topic", "string"),
        _field("generation", "long"),
        _field("partition", "int"),
        _field("offset", "long"),
        {**_field("row", "int"), "default": 0},
    ]
    fields = [
        _field("connector", "string"),
        _field("name", "string"),
        _field("table", "string"),
        _optional("tx", "string"),
        _field("snapshot", "boolean"),
        _field("origin", _record("Origin", origin)),
        _optional("first_origin", "Origin"),
        _optional("previous", "long"),
        {**_field("rows", "int"), "default": 1},
    ]
    return _record("Source", fields)


def _record(name: str, fields: Iterable[dict[str, Any]], *, doc: str = "") -> dict[str, Any]:
    said = {"doc": doc} if doc else {}
    return {"type": "record", "name": name, **said, "fields": list(fields)}


def _field(name: str, type_: Any, *, doc: str = "") -> dict[str, Any]:
    return {"name": name, "type": type_, **({"doc": doc} if doc else {})}


def _optional(name: str, type_: Any) -> dict[str, Any]:
    return {"name": name, "type": ["null", type_], "default": None}


def _names(name: str, doc: str) -> dict[str, Any]:
    return {**_field(name, {"type": "array", "items": "string"}, doc=doc), "default": []}
