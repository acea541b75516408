"""A table that is loaded beside one that is live, on a real broker: the live change passes, and the load is whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streams.app import Worker
from tests.integration.stages import Installation, event, until
from tests.oracles.topic import read_records
from tests.services import Kafka

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

PARTITIONS = 2
LOADED = PARTITIONS * 12_000  # of each partition more than is live
NOWHERE = "redis://127.0.0.1:9/0"


@pytest.fixture
def installation(kafka: Kafka, tmp_path: Path) -> Iterator[Installation]:
    """Two tables; groups so small that the load takes many of them."""
    made = Installation(kafka.address, NOWHERE, tmp_path)
    for table in ("patients", "visits"):
        spec = made.document | {
            "table": table,
            "topics": [f"{made.prefix}-clinic.{table}"],
            "features": [],
            "rules": [],
        }
        (tmp_path / "tables" / f"{table}.yaml").write_text(json.dumps(spec))
    with made.file.open("a") as file:
        file.write("limits: {chunk_records_max: 200, group_records_max: 200}\n")
    visits = f"{made.prefix}-clinic.visits"
    made.topic, patients = visits, made.topic
    made.make(1)
    made.topic = patients
    made.make(PARTITIONS)
    made.fill(LOADED, PARTITIONS)
    yield made
    made.admin.delete([visits, f"{made.prefix}.changes.visits"])
    made.close()


def lanes(worker: Worker, table: str) -> set[str]:
    """Return the lanes in which a table's partitions are read."""
    found = worker.consumer.snapshot().partitions
    return {each.lane for each in found if each.topic.endswith(f"-clinic.{table}") and each.position >= 0}


def left(worker: Worker) -> int:
    """Return how much of the load is still to be emitted."""
    return LOADED - sum(each.done or 0 for each in worker.consumer.snapshot().partitions if "patients" in each.topic)


async def test_a_live_change_passes_a_load(installation: Installation) -> None:
    """The load is read in a lane of its own, and is live once it is through; nothing of it is lost or doubled."""
    output = f"{installation.prefix}.changes.visits"
    producer = Producer({"bootstrap.servers": installation.kafka})
    async with installation.running("normalize") as workers:
        worker = workers["normalize"]
        await until(lambda: left(worker) < LOADED and lanes(worker, "visits"), "the load has begun")
        loading = lanes(worker, "patients"), lanes(worker, "visits")
        producer.produce(f"{installation.prefix}-clinic.visits", event(7), b'{"id":7}', 0)
        assert producer.flush(30) == 0, "the live record was delivered"
        await until(lambda: worker.host.wired.emitted()["visits", "insert"] == 1, "the live change")
        left_then = left(worker)
        await until(lambda: left(worker) == 0, "the end of the load")
        await until(lambda: lanes(worker, "patients") == {"main"}, "what was loaded is live")
        installation.fill(PARTITIONS, PARTITIONS)
        await installation.emitted(LOADED + PARTITIONS)

    assert ({"loads"}, {"main"}) == loading
    assert left_then > 0, "the live change did not wait for the whole load"
    (change,) = await asyncio.to_thread(read_records, installation.kafka, output)
    assert {"id": 7} == json.loads(change.value or b"")["key"]
