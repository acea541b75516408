"""A real PostgreSQL and a real MariaDB whose tables change: written to, read back, and followed by Debezium."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.oracles.values import from_python
from tests.services import (
    Connect,
    Connector,
    Kafka,
    MariaDB,
    Postgres,
    register_mariadb_connector,
    register_postgres_connector,
)
from tests.services.debezium import WITH_SCHEMA_BLOCK
from tests.workloads.changing_tables import MARIADB, POSTGRES, TABLES

Key = tuple[Any, ...]
Row = dict[str, Any]
PARTITIONS = 2
# Connect puts a column's default where a null is, unless it is told not to: nobody could tell the two apart.
CONVERTER = {**WITH_SCHEMA_BLOCK, "value.converter.replace.null.with.default": "false"}


@dataclass(frozen=True, slots=True)
class Servers:
    """What a source needs."""

    kafka: Kafka
    connect: Connect
    postgres: Postgres
    mariadb: MariaDB


class ChangingSource:
    """A database of its own on a server. Statements are of DB-API, and make one transaction until `commit`."""

    name: str
    schema: str  # what stands before a table's name in topics
    connector: Connector
    publication = ""  # of PostgreSQL, once it is followed

    def __init__(self, servers: Servers, connection: Any) -> None:
        """Take the connection over."""
        self._servers, self._connection = servers, connection
        self._cursor = connection.cursor()

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run one statement; return how many rows it changed."""
        self._cursor.execute(statement, [self._written(value) for value in values] or None)
        return int(self._cursor.rowcount)

    def commit(self) -> None:
        """Commit what was run."""
        self._connection.commit()

    def change_schema(self, statements: Sequence[str]) -> None:
        """Run statements that change a schema; they are committed."""
        for statement in statements:
            self.run(statement.format(publication=self.publication))
            self.commit()

    def follow(self) -> None:
        """Register a connector for all tables, also for those that are not there yet, and wait until it streams."""
        raise NotImplementedError

    def topic(self, table: str) -> str:
        """Return the topic of a table."""
        return self.connector.topic(f"{self.schema}.{table}")

    def rows(self, table: str, columns: Mapping[str, str], key: Sequence[str]) -> dict[Key, Row]:
        """Read a table's columns, of these types: canonical rows by key."""
        self._cursor.execute(f"select {', '.join(columns)} from {table}")
        rows = [
            {
                name: from_python(type_text, self._read(type_text, value))
                for (name, type_text), value in zip(columns.items(), row, strict=True)
            }
            for row in self._cursor.fetchall()
        ]
        self.commit()
        return {tuple(row[name] for name in key): row for row in rows}

    def close(self) -> None:
        """Leave; nobody follows any more."""
        self._connection.close()
        self.connector.delete()

    def _written(self, value: Any) -> Any:
        return value

    def _read(self, type_text: str, value: Any) -> Any:
        assert type_text, "a column has a type"
        return value


class ChangingPostgres(ChangingSource):
    """Tables in the schema `public`."""

    name, schema = POSTGRES, "public"

    def __init__(self, servers: Servers) -> None:
        """Create a database."""
        self._database = _fresh_name()
        servers.postgres.create_database(self._database)
        connection = servers.postgres.connect(self._database)
        connection.autocommit = False
        connection.prepare_threshold = None  # a prepared statement keeps the types of its parameters
        super().__init__(servers, connection)

    def follow(self) -> None:
        """Register a connector. Its publication has the tables that are there: others must be added to it."""
        tables = [f"{self.schema}.{table}" for table in TABLES]
        self.connector = connector = register_postgres_connector(
            self._servers.connect, self._servers.postgres, tables,
            database=self._database, partitions=PARTITIONS, overrides=CONVERTER,
        )  # fmt: skip
        self.publication = connector.publication
        connector.wait_streaming()


class ChangingMariaDB(ChangingSource):
    """Tables in a database of their own; times are written and read in UTC."""

    name = MARIADB

    def __init__(self, servers: Servers) -> None:
        """Create a database."""
        self.schema = _fresh_name()
        servers.mariadb.create_database(self.schema)
        connection = servers.mariadb.connect(self.schema)
        connection.autocommit(False)
        super().__init__(servers, connection)
        self.run("set time_zone = '+00:00'")

    def follow(self) -> None:
        """Register a connector."""
        tables = [f"{self.schema}.{table}" for table in TABLES]
        self.connector = register_mariadb_connector(
            self._servers.connect, self._servers.mariadb, tables, kafka_address=self._servers.kafka.address,
            database=self.schema, partitions=PARTITIONS, overrides=CONVERTER,
        )  # fmt: skip
        self.connector.wait_streaming()

    def _written(self, value: Any) -> Any:
        zoned = isinstance(value, datetime) and value.tzinfo is not None
        return value.astimezone(UTC).replace(tzinfo=None) if zoned else value

    def _read(self, type_text: str, value: Any) -> Any:
        return value.replace(tzinfo=UTC) if type_text == "timestamptz" and value is not None else value


SOURCES = {source.name: source for source in (ChangingPostgres, ChangingMariaDB)}


def _fresh_name() -> str:
    return f"ddl_{uuid.uuid4().hex[:10]}"
