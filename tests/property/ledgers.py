"""A ledger on a real Redis for tests of properties: under its own prefix, used from code that is not asynchronous."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings

from schemas.config import RedisConfig
from schemas.table import TableSpec, views_that_emit
from sinks.redis.floor_sweep import FloorSweep, read_floors
from sinks.redis.fold import Gatherer
from sinks.redis.ledger import Applied, Ledger, OutboxTerms, commands
from sinks.redis.rows import TableRows
from sinks.redis.sharing import tellings
from streams.floor_sweeps import raise_floors

T = TypeVar("T")


def on_a_real_redis(examples: int) -> settings:
    """Return the settings of a test whose examples share one store, which each of them clears first."""
    suppressed = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]  # in place of the profile's
    return settings(max_examples=examples, deadline=None, print_blob=True, suppress_health_check=suppressed)


def digits(position: int) -> str:
    """Write a position as PostgreSQL's layout has it: 45 digits."""
    return f"0001{position:041d}"


class LedgerStore:
    """The ledger of one table's views."""

    def __init__(self, address: str, spec: TableSpec, *, buckets: int) -> None:
        """Open it; it is empty."""
        config = {"url": address, "key_prefix": f"features-{uuid.uuid4().hex[:12]}", "buckets": buckets}
        config["timeout_seconds"] = 60.0  # of a machine that stands still, too
        self._table, self._buckets = TableRows(spec, spec.features, views_that_emit(spec)), buckets
        self.plans = {plan.id: plan for plan in self._table.plans}
        self.terms = OutboxTerms("life", "first", 1_000_000)
        self._loop = asyncio.new_event_loop()
        self.ledger = Ledger(RedisConfig.model_validate(config))
        self.run(self.ledger.open())
        self.layout = self.ledger.layout

    def gathered(self, values: Sequence[bytes]) -> Gatherer:
        """Return changes of the contract, decoded and folded."""
        gatherer = Gatherer(self.layout, 65_536)
        longest = max(map(len, values), default=0)
        for at in gatherer.add(self._table, self._table.decode(values), lambda _: "id|0|1", value_bytes_max=longest):
            raise_floors(gatherer, self._table, values[at])
        return gatherer

    def write_all(self, values: Sequence[bytes]) -> list[Any]:
        """Write changes and floors as a worker does; return what entities must be told."""
        gatherer = self.gathered(values)
        self.send(gatherer.told(shares=False))
        return self.send(gatherer.told(shares=True)).told

    def sweep(self, *, send: Callable[[Any], Awaitable[int]] | None = None) -> None:
        """Sweep all views that say so."""
        floors = self.run(read_floors(self.ledger.ask, self.layout, list(self.plans)))
        for view, floor in floors.items():
            if floor.sweeping:
                sweep = FloorSweep(self.ledger.ask, send or self.sent, self.layout, self.plans[view], floor)
                self.run(sweep.sweep())
                self.run(sweep.end())

    def is_sweeping(self) -> bool:
        """Say whether a view says so."""
        floors = self.run(read_floors(self.ledger.ask, self.layout, list(self.plans)))
        return any(floor.sweeping for floor in floors.values())

    async def sent(self, sections: Any) -> int:
        """Send what a sweep sends, and tell entities."""
        applied = await self._sent(sections)
        await self._sent(tellings(self.layout, applied.told, self.plans))
        return applied.changed

    async def _sent(self, sections: Any) -> Applied:
        return await self.ledger.apply(commands(self.layout, sections, {}, now_ms=1, outbox=self.terms), {})

    def send(self, sections: Any) -> Applied:
        """Send what was gathered in one call, and return what Redis made of it."""
        made = commands(self.layout, sections, {}, now_ms=1, outbox=self.terms)
        return self.run(self.ledger.apply(made, {}))

    def hashes(self, view: str, entities: Sequence[str]) -> list[dict[bytes, bytes]]:
        """Return what HGETALL says of each entity."""
        replies = self.exchange(*[("HGETALL", self.layout.values(view, entity)) for entity in entities])
        return [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in replies]

    def lose(self, bucket: int) -> None:
        """Forget all that one bucket holds."""
        (keys,) = self.exchange(("KEYS", self.layout.base(bucket) + "*"))
        if keys:
            self.exchange(("DEL", *keys))

    def clear(self) -> None:
        """Forget everything."""
        for bucket in range(self._buckets):
            self.lose(bucket)

    def close(self) -> None:
        """Leave nothing behind."""
        self.clear()
        self.exchange(("DEL", self.layout.marker))
        self.run(self.ledger.close())
        self._loop.close()

    def run(self, question: Awaitable[T]) -> T:
        """Return what comes of it."""
        return self._loop.run_until_complete(question)

    def exchange(self, *calls: tuple[Any, ...]) -> list[Any]:
        """Return the answers to commands."""
        return list(self.run(self.ledger.wire.exchange(list(calls))))
