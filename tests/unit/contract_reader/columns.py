"""Columns of every type, and their spec."""

from __future__ import annotations

from schemas.table import TableSpec
from tests.unit.lake.changes import TOPIC

TYPES = {
    "c_boolean": "boolean",
    "c_int": "int",
    "c_long": "long",
    "c_float": "float",
    "c_double": "double",
    "c_decimal": "decimal(12,2)",
    "c_date": "date",
    "c_time": "time",
    "c_timestamp": "timestamp",
    "c_timestamptz": "timestamptz",
    "c_string": "string",
    "c_json": "json",
    "c_uuid": "uuid",
    "c_binary": "binary",
    "c_list": "list<long>",
    "c_lists": "list<list<decimal(5,1)>>",
}


def spec_of(columns: dict[str, str] | None = None, key: list[str] | None = None) -> TableSpec:
    """Return a spec of all types."""
    fields = {"table": "t", "topics": [TOPIC], "key": key or [], "columns": columns or TYPES}
    return TableSpec.model_validate(fields)
