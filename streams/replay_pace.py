"""How fast a replay goes: below a rate, and never far ahead of the stages that wait for its table's changes.

What it emits stands on the output topic before the live changes of the same partition that come after it. So it goes
on only while FEATURES and ALERTS have little of it left to read. LAKE commits by the minute: it is not waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from connectors.transport.resolve import Committed

AHEAD_RECORDS_MAX = 10_000  # of a partition: from there on its readers take it for a load
STAGES = ("features", "alerts")
PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 0.1
Key = tuple[str, int]


class Standing(Protocol):
    """Where the group of a stage stands."""

    def now(self, keys: Sequence[Key]) -> Mapping[Key, Committed]:
        """Return what it committed of each partition."""
        ...

    def close(self) -> None:
        """Ask no more."""
        ...


@dataclass(slots=True)
class _Follower:
    stage: str
    standing: Standing
    read_to: Mapping[Key, int]
    moved_at: float


class Followers:
    """How far the stages are behind that wait for changes; `clock` counts seconds."""

    def __init__(
        self, logs_of: Callable[[Sequence[Key]], Mapping[Key, tuple[int, int]]], stages: Mapping[str, Standing],
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        """Know of none where it stands; `logs_of` returns the first and the next offset of each log."""
        self._logs_of, self._clock = logs_of, clock
        self._all = [_Follower(stage, standing, {}, clock()) for stage, standing in stages.items()]

    def behind(self, keys: Sequence[Key]) -> tuple[int, str]:
        """Return how many records one of them has to read of one of these partitions, at most, and which it is.

        A stage that never read them is not waited for, nor one that has not moved for 30 s: it does not run, and
        whoever starts it finds all of it anyway.

        Raises:
            SourceUnavailable: Kafka does not answer.
        """
        ends = {key: end for key, (_, end) in self._logs_of(keys).items()}
        return max((self._behind(each, ends) for each in self._all), default=(0, ""))

    def _behind(self, follower: _Follower, ends: Mapping[Key, int]) -> tuple[int, str]:
        committed = follower.standing.now(list(ends))
        read_to = {key: said.offset for key, said in committed.items() if said.offset is not None}
        if read_to != follower.read_to:
            follower.read_to, follower.moved_at = read_to, self._clock()
        elif self._clock() - follower.moved_at > PATIENCE_SECONDS:
            return 0, follower.stage
        return max((ends[key] - offset for key, offset in read_to.items()), default=0), follower.stage

    def close(self) -> None:
        """Ask no more."""
        for each in self._all:
            each.standing.close()


class Pace:
    """Lets a replay go on; `waits_for` is the stage that it waits for at this moment, or nothing."""

    def __init__(self, followers: Followers, rate_max: int | None, clock: Callable[[], float]) -> None:
        """Begin now, with at most `rate_max` records a second."""
        self.waits_for = ""
        self._followers, self._rate_max, self._clock = followers, rate_max, clock
        self._began, self._read, self._room = clock(), 0, 0

    def close(self) -> None:
        """Look at nobody any more."""
        self._followers.close()

    async def next(self, stopping: asyncio.Event, keys: Sequence[Key], records: int) -> None:
        """Return once so many records more may be read, which come to these partitions; at once where it is stopped.

        Raises:
            SourceUnavailable: Kafka does not answer.
        """
        if self._rate_max is not None:
            await _pause(stopping, self._read / self._rate_max - (self._clock() - self._began))
        while self._room < records and not stopping.is_set():
            behind, stage = await asyncio.to_thread(self._followers.behind, keys)
            self._room = AHEAD_RECORDS_MAX - behind
            if self._room < records:
                self.waits_for = stage
                await _pause(stopping, _LOOK_SECONDS)
        self.waits_for = ""

    def took(self, records: int) -> None:
        """Count what was read."""
        self._read += records
        self._room -= records


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    """Wait, until it is to stop at most."""
    if seconds > 0:
        try:
            async with asyncio.timeout(seconds):
                await stopping.wait()
        except TimeoutError:
            return
