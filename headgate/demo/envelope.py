"""Rows of the town's log as Debezium's PostgreSQL connector would write them: JSON without schema block.

Pure. The layout is that of captured records: replica identity DEFAULT (no `before` of an update, only the key of a
delete), a tombstone behind each delete, `source.lsn` and `source.sequence` rising in the order of commits.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from headgate.demo.database import TABLES, LoggedChange

SERVER = "town"
SNAPSHOT_LSN = 26_692_408
_LSN_STEP = 64  # room of a change in the log
_COMMIT_BEHIND = 48  # a commit's record stands behind its last change
_KWH_SCALE = 3


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """A record for a source topic; `value` None is a tombstone."""

    topic: str
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    at_ms: int


def _days(text: str) -> int:
    return (dt.date.fromisoformat(text) - dt.date(1970, 1, 1)).days


def _decimal(text: str) -> str:
    """Return what Connect's Decimal is in JSON: the unscaled number, big-endian, base64."""
    unscaled = int(Decimal(text).scaleb(_KWH_SCALE))
    size = (unscaled.bit_length() // 8) + 1
    return base64.b64encode(unscaled.to_bytes(size, "big", signed=True)).decode()


_ENCODED: dict[str, Callable[[Any], Any]] = {
    "born": _days,
    "in_house": bool,
    "kwh": _decimal,
    "monthly_limit_kwh": _decimal,
}


def topic_of(table: str) -> str:
    """Return the source topic of a table."""
    return f"{SERVER}.public.{table}"


def encode_row(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a row with the values of Debezium's JSON."""
    if row is None:
        return None
    return {name: _ENCODED.get(name, _same)(value) if value is not None else None for name, value in row.items()}


def lsn_of(seq: int) -> int:
    """Return where a change of the log stands."""
    return SNAPSHOT_LSN + seq * _LSN_STEP


def commit_lsn_of(seq: int) -> int:
    """Return where the commit of the transaction stands whose last change is `seq`; 0 is the snapshot."""
    return lsn_of(seq) + (_COMMIT_BEHIND if seq else 0)


def snapshot_record(table: str, row: Mapping[str, Any], *, marker: str, tx: int, at_seconds: float) -> SourceRecord:
    """Return a row as the initial snapshot reads it; `marker` is `first`, `true` or `last`."""
    source = _source(table, tx=tx, at_seconds=at_seconds, lsn=SNAPSHOT_LSN, commit=None, snapshot=marker)
    return _record(table, row["id"], _value("r", None, encode_row(row), source, at_seconds), at_seconds)


def change_records(change: LoggedChange, *, last_commit: int) -> list[SourceRecord]:
    """Return the records of a change: one, or with a delete its tombstone as well; `last_commit` is an LSN."""
    lsn = lsn_of(change.seq)
    source = _source(
        change.table, tx=change.tx, at_seconds=change.at_seconds, lsn=lsn, commit=last_commit, snapshot="false"
    )
    row = change.after or change.before
    assert row is not None, "a change has a row before or after it"
    before = {name: row["id"] if name == "id" else None for name in TABLES[change.table]} if change.op == "d" else None
    value = _value(change.op, before, encode_row(change.after), source, change.at_seconds)
    record = _record(change.table, row["id"], value, change.at_seconds)
    if change.op != "d":
        return [record]
    return [record, SourceRecord(record.topic, record.key, None, record.headers, record.at_ms)]


def _source(table: str, *, tx: int, at_seconds: float, lsn: int, commit: int | None, snapshot: str) -> dict[str, Any]:
    micros = int(at_seconds * 1_000_000)
    return {
        "version": "3.7.0.Final",
        "connector": "postgresql",
        "name": SERVER,
        "ts_ms": micros // 1000,
        "snapshot": snapshot,
        "db": SERVER,
        "sequence": json.dumps([None if commit is None else str(commit), str(lsn)], separators=(",", ":")),
        "ts_us": micros,
        "ts_ns": micros * 1000,
        "schema": "public",
        "table": table,
        "txId": tx,
        "lsn": lsn,
        "xmin": None,
        "origin": None,
        "origin_lsn": None,
    }


def _value(op: str, before: Any, after: Any, source: Mapping[str, Any], at_seconds: float) -> bytes:
    micros = int(at_seconds * 1_000_000) + 1_500  # when the connector saw it
    times = {"ts_ms": micros // 1000, "ts_us": micros, "ts_ns": micros * 1000}
    return _json({"before": before, "after": after, "source": source, "transaction": None, "op": op, **times})


def _record(table: str, key: int, value: bytes, at_seconds: float) -> SourceRecord:
    headers = (
        ("__debezium.context.connectorLogicalName", SERVER.encode()),
        ("__debezium.context.taskId", b"0"),
        ("__debezium.context.connectorName", b"postgresql"),
    )
    return SourceRecord(topic_of(table), _json({"id": key}), value, headers, int(at_seconds * 1000))


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _same(value: Any) -> Any:
    return value
