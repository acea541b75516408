"""debezium-avro with a registry that dies and comes back while records flow: nothing is lost, nothing quarantined."""

from __future__ import annotations

import asyncio
import json
import random
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.one_table import OneTable, one_table
from tests.integration.stages import until, until_off_loop
from tests.services import Apicurio, Kafka, RedisServer
from tests.services.registry import SchemaRegistry
from tests.workloads.avro_customers import (
    DOCUMENT,
    ENVELOPE,
    ENVELOPE_WITH_EXTRA,
    KEY,
    SCHEMAS,
    SUBJECTS,
    envelope,
    framed,
    row_of,
)

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

ROWS, PARTITIONS, DENIED = 400, 4, 999


class Source:
    """A source of customers; `rows` is what it holds, `changes` how many it made that can be read."""

    def __init__(self, table: OneTable, registry: SchemaRegistry | Apicurio) -> None:
        self._table, self._registry, self._chance = table, registry, random.Random(7)
        self._numbers: dict[str, int] = {}
        self._lsn, self.changes = 0, 0
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}

    def register(self, *which: str) -> None:
        """Register schemas as a converter does, by POST; records name them by the numbers that come back."""
        for each in which:
            body = json.dumps({"schema": json.dumps(SCHEMAS[each])}).encode()
            headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
            url = f"{self._registry.url}/subjects/{SUBJECTS[each]}/versions"
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=5) as answer:  # noqa: S310
                self._numbers[each] = json.load(answer)["id"]

    def change(self, op: str, number: int, which: str = ENVELOPE) -> None:
        """Change a row, in a record of a schema that was registered."""
        row = row_of(number, self._chance, extra=which == ENVELOPE_WITH_EXTRA)
        self._lsn += 1
        key = framed(self._numbers[KEY], KEY, {"id": number})
        self._table.send(number % PARTITIONS, key, framed(self._numbers[which], which, envelope(op, self._lsn, row)))
        self.changes += 1
        if op == "d":
            self._table.send(number % PARTITIONS, key, None)
            del self.rows[number,]
        else:
            self.rows[number,] = self._table.canonical(row)

    def send_denied(self, number: int) -> bytes:
        """Send a record of a schema that the registry never heard of; return its value."""
        row = row_of(number, self._chance, extra=False)
        self._lsn += 1
        value = framed(DENIED, ENVELOPE, envelope("u", self._lsn, row))
        self._table.send(number % PARTITIONS, framed(self._numbers[KEY], KEY, {"id": number}), value)
        return value

    def play(self, which: str, first: int, count: int) -> None:
        """Insert rows, update some of them and delete some, and wait until all is delivered."""
        for number in range(first, first + count):
            self.change("c", number, which)
        for number in range(first, first + count, 3):
            self.change("u", number, which)
        for number in range(first, first + count, 7):
            self.change("d", number, which)
        self._table.flush()


@contextmanager
def sourced(kafka: Kafka, redis: RedisServer, folder: Path) -> Iterator[tuple[OneTable, Source, SchemaRegistry]]:
    """Have a table whose registry knows the first schemas."""
    with SchemaRegistry() as registry:
        settings = f"registry: {{urls: ['{registry.url}'], timeout_seconds: 1}}\n"
        with one_table(kafka, redis, folder, DOCUMENT, settings) as table:
            source = Source(table, registry)
            source.register(KEY, ENVELOPE)
            yield table, source, registry


async def test_a_registry_that_dies_and_comes_back_costs_nothing(
    kafka: Kafka, redis_server: RedisServer, tmp_path: Path
) -> None:
    """A new schema comes while it is away: the stage waits and says why; then all of it arrives."""
    with sourced(kafka, redis_server, tmp_path) as (table, source, registry):
        source.play(ENVELOPE, 0, ROWS)
        async with table.running("normalize", "features", "lake") as workers:
            await until_off_loop(lambda: len(table.changes()) == source.changes, "the first schema's records")
            source.register(ENVELOPE_WITH_EXTRA)
            registry.kill()
            source.play(ENVELOPE_WITH_EXTRA, ROWS, ROWS)

            status = workers["normalize"].host.status
            await until(lambda: "does not answer" in json.dumps(status()), "the stage says what it waits for")
            assert registry.url in json.dumps(status())
            assert "waiting" == status()["state"]
            asked = len(registry.asked)
            assert [] == await asyncio.to_thread(table.quarantined)

            registry.start()
            await table.until_quiet(source.rows, source.changes)
            await until(lambda: status()["state"] == "running", "the stage runs again")
            assert asked < len(registry.asked) <= asked + 10, "once per id, and per stage"
        changes = await asyncio.to_thread(table.check_ends, source.rows, source.changes)

        assert {"insert", "update", "delete"} == {change.op for change in changes}
        assert [] == await asyncio.to_thread(table.quarantined)
        assert await table.lake_is_proved()


async def test_only_the_record_of_a_denied_schema_is_quarantined(
    kafka: Kafka, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Its neighbours before and behind it, in its partition too, go through; so does all that comes later."""
    with sourced(kafka, redis_server, tmp_path) as (table, source, _):
        source.play(ENVELOPE, 0, 40)
        denied = [source.send_denied(number) for number in (1, 2, 5)]
        source.play(ENVELOPE, 40, 40)
        async with table.running("normalize", "features", "lake"):
            await table.until_quiet(source.rows, source.changes)
        await asyncio.to_thread(table.check_ends, source.rows, source.changes)

        entries = await asyncio.to_thread(table.quarantined)
        assert ["unknown_schema"] * len(denied) == [entry["reason"] for entry in entries]
        assert sorted(map(len, denied)) == sorted(entry["value_bytes"] for entry in entries)
        assert all(entry["hint"] for entry in entries)
