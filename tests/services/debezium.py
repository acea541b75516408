"""Debezium's PostgreSQL connector, registered through Connect's REST interface."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.services.connect import Connect, ConnectRefused
from tests.services.postgres import Postgres
from tests.services.runner import ServiceFailed
from tests.services.waiting import wait_until


@dataclass(frozen=True)
class Connector:
    """A registered connector. Name, prefix, slot and publication are fresh: offsets outlive a deleted connector."""

    connect: Connect
    postgres: Postgres
    name: str
    prefix: str
    slot: str
    publication: str
    database: str

    def topic(self, table: str) -> str:
        """The topic of `schema.table`."""
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
        """Return once the task runs and reads its slot: changes made from now on are streamed, not snapshot.

        Raises:
            ServiceFailed: it failed; the message has its trace.
            TimeoutError: it did not get there in time.
        """
        wait_until(lambda: self.state() == "RUNNING", f"{self.name} runs", deadline_seconds=deadline_seconds)
        wait_until(self._slot_is_read, f"slot {self.slot} is read", deadline_seconds=deadline_seconds)

    def _slot_is_read(self) -> bool:
        with self.postgres.connect(self.database) as connection:
            row = connection.execute(
                "select active from pg_replication_slots where slot_name = %s", [self.slot]
            ).fetchone()
        return row is not None and row[0] is True

    def stop(self) -> None:
        """Read the database no more, until it is deleted; what it has read is in Kafka."""
        self.connect.request("PUT", f"/connectors/{self.name}/stop")
        wait_until(lambda: not self._slot_is_read(), f"slot {self.slot} is let go")

    def delete(self) -> None:
        """Remove the connector, and the slot and publication that it leaves behind."""
        self.connect.request("DELETE", f"/connectors/{self.name}")
        wait_until(lambda: not self._slot_is_read(), f"slot {self.slot} is let go")
        self.postgres.drop_slot(self.slot)
        with self.postgres.connect(self.database) as connection:
            connection.execute(f"drop publication if exists {self.publication}")


def register_postgres_connector(
    connect: Connect,
    postgres: Postgres,
    tables: Sequence[str],
    *,
    database: str | None = None,
    partitions: int = 1,
    overrides: Mapping[str, str] | None = None,
) -> Connector:
    """Register a connector for `tables` ("public.patients"), whose topics have `partitions`; do not wait for it.

    `overrides` are settings of Debezium that go over these.

    Raises:
        ConnectRefused: Connect did not like the configuration; the message says why.
    """
    tag = uuid.uuid4().hex[:10]
    connector = Connector(
        connect=connect,
        postgres=postgres,
        name=f"postgres-{tag}",
        prefix=f"pg{tag}",
        slot=f"slot_{tag}",
        publication=f"publication_{tag}",
        database=database or postgres.database,
    )
    settings = {**_settings(connector, tables, partitions), **(overrides or {})}
    connect.request("PUT", f"/connectors/{connector.name}/config", settings)
    return connector


def _settings(connector: Connector, tables: Sequence[str], partitions: int) -> dict[str, str]:
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": connector.postgres.host,
        "database.port": str(connector.postgres.port),
        "database.user": connector.postgres.user,
        "database.password": connector.postgres.password,
        "database.dbname": connector.database,
        "topic.prefix": connector.prefix,
        "plugin.name": "pgoutput",
        "slot.name": connector.slot,
        "publication.name": connector.publication,
        "publication.autocreate.mode": "filtered",
        "table.include.list": ",".join(tables),
        "topic.creation.default.replication.factor": "1",
        "topic.creation.default.partitions": str(partitions),
        "poll.interval.ms": "100",
    }
