"""The bench's events as Debezium has them of MongoDB, and as Maxwell writes them of MySQL, and the specs for both."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.table import TableSpec
from tests.bench.events import bench_spec, events

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS = 86_400_000


def mongodb_spec(table: str, topic: str) -> TableSpec:
    """Return the spec of the bench's table as a collection: its key is `_id`."""
    columns = {"_id" if name == "id" else name: column for name, column in _bare(table, topic).columns.items()}
    return _bare(table, topic).model_copy(update={"format": "debezium-mongodb", "columns": columns, "key": ["_id"]})


def maxwell_spec(table: str, topic: str) -> TableSpec:
    """Return the spec of the bench's table where its source is Maxwell."""
    return _bare(table, topic).model_copy(update={"format": "maxwell"})


def _bare(table: str, topic: str) -> TableSpec:
    spec = bench_spec(table, topic)
    columns = {name: column.model_copy(update={"encoding": None}) for name, column in spec.columns.items()}
    return spec.model_copy(update={"columns": columns})


def mongodb_events(n: int, topic: str) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield the same rows as `events`, as documents of the extended JSON that the connector writes."""
    for _, value, number in events(n, topic):
        event = json.loads(value)
        row, source = event["after"], event["source"]
        identifier = {"$numberLong": str(row.pop("id"))}
        row["amount"] = {"$numberDecimal": _amount(row["amount"])}
        row["taken_at"] = {"$date": source["ts_ms"]}
        row["entered_at"] = {"$date": row["entered_at"] // 1_000}
        row["day"] = {"$date": row["day"] * _DAY_MS}
        row["device"] = {"$binary": base64.b64encode(uuid.UUID(row["device"]).bytes).decode(), "$type": "04"}
        document = {
            "before": None,
            "after": json.dumps({"_id": identifier, **row}),
            "updateDescription": {"removedFields": None, "updatedFields": "{}", "truncatedArrays": None}
            if event["op"] == "u"
            else None,
            "source": {
                "version": "3.7.0.Final", "connector": "mongodb", "name": source["name"], "ts_ms": source["ts_ms"],
                "snapshot": "false", "db": "clinic", "sequence": None, "ts_us": source["ts_us"],
                "ts_ns": source["ts_ns"], "collection": "results", "ord": number % 100, "lsid": None,
                "txnNumber": None, "wallTime": source["ts_ms"],
            },
            "op": event["op"],
            "ts_ms": event["ts_ms"],
            "transaction": None,
        }  # fmt: skip
        yield _written({"id": json.dumps(identifier)}), _written(document), number


def maxwell_events(n: int, topic: str) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield the same rows as `events`, as Maxwell writes them with `output_binlog_position` and `output_xoffset`."""
    for place, (_, value, number) in enumerate(events(n, topic)):
        event = json.loads(value)
        row, source = event["after"], event["source"]
        row["amount"] = float(_amount(row["amount"]))
        row["taken_at"] = row["taken_at"].replace("T", " ").removesuffix("Z")
        row["entered_at"] = (_EPOCH + timedelta(microseconds=row["entered_at"])).strftime("%Y-%m-%d %H:%M:%S.%f")
        row["day"] = str((_EPOCH + timedelta(days=row["day"])).date())
        row["final"] = int(row["final"])
        update = event["op"] == "u"
        document = {
            "database": "clinic", "table": "results", "type": "update" if update else "insert",
            "ts": source["ts_us"] // 1_000_000, "xid": 700 + place, "xoffset": place % 3,
            "position": f"mysql-bin.002171:{source['lsn']}", "data": row,
        }  # fmt: skip
        if update:
            document["old"] = {"note": "sample"}
        key = {"database": "clinic", "table": "results", "pk.id": row["id"]}
        yield _written(key), _written(document), number


def _amount(text: str) -> str:
    return f"{int.from_bytes(base64.b64decode(text), 'big') / 100:.2f}"


def _written(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
