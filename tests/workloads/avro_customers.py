"""The captured customers, many more of them: rows of a source, and the records that Debezium makes of them.

The schemas are those that a real registry had of a real connector; `extra` came with the second of them.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro

SCHEMAS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "fixtures/formats/pg-avro-confluent/schemas.json").read_text()
)
KEY, ENVELOPE, ENVELOPE_WITH_EXTRA = "1", "2", "5"
SUBJECTS = {KEY: "customers-key", ENVELOPE: "customers-value", ENVELOPE_WITH_EXTRA: "customers-value"}
COLUMNS: dict[str, str] = {
    "id": "int", "name": "string", "email": "string", "balance": "decimal(10,2)", "big": "string",
    "updated": "timestamptz", "born": "date", "ts": "timestamp", "tm": "time", "active": "boolean", "m": "string",
    "u": "uuid", "j": "json", "b": "binary", "tags": "list<string>", "f4": "float", "f8": "double", "i2": "int",
    "i8": "long", "odd_name": "string", "bt": "binary", "iv": "long", "extra": "int",
}  # fmt: skip
DOCUMENT = {"table": "customers", "format": "debezium-avro", "key": ["id"], "columns": COLUMNS}
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - of times without a zone
_ALWAYS = frozenset({"id", "name"})
_COMMITTED_US = 1_767_323_045_000_000


def row_of(number: int, chance: random.Random, *, extra: bool) -> dict[str, Any]:
    """Return a row as the source has it, with values that PostgreSQL's driver would give; a third of them are null."""
    micros = chance.randrange(10**6)
    row: dict[str, Any] = {
        "id": number, "name": f"n{chance.random()} ünïcode", "email": f"a{number}@example.org",
        "balance": Decimal(chance.randrange(-(10**9), 10**9)) / 100, "big": f"{chance.randrange(10**30)}.{micros:06}",
        "updated": datetime(2024, 2, 29, 13, 45, 6, micros, tzinfo=UTC), "born": date(1900 + number % 200, 3, 1),
        "ts": datetime(2024, 2, 29, 13, 45, 6, micros), "tm": time(23, 59, 59, micros),  # noqa: DTZ001
        "active": chance.random() < 0.5, "m": chance.choice(["sad", "ok"]),
        "u": f"b68a35a7-17ad-35b3-af2a-{chance.randrange(16**12):012x}", "j": '{"a": [1, null]}',
        "b": chance.randbytes(chance.randrange(20)), "tags": [chance.choice(["x", "", None]) for _ in range(3)],
        "f4": chance.randrange(1000) / 8, "f8": chance.random(), "i2": chance.randrange(-32768, 32768),
        "i8": chance.randrange(-(2**63), 2**63), "odd_name": "odd", "bt": bytes([chance.randrange(32)]),
        "iv": chance.randrange(10**12),
    }  # fmt: skip
    row = {name: None if name not in _ALWAYS and chance.random() < 0.3 else value for name, value in row.items()}
    return row | {"extra": chance.choice([None, number])} if extra else row


def _written(name: str, value: Any) -> Any:
    """Return a value as Debezium puts it in a record."""
    match name, value:
        case _, None:
            return None
        case "balance", _:
            unscaled = int(value * 100)
            return unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)
        case "big", _:
            digits = value.partition(".")[2]
            unscaled = int(value.replace(".", ""))
            return {"scale": len(digits), "value": unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big")}
        case "updated", _:
            return value.isoformat().replace("+00:00", "Z")
        case "born", _:
            return (value - date(1970, 1, 1)).days
        case "ts", _:
            return _micros(value)
        case "tm", _:
            return _micros(datetime.combine(_EPOCH, value))
        case _:
            return value


def _micros(value: datetime) -> int:
    since = value - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def envelope(op: str, lsn: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an envelope; that of a delete has of its row what PostgreSQL logs of it, the key."""
    after = None if op == "d" else {name: _written(name, value) for name, value in row.items()}
    source = {
        "version": "3.7.0", "connector": "postgresql", "name": "clinic", "ts_ms": _COMMITTED_US // 1000,
        "snapshot": "false", "db": "d", "sequence": f'["{lsn - 1}","{lsn}"]', "ts_us": _COMMITTED_US,
        "schema": "public", "table": "customers", "txId": lsn, "lsn": lsn,
    }  # fmt: skip
    before = {"id": row["id"], "name": "", "active": None} if op == "d" else None
    return {"before": before, "after": after, "source": source, "op": op, "ts_ms": _COMMITTED_US // 1000}


def framed(number: int, which: str, value: Any) -> bytes:
    """Return a value behind the number that a registry gave its schema."""
    stream = BytesIO()
    fastavro.schemaless_writer(stream, _parsed(which), value)
    return bytes([0]) + number.to_bytes(4, "big") + stream.getvalue()


@functools.cache
def _parsed(which: str) -> Any:
    # fastavro would read meaning into bytes that Connect has written already.
    return fastavro.parse_schema(json.loads(json.dumps(SCHEMAS[which]).replace("logicalType", "ignored")))
