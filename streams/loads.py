"""How a stage shares its work between live changes and loads: two lanes of one step, which takes them in turns.

Promise: a group of loads stands before a live change at most once, and a small one as long as live changes come. With
nothing live to do, loads have all of the stage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from time import monotonic
from typing import Any, Protocol

from connectors.transport.rates import Limit, LimitOf
from schemas.config import Config
from schemas.topics import TopicNames
from streams.resume import entries_of
from streams.stage import MAIN_LANE
from streams.tables import TableDirectory

LOADS_LANE = "loads"
LIVE_BYTES_SHARE = 2  # of the lane's bytes, half: of thousands of partitions that have little to read each it is much
BESIDE_LIVE_RECORDS_MAX = 4_000
LIVE_SECONDS = 2.0  # live changes that came so recently are likely to come again

Most = int | Callable[[], int]


class Lane(Protocol):
    """What this asks of a lane."""

    arrived_total: int


class Consumer(Protocol):
    """What this asks of the transport."""

    def lane(self, name: str, topics: Sequence[str], step: Any, **options: Any) -> Lane:
        """Give topics to a step."""


class InTurn:
    """Lets one group of a stage be worked on at a time, in the order in which they ask: so two lanes alternate."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    def of(self, call: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """Return what calls `call` when its turn has come."""

        @wraps(call)
        async def called(*arguments: Any) -> None:
            async with self._turn:
                await call(*arguments)

        return called


class LoadShare:
    """How many records of loads go into one group: fewer while live changes come, since these wait for it."""

    def __init__(self, live: Lane, most: Most, clock: Callable[[], float] = monotonic) -> None:
        self._live, self._most, self._clock = live, most, clock
        self._seen, self._seen_at = live.arrived_total, float("-inf")

    def records_max(self) -> int:
        """Return the limit for the next group."""
        if self._live.arrived_total != self._seen:  # those that wait for a group of loads count, however long it takes
            self._seen, self._seen_at = self._live.arrived_total, self._clock()
        most = self._most() if callable(self._most) else self._most
        return min(BESIDE_LIVE_RECORDS_MAX, most) if self._clock() - self._seen_at < LIVE_SECONDS else most


def add_lanes(
    consumer: Consumer, topics: Sequence[str], step: Any, options: Mapping[str, Any], *,
    clock: Callable[[], float] = monotonic,
) -> None:  # fmt: skip
    """Give topics a lane, and beside it one for those of their partitions that are far behind.

    `options` are those of one lane, whose bytes the two share.
    """
    turns, bytes_max = InTurn(), options["bytes_max"]
    on_poison = options.get("on_poison")
    shared = {**options, "on_poison": None if on_poison is None else turns.of(on_poison)}
    live_bytes = max(bytes_max // LIVE_BYTES_SHARE, 1)
    step = turns.of(step)
    live = consumer.lane(MAIN_LANE, topics, step, **{**shared, "bytes_max": live_bytes, "loads": LOADS_LANE})
    limits = {
        "bytes_max": max(bytes_max - live_bytes, 1),
        "group_records_max": LoadShare(live, options["group_records_max"], clock).records_max,
    }
    consumer.lane(LOADS_LANE, [], step, **{**shared, **limits})


def limit_of(config: Config, names: TopicNames, tables: TableDirectory) -> LimitOf | None:
    """Return what tells which tenant a topic is of, and how much it may bring; None where no tenant has a limit."""
    bytes_per_second = config.limits.tenant_bytes_per_second
    if bytes_per_second is None:
        return None

    def find(topic: str) -> Limit | None:
        tenants = {entry.spec.tenant for entry in entries_of(topic, names, tables)}
        tenant = tenants.pop() if len(tenants) == 1 else None  # a topic of several tenants is nobody's
        return None if tenant is None else (tenant, bytes_per_second)

    return find
