"""A signal for a connector, written as a row into the table that it reads its signals from.

The one thing that Headgate ever writes into a source: a row of three texts, into a table that is there for it.
"""

from __future__ import annotations

from schemas.errors import ConfigurationError

_NAME_PARTS = (1, 2)


def write_signal(dsn: str, table: str, row: tuple[str, str, str]) -> None:
    """Return once the row (id, type, data) is committed in `table` (SCHEMA.TABLE, or DATABASE.TABLE) at `dsn`.

    Raises:
        SourceUnavailable: the database does not answer; look whether it is there before it is written again.
        ConfigurationError: the address is of no known database, its driver is missing, or it refuses.
    """
    parts = table.split(".")
    if len(parts) not in _NAME_PARTS or not all(parts):
        raise ConfigurationError(f"{table!r} names no table", hint="write signals.table as SCHEMA.TABLE")
    scheme = dsn.partition("://")[0].lower()
    try:
        if scheme in ("postgresql", "postgres"):
            _into_postgres(dsn, parts, row)
        elif scheme in ("mysql", "mariadb"):
            _into_mysql(dsn, parts, row)
        else:
            raise ConfigurationError(
                "the source is of no database that can be signalled", hint="write postgresql://… or mysql://…"
            )
    except ImportError as exc:
        raise ConfigurationError(f"the driver {exc.name} is not installed", hint="install headgate[verify]") from exc


def _into_postgres(dsn: str, table: list[str], row: tuple[str, str, str]) -> None:
    from connectors.sources.postgresql import DIALECT, DRIVER, connect  # noqa: PLC0415 - drivers are an extra

    with DRIVER.translated(), connect(dsn) as connection:
        name = ".".join(map(DIALECT.quote, table))
        connection.execute(f"INSERT INTO {name} (id, type, data) VALUES (%s, %s, %s)".encode(), row)  # noqa: S608 - quoted


def _into_mysql(dsn: str, table: list[str], row: tuple[str, str, str]) -> None:
    from connectors.sources.mysql import DIALECT, DRIVER, connect  # noqa: PLC0415 - the same

    with DRIVER.translated(), connect(dsn) as connection, connection.cursor() as cursor:
        name = ".".join(map(DIALECT.quote, table))
        cursor.execute(f"INSERT INTO {name} (id, type, data) VALUES (%s, %s, %s)", row)  # noqa: S608 - quoted
