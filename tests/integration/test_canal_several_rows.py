"""Canal's records of several rows, with changes of keys: all ends are the source; subscribers see each change once."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.integration.one_table import OneTable, one_table
from tests.oracles.topic import Record, read_records
from tests.services import Kafka, RedisServer

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

PARTITIONS, EVENTS = 4, 600
STAYS = {
    "table": "stays", "format": "canal", "key": ["id"],
    "columns": {"id": "int", "ward": "string", "amount": "decimal(10,2)", "note": "string"},
}  # fmt: skip
Told = tuple[str, int, int | None]  # operation, key, and the other key where it was changed


@dataclass(slots=True)
class Source:
    """A table of MySQL; `told` has by partition what a subscriber must hear, in its order."""

    table: OneTable
    chance: random.Random
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    told: dict[int, list[Told]] = field(default_factory=lambda: {number: [] for number in range(PARTITIONS)})
    sent: int = 0
    _next: int = 0

    def play(self, events: int) -> None:
        """Do so many statements, each of one to six rows of one partition."""
        for _ in range(events):
            partition = self.chance.randrange(PARTITIONS)
            mine = [number for number in self.rows if number % PARTITIONS == partition]
            count = self.chance.randrange(1, 7)
            what = self.chance.random()
            if what < 0.45 or len(mine) < count:
                self._insert(partition, count)
            elif what < 0.85:
                self._update(partition, self.chance.sample(mine, count))
            else:
                self._delete(partition, self.chance.sample(mine, count))
        self.table.flush()

    def _new(self, partition: int) -> int:
        self._next += 1
        return self._next * PARTITIONS + partition

    def _row(self, number: int) -> dict[str, Any]:
        note = None if self.chance.random() < 0.3 else f"n{self.chance.random()}"
        return {"id": number, "ward": f"w{self.chance.randrange(9)}", "amount": f"{number}.50", "note": note}

    def _insert(self, partition: int, count: int) -> None:
        rows = [self._row(self._new(partition)) for _ in range(count)]
        self.told[partition] += [("insert", row["id"], None) for row in rows]
        self._send(partition, "INSERT", rows)

    def _update(self, partition: int, numbers: list[int]) -> None:
        rows, olds = [], []
        for number in numbers:
            before = self.rows.pop(number)
            moved = self.chance.random() < 0.4
            row = self._row(self._new(partition) if moved else number)
            rows.append(row)
            olds.append({name: value for name, value in before.items() if row[name] != value})
            if moved:
                self.told[partition] += [("delete", number, row["id"]), ("insert", row["id"], number)]
            else:
                self.told[partition].append(("update", number, None))
        self._send(partition, "UPDATE", rows, olds)

    def _delete(self, partition: int, numbers: list[int]) -> None:
        rows = [self.rows.pop(number) for number in numbers]
        self.told[partition] += [("delete", number, None) for number in numbers]
        self._send(partition, "DELETE", rows)

    def _send(self, partition: int, kind: str, rows: list[dict[str, Any]], olds: Any = None) -> None:
        self.sent += 1
        message = {
            "data": [_texts(row) for row in rows], "old": None if olds is None else [_texts(old) for old in olds],
            "database": "clinic", "table": "stays", "type": kind, "isDdl": False, "pkNames": ["id"], "sql": "",
            "es": 1_767_323_045_000 + self.sent // 5, "ts": 1_767_323_046_000, "id": self.sent,
        }  # fmt: skip
        self.table.send(partition, None, json.dumps(message).encode())
        if kind != "DELETE":
            self.rows |= {row["id"]: row for row in rows}


def _texts(row: dict[str, Any]) -> dict[str, str | None]:
    return {name: None if value is None else str(value) for name, value in row.items()}


class Subscriber:
    """Applies the rule of docs/contract.md: it drops what it has seen, and names what is missing."""

    def __init__(self) -> None:
        """Have seen nothing."""
        self._highest: dict[tuple[Any, ...], list[int]] = {}
        self.handled: dict[int, list[Told]] = {number: [] for number in range(PARTITIONS)}
        self.rows: dict[int, dict[str, Any]] = {}
        self.dropped = 0
        self.missing: list[Any] = []

    def hear(self, records: Iterable[Record]) -> None:
        """Handle what is new of the records."""
        for record in records:
            change = orjson.loads(record.value or b"")
            topic, generation, partition, *place = change["source"]["origin"]
            stream = (topic, generation, partition)
            if place <= self._highest.get(stream, []):
                self.dropped += 1
                continue
            if change["source"]["previous"] != next(iter(self._highest.get(stream, [])), None):
                self.missing.append(change["source"]["origin"])
            self._highest[stream] = place
            self._handle(partition, change)

    def _handle(self, partition: int, change: dict[str, Any]) -> None:
        number, other = change["key"]["id"], change["old_key"] or change["new_key"]
        self.handled[partition].append((change["op"], number, None if other is None else other["id"]))
        if change["op"] == "delete":
            del self.rows[number]
        else:
            self.rows[number] = change["after"]


def again_and_again(records: list[Record], chance: random.Random) -> Iterable[list[Record]]:
    """Yield the records as one who crashes now and then is given them: each crash begins some records before."""
    at = 0
    while at < len(records):
        start = max(0, at - chance.randrange(40))
        at = min(len(records), start + chance.randrange(50, 150))
        yield records[start:at]


async def test_the_rows_of_a_record_arrive_once_each_and_in_order(
    kafka: Kafka, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Topic, Redis and lake are the source; so are the rows of a subscriber that is given many records again."""
    with one_table(kafka, redis_server, tmp_path, STAYS) as stays:
        source = Source(stays, random.Random(11))
        source.play(EVENTS // 2)
        async with stays.running("normalize", "features", "lake"):
            await asyncio.to_thread(source.play, EVENTS // 2)
            rows = {(number,): stays.canonical(row) for number, row in source.rows.items()}
            changes = sum(map(len, source.told.values()))
            await stays.until_quiet(rows, changes)
        emitted = await asyncio.to_thread(stays.check_ends, rows, changes)

        assert sum(change.old_key is not None for change in emitted) > EVENTS // 4
        assert sum(len(change.origin) > 4 for change in emitted) > EVENTS
        assert [] == stays.quarantined()
        assert await stays.lake_is_proved()
        records = await asyncio.to_thread(read_records, stays.kafka, stays.output)

    subscriber = Subscriber()
    for some in again_and_again(records, random.Random(5)):
        subscriber.hear(some)
    assert [] == subscriber.missing
    assert subscriber.dropped > EVENTS // 10
    assert source.told == subscriber.handled
    assert source.rows == subscriber.rows
