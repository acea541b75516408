"""PostgreSQL as a source that is read directly, by psycopg."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from connectors.sources.base import Dialect, Driver
from schemas.errors import ConfigurationError, SourceUnavailable
from schemas.types import ColumnType, Kind

CONNECT_SECONDS = 10
STATEMENT_SECONDS = 60
# The texts of values depend on these; the session may not write, and no statement holds the source up for long.
_OPTIONS = (
    "-c default_transaction_read_only=on -c timezone=UTC -c datestyle=ISO"
    f" -c statement_timeout={STATEMENT_SECONDS * 1000} -c extra_float_digits=1 -c client_encoding=UTF8"
)
_MOMENT = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END"
# What JSON has the same form for as the contract; lists of others have no text that can be compared.
_ELEMENTS = frozenset({Kind.BOOLEAN, Kind.INT, Kind.LONG, Kind.STRING, Kind.UUID})


def _said(error: Exception) -> str:
    """Return the server's own sentence, values stand in its details only; of the driver itself the first line."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return primary or str(error).strip().partition("\n")[0] or type(error).__name__


DRIVER = Driver((psycopg.OperationalError,), psycopg.Error, _said)


def connect(dsn: str, *, options: str = "", name: str = "headgate") -> psycopg.Connection:
    """Return a connection that commits each statement; raises what `PostgresSession` does."""
    try:
        return psycopg.connect(
            dsn, autocommit=True, connect_timeout=CONNECT_SECONDS, options=options, application_name=name
        )
    except psycopg.OperationalError as exc:
        raise SourceUnavailable(
            f"the source database: {_said(exc)}", hint="is the address right, and PGPASSWORD set?"
        ) from exc
    except psycopg.Error:  # its text repeats the address, and with it the password
        raise ConfigurationError(
            "that is no address of a PostgreSQL", hint="write postgresql://user@host:5432/database"
        ) from None


class PostgresSession:
    """A connection that commits each statement and may not write."""

    def __init__(self, dsn: str) -> None:
        """Connect.

        Raises:
            SourceUnavailable: the server does not answer, or does not let this user in.
            ConfigurationError: `dsn` is no address.
        """
        self._connection = connect(dsn, options=_OPTIONS, name="headgate verify")

    def run(self, query: str, parameters: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        """Run one statement and return its rows; see `base.Session`."""
        with DRIVER.translated():
            return self._connection.execute(query.encode(), list(parameters)).fetchall()

    def moment(self) -> str:
        """Return the LSN that was written, of a standby the one that was replayed."""
        return str(self.run(_MOMENT)[0][0])

    def leaves_open(self) -> str:
        """Return nothing: each change says its place in the log."""
        return ""

    def close(self) -> None:
        """Leave."""
        self._connection.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


def _text_of(quoted: str, column: ColumnType) -> str | None:
    match column.kind:
        case Kind.BINARY:
            return f"translate(encode({quoted}, 'base64'), E'\\n', '')"
        case Kind.LIST:
            known = column.element is not None and column.element.kind in _ELEMENTS
            return f"to_json({quoted})::text" if known else None
        case _:
            return f"{quoted}::text"


DIALECT = Dialect(_quoted, _text_of)
