"""A FEATURES worker on a real Redis with a transport in memory, a history for it to read, and what that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from connectors.transport.chunk import Group
from schemas.config import Config
from schemas.errors import SinkUnavailable
from schemas.table import TableEntry
from schemas.topics import TopicNames
from sinks.redis.read import FeatureRow, get_entity
from streams.features import FeaturesStage
from streams.places import Logs
from tests.unit.fakes import Consumer, assignment_of
from tests.unit.features.changes import change

KEYS = 200
SPEC: dict[str, Any] = {
    "table": "patients",
    "topics": ["clinic.patients"],
    "key": ["id"],
    "columns": {"id": "long", "name": "string", "note": "string", "ward": "int", "seen": "timestamptz"},
    "features": [{"view": "latest", "entity": "patient", "columns": ["name", "note", "ward"], "event_time": "seen"}],
}
SEEN = "2026-11-20T19:45:57.123456Z"


class Worker:
    """A stage with a transport in memory: what was produced can be read again from any offset."""

    def __init__(
        self,
        address: str,
        prefix: str,
        log: list[bytes | None],
        *,
        lake: Path | None = None,
        clock: Callable[[], float] = lambda: 1_000.0,
        logs: Logs | None = None,
        **redis: Any,
    ) -> None:
        config: dict[str, Any] = {"redis": {"url": address, "key_prefix": prefix, "buckets": 8, **redis}}
        self.config = Config.model_validate(config | ({"lake": {"warehouse": str(lake)}} if lake else {}))
        self.tables = {"patients": TableEntry.model_validate({"spec": SPEC})}
        self.consumer = Consumer()
        self.log = log
        self.assignment = assignment_of()
        self.stage = FeaturesStage(
            self.config, names=TopicNames(), tables=self.tables, consumer=self.consumer, clock=clock, logs=logs
        )

    async def begin(self) -> int:
        """Start and take the partition; return where reading begins."""
        await self.stage.start()
        starts = await self.stage.starts([self.assignment])
        return starts.get(self.assignment, self.assignment.committed or 0)

    async def read(self, first: int, last: int | None = None, *, run_records: int = 500) -> None:
        """Hand the log from `first` on to the stage, in runs of one group; unless it seeks, all is done afterwards."""
        records = self.log[first:last]
        runs = [
            self.consumer.run(self.assignment, first + at, records[at : at + run_records])
            for at in range(0, len(records), run_records)
        ]
        group = Group(runs, self.consumer)
        await self.stage.step(group)
        assert not group.unanswered()

    async def read_until_done(self, first: int) -> None:
        """Read to the end, following seeks and trying again where Redis does not answer."""
        at: int | None = first
        async with asyncio.timeout(30):
            while at is not None:
                self.consumer.sought.clear()
                try:
                    await self.read(at)
                except SinkUnavailable:
                    await asyncio.sleep(0.05)  # the transport's backoff
                    continue
                at = min((offset for _, offset in self.consumer.seeks), default=None)

    async def rows(self) -> dict[int, FeatureRow | None]:
        """Return what the read side says of every key."""
        client = Redis.from_url(self.config.redis.url.get_secret_value())
        try:
            view = self.tables["patients"].spec.features[0]
            return {key: await get_entity(client, self.config.redis, view, [str(key)]) for key in range(KEYS)}
        finally:
            await client.aclose()


async def flow(one: Worker, *, until_complete: bool = True) -> None:
    """Hand on the log from where the consumer stands, as the transport does, until all is read and complete."""
    async with asyncio.timeout(60):
        while True:
            at = one.consumer.at.get(one.assignment, 0)
            if at < len(one.log):
                try:
                    await one.read(at, at + 100)
                except SinkUnavailable:  # the transport waits, and sends the same again
                    one.consumer.rewind(one.assignment)
            elif not until_complete or not one.stage.filling():
                return
            await asyncio.sleep(0.01)


def history(count: int) -> list[bytes | None]:
    """Changes of KEYS rows, each key in order: updates, now and then a delete, and a note that is not always sent."""
    log: list[bytes | None] = []
    for n in range(count):
        key = (n * 7919) % KEYS
        if n % 11 == 10:
            log.append(change(key, n + 1, None))
            continue
        after = {"name": f"name {n}", "ward": n % 5 if n % 3 else None, "seen": SEEN}
        known = {} if n % 4 == 0 else {"note": f"note {n}"}
        log.append(change(key, n + 1, after | known, [] if known else ["note"]))
    return log


def expected(count: int) -> dict[int, FeatureRow | None]:
    """Return what `history` leaves, worked out one by one in order."""
    rows: dict[int, FeatureRow | None] = dict.fromkeys(range(KEYS))
    for n in range(count):
        key = (n * 7919) % KEYS
        if n % 11 == 10:
            rows[key] = None
            continue
        before = rows[key]
        note = f"note {n}" if n % 4 else before.values.get("note") if before else None
        values = {"name": f"name {n}"} | ({"note": note} if note else {}) | ({"ward": str(n % 5)} if n % 3 else {})
        null = frozenset() if n % 3 else frozenset({"ward"})
        rows[key] = FeatureRow(values, null, frozenset() if note else frozenset({"note"}), f"0001{n + 1:041d}", SEEN)
    return rows
