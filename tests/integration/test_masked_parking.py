"""A table with masks, paused and then read anew beside others of its topic: nobody sees it, and its rows are right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from headgate.cli.codes import ExitCode
from schemas.config import read_config
from schemas.masked import masked_spec
from streams.final_rows import FinalRows
from streams.mask_keys import mask_keys_of
from streams.mask_values import hashed
from streams.registration import load_tables
from tests.integration.stages import Installation, document_of, none_waits, until, until_off_loop
from tests.oracles.topic import read_records
from tests.services import Kafka
from tests.workloads.dms_topic import dms_document, dms_record

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

PARTITIONS, OLD, FIRST, END = 3, 30, 12, 42  # rows 0..29 at first; the new load holds 12..41
CANARY, NUMBER, SECRET = "canary-9b1d", 731_099_887_766_0000, "s" * 40
MASKED = {"id": {"type": "long", "mask": "hash"}, "name": {"type": "string", "mask": "encrypt"}}


@pytest.fixture
def installation(kafka: Kafka, tmp_path: Path) -> Iterator[Installation]:
    """Two tables that share a topic, of which one has masks."""
    made = Installation(kafka.address, "redis://127.0.0.1:9/0", tmp_path)
    (tmp_path / "secret").write_text(SECRET)
    with made.file.open("a") as file:
        file.write(f"masks: {{keys: {{default: 'file:{tmp_path / 'secret'}'}}}}\n")
        file.write("limits: {chunk_records_max: 20, group_records_max: 20}\n")
    made.config = read_config(made.file.read_text(), name="headgate.yaml")
    for table, changes in (("patients", {}), ("visits", {"columns": MASKED})):
        (tmp_path / "tables" / f"{table}.yaml").write_text(json.dumps(dms_document(table, made.topic, **changes)))
    made.make(PARTITIONS)
    yield made
    made.close()
    made.admin.delete([f"{made.prefix}.{name}" for name in ("changes.visits", "parked.visits")])


class Task:
    """The DMS task: what it sends of the visits nobody may see."""

    def __init__(self, installation: Installation) -> None:
        self.at, self.rows, self._topic = 0, dict[int, str](), installation.topic
        self._producer = Producer({"bootstrap.servers": installation.kafka, "linger.ms": 5})

    def send(self, op: str, rows: range, *, table: str = "visits") -> None:
        """Send a change of each row; the visits' rows become this."""
        for row in rows:
            self.at += 1
            name = f"{CANARY if table == 'visits' else 'plain'} {self.at}"
            if table == "visits":
                self.rows[row] = name
            value = dms_record(table, self.at, {"id": NUMBER + row, "name": name}, op)
            self._producer.produce(self._topic, value, b"key of " + name.encode(), row % PARTITIONS)
        assert self._producer.flush(60) == 0, "every record was delivered"


def bytes_in(installation: Installation, topic: str) -> bytes:
    """Return all bytes of a topic of ours: keys, values and headers."""
    records = read_records(installation.kafka, f"{installation.prefix}.{topic}")
    return b"\n".join(repr((each.key, each.value, each.headers)).encode() for each in records)


def count(installation: Installation, topic: str) -> int:
    """Return how many records a topic of ours has."""
    return len(read_records(installation.kafka, f"{installation.prefix}.{topic}"))


def final_rows(installation: Installation) -> dict[Any, str]:
    """Return the visits' rows as a subscriber has them in the end, by key, with names that the key opens."""
    keys, final = mask_keys_of(installation.config.masks), FinalRows(masked_spec(_spec(installation)))
    for record in read_records(installation.kafka, f"{installation.prefix}.changes.visits"):
        final.apply(record.value or b"")
    return {each["row"]["id"]: keys.decrypted(each["row"]["name"]) for each in final.documents()}


def _spec(installation: Installation) -> Any:
    return load_tables(installation.config).unmasked("visits").spec


async def test_a_masked_table_is_parked_sealed_and_comes_out_right_under_a_new_epoch(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its source begins anew while it is paused; a resync finds where, among what is parked; nothing is read twice."""
    task, output = Task(installation), f"{installation.prefix}.changes.visits"
    task.send("load", range(OLD))
    async with installation.running("normalize") as workers:
        worker = workers["normalize"]
        task.send("update", range(OLD))
        await until_off_loop(lambda: count(installation, "changes.visits") == 2 * OLD, "all of the visits")
        assert ExitCode.OK == await installation.verb("tables", "pause", "visits", "--reason", "maintenance")
        await until(lambda: worker.host.tables["visits"].paused, "the pause has reached the worker")
        task.send("update", range(6))
        old_life = dict(task.rows)
        task.rows.clear()
        task.send("load", range(FIRST, END))
        task.send("update", range(FIRST, END, 5))
        task.send("insert", range(OLD), table="patients")
        parked = 6 + (END - FIRST) + len(range(FIRST, END, 5))
        await until_off_loop(lambda: count(installation, "parked.visits") == parked, "what comes of it is parked")
        await until_off_loop(lambda: count(installation, "changes.patients") == OLD, "the others go on")

        for text in (CANARY, str(NUMBER)[:12]):
            assert text.encode() not in await asyncio.to_thread(bytes_in, installation, "parked.visits")
        assert old_life.keys() - task.rows.keys() == set(range(FIRST))
        capsys.readouterr()
        assert ExitCode.OK == await installation.verb("tables", "resync", "visits", "--json")
        said = document_of(capsys.readouterr().out)
        assert [0] == [topic["read_again"] for topic in said["topics"]], said
        task.send("update", range(FIRST + 1, END, 7))
        emitted = 2 * OLD + parked + len(range(FIRST + 1, END, 7)) + PARTITIONS
        await until_off_loop(lambda: count(installation, "changes.visits") == emitted, "all of it, and the floor")
        await none_waits(worker)
        assert [] == worker.host.status()["quarantined"]

    changes = [json.loads(each.value or b"") for each in read_records(installation.kafka, output)]
    epochs = [(each["position"][:4], each["op"]) for each in changes if each["source"]["first_origin"] is not None]
    assert 6 == sum(epoch == "0000" for epoch, _ in epochs)
    assert END - FIRST == epochs.count(("0001", "snapshot"))
    floors = [at for at, each in enumerate(changes) if each["op"] == "floor"]
    rows = [at for at, each in enumerate(changes) if each["op"] == "snapshot" and each["position"][:4] == "0001"]
    assert (PARTITIONS, END - FIRST) == (len(floors), len(rows))
    key_of = hashed(SECRET.encode())
    assert {key_of(NUMBER + row): name for row, name in task.rows.items()} == final_rows(installation)
    everything = await asyncio.to_thread(
        lambda: b"\n".join(bytes_in(installation, name) for name in ("changes.visits", "quarantine", "parked.visits"))
    )
    assert [] == [text for text in (CANARY, str(NUMBER)[:12]) if text.encode() in everything]
