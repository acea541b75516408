"""One topic into which AWS DMS sends three tables: each comes out whole and in order, though a worker is killed.

And though one of them is paused meanwhile: the others do not wait for it.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from connectors.transport.settings import ClientSettings
from schemas.config import read_config
from schemas.table import TableSpec
from streams.app import Worker
from streams.final_rows import FinalRows
from tests.integration.stages import WAIT_SECONDS, Installation, run_until_killed, until, until_off_loop
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
    made.admin.delete([f"{made.prefix}.{what}.{table}" for what in ("changes", "parked") for table in TABLES])


class Task:
    """The DMS task: loads of all tables, then changes of all of them, in an order of chance."""

    def __init__(self, installation: Installation, seed: int, tables: tuple[str, ...] = TABLES) -> None:
        self.sent: Sent = {table: Counter() for table in tables}
        self.rows: dict[str, dict[int, str]] = {table: {} for table in tables}  # as they are at the source
        self.tables, self.at = tables, 0
        self._chance, self._topic = random.Random(seed), installation.topic
        self._producer = Producer({"bootstrap.servers": installation.kafka, "linger.ms": 5})

    def load(self, rows: int) -> None:
        """Send the rows that each table has at first."""
        for row in range(rows):
            for table in self.tables:
                self._send(table, row, "load")

    def change(self, count: int) -> None:
        """Send changes, and between them what is none, and changes of a table that nobody has registered."""
        for _ in range(count):
            self._send(self._chance.choice(self.tables), self._chance.randrange(500), "update")
            if self._chance.random() < 0.05 and self.tables == TABLES:  # else all records are one table's
                self._put(self._chance.choice((control_record("bills"), dms_record("bills", self.at, {"id": 1}), None)))
        assert self._producer.flush(60) == 0, "every record was delivered"

    def stray(self, table: str, row: int) -> None:
        """Send a row of a load, which the source never sends after changes; nobody expects it.

        If it is of another life of the source, no other row of its partition is there any more.
        """
        self.rows[table] = {at: name for at, name in self.rows[table].items() if (at - row) % PARTITIONS}
        self.rows[table][row] = "stray"
        self._put(dms_record(table, self.at, {"id": row, "name": "stray"}, "load"), row % PARTITIONS)
        assert self._producer.flush(60) == 0, "the record was delivered"

    def _send(self, table: str, row: int, op: str) -> None:
        self.at += 1
        name = f"n{self.at}"
        self._put(dms_record(table, self.at, {"id": row, "name": name}, op), row % PARTITIONS)
        self.sent[table][row % PARTITIONS, row, name] += 1
        self.rows[table][row] = name

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


def check_chain(records: list[Record]) -> Counter[str]:
    """Look that each change of a stream names the one before it, and lies where its origin does; count by topic."""
    last: dict[tuple[str, int], int] = {}
    topics: Counter[str] = Counter()
    for record, change in zip(records, contents(records), strict=True):
        topic, generation, partition, offset = change["source"]["origin"]
        assert (0, record.partition) == (generation, partition)
        assert last.get((topic, partition)) == change["source"]["previous"]
        last[topic, partition] = offset
        topics[topic] += 1
    return topics


def named(records: list[Record]) -> Counter[tuple[int, int, str]]:
    """Return how often each change is there, by what it says."""
    return Counter(
        (record.partition, int(change["after"]["id"]), change["after"]["name"])
        for record, change in zip(records, contents(records), strict=True)
    )


def rows_of(worker: Worker, topic: str) -> dict[str, dict[str, Any]]:
    """Return what the status says of a topic's tables."""
    return {row["table"]: row for row in worker.host.status()["tables"] if row["topic"] == topic}


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
    async with installation.running("normalize"):
        for table in TABLES:
            records = await emitted(installation, table, task.sent[table].total())
            check_chain(records)
            assert task.sent[table] == named(records), f"{table}, seed {seed}"


async def test_a_paused_table_is_parked_and_flows_beside_the_others_once_it_goes_on(installation: Installation) -> None:
    """A worker is killed while it parks, and another while it reads what was parked: each change is there once."""
    seed, topic = 20_261_127, installation.topic
    parked = f"{installation.prefix}.parked.visits"
    task = Task(installation, seed)
    task.load(20)
    async with installation.running("normalize") as workers:
        assert 0 == await installation.verb("tables", "pause", "visits", "--reason", "maintenance")
        await until(lambda: workers["normalize"].host.tables["visits"].paused, "the pause has reached the worker")
        task.change(1_000)
        await emitted(installation, "patients", task.sent["patients"].total())
    task.change(2_000)
    assert -signal.SIGKILL == await asyncio.to_thread(
        run_until_killed, installation, "transaction.before_commit=kill@4"
    )
    async with installation.running("normalize") as workers:
        task.change(300)
        for table in ("patients", "wards"):
            assert task.sent[table] == named(await emitted(installation, table, task.sent[table].total())), table

        def counted() -> bool:
            (row,) = [row for row in workers["normalize"].host.status()["tables"] if row["table"] == "visits"]
            assert (topic, "maintenance", "headgate tables resume visits") == (row["topic"], row["paused"], row["hint"])
            return len(read_records(installation.kafka, parked)) == (row["parked"] or {}).get("records")

        await until_off_loop(counted, "what is parked is counted, also by another worker")
    assert 0 == await installation.verb("tables", "resume", "visits")
    task.change(500)
    assert -signal.SIGKILL == await asyncio.to_thread(
        run_until_killed, installation, "transaction.before_commit=kill@5"
    )
    async with installation.running("normalize") as workers:
        records = await emitted(installation, "visits", task.sent["visits"].total())
        assert task.sent["visits"] == named(records), f"seed {seed}"
        topics = check_chain(records)
        assert len(read_records(installation.kafka, parked)) == topics[parked] > 500
        firsts = [change["source"]["first_origin"] for change in contents(records)]
        assert topics[parked] == sum(first is not None and topic == first[0] for first in firsts)
        await until(lambda: not rows_of(workers["normalize"], parked), "all that was parked has flowed")


def forget_offsets(installation: Installation, topic: str) -> None:
    """Have Kafka drop where NORMALIZE, of which nothing runs, stands in `topic`, and leave the others as they are."""
    group, client = f"{installation.prefix}-normalize", ClientSettings(bootstrap=installation.kafka)
    keys = [(name, number) for name in (installation.topic, topic) for number in range(PARTITIONS)]
    before = installation.admin.committed_now(group, keys)
    installation.forget_offsets("normalize")
    places = [
        TopicPartition(name, number, said.offset, said.metadata)
        for (name, number), said in before.items()
        if name != topic and said.offset is not None
    ]
    consumer = Consumer({**client.librdkafka(), "group.id": group, "enable.auto.commit": False})
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()
    assert (
        len(places) == PARTITIONS == sum(said.offset is not None for (name, _), said in before.items() if name == topic)
    )


async def test_what_was_parked_goes_out_once_though_kafka_has_dropped_where_it_stood(
    installation: Installation,
) -> None:
    """As it does a week after a table was paused again, or sooner: what is parked of it is read by nobody meanwhile."""
    parked = f"{installation.prefix}.parked.visits"
    task = Task(installation, 20_261_129)
    task.load(20)
    for _ in range(2):
        async with installation.running("normalize") as workers:
            assert 0 == await installation.verb("tables", "pause", "visits", "--reason", "maintenance")
            await until(lambda: workers["normalize"].host.tables["visits"].paused, "the pause has reached the worker")
            task.change(300)
            await emitted(installation, "patients", task.sent["patients"].total())
            await emitted(installation, "wards", task.sent["wards"].total())
            assert 0 == await installation.verb("tables", "resume", "visits")
            await emitted(installation, "visits", task.sent["visits"].total())
            await until(lambda: not rows_of(workers["normalize"], parked), "all that was parked has flowed")
        await asyncio.to_thread(forget_offsets, installation, parked)
    async with installation.running("normalize") as workers:

        def is_through() -> bool:
            views = [view for view in workers["normalize"].consumer.snapshot().partitions if view.topic == parked]
            return [("running", 0)] * PARTITIONS == [(view.status, view.lag) for view in views]

        await until(is_through, "what was parked is read to its end")
        records = await emitted(installation, "visits", task.sent["visits"].total())

    assert task.sent["visits"] == named(records)
    assert check_chain(records)[parked] > 0


async def test_a_record_that_stops_its_table_stops_no_other(installation: Installation) -> None:
    """What comes of it is parked, and waits, until somebody has settled it; the status says why."""
    kafka = installation.kafka
    task = Task(installation, 20_261_128)
    task.load(3)
    async with installation.running("normalize") as workers:
        task.change(300)
        await emitted(installation, "wards", task.sent["wards"].total())
        before = task.sent["visits"].total()
        task.stray("visits", 0)
        task.change(300)
        for table in ("patients", "wards"):
            await emitted(installation, table, task.sent[table].total())

        worker, topic, parked = workers["normalize"], installation.topic, f"{installation.prefix}.parked.visits"

        def is_told() -> bool:
            rows = rows_of(worker, topic)
            return len(rows) == len(TABLES) and None not in (rows["visits"]["paused"], rows["visits"]["parked"])

        await until(lambda: rows_of(worker, parked).get("visits", {}).get("paused"), "what was parked waits as well")
        await until(is_told, "the worker has its topic again, and says what waits of it")
        rows = rows_of(worker, topic)
        assert [None, None] == [rows[table]["paused"] for table in ("patients", "wards")]
        assert "source_read_anew: visits: rows of a full load come after changes" in rows["visits"]["paused"]
        assert "headgate tables resume visits" in rows["visits"]["hint"]
        assert 0 < rows["visits"]["parked"]["records"]
        assert before < len(await emitted(installation, "visits", before + 1)), "its other partitions go on"

        assert 0 == await installation.verb("tables", "resync", "visits")
        output = f"{installation.prefix}.changes.visits"
        await until_off_loop(partial(has_floors, kafka, output), "it has gone on in a new epoch, its load is through")
        await until(lambda: not rows_of(worker, parked), "what was parked has flowed")
        await until(lambda: len(rows_of(worker, topic)) == len(TABLES), "the worker has its topic again")
        assert [None] * 3 == [row["paused"] for row in rows_of(worker, topic).values()]


@pytest.mark.parametrize("beside", [False, True])
async def test_tables_that_stopped_together_are_resynced_one_after_another(
    installation: Installation, beside: bool
) -> None:
    """Each has the topic read again for all; the one that stopped with it waits for its own turn, and nothing is lost.

    Also versions of one table, whose records name none that a spec says.
    """
    stopped, task = ("visits", "wards"), Task(installation, 20_261_130)
    if beside:
        stopped, task = ("wards", "wards_v2"), Task(installation, 20_261_131, ("wards",))
        stand_beside(installation, *stopped)
    kafka, topic, first = installation.kafka, installation.topic, f"{installation.prefix}.changes.{stopped[0]}"
    task.load(3)
    async with installation.running("normalize") as workers:
        worker = workers["normalize"]
        task.change(300)
        await emitted(installation, stopped[0], task.sent["wards" if beside else "visits"].total())
        for table in task.tables[-2:]:
            task.stray(table, 0)
        task.change(300)
        for table in stopped:
            await until(partial(has_stopped, worker, topic, table), f"{table} has stopped")

        assert 0 == await installation.verb("tables", "resync", stopped[0])
        await until_off_loop(lambda: has_floors(kafka, first), "the first one has gone on in a new epoch")
        assert any(
            each["source"]["origin"][1] for each in contents(await asyncio.to_thread(read_records, kafka, first))
        )
        await until(lambda: has_stopped(worker, topic, stopped[1]), "the other one still waits")
        assert 0 == await installation.verb("tables", "resync", stopped[1])
        task.change(100)
        for table in stopped:
            output = f"{installation.prefix}.changes.{table}"
            await until_off_loop(partial(has_floors, kafka, output), f"{table} is resynced")
        for table in {*stopped, *task.tables}:
            expected = task.rows[table.removesuffix("_v2")]
            await until_off_loop(partial(comes_to, installation, table, expected), f"{table}: each row as it is")
            await until(partial(has_flowed, worker, f"{installation.prefix}.parked.{table}"), f"{table}: none parked")
        assert [] == [table for table in rows_of(worker, topic) if has_stopped(worker, topic, table)]
        assert {} == worker.consumer.snapshot().paused_topics


def has_stopped(worker: Worker, topic: str, table: str) -> bool:
    """Tell whether the status says that a table's source was read anew; in a rebalance it says nothing."""
    return "source_read_anew" in (rows_of(worker, topic).get(table, {}).get("paused") or "")


def stand_beside(installation: Installation, old: str, new: str) -> None:
    """Have the topic be of two versions of one table, which say no `source_table`."""
    for table in TABLES:
        (installation.folder / "tables" / f"{table}.yaml").unlink()
    for table, said in ((old, {}), (new, {"beside": old})):
        document = {**dms_document(table, installation.topic), **said}
        del document["source_table"]
        (installation.folder / "tables" / f"{table}.yaml").write_text(json.dumps(document))


def has_floors(kafka: str, output: str) -> bool:
    """Tell whether a floor stands in each partition of an output."""
    return PARTITIONS == sum(b'"op":"floor"' in (each.value or b"") for each in read_records(kafka, output))


def comes_to(installation: Installation, table: str, rows: dict[int, str]) -> bool:
    """Tell whether these are the rows that a table's changes come to."""
    final = FinalRows(TableSpec.model_validate(dms_document(table, installation.topic)))
    for record in read_records(installation.kafka, f"{installation.prefix}.changes.{table}"):
        final.apply(record.value or b"")
    return rows == {int(each["row"]["id"]): each["row"]["name"] for each in final.documents()}


def has_flowed(worker: Worker, parked: str) -> bool:
    """Tell whether nothing is left of what was parked of a table."""
    return not rows_of(worker, parked)


async def test_a_table_that_has_filled_its_parking_holds_up_no_other_once_it_is_removed(
    installation: Installation,
) -> None:
    """The topic was paused for all of them; what comes of the table from then on is of none."""
    limit_parking(installation, 1_024)
    task, topic = Task(installation, 20_261_129), installation.topic
    task.load(3)
    async with installation.running("normalize") as workers:
        assert 0 == await installation.verb("tables", "pause", "visits", "--reason", "maintenance")
        await until(lambda: workers["normalize"].host.tables["visits"].paused, "the pause has reached the worker")
        task.change(1_000)
        await until(
            lambda: "visits is still paused" in workers["normalize"].consumer.snapshot().paused_topics.get(topic, ""),
            "what is parked of the table has no room any more",
        )

        assert 0 == await installation.verb("tables", "remove", "visits", "--yes")
        task.change(100)
        for table in ("patients", "wards"):
            records = await emitted(installation, table, task.sent[table].total())
            assert task.sent[table] == named(records), table
        assert {} == workers["normalize"].consumer.snapshot().paused_topics


def limit_parking(installation: Installation, bytes_max: int) -> None:
    """Leave so little room for what is parked."""
    said = installation.file.read_text().replace("limits: {", f"limits: {{parked_bytes_max: {bytes_max}, ")
    installation.file.write_text(said)
    installation.config = read_config(said, name=installation.file.name)
