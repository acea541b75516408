"""Real stages in this process, on real services: begun and ended within a second, spoken to by the command line."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from connectors.transport.service import StageApp
from connectors.transport.settings import ClientSettings
from connectors.transport.topics import TopicAdmin, TopicSettings
from headgate.cli import main as entry
from schemas.config import Config, read_config
from schemas.errors import TableStopped
from schemas.feature import View
from schemas.table import TableSpec
from sinks.lake.storage import open_catalog
from sinks.lake.table import load_table
from sinks.lake.verify import Report, verify
from sinks.redis.read import EntityRead, read_entity
from streams.app import Worker, build_worker
from streams.apply import apply_folder
from streams.registration import load_tables, open_tables
from tests.oracles import Shape, require
from tests.oracles.topic import Change, check_streams, read_records, to_change
from tests.services import Kafka, RedisServer

COLUMNS = {"id": "int", "name": "string"}
VIEW = {"view": "patient", "entity": "patient", "columns": ["name"]}
WAIT_SECONDS = 60.0
ROOT = Path(__file__).parents[2]


class Files(Protocol):
    """An installation as a process of its own knows it."""

    file: Path


class Installation:
    """One table, `patients`, of a topic of its own; its stages run in this process."""

    def __init__(self, kafka: str, redis: str, folder: Path) -> None:
        self.kafka, self.redis, self.folder = kafka, redis, folder
        self.prefix = f"jump{uuid.uuid4().hex[:8]}"
        self.topic = f"{self.prefix}-clinic.patients"
        self.output = f"{self.prefix}.changes.patients"
        self.admin = TopicAdmin(ClientSettings(bootstrap=kafka))
        self.file = folder / "headgate.yaml"
        self.file.write_text(
            f"kafka: {{bootstrap: '{kafka}', topic_prefix: {self.prefix}, group_prefix: {self.prefix}}}\n"
            f"redis: {{url: '{redis}', key_prefix: {self.prefix}, buckets: 4}}\n"
            f"lake: {{warehouse: {folder / 'lake'}, commit_age_seconds: 0.4}}\n"
            f"web: {{state_folder: {folder / 'state'}}}\n"
        )
        self.config: Config = read_config(self.file.read_text(), name="headgate.yaml")
        document = {
            "table": "patients", "topics": [self.topic], "key": ["id"], "columns": COLUMNS,
            "features": [VIEW],
            "rules": [{"rule": "any", "when": "op = 'insert'", "max_age_seconds": 86_400}],
        }  # fmt: skip
        self.shape, self.document = Shape.of(document), document
        (folder / "state").mkdir()
        (folder / "tables").mkdir()
        self.spec()
        self.rows = 0

    def spec(self, **changes: Any) -> None:
        """Write the table's spec, with these changes; the next `running` applies it."""
        (self.folder / "tables" / "patients.yaml").write_text(json.dumps(self.document | changes))

    def registered(self) -> TableSpec:
        """Return the table's spec as it is registered."""
        return load_tables(self.config)["patients"].spec

    # -- the source --------------------------------------------------------------------------------------------------

    def make(self, partitions: int = 4) -> None:
        """Make the source's topic."""
        self.admin.ensure(self.topic, TopicSettings(partitions=partitions))

    def remake(self, topic: str, partitions: int = 4) -> None:
        """Delete a topic and make it anew."""
        before = self.admin.ids_now([topic])[topic]
        self.admin.delete([topic])
        deadline = time.monotonic() + WAIT_SECONDS
        while self.admin.ids_now([topic]).get(topic, before) == before:
            assert time.monotonic() < deadline, f"{topic} was not made anew"
            if topic not in self.admin.ids_now([topic]):
                self.admin.create(topic, TopicSettings(partitions=partitions))
            time.sleep(0.05)

    def truncate(self) -> None:
        """Say that the source's table was truncated, in the first partition."""
        producer = Producer({"bootstrap.servers": self.kafka})
        producer.produce(self.topic, event(self.rows).replace(b'"op": "c"', b'"op": "t"'), None, 0)
        assert producer.flush(30) == 0, "the record was delivered"

    def fill(self, records: int, partitions: int = 4) -> None:
        """Insert so many new rows, one partition after the other."""
        producer = Producer(
            {"bootstrap.servers": self.kafka, "linger.ms": 5, "topic.metadata.refresh.interval.ms": 200}
        )
        for _ in range(records):
            producer.produce(self.topic, event(self.rows), b'{"id":%d}' % self.rows, self.rows % partitions)
            self.rows += 1
        assert producer.flush(30) == 0, "every record was delivered"

    def forget_records(self, below: Mapping[int, int], *, topic: str = "") -> None:
        """Take what a topic, the source's unless told otherwise, holds below these offsets, as retention does."""
        wanted = [TopicPartition(topic or self.topic, number, offset) for number, offset in below.items()]
        client = AdminClient({"bootstrap.servers": self.kafka})  # its futures need it
        for future in client.delete_records(wanted).values():
            future.result(30)

    def forget_offsets(self, *stages: str) -> None:
        """Delete the groups of stages that do not run, and their offsets with them, as the broker does in time."""
        groups = [f"{self.prefix}-{stage}" for stage in stages]
        client = AdminClient({"bootstrap.servers": self.kafka})  # its futures need it
        for future in client.delete_consumer_groups(groups).values():
            future.result(30)

    # -- stages ------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self, *stages: str) -> AsyncIterator[Mapping[str, Worker]]:
        """Run a worker of each stage for as long as the block lasts; of one named again another, by `<stage>-1`."""
        await asyncio.to_thread(apply_folder, self.config, self.folder / "tables", force=True)
        workers: dict[str, Worker] = {}
        try:
            for at, stage in enumerate(stages):
                tables, reader = await asyncio.to_thread(open_tables, self.config)
                slot = stages[:at].count(stage)
                worker = build_worker(stage, self.config, tables=tables, reader=reader, instance="test", slot=slot)
                worker.consumer._exit_seconds_max = None  # noqa: SLF001 - this process is the tests' own
                await worker.app.start()
                workers[f"{stage}-{slot}" if slot else stage] = worker
            yield workers
        finally:
            for worker in workers.values():
                await worker.app.stop()
                _close_unused(worker.app)
        assert [None] * len(workers) == [worker.consumer.failure for worker in workers.values()]

    async def verb(self, *arguments: str) -> int:
        """Run a verb of the command line; return its exit code."""
        return await asyncio.to_thread(entry.run, [*arguments, "--config", str(self.file)])

    # -- the ends ----------------------------------------------------------------------------------------------------

    async def emitted(self, count: int, *, breaks: int = 0) -> list[Change]:
        """Wait until so many changes stand on the output topic; return them, their chain with so many breaks."""
        changes: list[Change] = []
        deadline = time.monotonic() + WAIT_SECONDS
        while len(changes) < count:
            assert time.monotonic() < deadline, f"{len(changes)} of {count} changes were emitted"
            records = await asyncio.to_thread(read_records, self.kafka, self.output)
            changes = [to_change(self.shape, record) for record in records]
            await asyncio.sleep(0.1)
        assert len(changes) == count
        verdict = check_streams(changes, name=self.output, at_least=count, repeats_allowed=True)  # a topic read again
        if breaks:
            assert breaks == len(verdict.differences), verdict
        else:
            require(verdict)
        return changes

    def lake(self) -> tuple[int, Report]:
        """Return how many rows the lake has, and what is to be said of their chain."""
        try:
            report = verify(load_table(open_catalog(self.config.lake), "headgate", "patients"))
        except TableStopped:  # nothing was committed yet
            report = Report("patients")
        return report.rows, report

    def alerts(self) -> list[str]:
        """Return the ids of the alerts that were written."""
        return [json.loads(record.value or b"")["id"] for record in read_records(self.kafka, f"{self.prefix}.alerts")]

    def features(self) -> int:
        """Return how many rows Redis holds."""
        with Redis.from_url(self.redis) as client:
            return sum(1 for _ in client.scan_iter(match=f"{self.prefix}:{{b*}}:f:patient.1:*", count=1_000))

    def view(self, row: int) -> EntityRead:
        """Return what the read side says of a row."""

        async def read() -> EntityRead:
            async with AsyncRedis.from_url(self.redis) as client:
                return await read_entity(client, self.config.redis, View.model_validate(VIEW), [str(row)])

        return asyncio.run(read())

    def close(self) -> None:
        """Delete the topics."""
        self.admin.delete([self.topic, self.output, *(f"{self.prefix}.{name}" for name in ("alerts", "tables"))])


def event(row: int) -> bytes:
    """The insert of a row, as Debezium sends it from PostgreSQL."""
    source = {
        "connector": "postgresql", "name": "clinic", "ts_us": int(time.time() * 1e6), "snapshot": "false", "db": "d",
        "sequence": f'["{row}","{row + 1}"]', "schema": "public", "table": "patients", "txId": 7, "lsn": row + 1,
    }  # fmt: skip
    return json.dumps({"before": None, "after": {"id": row, "name": f"n{row}"}, "source": source, "op": "c"}).encode()


def paused(worker: Worker) -> set[str]:
    """Return why this worker paused what, in the words of its status."""
    return {row["paused"] for row in worker.host.status()["tables"] if row["paused"]}


async def none_waits(*workers: Worker) -> None:
    """Wait until nothing of these workers is paused."""
    await until(lambda: not any(paused(worker) for worker in workers), "nothing is paused")


def document_of(printed: str) -> Any:
    """Return the document that a verb printed by `--json`, among lines that workers of this process logged."""
    begins = re.search(r"^[\[{]$", printed, re.MULTILINE)
    assert begins is not None, printed
    return json.JSONDecoder().raw_decode(printed, begins.start())[0]


async def until(condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait until something is true."""
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.03)


async def until_off_loop(condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait until something is true that is asked of a service, beside the stages."""
    ends_at = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < ends_at, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.1)


def run_until_killed(installation: Files, failpoint: str, stage: str = "normalize") -> int:
    """Run a worker of the next one's slot until it dies at a failpoint; return how it ended."""
    command = [sys.executable, "-m", "headgate", "run", "--stage", stage, "--instance", "test", "--slot", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HEADGATE_FAILPOINTS": failpoint}
    done = subprocess.run(
        [*command, "--config", str(installation.file)], env=environment, timeout=120, check=False, capture_output=True
    )
    return done.returncode


def _close_unused(app: StageApp) -> None:
    """Close the loop of the consumer that Faust makes and a stage never starts: else it is found in another test."""
    consumer: Any = app._consumer  # noqa: SLF001 - `app.consumer` would make one
    if consumer is not None:
        consumer._thread.thread_loop.close()  # noqa: SLF001 - only its thread would close it, which never ran


@contextmanager
def filled(kafka: Kafka, redis: RedisServer, folder: Path, *, rows: int) -> Iterator[Installation]:
    """Have an installation with its topic of four partitions, and so many rows in it."""
    made = Installation(kafka.address, redis.address, folder)
    try:
        made.make()
        made.fill(rows)
        yield made
    finally:
        made.close()
