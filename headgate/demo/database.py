"""The demo's source: a small SQLite database of a town, with its hospital and its electricity works.

Triggers write every change of a row into `change_log`, whoever made it, as a database's own log does. The connector of
the demo reads that log, so a change made by hand from another program flows like any other.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLES: dict[str, tuple[str, ...]] = {
    "patients": ("id", "name", "born", "ward", "in_house", "note", "updated_at"),
    "lab_results": ("id", "patient_id", "test", "value", "unit", "taken_at"),
    "customers": ("id", "name", "city", "tariff", "monthly_limit_kwh", "updated_at"),
    "meter_readings": ("id", "customer_id", "kwh", "read_at"),
}

_SCHEMA = """
CREATE TABLE patients (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, born TEXT, ward TEXT, in_house INTEGER, note TEXT, updated_at TEXT);
CREATE TABLE lab_results (
    id INTEGER PRIMARY KEY, patient_id INTEGER, test TEXT, value REAL, unit TEXT, taken_at TEXT);
CREATE TABLE customers (
    id INTEGER PRIMARY KEY, name TEXT, city TEXT, tariff TEXT, monthly_limit_kwh TEXT, updated_at TEXT);
CREATE TABLE meter_readings (
    id INTEGER PRIMARY KEY, customer_id INTEGER, kwh TEXT, read_at TEXT);
CREATE TABLE change_log (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, tx INTEGER, tbl TEXT, op TEXT, before TEXT, after TEXT, at REAL);
CREATE TABLE transactions (id INTEGER PRIMARY KEY AUTOINCREMENT);
INSERT INTO transactions VALUES (730);
"""
_NOW = "(julianday('now') - 2440587.5) * 86400.0"  # seconds since 1970, to the millisecond


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """A row of the log: `op` is c, u or d; rows are by column, None where there is none."""

    seq: int
    tx: int
    table: str
    op: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    at_seconds: float


class TownDatabase:
    """The SQLite file; each `transaction` is one of SQLite's, with a number of its own in the log."""

    def __init__(self, path: Path) -> None:
        """Make the file anew, with its tables and triggers."""
        path.unlink(missing_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;" + _SCHEMA)
        for table, columns in TABLES.items():
            self._connection.executescript("".join(_triggers(table, columns)))

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what happens inside, as one transaction; roll it back where an error leaves it."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.execute("INSERT INTO transactions DEFAULT VALUES")
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return all rows of a table by their key."""
        assert table in TABLES, f"{table} is not a table of the town"
        return [dict(row) for row in self._connection.execute(f"SELECT * FROM {table} ORDER BY id")]  # noqa: S608  a name of ours

    def log_end(self) -> int:
        """Return the number of the last change."""
        return int(self._connection.execute("SELECT coalesce(max(seq), 0) FROM change_log").fetchone()[0])

    def log_after(self, seq: int, limit: int = 1_000) -> list[LoggedChange]:
        """Return the committed changes behind `seq`, in order."""
        found = self._connection.execute("SELECT * FROM change_log WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))
        return [
            LoggedChange(
                row["seq"], row["tx"], row["tbl"], row["op"], _row(row["before"]), _row(row["after"]), row["at"]
            )
            for row in found
        ]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _row(text: str | None) -> dict[str, Any] | None:
    return None if text is None else dict(json.loads(text))


def _triggers(table: str, columns: tuple[str, ...]) -> Iterator[str]:
    """Yield the three triggers of a table, as SQL."""
    for event, op in (("INSERT", "c"), ("UPDATE", "u"), ("DELETE", "d")):
        before = "NULL" if op == "c" else _json_object("OLD", columns)
        after = "NULL" if op == "d" else _json_object("NEW", columns)
        yield (
            f"CREATE TRIGGER log_{table}_{op} AFTER {event} ON {table} BEGIN "  # noqa: S608  names of ours
            "INSERT INTO change_log (tx, tbl, op, before, after, at) "
            f"VALUES ((SELECT max(id) FROM transactions), '{table}', '{op}', {before}, {after}, {_NOW}); END;"
        )


def _json_object(row: str, columns: tuple[str, ...]) -> str:
    return "json_object(" + ", ".join(f"'{name}', {row}.{name}" for name in columns) + ")"
