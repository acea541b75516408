"""Which database an address means. Drivers are an extra, so they are imported when they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors.sources.base import KeyRange, Session, SourceTable, open_table
from schemas.errors import ConfigurationError
from schemas.types import ColumnType

_POSTGRES = ("postgresql", "postgres")
_MYSQL = ("mysql", "mariadb")


def open_source(
    dsn: str, name: tuple[str, str], key: Sequence[str], columns: Mapping[str, ColumnType], bounds: KeyRange
) -> SourceTable:
    """Return the table `name` of the database at `dsn`; its session is the caller's, who closes it.

    Raises:
        SourceUnavailable: the database does not answer.
        ConfigurationError: the address is of no known database, its driver is missing, or there is no such table.
    """
    scheme = dsn.partition("://")[0].lower()
    session: Session
    try:
        if scheme in _POSTGRES:
            from connectors.sources.postgresql import DIALECT, PostgresSession  # noqa: PLC0415

            session, dialect = PostgresSession(dsn), DIALECT
        elif scheme in _MYSQL:
            from connectors.sources.mysql import DIALECT, MySQLSession  # noqa: PLC0415

            session, dialect = MySQLSession(dsn), DIALECT
        else:
            raise ConfigurationError(
                "the source is of no database that can be read", hint="write postgresql://… or mysql://…"
            )
    except ImportError as exc:
        raise ConfigurationError(f"the driver {exc.name} is not installed", hint="install headgate[verify]") from exc
    try:
        return open_table(session, dialect, name, key, columns, bounds)
    except BaseException:  # not ours to decide: only the session is
        session.close()
        raise
