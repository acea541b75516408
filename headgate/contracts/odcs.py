"""The contract of a table in the Open Data Contract Standard 3.1 (ODCS, of Bitol): the topic as one schema object.

An object of the standard has properties, and so has the record: those of a change, and in `key`, `before` and `after`
the table's columns. Each says its logical type in the standard's words, and its physical one in Headgate's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headgate.contracts.asyncapi import RULE
from schemas.config import KafkaConfig
from schemas.contract import Contract
from schemas.types import ColumnType, Kind

ODCS = "v3.1.0"
_HOURS_A_DAY = 24
_LOGICAL = {
    Kind.BOOLEAN: "boolean",
    Kind.INT: "integer",
    Kind.LONG: "integer",
    Kind.FLOAT: "number",
    Kind.DOUBLE: "number",
    Kind.DECIMAL: "number",
    Kind.DATE: "date",
    Kind.TIME: "time",
    Kind.TIMESTAMP: "timestamp",
    Kind.TIMESTAMPTZ: "timestamp",
    Kind.LIST: "array",
}


def odcs_document(contract: Contract, kafka: KafkaConfig) -> dict[str, Any]:
    """Return the document."""
    return {
        "apiVersion": ODCS,
        "kind": "DataContract",
        "id": f"urn:headgate:{contract.topic}",
        "name": contract.table,
        "version": f"{contract.schema_version}.0.0",
        "status": "active",
        "description": {
            "purpose": f"The changes of {contract.table}, one record for each change of a row.",
            "usage": RULE,
            "limitations": "A column may be null, unavailable (named in `unavailable`) or absent: three things.",
        },
        "servers": [{"server": "kafka", "type": "kafka", "host": kafka.bootstrap, "format": contract.format}],
        "schema": [_object(contract)],
        "slaProperties": [_retention(kafka)],
        "customProperties": [{"property": "headgateContract", "value": contract.document()}],
    }


def _retention(kafka: KafkaConfig) -> dict[str, Any]:
    hours = kafka.changes_retention_hours
    days, rest = divmod(hours, _HOURS_A_DAY)
    return {"property": "retention", "value": days if not rest else hours, "unit": "d" if not rest else "h"}


def _object(contract: Contract) -> dict[str, Any]:
    return {
        "name": contract.table,
        "physicalName": contract.topic,
        "physicalType": "topic",
        "logicalType": "object",
        "dataGranularityDescription": "One record for each change of a row.",
        "properties": list(_properties(contract)),
    }


def _properties(contract: Contract) -> Iterable[dict[str, Any]]:
    yield _property("op", "string", "insert, update, delete, snapshot or floor", required=True)
    if contract.key:
        key = [_column(name, contract, is_key=True) for name in contract.key]
        other = [_column(name, contract) for name in contract.key]
        yield {**_property("key", "object", "The row's key; null for a floor."), "properties": key}
        yield {**_property("old_key", "object", "Of an insert: the row had this key before."), "properties": other}
        yield {**_property("new_key", "object", "Of a delete: the row has this key from now on."), "properties": other}
    columns = [_column(name, contract) for name in contract.columns]
    before = "The row as it was." if contract.before else "Null: the source does not log it."
    yield {**_property("before", "object", before), "properties": columns}
    yield {**_property("after", "object", "The row as it is; null for a delete."), "properties": columns}
    yield _property(
        "position", "string", "Where the change stands in the source's log; compare as text.", required=True
    )
    yield _property("ts", "timestamp", "The source's commit time, UTC; never for order.", required=True)
    names = {"logicalType": "string", "physicalType": "string"}
    yield {**_property("unavailable", "array", "Columns that the source did not send.", required=True), "items": names}
    if contract.format == "avro":
        absent = _property("absent", "array", "Columns that the change does not have.", required=True)
        yield {**absent, "items": names}
    source = _source(contract)
    yield {**_property("source", "object", "Where the change comes from.", required=True), "properties": source}


def _source(contract: Contract) -> list[dict[str, Any]]:
    kind, parts = _origin(contract)
    origin = _property("origin", kind, "Topic, generation, partition and offset: the identity.", required=True)
    first = _property("first_origin", kind, "Of a change that was in quarantine or parked: where it was read at first.")
    return [
        _property("connector", "string", "What captured the change.", required=True),
        _property("name", "string", "The source's name.", required=True),
        _property("table", "string", "The table's name in its source.", required=True),
        _property("tx", "string", "The transaction."),
        _property("snapshot", "boolean", "Whether the row was read, not changed.", required=True),
        {**origin, **parts},
        {**first, **parts},
        _property("previous", "integer", "The origin offset of the change before it in the same stream."),
        _property("rows", "integer", "How many changes the record made, where more than one."),
    ]


def _origin(contract: Contract) -> tuple[str, dict[str, Any]]:
    """Return what an origin is, and of what: an array in JSON, a record in Avro."""
    if contract.format == "json":
        return "array", {"items": {"logicalType": "string", "physicalType": "text or number"}}
    numbers = [
        _property(name, "integer", f"Its {name}.", required=True) for name in ("generation", "partition", "offset")
    ]
    row = _property("row", "integer", "Which change of its record it is, from 0 on.", required=True)
    return "object", {"properties": [_property("topic", "string", "Its topic.", required=True), *numbers, row]}


def _property(name: str, logical: str, description: str, *, required: bool = False) -> dict[str, Any]:
    said = {"required": True} if required else {}
    return {"name": name, "logicalType": logical, "physicalType": logical, "description": description, **said}


def _column(name: str, contract: Contract, *, is_key: bool = False) -> dict[str, Any]:
    keyed: dict[str, Any] = {}
    if is_key:
        keyed = {"required": True, "primaryKey": True, "primaryKeyPosition": contract.key.index(name) + 1}
    return {"name": name, **_typed(contract.columns[name]), **keyed}


def _typed(type_: ColumnType) -> dict[str, Any]:
    typed: dict[str, Any] = {"logicalType": _LOGICAL.get(type_.kind, "string"), "physicalType": str(type_)}
    if type_.kind is Kind.LIST:
        assert type_.element is not None, "a list has an element"
        typed["items"] = _typed(type_.element)
    return typed
