"""FEATURES gives back what Redis keeps of rows that are long gone: once an hour, each worker for its partitions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from schemas.config import Config
from sinks.redis.store import FeatureStore
from sinks.redis.sweep import Horizon
from streams.places import Logs, Places

SWEEP_SECONDS = 3_600.0
REDRIVE_LAG_HOURS = 24  # NORMALIZE refuses what is too old as it sends it again; FEATURES reads it a day later at most


class Sweep:
    """The sweeping of one worker."""

    def __init__(
        self, config: Config, *, store: FeatureStore, places: Places, views_of: Callable[[str], Iterable[str]],
        logs: Logs | None, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """`views_of` says which views, by id, a topic fills; without `logs` nothing is known of what can come again."""
        self._config, self._store, self._places = config, store, places
        self._views_of, self._logs, self._clock = views_of, logs, clock
        self.counts: Counter[str] = Counter()

    async def once(self) -> None:
        """Take away the tombstones that lie behind the logs' starts and are older than what is redriven.

        Raises:
            SinkUnavailable: Redis does not answer.
            SourceUnavailable: Kafka does not.
        """
        by_topic: dict[str, list[Any]] = {}
        for place in self._places.all():
            by_topic.setdefault(place.assignment.topic, []).append(place.assignment)
        if self._logs is None or not by_topic:
            return
        ends = await self._logs([(a.topic, a.partition) for ours in by_topic.values() for a in ours])
        hours = self._config.limits.redrive_max_age_hours + REDRIVE_LAG_HOURS
        before_ms = int((self._clock() - hours * 3_600) * 1_000)
        for topic, ours in by_topic.items():
            starts = {a.partition: ends[topic, a.partition][0] for a in ours if (topic, a.partition) in ends}
            horizon = Horizon(ours[0].topic_id, starts, before_ms)
            for view in self._views_of(topic):
                tombstones, left, handovers = await self._store.sweep(view, horizon)
                self.counts.update(tombstones_swept=tombstones, left_swept=left, handovers_swept=handovers)
