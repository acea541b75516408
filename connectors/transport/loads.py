"""Which partitions are read in a lane of loads: those far behind, whose records would stand before everybody else's.

So are those that bring more than they may, together with others that share their limit.

A table that is loaded, a backlog, a tenant that floods: what they bring waits in a lane with bytes of its own, and the
step takes it in turns with the lane of those that have little to read. Records of one partition keep their order, so a
partition is in one lane at a time: it changes once nothing of it is held, and what no step has begun is read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors.transport.partition import Budget, Partition
from connectors.transport.rates import LimitOf, Rates

FAR_BEHIND_RECORDS = 10_000
NEAR_RECORDS = 1_000  # below it a partition is back among those that have little to read
STAY_SECONDS = 5.0  # what a change throws away is fetched again


class Loads:
    """The lanes that have one of loads beside them, and the partitions that are about to change."""

    def __init__(self, budgets: Mapping[str, Budget]) -> None:
        """No lane has one; `budgets` are those of all lanes, by name."""
        self._budgets = budgets
        self._loads: dict[str, str] = {}
        self._own: dict[str, str] = {}
        self._rates: dict[str, Rates] = {}
        self._moving: list[Partition] = []

    def pair(self, lane: str, loads: str, limit_of: LimitOf | None = None) -> None:
        """Give a lane one for its loads: what is far behind, and what brings more than `limit_of` lets it."""
        self._loads[lane], self._own[loads] = loads, lane
        if limit_of is not None:
            self._rates[lane] = Rates(limit_of)

    def place(self, partition: Partition, behind_records: int) -> None:
        """Put a partition of which nothing is held into the lane for one that has so much to read."""
        lane = self._lane_of(partition, behind_records)
        partition.change_lane(lane, self._budgets[lane])

    def begin(self, partitions: Sequence[Partition], now: float) -> list[Partition]:
        """Return those that have to change their lane: nothing is read of them until they have."""
        if not self._loads:
            return []
        begun, over = [], self._over(partitions, now)
        for partition in partitions:
            if partition.moving_to is not None or not partition.running or now - partition.moved_at < STAY_SECONDS:
                continue
            behind = FAR_BEHIND_RECORDS + 1 if over.get(partition) else partition.lag() or 0
            lane = self._lane_of(partition, behind)
            if lane != partition.assignment.lane:
                partition.moving_to = lane
                begun.append(partition)
        self._moving += begun
        return begun

    def _over(self, partitions: Sequence[Partition], now: float) -> dict[Partition, bool]:
        over: dict[Partition, bool] = {}
        for lane, rates in self._rates.items():
            mine = [each for each in partitions if self._own.get(each.assignment.lane, each.assignment.lane) == lane]
            over |= rates.look(mine, now)
        return over

    def end(self, now: float) -> list[Partition]:
        """Change the lane of those of which nothing is held any more, and return them; forget those that left."""
        if not self._moving:
            return []
        moving = [each for each in self._moving if not each.assignment.lost and each.moving_to is not None]
        ended = [each for each in moving if each.holds_nothing]
        self._moving = [each for each in moving if not each.holds_nothing]
        for partition in ended:
            lane = partition.moving_to or partition.assignment.lane
            partition.change_lane(lane, self._budgets[lane])
            partition.moved_at = now
        return ended

    def _lane_of(self, partition: Partition, behind_records: int) -> str:
        """Return the lane for one that has so much to read: between the two bounds it stays where it is."""
        lane = partition.assignment.lane
        if behind_records > FAR_BEHIND_RECORDS:
            return self._loads.get(lane, lane)
        return self._own.get(lane, lane) if behind_records <= NEAR_RECORDS else lane
