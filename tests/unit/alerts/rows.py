"""A table with odd columns, and rows of it as a reader made for some rules would give them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa

from connectors.contract import arrow_type
from schemas.table import TableSpec
from streams.rules import RuleSet

AT = dt.datetime(2026, 11, 20, 19, 45, 57, 123456, tzinfo=dt.UTC)
COLUMNS = {
    "id": "long",
    "amount": "decimal(12,2)",
    "Amount": "decimal(12,2)",
    "größe in cm": "int",
    'a"; DROP TABLE x; --': "string",
    "select": "string",
    "name": "string",
    "score": "double",
    "seen": "timestamptz",
    "local": "timestamp",
    "born": "date",
    "at": "time",
    "picture": "binary",
    "tags": "list<string>",
    "doc": "json",
}


def spec_of(*rules: dict[str, Any], before: str = "full", key: tuple[str, ...] = ("id",)) -> TableSpec:
    """Return a table of `COLUMNS` with `rules`, named r0, r1, …."""
    named = [{"rule": f"r{at}", **rule} for at, rule in enumerate(rules)]
    table = {"table": "bills", "topics": ["t"], "key": list(key), "before": before, "columns": COLUMNS, "rules": named}
    return TableSpec.model_validate(table)


def changes(rules: RuleSet, spec: TableSpec, *rows: dict[str, Any]) -> pa.Table:
    """Return `rows` (op, key, before, after) as the columns that a reader made for `rules` would give."""
    columns: dict[str, pa.Array] = {
        "op": pa.array([row.get("op", "update") for row in rows]),
        "ts": pa.array([row.get("ts", AT) for row in rows], pa.timestamp("us", "UTC")),
    }
    wanted = rules.columns
    for root in sorted(rules.rows):
        names = [n for n in (spec.key if root == "key" else spec.columns) if wanted is None or n in wanted]
        type_ = pa.struct([(name, arrow_type(spec.columns[name].type)) for name in names])
        values = [None if (row := each.get(root)) is None else {n: row.get(n) for n in names} for each in rows]
        columns[root] = pa.array(values, type_)
    return pa.table(columns)
