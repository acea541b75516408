"""MySQL and MariaDB as sources that are read directly, by PyMySQL."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import pymysql

from connectors.sources.base import Dialect, Driver
from schemas.errors import ConfigurationError, SourceUnavailable
from schemas.types import ColumnType, Kind

CONNECT_SECONDS = 10
ANSWER_SECONDS = 60
_PORT = 3306
# The texts of values depend on the zone and the mode; the session may not write.
_SESSION = ("SET SESSION TRANSACTION READ ONLY", "SET SESSION time_zone = '+00:00', SESSION sql_mode = ''")
_COMPRESSION = "binlog_transaction_compression"
# 8.4 has only the first, MariaDB and older MySQLs only the second.
_MOMENTS = ("SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")


def _said(error: Exception) -> str:
    """Return number and sentence of the server."""
    return " ".join(str(part) for part in error.args[:2]) or type(error).__name__


DRIVER = Driver((pymysql.err.OperationalError, pymysql.err.InterfaceError, OSError), pymysql.Error, _said)


def connect(dsn: str) -> pymysql.connections.Connection[Any]:
    """Return a connection that commits each statement; raises what `MySQLSession` does."""
    try:
        at = urlsplit(dsn)
        host, port = at.hostname, at.port or _PORT
    except ValueError:  # its text repeats part of the address
        host, port = None, _PORT
    if not host:
        raise ConfigurationError("that is no address of a MySQL", hint="write mysql://user@host:3306/database")
    password = unquote(at.password) if at.password is not None else os.environ.get("MYSQL_PWD", "")
    with DRIVER.translated(hint="is the address right, and MYSQL_PWD set?"):
        return pymysql.connect(
            host=host, port=port, user=unquote(at.username or "root"), password=password, autocommit=True,
            connect_timeout=CONNECT_SECONDS, read_timeout=ANSWER_SECONDS, charset="utf8mb4",
        )  # fmt: skip


class MySQLSession:
    """A connection that commits each statement and may not write."""

    def __init__(self, dsn: str) -> None:
        """Connect; a password that `dsn` does not have is taken from MYSQL_PWD.

        Raises:
            SourceUnavailable: the server does not answer, or does not let this user in.
            ConfigurationError: `dsn` is no address.
        """
        self._connection = connect(dsn)
        with DRIVER.translated(hint="is the address right, and MYSQL_PWD set?"):
            for statement in _SESSION:
                self.run(statement)

    def run(self, query: str, parameters: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        """Run one statement and return its rows; see `base.Session`."""
        with DRIVER.translated(), self._connection.cursor() as cursor:
            cursor.execute(query, list(parameters))
            rows: Sequence[Sequence[Any]] = cursor.fetchall()
            return rows

    def moment(self) -> str:
        """Return the place in the binary log, such as `binlog.000003:1543`; empty for a user who may not know it."""
        for statement in _MOMENTS:
            try:
                rows = self.run(statement)
            except (ConfigurationError, SourceUnavailable):  # not known to this server, or not allowed: the next one
                continue
            if rows:
                return f"{rows[0][0]}:{rows[0][1]}"
        return ""

    def leaves_open(self) -> str:
        """Return the setting by which changes of one transaction have one place in the log, where it is on."""
        try:
            rows = self.run(f"SELECT @@GLOBAL.{_COMPRESSION}")
        except (ConfigurationError, SourceUnavailable):  # not known to MariaDB, nor to older MySQLs
            return ""
        return f"{_COMPRESSION}=ON" if rows and rows[0][0] else ""

    def close(self) -> None:
        """Leave."""
        self._connection.close()


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``").replace("%", "%%") + "`"


def _text_of(quoted: str, column: ColumnType) -> str | None:
    match column.kind:
        case Kind.BINARY:
            return f"REPLACE(TO_BASE64({quoted}), '\\n', '')"
        case Kind.BOOLEAN:  # a TINYINT(1), or a BIT(1)
            return f"CASE WHEN {quoted} IS NULL THEN NULL WHEN {quoted} THEN 'true' ELSE 'false' END"
        case Kind.FLOAT | Kind.DOUBLE:  # as text a FLOAT has six digits only
            return f"CAST({quoted} + 0E0 AS CHAR)"
        case Kind.TIMESTAMPTZ:
            return f"CONCAT(CAST({quoted} AS CHAR), 'Z')"
        case Kind.LIST:
            return None
        case _:
            return f"CAST({quoted} AS CHAR)"


DIALECT = Dialect(_quoted, _text_of)
