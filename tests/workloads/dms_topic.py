"""A topic into which AWS DMS sends all tables of a task: made records, and the specs that tell them apart."""

from __future__ import annotations

import json
from typing import Any

from schemas.table import TableSpec

SCHEMA = "clinic"
_POSITION = "mysql-bin-changelog.000007:{at}:0:{at}:7:mysql-bin-changelog.000007:4"


def dms_record(
    table: str, at: int, row: dict[str, Any], op: str = "insert", before: dict[str, Any] | None = None
) -> bytes:
    """Return the record of a change of `clinic.<table>` at a place in its log; `before` is the row until then."""
    metadata: dict[str, Any] = {
        "timestamp": "2026-11-21T00:03:15.000000Z", "record-type": "data", "operation": op,
        "partition-key-type": "schema-table", "schema-name": SCHEMA, "table-name": table,
    }  # fmt: skip
    if op != "load":
        metadata |= {
            "transaction-id": at, "transaction-record-id": 1, "commit-timestamp": "2026-11-21T00:03:14.000000Z",
            "stream-position": _POSITION.format(at=at),
        }  # fmt: skip
    image = {} if before is None else {"before-image": before}
    return json.dumps({"data": row, "metadata": metadata, **image}).encode()


def control_record(table: str) -> bytes:
    """Return what DMS sends when it makes a table: no change."""
    metadata = {
        "timestamp": "2026-11-21T00:03:00.000000Z", "record-type": "control", "operation": "create-table",
        "partition-key-type": "task-id", "schema-name": SCHEMA, "table-name": table,
    }  # fmt: skip
    return json.dumps({"metadata": metadata}).encode()


def dms_document(table: str, topic: str, **changes: Any) -> dict[str, Any]:
    """Return the spec of a table of the topic, as a document."""
    return {
        "table": table, "topics": [topic], "format": "dms", "source_table": f"{SCHEMA}.{table}", "key": ["id"],
        "columns": {"id": "long", "name": "string"}, **changes,
    }  # fmt: skip


def dms_spec(table: str, topic: str, **changes: Any) -> TableSpec:
    """Return the spec of a table of the topic."""
    return TableSpec.model_validate(dms_document(table, topic, **changes))
