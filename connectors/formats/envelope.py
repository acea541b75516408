"""The Debezium envelope as Structs, and layouts: the ways that the records of a table look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from connectors.formats.rows import ColumnPlan, RowPlan
from connectors.formats.schemablock import payload_behind

Operations = Literal["c", "u", "d", "r", "t"]
INCREMENTAL = "incremental"
NULL = msgspec.Raw(b"null")  # msgspec has no union with Raw
Snapshot = bool | str | None


class Skipped(msgspec.Struct, gc=False):
    """An object whose fields are not read; there or null is all that matters."""


class PostgresSource(msgspec.Struct, gc=False):
    """What is read of `source` of a PostgreSQL change."""

    connector: Literal["postgresql"]
    snapshot: Snapshot = None
    sequence: str | None = None
    ts_us: int | None = None
    ts_ms: int | None = None
    txId: int | str | None = None  # noqa: N815 - Debezium's name
    lsn: int | None = None


class MysqlSource(msgspec.Struct, gc=False):
    """What is read of `source` of a MySQL or MariaDB change."""

    connector: Literal["mysql", "mariadb"]
    snapshot: Snapshot = None
    ts_us: int | None = None
    ts_ms: int | None = None
    gtid: str | None = None
    file: str | None = None
    pos: int | None = None
    row: int | None = None
    query: str | None = None


class SqlserverSource(msgspec.Struct, gc=False):
    """What is read of `source` of a SQL Server change, and of Db2's, which counts nothing within one place."""

    connector: Literal["sqlserver", "db2"]
    snapshot: Snapshot = None
    ts_us: int | None = None
    ts_ms: int | None = None
    commit_lsn: str | None = None
    change_lsn: str | None = None
    event_serial_no: int | str | None = None


class OracleSource(msgspec.Struct, gc=False):
    """What is read of `source` of an Oracle change."""

    connector: Literal["oracle"]
    snapshot: Snapshot = None
    ts_us: int | None = None
    ts_ms: int | None = None
    txId: str | None = None  # noqa: N815 - Debezium's name
    txSeq: int | str | None = None  # noqa: N815
    scn: int | str | None = None
    commit_scn: int | str | None = None
    redo_sql: str | None = None
    user_name: str | None = None


class SourceName(msgspec.Struct, gc=False):
    """Who sent a record: read once per run. Raw, for these fields of a change that was decoded may hold anything."""

    connector: msgspec.Raw = NULL
    name: msgspec.Raw = NULL
    db: msgspec.Raw = NULL
    schema: msgspec.Raw = NULL
    table: msgspec.Raw = NULL

    def text(self, field_name: str) -> str:
        """Return a field that is a text, and nothing of any other."""
        raw = getattr(self, field_name)
        return str(msgspec.json.decode(raw)) if bytes(raw).startswith(b'"') else ""

    @property
    def full_table(self) -> str:
        """The table with its schema, or with its database where there are no schemas."""
        return ".".join(filter(None, (self.text("schema") or self.text("db"), self.text("table"))))


class Named(msgspec.Struct, gc=False):
    """A record of which only the sender is read."""

    source: msgspec.Raw = NULL
    payload: msgspec.Raw = NULL  # behind a schema block that is not written as JsonConverter does


class Block(msgspec.Struct, gc=False):
    """A record with a schema block."""

    schema: msgspec.Raw
    payload: msgspec.Raw


SOURCES: dict[str, type[msgspec.Struct]] = {
    "postgresql": PostgresSource,
    "mysql": MysqlSource,
    "mariadb": MysqlSource,
    "sqlserver": SqlserverSource,
    "oracle": OracleSource,
    "db2": SqlserverSource,
}
DIALECTS = {name: name for name in SOURCES} | {"mariadb": "mysql"}
# Texts of `source` that hold colons, and not in each record equally many (inspection.py counts them).
COLON_TEXTS: dict[type[msgspec.Struct], tuple[str, ...]] = {
    PostgresSource: (),
    MysqlSource: ("query", "gtid"),
    SqlserverSource: ("commit_lsn", "change_lsn"),
    OracleSource: ("commit_scn", "redo_sql", "user_name"),
}


@dataclass(eq=False, slots=True)
class Layout:
    """One way that the records of a table look: decoded in one call, and with one number of keys.

    `prefix` is the schema block in front of the payload, empty without one. `keys` is how many colons a record has
    outside the values of its rows, by the record's shape, learned from the last record that was inspected. `unknown`
    are the columns of its rows that the spec does not name, `defaults` those of which a null may arrive as the default.
    """

    dialect: str
    plan: RowPlan
    decode: Callable[[bytes], Any]
    prefix: bytes = b""
    exact: bool = True
    before: bool = False
    unknown: tuple[str, ...] = ()
    keys: dict[tuple[bool, bool, bool], int] = field(default_factory=dict)
    defaults: list[tuple[ColumnPlan, Any]] = field(default_factory=list)

    def read(self, value: bytes) -> Any:
        """Return the envelope of one record; raises what msgspec raises."""
        return self.decode(payload_behind(self.prefix, value))


def layout(
    dialect: str,
    plan: RowPlan,
    *,
    before: bool,
    prefix: bytes = b"",
    exact: bool = True,
    unknown: tuple[str, ...] = (),
) -> Layout:
    """Return the layout of a connector's records whose rows are as planned; `before` is decoded if it is trusted."""
    envelope = msgspec.defstruct(
        "Envelope",
        [
            ("source", SOURCES[dialect]),
            ("op", Operations),
            ("before", plan.type | None, None) if before else ("before", msgspec.Raw, NULL),
            ("after", plan.type | None, None),
            ("transaction", Skipped | None, None),
        ],
        gc=False,
    )
    return Layout(DIALECTS[dialect], plan, msgspec.json.Decoder(envelope).decode, prefix, exact, before, unknown)
