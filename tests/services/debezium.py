"""Debezium's connectors for PostgreSQL and MariaDB, and sinks, registered through Connect's REST interface."""

import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.services.connect import Connect, ConnectRefused
from tests.services.mariadb import MariaDB
from tests.services.postgres import Postgres
from tests.services.runner import ServiceFailed
from tests.services.waiting import wait_until

SERVER_IDS = range(10_000, 2**31)  # of a connector, which is a replica among others
# What a connector gets whose records say their types: values with the schema block, keys without.
WITH_SCHEMA_BLOCK = {
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter.schemas.enable": "true",
}


@dataclass(frozen=True, kw_only=True)
class Connector:
    """A registered connector. Its names are fresh: offsets outlive a deleted connector."""

    connect: Connect
    name: str
    prefix: str
    database: str

    def topic(self, table: str) -> str:
        """The topic of `schema.table`, or of `database.table` in MariaDB."""
        return f"{self.prefix}.{table}"

    def state(self) -> str:
        """RUNNING once the connector and its task run, FAILED if one has failed, else where they are."""
        try:
            status: dict[str, Any] = self.connect.request("GET", f"/connectors/{self.name}/status")
        except ConnectRefused:
            return "UNKNOWN"  # registered, and not yet handed to a worker
        states = [status["connector"]["state"], *(task["state"] for task in status["tasks"])]
        if "FAILED" in states:
            traces = [task.get("trace", "") for task in [status["connector"], *status["tasks"]]]
            raise ServiceFailed(f"connector {self.name} failed:\n" + "\n".join(filter(None, traces))[:4000])
        return "RUNNING" if len(states) > 1 and set(states) == {"RUNNING"} else "STARTING"

    def wait_streaming(self, *, deadline_seconds: float = 60.0) -> None:
        """Return once the task runs and reads the log: changes made from now on are streamed, not snapshot.

        Raises:
            ServiceFailed: it failed; the message has its trace.
            TimeoutError: it did not get there in time.
        """
        wait_until(lambda: self.state() == "RUNNING", f"{self.name} runs", deadline_seconds=deadline_seconds)
        wait_until(self._log_is_read, f"{self.name} reads the log", deadline_seconds=deadline_seconds)

    def delete(self) -> None:
        """Remove the connector, and what it leaves behind in the database."""
        self.connect.request("DELETE", f"/connectors/{self.name}")

    def _log_is_read(self) -> bool:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class PostgresConnector(Connector):
    """A connector with a slot and a publication of its own."""

    postgres: Postgres
    slot: str
    publication: str

    def stop(self) -> None:
        """Read the database no more, until it is deleted; what it has read is in Kafka."""
        self.connect.request("PUT", f"/connectors/{self.name}/stop")
        wait_until(lambda: not self._log_is_read(), f"slot {self.slot} is let go")

    def delete(self) -> None:
        """Remove the connector, and the slot and publication that it leaves behind."""
        super().delete()
        wait_until(lambda: not self._log_is_read(), f"slot {self.slot} is let go")
        self.postgres.drop_slot(self.slot)
        with self.postgres.connect(self.database) as connection:
            connection.execute(f"drop publication if exists {self.publication}")

    def _log_is_read(self) -> bool:
        with self.postgres.connect(self.database) as connection:
            row = connection.execute(
                "select active from pg_replication_slots where slot_name = %s", [self.slot]
            ).fetchone()
        return row is not None and row[0] is True


@dataclass(frozen=True, kw_only=True)
class MariaDBConnector(Connector):
    """A connector that reads the binary log as a replica; `readers_before` are the replicas that were there before.

    A deleted one seems to read on, until the server next has something to send to it.
    """

    mariadb: MariaDB
    readers_before: frozenset[int]

    @property
    def schema_history(self) -> str:
        """The topic in which it keeps the statements that it needs to read the log again."""
        return f"{self.prefix}-history"

    def _log_is_read(self) -> bool:
        return bool(readers_of_log(self.mariadb) - self.readers_before)


def readers_of_log(mariadb: MariaDB) -> frozenset[int]:
    """The server's connections that read its binary log."""
    query = "select id from information_schema.processlist where command = 'Binlog Dump'"
    return frozenset(row[0] for row in mariadb.run(query))


def register_postgres_connector(
    connect: Connect,
    postgres: Postgres,
    tables: Sequence[str],
    *,
    database: str | None = None,
    partitions: int = 1,
    overrides: Mapping[str, str] | None = None,
) -> PostgresConnector:
    """Register a connector for `tables` ("public.patients"), whose topics have `partitions`; do not wait for it.

    `overrides` are settings of Debezium that go over these.

    Raises:
        ConnectRefused: Connect did not like the configuration; the message says why.
    """
    tag = uuid.uuid4().hex[:10]
    connector = PostgresConnector(
        connect=connect,
        postgres=postgres,
        name=f"postgres-{tag}",
        prefix=f"pg{tag}",
        slot=f"slot_{tag}",
        publication=f"publication_{tag}",
        database=database or postgres.database,
    )
    _register(connector, {**_postgres_settings(connector), **_settings(tables, partitions), **(overrides or {})})
    return connector


def register_mariadb_connector(
    connect: Connect,
    mariadb: MariaDB,
    tables: Sequence[str],
    *,
    kafka_address: str,
    database: str | None = None,
    partitions: int = 1,
    overrides: Mapping[str, str] | None = None,
) -> MariaDBConnector:
    """Register a connector for `tables` ("database.patients"), as `register_postgres_connector`.

    One at a time for a server: whether it reads the log is told by who has begun to since now.

    Raises:
        ConnectRefused: Connect did not like the configuration; the message says why.
    """
    tag = uuid.uuid4().hex[:10]
    connector = MariaDBConnector(
        connect=connect,
        mariadb=mariadb,
        name=f"mariadb-{tag}",
        prefix=f"md{tag}",
        database=database or mariadb.database,
        readers_before=readers_of_log(mariadb),
    )
    own = _mariadb_settings(connector, kafka_address)
    _register(connector, {**own, **_settings(tables, partitions), **(overrides or {})})
    return connector


def register_sink(connect: Connect, name: str, settings: Mapping[str, str]) -> Connector:
    """Register a sink by all of its settings, and return once its task runs.

    Raises:
        ConnectRefused: Connect did not like the configuration; the message says why.
        ServiceFailed: it failed; the message has its trace.
    """
    connect.request("PUT", f"/connectors/{name}/config", settings)
    sink = Connector(connect=connect, name=name, prefix="", database="")
    wait_until(lambda: sink.state() == "RUNNING", f"{name} runs", deadline_seconds=60.0)
    return sink


def _register(connector: Connector, settings: Mapping[str, str]) -> None:
    connect, path = connector.connect, f"/connectors/{connector.name}/config"
    connect.request("PUT", path, {"topic.prefix": connector.prefix, "tasks.max": "1", **settings})


def _settings(tables: Sequence[str], partitions: int) -> dict[str, str]:
    return {
        "table.include.list": ",".join(tables),
        "topic.creation.default.replication.factor": "1",
        "topic.creation.default.partitions": str(partitions),
        "poll.interval.ms": "100",
    }


def _postgres_settings(connector: PostgresConnector) -> dict[str, str]:
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": connector.postgres.host,
        "database.port": str(connector.postgres.port),
        "database.user": connector.postgres.user,
        "database.password": connector.postgres.password,
        "database.dbname": connector.database,
        "plugin.name": "pgoutput",
        "slot.name": connector.slot,
        "publication.name": connector.publication,
        "publication.autocreate.mode": "filtered",
    }


def _mariadb_settings(connector: MariaDBConnector, kafka_address: str) -> dict[str, str]:
    return {
        "connector.class": "io.debezium.connector.mariadb.MariaDbConnector",
        "database.hostname": connector.mariadb.host,
        "database.port": str(connector.mariadb.port),
        "database.user": connector.mariadb.user,
        "database.password": connector.mariadb.password,
        "database.include.list": connector.database,
        "database.server.id": str(random.SystemRandom().choice(SERVER_IDS)),
        "schema.history.internal.kafka.bootstrap.servers": kafka_address,
        "schema.history.internal.kafka.topic": connector.schema_history,
    }
