"""Who fetches first when a lane that was full takes records again: the partition that has waited longest.

The client's fetches hold some megabytes, which it fills in an order of its own, the same after every pause: what stands
first there would fill the lane each time, and the others would get nothing as long as it has more. So those that are
behind are let in one after the other, the one first whose last records came longest ago; each next turn lets in twice
as many. Those that have nothing to read yet need no turn.
"""

from __future__ import annotations

from collections.abc import Iterable

from connectors.transport.partition import Budget, Partition

TURN_SECONDS = 0.05


class Turns:
    """The partitions of each lane that wait for their turn."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: dict[Budget, list[Partition]] = {}
        self._many: dict[Budget, int] = {}
        self._due = 0.0

    def begin(self, budget: Budget, partitions: Iterable[Partition], now: float) -> None:
        """Let those of a lane that takes records again fetch which are not behind, and the first of the others."""
        behind = sorted((each for each in partitions if each.behind), key=_delivered_at)
        for partition in behind[1:]:
            partition.waits = True
        self._waiting[budget], self._many[budget] = behind[1:], 1
        self._due = now + TURN_SECONDS

    def end(self, budget: Budget) -> None:
        """Forget who waits in a lane that is full again."""
        for partition in _still_in(budget, self._waiting.pop(budget, ())):
            partition.waits = False

    def next(self, now: float) -> list[Partition]:
        """Return those whose turn has come."""
        if not self._waiting or now < self._due:
            return []
        self._due = now + TURN_SECONDS
        called: list[Partition] = []
        for budget in list(self._waiting):
            many = self._many[budget] = 2 * self._many[budget]
            waiting = self._waiting[budget]
            called += _still_in(budget, waiting[:many])
            del waiting[:many]
            if not waiting:
                del self._waiting[budget]
        for partition in called:
            partition.waits = False
        return called


def _still_in(budget: Budget, partitions: Iterable[Partition]) -> list[Partition]:
    """Return those that have not changed their lane meanwhile: what they wait for now is not ours to say."""
    return [each for each in partitions if each.budget is budget]


def _delivered_at(partition: Partition) -> float:
    return partition.delivered_at
