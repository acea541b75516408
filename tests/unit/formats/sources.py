"""Envelopes of connectors of which there are no captures, as their documentation shows them."""

from __future__ import annotations

from typing import Any

from tests.unit.formats.made import ROW, compact

COMMON = {
    "version": "3.6.0.Final",
    "name": "made",
    "ts_ms": 1_700_000_000_000,
    "snapshot": "false",
    "db": "shop",
    "sequence": None,
    "ts_us": 1_700_000_000_123_456,
    "ts_ns": 1_700_000_000_123_456_000,
    "schema": "dbo",
    "table": "made",
}
SQLSERVER = {
    "connector": "sqlserver",
    "change_lsn": "00000027:00000ac0:0002",
    "commit_lsn": "00000027:00000ac0:0007",
    "event_serial_no": 2,
}
DB2 = {
    "connector": "db2",
    "change_lsn": "00000000:00000000:00000000015a0002",
    "commit_lsn": "00000000:00000000:00000000015a0007",
}
ORACLE = {
    "connector": "oracle",
    "txId": "6.28.807",
    "scn": "2122184",
    "commit_scn": "2122190",
    "lcr_position": None,
    "rs_id": "001234.00012345.0124",
    "ssn": 0,
    "redo_thread": 1,
    "user_name": "user",
    "redo_sql": None,
    "row_id": "AAASgjAAMAAAACnAAA",
    "commit_ts_ms": 1_700_000_000_000,
    "start_scn": "2122184",
    "start_ts_ms": 1_700_000_000_000,
    "txSeq": 1,
}


def made(source: dict[str, Any], op: str, row: Any = ROW, **changes: Any) -> bytes:
    """Return an envelope of a connector; a delete has its row before."""
    before, after = (row, None) if op == "d" else (None, row)
    rest = {"transaction": None, "op": op, "ts_ms": 1_700_000_000_500, "ts_us": 1, "ts_ns": 1_000}
    return compact({"before": before, "after": after, "source": COMMON | source | changes} | rest)


def sqlserver(op: str = "u", row: Any = ROW, **changes: Any) -> bytes:
    """Return an envelope of SQL Server."""
    return made(SQLSERVER, op, row, **changes)


def db2(op: str = "u", row: Any = ROW, **changes: Any) -> bytes:
    """Return an envelope of Db2."""
    return made(DB2, op, row, **changes)


def oracle(op: str = "u", row: Any = ROW, **changes: Any) -> bytes:
    """Return an envelope of Oracle, as LogMiner fills it."""
    return made(ORACLE, op, row, **changes)


def of_xstream(op: str = "u", **changes: Any) -> bytes:
    """Return an envelope of Oracle as XStream fills it: the changes of one transaction are not counted."""
    return oracle(op, **({"txSeq": None, "rs_id": None, "user_name": None, "lcr_position": "000ab0"} | changes))


def of_openlogreplicator(op: str = "u", **changes: Any) -> bytes:
    """Return an envelope of Oracle as OpenLogReplicator fills it: the only SCN is that of the commit."""
    return of_xstream(op, **({"commit_scn": None, "lcr_position": None} | changes))
