"""The JSON Schemas of a table's changes and keys, draft 2020-12.

Promise: what NORMALIZE writes by this version of the table's columns is valid by it, and so is what it writes by any
compatible version after it but for a type that became wider: a field or a column may be added. Changes of an older
version (their header `headgate.schema` is lower) may have the older form of what is wider now.

Ours are the keywords that begin with `x-headgate`; every reader of JSON Schema passes over them.
"""

from __future__ import annotations

from typing import Any

from schemas.contract import KEYWORD, Contract
from schemas.types import ColumnType, Kind

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TYPE = "x-headgate-type"  # beside the schema of a column: its type in the table's spec

_INT_END = 2**31
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}"
_DAY = r"[+-]?[0-9]{4,7}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_OPERATIONS = ("insert", "update", "delete", "snapshot", "floor")
_OFFSET = {"type": "integer", "minimum": 0}

_PLAIN: dict[Kind, dict[str, Any]] = {
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.INT: {"type": "integer", "minimum": -_INT_END, "maximum": _INT_END - 1},
    Kind.LONG: {"type": "string", "pattern": "^(0|-?[1-9][0-9]{0,18})$"},
    Kind.DATE: {"type": "string", "pattern": f"^{_DAY}$"},
    Kind.TIME: {"type": "string", "pattern": f"^{_CLOCK}$"},
    Kind.TIMESTAMP: {"type": "string", "pattern": f"^{_DAY}T{_CLOCK}$"},
    Kind.TIMESTAMPTZ: {"type": "string", "pattern": f"^{_DAY}T{_CLOCK}Z$"},
    Kind.STRING: {"type": "string"},
    Kind.JSON: {"type": "string", "contentMediaType": "application/json"},
    Kind.UUID: {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
    Kind.BINARY: {
        "type": "string",
        "contentEncoding": "base64",
        "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    },
}
_NOT_FINITE = ["NaN", "Infinity", "-Infinity"]


def value_schema(contract: Contract) -> dict[str, Any]:
    """Return the schema of a change; the contract itself stands in it under `x-headgate`."""
    return {
        "$schema": DIALECT,
        "$id": f"urn:headgate:{contract.topic}:value:{contract.schema_version}",
        KEYWORD: contract.document(),
        **change_schema(contract, refs="#/$defs/"),
        "$defs": {**parts_schemas(contract), "origin": origin_schema()},
    }


def key_schema(contract: Contract) -> dict[str, Any]:
    """Return the schema of a record's key; the key of a table without one is null."""
    identity = {"$schema": DIALECT, "$id": f"urn:headgate:{contract.topic}:key:{contract.schema_version}"}
    described = _key(contract) if contract.key else {"type": "null"}
    return {**identity, "title": f"The key of a change of {contract.table}", **described}


def change_schema(contract: Contract, *, refs: str) -> dict[str, Any]:
    """Return the schema of a change, which finds `row`, `key` and `origin` below `refs`.

    Apart from how `origin` says it, the parts are written alike in draft 7, which AsyncAPI takes.
    """
    row, key, origin = ({"$ref": f"{refs}{name}"} for name in ("row", "key", "origin"))
    properties = {
        "op": {"enum": list(_OPERATIONS), "description": "What happened to the row; docs/contract.md has floors."},
        "key": _or_null(key),
        "old_key": _or_null(key, "Of an insert: the row had this key before."),
        "new_key": _or_null(key, "Of a delete: the row has this key from now on."),
        "before": _or_null(row, f"The row as it was{'' if contract.before else '; null for this table'}."),
        "after": _or_null(row, "The row as it is; null for a delete."),
        "position": {"type": "string", "pattern": "^[0-9]+$", "description": "Compare as text; the higher one wins."},
        "ts": {**_PLAIN[Kind.TIMESTAMPTZ], "description": "The source's commit time: never for order."},
        "unavailable": {"type": "array", "items": {"type": "string"}, "description": "Columns that were not sent."},
        "source": _source(origin),
    }
    return {
        "title": f"A change of {contract.table}",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "allOf": _by_operation(is_keyed=bool(contract.key)),
    }


def parts_schemas(contract: Contract) -> dict[str, dict[str, Any]]:
    """Return the schemas of `row` and `key`: a row may lack columns, and all but those of the key may be null."""
    columns = {
        name: column_schema(type_) if name in contract.key else _nullable(column_schema(type_))
        for name, type_ in contract.columns.items()
    }
    return {"row": {"type": "object", "properties": columns}, "key": _key(contract)}


def origin_schema() -> dict[str, Any]:
    """Return the schema of an origin: topic, generation, partition, offset, and which of its record's changes it is."""
    return {
        "type": "array",
        "prefixItems": [{"type": "string"}, _OFFSET, _OFFSET, _OFFSET, {"type": "integer", "minimum": 1}],
        "items": False,
        "minItems": 4,
    }


def column_schema(type_: ColumnType) -> dict[str, Any]:
    """Return the schema of a column's values without null: the form that `schemas/types.py` has for its type."""
    return {**_form(type_), TYPE: str(type_)}


def _form(type_: ColumnType) -> dict[str, Any]:
    match type_.kind:
        case Kind.FLOAT | Kind.DOUBLE:
            return {"anyOf": [{"type": "number"}, {"enum": list(_NOT_FINITE)}]}
        case Kind.DECIMAL:
            whole = max(type_.precision - type_.scale, 1)
            fraction = rf"\.[0-9]{{{type_.scale}}}" if type_.scale else ""
            return {"type": "string", "pattern": f"^-?(0|[1-9][0-9]{{0,{whole - 1}}}){fraction}$"}
        case Kind.LIST:
            assert type_.element is not None, "a list has an element"
            return {"type": "array", "items": _nullable(_form(type_.element))}
        case _:
            return dict(_PLAIN[type_.kind])


def _nullable(form: dict[str, Any]) -> dict[str, Any]:
    """Return a form that may be null; other keywords say nothing of a null."""
    if "anyOf" in form:
        return {**form, "anyOf": [*form["anyOf"], {"type": "null"}]}
    return {**form, "type": [form["type"], "null"]}


def _or_null(reference: dict[str, Any], description: str = "") -> dict[str, Any]:
    said = {"description": description} if description else {}
    return {"anyOf": [reference, {"type": "null"}], **said}


def _key(contract: Contract) -> dict[str, Any]:
    columns = {name: column_schema(contract.columns[name]) for name in contract.key}
    return {"type": "object", "properties": columns, "required": list(columns), "additionalProperties": False}


def _source(origin: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "connector": {"type": "string"},
        "name": {"type": "string"},
        "table": {"type": "string"},
        "tx": {"type": ["string", "null"]},
        "snapshot": {"type": "boolean"},
        "origin": origin,
        "first_origin": _or_null(origin, "Of a change that was in quarantine or parked: where it was read at first."),
        "previous": {
            "type": ["integer", "null"],
            "minimum": 0,
            "description": "The origin offset of the change before it in the same topic, generation and partition.",
        },
    }
    rows = {"type": "integer", "minimum": 2, "description": "How many changes the record made, where more than one."}
    return {"type": "object", "properties": {**properties, "rows": rows}, "required": list(properties)}


def _by_operation(*, is_keyed: bool) -> list[dict[str, Any]]:
    """Return what each operation has and has not: a row behind it, and a key."""
    nothing = {"type": "null"}
    a_row = {"type": "object"}
    key = {"key": a_row if is_keyed else nothing}
    return [
        _then("floor", {"key": nothing, "before": nothing, "after": nothing}),
        _then("delete", {**key, "after": nothing}),
        *(_then(operation, {**key, "after": a_row}) for operation in ("insert", "update", "snapshot")),
    ]


def _then(operation: str, properties: dict[str, Any]) -> dict[str, Any]:
    condition = {"properties": {"op": {"const": operation}}, "required": ["op"]}
    return {"if": condition, "then": {"properties": properties}}
