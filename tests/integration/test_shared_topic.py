"""One topic into which AWS DMS sends three tables: each comes out whole and in order, though a worker is killed."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.integration.stages import WAIT_SECONDS, Installation, paused, run_until_killed, until
from tests.oracles.topic import Record, read_records
from tests.services import Kafka
from tests.workloads.dms_topic import control_record, dms_document, dms_record

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

TABLES = ("patients", "visits", "wards")
PARTITIONS = 3
CHANGES = 6_000
NOWHERE = "redis://127.0.0.1:9/0"

Sent = dict[str, Counter[tuple[int, int, str]]]


@pytest.fixture
def installation(kafka: Kafka, tmp_path: Path) -> Iterator[Installation]:
    """An installation whose three tables share one topic."""
    made = Installation(kafka.address, NOWHERE, tmp_path)
    for table in TABLES:
        (tmp_path / "tables" / f"{table}.yaml").write_text(json.dumps(dms_document(table, made.topic)))
    with made.file.open("a") as file:
        file.write("limits: {chunk_records_max: 100, group_records_max: 200}\n")
    made.make(PARTITIONS)
    yield made
    made.close()
    made.admin.delete([f"{made.prefix}.changes.{table}" for table in TABLES[1:]])


class Task:
    """The DMS task: loads of all tables, then changes of all of them, in an order of chance."""

    def __init__(self, installation: Installation, seed: int) -> None:
        self.sent: Sent = {table: Counter() for table in TABLES}
        self.at = 0
        self._chance, self._topic = random.Random(seed), installation.topic
        self._producer = Producer({"bootstrap.servers": installation.kafka, "linger.ms": 5})

    def load(self, rows: int) -> None:
        """Send the rows that each table has at first."""
        for row in range(rows):
            for table in TABLES:
                self._send(table, row, "load")

    def change(self, count: int) -> None:
        """Send changes, and between them what is none, and changes of a table that nobody has registered."""
        for _ in range(count):
            self._send(self._chance.choice(TABLES), self._chance.randrange(500), "update")
            if self._chance.random() < 0.05:
                self._put(self._chance.choice((control_record("bills"), dms_record("bills", self.at, {"id": 1}), None)))
        assert self._producer.flush(60) == 0, "every record was delivered"

    def _send(self, table: str, row: int, op: str) -> None:
        self.at += 1
        name = f"n{self.at}"
        self._put(dms_record(table, self.at, {"id": row, "name": name}, op), row % PARTITIONS)
        self.sent[table][row % PARTITIONS, row, name] += 1

    def _put(self, value: bytes | None, partition: int = 0) -> None:
        self._producer.produce(self._topic, value, None, partition)
        self._producer.poll(0)


async def emitted(installation: Installation, table: str, count: int) -> list[Record]:
    """Wait until so many changes of a table stand on its output topic, and return them."""
    topic, deadline = f"{installation.prefix}.changes.{table}", time.monotonic() + WAIT_SECONDS
    while True:
        found = await asyncio.to_thread(read_records, installation.kafka, topic)
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, f"{len(found)} of {count} changes of {table} were emitted"
        await asyncio.sleep(0.1)


def contents(records: list[Record]) -> list[Any]:
    """Return what the changes say."""
    return [json.loads(record.value or b"") for record in records]


def check_chain(records: list[Record]) -> None:
    """Look that each change of a partition names the one before it, and lies where its origin does."""
    last: dict[int, int] = {}
    for record, change in zip(records, contents(records), strict=True):
        _, generation, partition, offset = change["source"]["origin"]
        assert (0, record.partition) == (generation, partition)
        assert last.get(partition) == change["source"]["previous"]
        last[partition] = offset


async def test_three_tables_of_one_topic_come_out_whole_though_a_worker_is_killed(installation: Installation) -> None:
    """Nothing is lost, doubled or under another table; chains are unbroken; a load is known to come after changes."""
    seed = 20_261_126
    task = Task(installation, seed)
    task.load(500)
    async with installation.running():  # applies the specs
        pass
    task.change(CHANGES)

    assert -signal.SIGKILL == await asyncio.to_thread(
        run_until_killed, installation, "transaction.before_commit=kill@7"
    )
    async with installation.running("normalize") as workers:
        for table in TABLES:
            records = await emitted(installation, table, task.sent[table].total())
            check_chain(records)
            found = Counter(
                (record.partition, int(change["after"]["id"]), change["after"]["name"])
                for record, change in zip(records, contents(records), strict=True)
            )
            assert task.sent[table] == found, f"{table}, seed {seed}"
        task.load(1)
        task.change(0)
        await until(lambda: paused(workers["normalize"]), "a load that comes after changes stops the topic")
        rows = workers["normalize"].host.status()["tables"]
        assert list(TABLES) == [row["table"] for row in rows]
        assert {"patients: rows of a full load come after changes of the same table"} == {row["paused"] for row in rows}
