"""FEATURES sweeps what lies below floors: the owner of the first partition of a table's output does it for all.

Whether a view is to be swept stands in Redis, so a worker that dies leaves it to its successor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import structlog

from sinks.redis.floor import ViewFloor, read_floor, sweeping_text
from sinks.redis.fold import Gatherer
from sinks.redis.rows import TableRows
from sinks.redis.store import FeatureStore
from streams.places import Places

LOG = structlog.get_logger("streams.features")

LOOK_SECONDS = 1.0  # how often it is seen whether there is something to look for
LOOK_ANYWAY_SECONDS = 30.0


class FloorSweeps:
    """The sweeps of one worker."""

    def __init__(self, store: FeatureStore, places: Places, *, reader_of: Callable[[str], TableRows | None]) -> None:
        """Take the views of a topic from `reader_of`."""
        self._store, self._places, self._reader_of = store, places, reader_of
        self._looked: tuple[frozenset[str], int] = (frozenset(), 0)  # at which topics, behind how many floors
        self._look_at = 0.0
        self.sweeping: set[str] = set()  # topics

    async def once(self) -> None:
        """Sweep the views that say so; all are asked where floors or partitions came, and twice a minute.

        Raises:
            SinkUnavailable: Redis does not answer; what is left says SWEEPING.
        """
        if not self._store.connection:
            return  # others wait for it, and say so
        topics = frozenset(a.topic for place in self._places.all() if (a := place.assignment).partition == 0)
        seen = topics, self._store.counts["floors"]
        if seen == self._looked and time.monotonic() < self._look_at:
            return
        self.sweeping &= topics
        for topic in sorted(topics):
            await self._sweep(topic)
        if not self.sweeping:  # else a bucket has another floor by now, or had none yet
            self._looked, self._look_at = seen, time.monotonic() + LOOK_ANYWAY_SECONDS

    async def _sweep(self, topic: str) -> None:
        reader = self._reader_of(topic)
        plans = {plan.id: plan for plan in reader.plans} if reader is not None else {}
        for view, floor in (await self._left(plans)).items():
            self.sweeping.add(topic)
            LOG.info("features.sweeping", view=view)
            await self._store.sweep_floor(plans[view], floor)
            LOG.info("features.swept", view=view)
        if topic in self.sweeping and not await self._left(plans):
            self.sweeping.discard(topic)

    async def _left(self, views: Iterable[str]) -> dict[str, ViewFloor]:
        floors = await self._store.floors(list(views))
        return {view: floor for view, floor in floors.items() if floor.sweeping}


def raise_floors(gatherer: Gatherer, reader: TableRows, value: bytes, *, replay: bool = False) -> None:
    """Raise the floors of a table's views to that of a change.

    Raises:
        PoisonRecord: it is no floor of the contract.
    """
    floor = read_floor(value)
    for plan in reader.plans:
        sweeping = sweeping_text(floor, snapshot=plan.loading, replay=floor.source.origin[1] != 0 and replay)
        gatherer.raise_floor(plan, ViewFloor(floor.position, sweeping))
