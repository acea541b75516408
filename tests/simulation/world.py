"""What every world has: a history that comes in, workers that read it, and what is looked at on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Any

from connectors.transport.settings import ConsumerSettings
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from streams.tables import TableDirectory
from tests.simulation.broker import Entry, Key, Transaction
from tests.simulation.worker import Service, Surroundings, Worker

SOURCE = "clinic.public.patients"
CHANGES = "headgate.changes.patients"
GROUP = "group"
KEYS = 7
SPEC = TableSpec.model_validate(
    {
        "table": "patients",
        "topics": [SOURCE],
        "key": ["id"],
        "columns": {"id": "long", "name": "string", "note": "string"},
        "features": [{"view": "latest", "entity": "patient", "columns": ["name", "note"]}],
    }
)
NAMES = TopicNames()
SESSION_SECONDS = 6.0
CONSUMER = ConsumerSettings(
    bootstrap="model", group=GROUP, session_timeout_seconds=SESSION_SECONDS, chunk_records_max=6, drain_seconds=4.0
)


class World:
    """One installation of one stage."""

    topic = CHANGES
    name = ""

    def __init__(self, random: Random, around: Surroundings) -> None:
        self.random, self.around, self.broker = random, around, around.broker
        self.partitions = random.randint(1, 3)
        self.count = random.randint(10, 40)
        self.broker.create(self.topic, self.partitions)
        self.broker.on_offset = self.offset_stored
        self.tables = TableDirectory({"patients": TableEntry(spec=SPEC)})
        self.fed = False

    async def feed(self, seconds: float) -> None:
        """Write the history, at times of its own."""
        times = sorted(self.random.uniform(0, seconds) for _ in range(self.count))
        clock = self.around.network.clock
        for number, at in enumerate(times):
            if at > clock():
                await asyncio.sleep(at - clock())
            self.write(number)
        self.fed = True

    def put(self, partition: int, value: bytes, key: bytes | None = None) -> int:
        """Append a record, now and then behind what only takes an offset; return its offset."""
        log = self.broker.logs[self.topic, partition]
        if self.random.random() < 0.2:
            aborted = Transaction("other", 0.0, state="aborted")
            log.append(Entry(key, b"never", [], 0, aborted))
            log.append(Entry(None, None, [], 0, aborted, marker=True))
        self.broker.append((self.topic, partition), Entry(key, value, [], 0))
        return len(log) - 1

    def caught_up(self) -> bool:
        """Say whether the group has committed all there is; a marker at a log's end is nobody's to commit."""
        offsets = self.broker.group(GROUP).offsets
        return self.fed and all(
            not self.broker.read(key, offsets.get(key, (0, ""))[0], 1)[0]
            for key in self.broker.partitions_of([self.topic])
        )

    def write(self, number: int) -> None:
        """Write one record of the history."""
        raise NotImplementedError

    def stage(self, worker: Worker, service: Service) -> tuple[Any, Mapping[str, Any]]:
        """Return a worker's stage, and its lane's options."""
        raise NotImplementedError

    def offset_stored(self, group: str, key: Key, offset: int) -> None:
        """Look at an offset that is about to be stored."""
        raise NotImplementedError

    def differences(self) -> list[str]:
        """Return what is not as it must be in the end."""
        raise NotImplementedError

    def mishaps(self) -> list[str]:
        """Return what can happen to this world's sink."""
        return []

    def mishap(self, which: str) -> float:
        """Let it happen; return after how many seconds `mend` is due."""
        raise NotImplementedError

    def mend(self) -> None:
        """End the sink's mishaps."""

    def below(self, key: Key, first: int, stop: int) -> list[tuple[int, Entry]]:
        """Return the records from `first` up to, without, `stop`."""
        found = self.broker.read(key, first, stop - first)[0] if stop > first else []
        return [(offset, entry) for offset, entry in found if offset < stop]
