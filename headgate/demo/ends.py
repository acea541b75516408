"""What comes out of the four ends, looked at from outside: topics, Redis, the receiver, the lake's files."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from connectors.transport.embedded import TopicReader
from headgate.demo.receiver import AlertReceiver
from schemas.config import Config
from schemas.table import TableSpec
from schemas.topics import TopicNames
from sinks.redis.read import get_entity

SHOWN = 6


@dataclass(slots=True)
class Ends:
    """What has been seen so far."""

    events: Counter[str] = field(default_factory=Counter)
    latest_events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=SHOWN))
    quarantined: Counter[str] = field(default_factory=Counter)
    features: dict[str, dict[str, str]] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    lake: dict[str, tuple[int, int]] = field(default_factory=dict)

    def alive(self) -> dict[str, bool]:
        """Tell of each end whether something came out of it."""
        return {
            "events": self.events.total() > 0,
            "features": bool(self.features),
            "alerts": bool(self.alerts),
            "lake": any(rows for rows, _ in self.lake.values()),
        }


class EventsWatch:
    """Reads the output topics and the quarantine."""

    def __init__(self, reader: TopicReader, names: TopicNames) -> None:
        """Read from the beginning."""
        self._reader, self._names = reader, names

    async def look(self, ends: Ends) -> None:
        """Take up what has come since the last look."""
        for record in await asyncio.to_thread(self._reader.read, 0.05):
            if record.value is None:
                continue
            document = json.loads(record.value)
            if record.topic == self._names.quarantine:
                ends.quarantined[document["reason"]] += 1
            else:
                ends.events[self._names.table_of(record.topic)] += 1
                ends.latest_events.append(document | {"table": self._names.table_of(record.topic)})


class FeaturesWatch:
    """Reads the features of some entities, as an application would."""

    def __init__(self, config: Config, specs: list[TableSpec], entities: dict[str, str]) -> None:
        """`entities` are the ids to look at, by entity."""
        self._config = config
        self._views = [
            (f"{view.entity} {entities[view.entity]}", view, entities[view.entity])
            for spec in specs
            for view in spec.features
            if view.entity in entities
        ]
        self._redis: Redis = Redis.from_url(config.redis.url.get_secret_value(), decode_responses=False)

    async def look(self, ends: Ends) -> None:
        """Read each view; an entity that is not there is left out."""
        found: dict[str, dict[str, str]] = {}
        for name, view, identity in self._views:
            try:
                row = await get_entity(self._redis, self._config.redis, view, [identity])
            except (RedisError, OSError):
                return  # Redis is away for a moment: keep what was seen
            if row is not None:
                found.setdefault(name, {}).update(row.values)
        ends.features = found

    async def close(self) -> None:
        """Leave."""
        await self._redis.aclose()


class AlertsWatch:
    """Looks at what the receiver has."""

    def __init__(self, receiver: AlertReceiver) -> None:
        """Look at `receiver`."""
        self._receiver = receiver

    async def look(self, ends: Ends) -> None:
        """Take up the distinct alerts."""
        ends.alerts = list(self._receiver.alerts.values())


class LakeWatch:
    """Reads rows and files of the committed snapshots from the lake's catalogue."""

    def __init__(self, config: Config, tables: list[str]) -> None:
        """Look at `tables`; one that is not there yet has nothing."""
        self._config, self._tables = config, tables

    async def look(self, ends: Ends) -> None:
        """Count rows and files per table."""
        ends.lake = await asyncio.to_thread(self._count)

    def _count(self) -> dict[str, tuple[int, int]]:
        from sinks.lake.storage import open_catalog  # noqa: PLC0415  slow to import: after the first screen

        counts = {}
        catalog = open_catalog(self._config.lake)
        try:
            names = {identifier[-1] for identifier in catalog.list_tables(self._config.lake.namespace)}
            for table in self._tables:
                if table in names:
                    snapshot = catalog.load_table((self._config.lake.namespace, table)).current_snapshot()
                    summary = snapshot.summary if snapshot is not None else None
                    counts[table] = _rows_and_files(summary)
        finally:
            catalog.close()
        return counts


def _rows_and_files(summary: Any) -> tuple[int, int]:
    if summary is None:
        return 0, 0
    return int(summary["total-records"] or 0), int(summary["total-data-files"] or 0)
