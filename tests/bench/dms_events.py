"""The bench's events as AWS DMS writes them, from MySQL with transaction details, and the spec that reads them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from schemas.table import TableSpec
from tests.bench.events import bench_spec, events

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCALE = Decimal("0.01")
_TIMES = "%Y-%m-%dT%H:%M:%S.%fZ"


def dms_spec(table: str, topic: str) -> TableSpec:
    """Return the spec of the bench's table where its source is AWS DMS."""
    spec = bench_spec(table, topic)
    columns = {name: column.model_copy(update={"encoding": None}) for name, column in spec.columns.items()}
    return spec.model_copy(update={"format": "dms", "columns": columns})


def dms_events(n: int, topic: str) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield key, value and a number to partition by, of the same rows in the same order as `events`."""
    for number, (_, value, row) in enumerate(events(n, topic)):
        event = json.loads(value)
        data, source = event["after"], event["source"]
        data["amount"] = float(int.from_bytes(base64.b64decode(data["amount"]), "big") * _SCALE)
        data["entered_at"] = _time(data["entered_at"])
        data["day"] = str((_EPOCH + timedelta(days=data["day"])).date())
        metadata = {
            "timestamp": _time(event["ts_us"]),
            "record-type": "data",
            "operation": {"c": "insert", "u": "update"}[event["op"]],
            "partition-key-type": "schema-table",
            "schema-name": source["schema"],
            "table-name": source["table"],
            "transaction-id": 9_324_410_911_751 + number,
            "transaction-record-id": 1,
            "prev-transaction-id": 9_324_410_911_750 + number,
            "prev-transaction-record-id": 1,
            "commit-timestamp": _time(source["ts_us"]),
            "stream-position": _stream_position(source["lsn"]),
        }
        key = f"{source['schema']}.{source['table']}"
        yield key.encode(), json.dumps({"data": data, "metadata": metadata}).encode(), row


def _time(micros: int) -> str:
    return (_EPOCH + timedelta(microseconds=micros)).strftime(_TIMES)


def _stream_position(at: int) -> str:
    file = "mysql-bin-changelog.002171"
    return f"{file}:{at}:0:{at + 62}:{9_324_410_911_751 + at}:{file}:{at - 62}"
