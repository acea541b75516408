"""Sources whose columns change while workers of NORMALIZE run: no restart, nothing lost, nothing in quarantine."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer

from connectors.transport.settings import ClientSettings
from connectors.transport.topics import TopicAdmin, TopicSettings
from headgate.cli import main as entry
from schemas.change import HEADER_SCHEMA_VERSION
from schemas.config import Config, read_config
from schemas.table import TableEntry
from streams.app import Worker, build_worker
from streams.apply import apply_folder
from streams.registration import load_tables, open_tables
from tests.integration.stages import run_until_killed, until, until_off_loop
from tests.oracles.topic import read_records
from tests.services import Kafka
from tests.unit.streams.changing import envelope

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

PARTITIONS = 2
COLUMNS = {"id": "int", "visits": "int", "amount": {"type": "decimal(6,2)", "encoding": "number"}, "name": "string"}
POLICIES = {"widen": "widen", "text": "text", "beside": "new_column", "strict": "quarantine", "paused": "pause"}
ROW = {"visits": 1, "amount": 1.25, "name": "a"}


class Out(NamedTuple):
    """A change on an output topic."""

    version: int
    row: dict[str, Any]


class Installation:
    """Tables of one topic each, and one that is only there to go on."""

    def __init__(self, kafka: str, folder: Path) -> None:
        """Apply a table for each policy."""
        self.kafka, self.folder, self.prefix = kafka, folder, f"evolve{uuid.uuid4().hex[:8]}"
        self.admin = TopicAdmin(ClientSettings(bootstrap=kafka))
        self.file = folder / "headgate.yaml"
        self.file.write_text(
            f"kafka: {{bootstrap: '{kafka}', topic_prefix: {self.prefix}, group_prefix: {self.prefix}}}\n"
            f"web: {{state_folder: {folder / 'state'}}}\n"
        )
        self.config: Config = read_config(self.file.read_text(), name="headgate.yaml")
        (folder / "state").mkdir()
        (folder / "tables").mkdir()
        for table, policy in POLICIES.items():
            self.spec(table, type_changes=policy, unknown_columns="quarantine" if policy == "quarantine" else "add")
            self.admin.ensure(self.topic(table), TopicSettings(partitions=PARTITIONS))
        apply_folder(self.config, folder / "tables")
        self.rows = 0

    def spec(self, table: str, **more: Any) -> None:
        """Write a table's spec."""
        document = {"table": table, "topics": [self.topic(table)], "key": ["id"], "columns": COLUMNS, **more}
        (self.folder / "tables" / f"{table}.yaml").write_text(json.dumps(document))

    def topic(self, table: str) -> str:
        """Return the source topic of a table."""
        return f"{self.prefix}-{table}"

    def put(self, table: str, *rows: Mapping[str, Any], partition: int = 0) -> None:
        """Insert rows like ROW, but for what is said of them."""
        producer = Producer({"bootstrap.servers": self.kafka, "linger.ms": 0})
        for more in rows:
            self.rows += 1
            row = {"id": self.rows, **ROW, **more}
            key = json.dumps({"id": row["id"]}, separators=(",", ":"))
            producer.produce(
                self.topic(table), envelope(row, lsn=self.rows, at_ms=int(time.time() * 1000)), key, partition
            )
        assert producer.flush(30) == 0, "every record was delivered"

    def out(self, table: str) -> list[Out]:
        """Return what the output topic has, by partition and in its order."""
        found = []
        for record in read_records(self.kafka, f"{self.prefix}.changes.{table}"):
            headers = dict(record.headers)
            found.append(Out(int(headers[HEADER_SCHEMA_VERSION] or 0), json.loads(record.value or b"")["after"]))
        return found

    async def emitted(self, table: str, count: int) -> list[Out]:
        """Wait until so many changes are out, and no more."""
        await until_off_loop(lambda: len(self.out(table)) >= count, f"{count} changes of {table}")
        found = self.out(table)
        assert len(found) == count
        assert len({out.row["id"] for out in found}) == count
        return found

    def quarantined(self) -> list[str]:
        """Return the tables of quarantined records."""
        return [
            json.loads(each.value or b"")["table"] for each in read_records(self.kafka, f"{self.prefix}.quarantine")
        ]

    def in_force(self, table: str) -> TableEntry:
        """Return a table as a worker that starts now would run it."""
        return load_tables(self.config)[table]

    @asynccontextmanager
    async def running(self, slots: int = 1) -> AsyncIterator[Sequence[Worker]]:
        """Run so many workers of NORMALIZE."""
        workers: list[Worker] = []
        try:
            for slot in range(slots):
                tables, reader = await asyncio.to_thread(open_tables, self.config)
                made = build_worker("normalize", self.config, tables=tables, reader=reader, instance="test", slot=slot)
                made.consumer._exit_seconds_max = None  # noqa: SLF001 - this process is the tests' own
                await made.app.start()
                workers.append(made)
            yield workers
        finally:
            for made in workers:
                await made.app.stop()
        assert [None] * slots == [made.consumer.failure for made in workers]

    async def verb(self, *arguments: str) -> int:
        """Run a verb of the command line; return its exit code."""
        return await asyncio.to_thread(entry.run, [*arguments, "--config", str(self.file)])


def types_of(table: TableEntry) -> dict[str, str]:
    """Return a table's columns."""
    return {name: str(column.type) for name, column in table.spec.columns.items()}


PLAIN = {"id": "int", "visits": "int", "amount": "decimal(6,2)", "name": "string"}
CHANGES: Sequence[Mapping[str, Any]] = (
    {}, {"note": "new"}, {"visits": 2**40}, {"amount": 123456.75}, {"visits": "many"}, {"note": "b", "more": 7}, {},
)  # fmt: skip


def test_columns_follow_their_source_by_each_policy(kafka: Kafka, tmp_path: Path) -> None:
    """Each record is out once, as the spec of its moment says; what nobody mends is in quarantine, or waits."""

    async def main() -> None:
        here = await asyncio.to_thread(Installation, kafka.address, tmp_path)
        async with here.running() as (worker,):
            for table in POLICIES:
                here.put(table, *CHANGES)
            wide = {**PLAIN, "visits": "long", "amount": "decimal(8,2)", "more": "long", "note": "string"}

            widened = await here.emitted("widen", len(CHANGES) - 1)
            assert wide == types_of(here.in_force("widen"))
            assert [1, *[here.in_force("widen").schema_version] * 5] == [out.version for out in widened]
            assert str(2**40) == widened[2].row["visits"]

            texts = await here.emitted("text", len(CHANGES))
            assert {**wide, "visits": "string"} == types_of(here.in_force("text"))
            assert [1, "1", str(2**40), "1", "many", "1", "1"] == [out.row["visits"] for out in texts]

            beside = await here.emitted("beside", len(CHANGES))
            assert {**wide, "visits__text": "string"} == types_of(here.in_force("beside"))
            assert [(None, "many"), ("1", None)] == [(o.row["visits"], o.row["visits__text"]) for o in beside[4:6]]

            for verb in ("show", "export"):
                assert await here.verb("tables", verb, "beside") == 0

            await here.emitted("strict", 2)
            assert PLAIN == types_of(here.in_force("strict"))

            await here.emitted("paused", 4)
            await until(lambda: any("column visits" in str(row["paused"]) for row in rows_of(worker)), "a paused table")
            await until_off_loop(lambda: len(here.quarantined()) == 6, "what cannot be mended")
            assert ["strict"] * 5 + ["widen"] == sorted(here.quarantined())

            here.spec("paused", type_changes="text", unknown_columns="add")
            await asyncio.to_thread(apply_folder, here.config, here.folder / "tables")
            assert await here.verb("tables", "resume", "paused") == 0
            assert "many" == (await here.emitted("paused", len(CHANGES)))[4].row["visits"]

            here.spec("strict", type_changes="text", unknown_columns="add")
            await asyncio.to_thread(apply_folder, here.config, here.folder / "tables")
            assert await here.verb("quarantine", "redrive", "--table", "strict") == 0
            redriven = await here.emitted("strict", len(CHANGES))
            assert {"new", "b"} == {out.row["note"] for out in redriven if "note" in out.row}

    asyncio.run(main())


def rows_of(worker: Worker) -> list[dict[str, Any]]:
    """Return a worker's status of its tables."""
    found: list[dict[str, Any]] = worker.host.status()["tables"]
    return found


def test_two_workers_that_find_columns_at_once_lose_none(kafka: Kafka, tmp_path: Path) -> None:
    """Each writes a record of its own; both run the same spec, also after a restart; another table goes on."""

    async def main() -> None:
        here = await asyncio.to_thread(Installation, kafka.address, tmp_path)
        async with here.running(2) as workers:
            both = [{(each.topic, each.partition) for each in worker.consumer.assignments()} for worker in workers]
            await until(
                lambda: all(worker.consumer.assignments() for worker in workers), f"partitions for both: {both}"
            )
            for partition in range(PARTITIONS):
                here.put(
                    "text",
                    {},
                    {f"of_{partition}": partition, "visits": [2**40, "x"][partition]},
                    {},
                    partition=partition,
                )
                here.put("strict", {}, {}, partition=partition)
            await here.emitted("text", 6)
            await here.emitted("strict", 4)
            here.put("text", {"of_0": 1, "of_1": 2, "visits": "y"}, partition=1)
            last = (await here.emitted("text", 7))[-1]

            expected = {**PLAIN, "visits": "string", "of_0": "long", "of_1": "long"}
            assert expected == types_of(here.in_force("text"))
            await until(
                lambda: all(expected == types_of(each.host.tables["text"]) for each in workers), "one spec in both"
            )
            assert last.version == here.in_force("text").schema_version
        async with here.running():
            here.put("text", {"of_0": 1, "visits": "z"})
            out = await here.emitted("text", 8)
        assert [] == here.quarantined()
        assert "z" in [each.row["visits"] for each in out]

        producer = Producer({"bootstrap.servers": here.kafka})
        producer.produce(f"{here.prefix}.tables", None, "text")
        assert producer.flush(30) == 0, "the table was removed"
        await asyncio.to_thread(apply_folder, here.config, here.folder / "tables")
        assert PLAIN == types_of(here.in_force("text")), "a table made anew begins without what was found"
        assert here.in_force("text").schema_version == 1

    asyncio.run(main())


@pytest.mark.parametrize("place", ["before_write", "after_write"])
def test_a_worker_that_dies_while_a_table_evolves_loses_nothing(kafka: Kafka, tmp_path: Path, place: str) -> None:
    """Whether what it found was durable or not: the next one finds it again, or has it in force from the start."""
    here = Installation(kafka.address, tmp_path)
    here.put("text", {}, {"note": "a"}, {"visits": "x"}, {})
    assert run_until_killed(here, f"evolutions.{place}=kill") < 0

    async def main() -> None:
        async with here.running():
            here.put("text", {})
            rows = [out.row for out in await here.emitted("text", 5)]
            assert ["1", "1", "x", "1", "1"] == [str(row["visits"]) for row in rows]
            assert "a" == rows[1]["note"]
        assert here.in_force("text").schema_version == 2
        assert [] == here.quarantined()

    asyncio.run(main())
