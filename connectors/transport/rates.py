"""Who brings more than it may: bytes a second of all partitions that share a limit, as one worker reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from connectors.transport.partition import Partition

Limit = tuple[str, int]  # who shares it, and how many bytes a second that is
LimitOf = Callable[[str], Limit | None]  # by topic


class Rates:
    """What was brought since the last look, by those who share a limit."""

    def __init__(self, limit_of: LimitOf) -> None:
        """Know of nobody yet; `limit_of` is asked at each look."""
        self.over: set[str] = set()
        self._limit_of = limit_of
        self._looked_at: float | None = None

    def look(self, partitions: Iterable[Partition], now: float) -> dict[Partition, bool]:
        """Return of each partition that has a limit whether those that share it are over it.

        They are so until they have come down to half of it.
        """
        shared: dict[Partition, str] = {}
        limits: dict[str, int] = {}
        brought: Counter[str] = Counter()
        for partition in partitions:
            if (limit := self._limit_of(partition.key[0])) is not None:
                who, bytes_per_second = limit
                shared[partition], limits[who] = who, bytes_per_second
                brought[who] += partition.take_brought_bytes()
        if self._looked_at is not None and now > self._looked_at:
            seconds = now - self._looked_at
            bounds = {who: limit / 2 if who in self.over else limit for who, limit in limits.items()}
            self.over = {who for who, bound in bounds.items() if brought[who] / seconds > bound}
        self._looked_at = now
        return {partition: who in self.over for partition, who in shared.items()}
