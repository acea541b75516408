"""Contracts and changes for tests: a column of every type, and values of each."""

from __future__ import annotations

from typing import Any

from schemas.contract import Contract, contract_of
from schemas.table import TableSpec
from tests.unit.contract_reader.columns import TYPES
from tests.unit.lake.changes import TOPIC, change

OUTPUT = "headgate.changes.t"
ROW: dict[str, Any] = {
    "c_boolean": True,
    "c_int": -5,
    "c_long": "9223372036854775807",
    "c_float": "-Infinity",
    "c_double": 1.25,
    "c_decimal": "-1234567890.12",
    "c_date": "2024-02-29",
    "c_time": "13:45:06.789123",
    "c_timestamp": "2024-02-29T13:45:06.789123",
    "c_timestamptz": "2024-02-29T13:45:06.789123Z",
    "c_string": 'quote " and emoji 🚑',
    "c_json": '{"a":[1,null]}',
    "c_uuid": "b68a35a7-17ad-35b3-af2a-ae46edb4545a",
    "c_binary": "AP/+",
    "c_list": ["1", None, "-3"],
    "c_lists": [["1.5"], None, []],
}


def contract(columns: dict[str, str] | None = None, key: list[str] | None = None, **changed: Any) -> Contract:
    """Return the contract of a table `t`, with a column of every type unless told otherwise."""
    chosen = columns or TYPES
    fields = {"table": "t", "topics": [TOPIC], "key": ["c_long"] if key is None else key, "columns": chosen}
    spec = TableSpec.model_validate({**fields, **changed})
    return contract_of(spec, topic=f"headgate.changes.{spec.table}", schema_version=3)


def typed(offset: int = 7, **changed: Any) -> dict[str, Any]:
    """Return a change with a value of every type; `changed` replaces what stands here."""
    return change(offset, 1, **{"key": {"c_long": ROW["c_long"]}, "after": dict(ROW), **changed})
