"""Values of the contract for tests, and a table for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pyarrow as pa

from connectors.contract import ContractReader
from schemas.table import TableSpec
from sinks.lake.rows import ROWS_READ, lake_rows

TOPIC = "clinic.public.patients"
INGESTED = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


def spec_of(**changed: Any) -> TableSpec:
    """Return the spec of a small table; `changed` replaces what stands here."""
    columns = {"id": "long", "name": "string", "note": "string", "weight": "decimal(6,2)", "tags": "list<string>"}
    fields: dict[str, Any] = {"table": "patients", "topics": [TOPIC], "key": ["id"], "columns": columns}
    return TableSpec.model_validate({**fields, **changed})


def change(offset: int, number: int, **changed: Any) -> dict[str, Any]:
    """Return an update of row `number`, read at `offset` behind `offset - 1`; `changed` replaces what stands here."""
    row = {
        "id": str(number),
        "name": f"name {offset}",
        "note": f"note {offset}",
        "weight": "70.50",
        "tags": ["a", None],
    }
    source = {
        "connector": "postgresql",
        "name": "clinic",
        "table": "public.patients",
        "tx": str(offset),
        "snapshot": False,
        "origin": [TOPIC, 0, 0, offset],
        "first_origin": None,
        "previous": offset - 1 if offset else None,
    }
    value: dict[str, Any] = {
        "op": "update",
        "key": {"id": str(number)},
        "old_key": None,
        "new_key": None,
        "before": None,
        "after": row,
        "position": f"{offset:045d}",
        "ts": "2026-11-20T19:45:57.123456Z",
        "unavailable": [],
        "source": source,
    }
    source.update(changed.pop("source", {}))
    missing = changed.get("unavailable", [])
    value.update(changed)
    if value["after"] is not None:
        value["after"] = {name: cell for name, cell in value["after"].items() if name not in missing}
    return value


def deletion(offset: int, number: int, **changed: Any) -> dict[str, Any]:
    """Return a delete of row `number`."""
    return change(offset, number, **{"op": "delete", "after": None, **changed})


def record(offset: int, count: int, *, before: int | None = None, partition: int = 0) -> list[dict[str, Any]]:
    """Return the changes of one record that made `count` of them, behind that of `before`."""
    several: dict[str, Any] = {"rows": count} if count > 1 else {}
    return [
        change(
            offset,
            (offset + row) % 3,
            position=f"{offset:035d}{row:010d}",
            source={
                "origin": [TOPIC, 0, partition, offset, *([row] if row else [])],
                "previous": offset if row else before,
                **several,
            },
        )
        for row in range(count)
    ]


def chain(counts: Sequence[int], *, first: int = 0, before: int | None = None) -> list[list[dict[str, Any]]]:
    """Return records of so many changes, one behind the other, at each second offset from `first` on."""
    records = []
    for number, count in enumerate(counts):
        offset = first + 2 * number
        records.append(record(offset, count, before=before))
        before = offset
    return records


def encoded(changes: Sequence[dict[str, Any]]) -> list[bytes]:
    """Return the changes as NORMALIZE writes them."""
    return [orjson.dumps(one) for one in changes]


def rows_of(changes: Sequence[dict[str, Any]], spec: TableSpec | None = None) -> pa.Table:
    """Return the lake's rows of `changes`."""
    spec = spec or spec_of()
    values = encoded(changes)
    return lake_rows(spec, ContractReader(spec, rows=ROWS_READ).read(values), values, ingested=INGESTED)
