"""What a schema block gives away of values that the source or its converter may already have changed.

None of it can be undone here, for a record does not say whether it happened: it is counted, and shown to whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET

from connectors.formats.rows import ColumnPlan, RawValue, RowPlan

NULL_OR_DEFAULT = "null_or_default"
_CONNECT = "org.apache.kafka.connect.data."
_BITS_ENDLESS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Trap:
    """A column whose values may not be what the database holds: `name` says how, as schemas/risk.py explains it."""

    column: str
    name: str


def schema_traps(fields: Mapping[str, Any]) -> list[Trap]:
    """Return what to beware of in the fields of a row's schema, `row_fields` of a schema block, in their order."""
    return [Trap(column, name) for column, field in fields.items() for name in _names(field)]


def _names(field: Mapping[str, Any]) -> Iterable[str]:
    if field.get("optional") is True and field.get("default") is not None:
        yield NULL_OR_DEFAULT
    inner = field
    while inner.get("type") == "array" and isinstance(inner.get("items"), dict):
        inner = inner["items"]
    name = inner.get("name")
    if name in {f"{_CONNECT}Time", f"{_CONNECT}Timestamp"}:
        yield "cut_to_millis"
    if name == "io.debezium.time.NanoTimestamp":
        yield "null_beyond_nanos"
    parameters = inner.get("parameters")
    length = parameters.get("length") if isinstance(parameters, dict) else None
    if name == "io.debezium.data.Bits" and length == str(_BITS_ENDLESS):
        yield "length_unknown"


def defaults_of(plan: RowPlan, fields: Mapping[str, Any]) -> list[tuple[ColumnPlan, Any]]:
    """Return the columns of which a null may arrive as their default, with that value as the wire has it."""
    found = []
    for column in plan.columns:
        field = fields.get(column.name, {})
        if NULL_OR_DEFAULT not in _names(field) or column.form.wire is RawValue:
            continue
        try:
            value = msgspec.json.decode(msgspec.json.encode(field["default"]), type=column.form.wire)
        except msgspec.MsgspecError:  # then no value of the column equals it either
            continue
        found.append((column, value))
    return found


def count_defaults(defaults: list[tuple[ColumnPlan, Any]], rows: list[Any]) -> int:
    """Return how many values of `rows`, not converted yet, may be a null that was replaced.

    A null in one of the columns proves that none is replaced: then `defaults` are emptied.
    """
    present = [row for row in rows if row is not None]
    total = 0
    for column, default in defaults:
        values = [value for value in map(column.read, present) if value is not UNSET]
        if None in values:
            defaults.clear()
            return 0
        total += values.count(default)
    return total
