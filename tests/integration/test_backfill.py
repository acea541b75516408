"""A backfill by a real connector: PostgreSQL, Debezium told by a topic and by a table, its notifications followed."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from connectors.transport.topics import TopicSettings
from headgate.cli.codes import ExitCode
from streams.apply import apply_folder
from tests.integration.stages import Installation
from tests.services import Connect, Kafka, Postgres, register_postgres_connector

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]
ROWS, CHUNK = 30, 10
TENANT, TABLE = "ward-3", "ward-3.patients"  # the connector knows neither
SIGNAL_TABLE = "public.debezium_signal"


class Backfilled(Installation):
    """The table of a connector that took no snapshot; `dsn` is its database."""

    dsn = ""

    def lines(self, out: str) -> list[dict[str, Any]]:
        """Return what was printed as JSON, a line for each notification, between those that workers log."""
        return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


@pytest.fixture
def installation(kafka: Kafka, postgres: Postgres, connect: Connect, tmp_path: Path) -> Iterator[Backfilled]:
    """A database, its connector with both channels of signals, and the table registered."""
    with _source(kafka, postgres, connect, tmp_path) as made:
        yield made


@contextmanager
def _source(kafka: Kafka, postgres: Postgres, connect: Connect, folder: Path) -> Iterator[Backfilled]:
    name = f"backfill_{uuid.uuid4().hex[:10]}"
    postgres.create_database(name)
    made = Backfilled(kafka.address, "redis://127.0.0.1:6379", folder)
    signals, notifications = f"{made.prefix}-signals", f"{made.prefix}-notifications"
    made.admin.ensure(signals, TopicSettings(partitions=1))
    with postgres.connect(name) as connection:
        connection.execute("create table patients (id int primary key, name text)")
        connection.execute("insert into patients select n, 'n' || n from generate_series(1, %s) n", [ROWS])
        connection.execute("create table debezium_signal (id varchar(42) primary key, type varchar(32), data text)")
        connector = register_postgres_connector(
            connect, postgres, ["public.patients", SIGNAL_TABLE], database=name,
            overrides={
                "snapshot.mode": "no_data", "incremental.snapshot.chunk.size": str(CHUNK),
                "signal.data.collection": SIGNAL_TABLE, "signal.enabled.channels": "source,kafka",
                "signal.kafka.topic": signals, "signal.kafka.bootstrap.servers": kafka.address,
                "notification.enabled.channels": "sink", "notification.sink.topic.name": notifications,
            },
        )  # fmt: skip
        try:
            connector.wait_streaming()
            made.topic = connector.topic("public.patients")
            made.admin.ensure(made.topic, TopicSettings(partitions=1))
            channels = {
                "server": connector.prefix, "topic": signals, "table": SIGNAL_TABLE, "notifications": notifications
            }  # fmt: skip
            made.document |= {
                "topics": [made.topic],
                "rules": [],
                "features": [],
                "signals": channels,
                "tenant": TENANT,
            }
            made.spec()
            made.output = f"{made.prefix}.changes.{TABLE}"
            made.dsn = f"postgresql://{postgres.user}:{postgres.password}@{postgres.host}:{postgres.port}/{name}"
            yield made
        finally:
            connector.delete()
            made.close()
            made.admin.delete([signals, notifications])


async def test_rows_are_read_again_on_request_and_it_is_told_how_far_they_are(
    installation: Backfilled, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them by a signal on a topic, then some by a row in the source's table.

    The last one is followed later. That of a table which the connector does not know is said.
    """
    async with installation.running("normalize"):
        assert ExitCode.OK == await installation.verb("tables", "backfill", TABLE, "--json")
        all_rows = installation.lines(capsys.readouterr().out)
        changes = await installation.emitted(ROWS)
        some = ("--where", "id <= 3", "--source", installation.dsn, "--json")
        assert ExitCode.OK == await installation.verb("tables", "backfill", TABLE, *some)
        some_rows = installation.lines(capsys.readouterr().out)
        again = await installation.emitted(ROWS + 3)
        assert ExitCode.OK == await installation.verb("tables", "backfill", TABLE, "--follow", "--json")
        followed = installation.lines(capsys.readouterr().out)
        assert ExitCode.OK == await installation.verb("tables", "backfill", TABLE, "--stop")
        signals: Any = installation.document["signals"]
        installation.spec(signals={**signals, "collection": "public.nosuch"})
        await asyncio.to_thread(apply_folder, installation.config, installation.folder / "tables")
        assert ExitCode.FOUND == await installation.verb("tables", "backfill", TABLE)
        said = capsys.readouterr().err

    assert {"snapshot"} == {change.op for change in changes}
    assert {(row,) for row in range(1, ROWS + 1)} == {change.key for change in changes}
    assert ["STARTED", "COMPLETED"] == [all_rows[0]["status"], all_rows[-1]["status"]]
    assert [ROWS] == [line["rows"] for line in all_rows if line["status"] == "TABLE_SCAN_COMPLETED"]
    assert {all_rows[0]["id"]} == {line["id"] for line in all_rows}
    assert [3] == [line["rows"] for line in some_rows if line["status"] == "TABLE_SCAN_COMPLETED"]
    assert len(again) == ROWS + 3
    assert {some_rows[0]["id"]} == {line["id"] for line in followed}
    assert "the connector says UNKNOWN_SCHEMA" in said
    assert "signals.collection" in said
