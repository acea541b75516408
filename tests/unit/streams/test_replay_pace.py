"""A replay waits for who reads its table's changes, and for nobody who does not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from connectors.transport.resolve import Committed
from streams.replay_pace import AHEAD_RECORDS_MAX, PATIENCE_SECONDS, Followers, Key, Pace
from tests.services import until

KEYS: list[Key] = [("changes", 0), ("changes", 1)]


class Group:
    """Where a group stands, which a test moves."""

    def __init__(self, read_to: Sequence[int | None]) -> None:
        self.read_to = list(read_to)

    def now(self, keys: Sequence[Key]) -> Mapping[Key, Committed]:
        """Return where it stands."""
        return {key: Committed(self.read_to[key[1]]) for key in keys}

    def close(self) -> None:
        """Nothing is open."""


class Broker:
    """Logs that end somewhere, and groups that have read some of them; a test sets its clock."""

    def __init__(self, ends: Sequence[int], **groups: Sequence[int | None]) -> None:
        self.ends, self.now, self.asked = list(ends), 0.0, 0
        self.groups = {stage: Group(read_to) for stage, read_to in groups.items()}

    def logs_of(self, keys: Sequence[Key]) -> Mapping[Key, tuple[int, int]]:
        """Return the ends."""
        self.asked += 1
        return {key: (0, self.ends[key[1]]) for key in keys}

    def followers(self) -> Followers:
        """Return who follows, each in a group of its own name."""
        return Followers(self.logs_of, self.groups, lambda: self.now)

    def pace(self, rate_max: int | None = None) -> Pace:
        """Return a pace that looks here."""
        return Pace(self.followers(), rate_max, lambda: self.now)


async def goes_on(pace: Pace, records: int, stopping: asyncio.Event | None = None, *, within: float = 30.0) -> bool:
    """Return whether so many records may be read, without a pause that is longer than `within`."""
    try:
        async with asyncio.timeout(within):
            await pace.next(stopping or asyncio.Event(), KEYS, records)
    except TimeoutError:
        return False
    return True


def test_the_stage_and_the_partition_that_are_most_behind_count() -> None:
    """Its live changes wait there the longest."""
    broker = Broker([500, 900], features=[500, 700], alerts=[490, 850])

    assert (200, "features") == broker.followers().behind(KEYS)


@pytest.mark.parametrize("read_to", [{}, {"features": [None, None]}])
def test_nobody_is_waited_for_who_never_read_these_partitions(read_to: dict[str, list[int | None]]) -> None:
    """An installation without FEATURES or ALERTS, or a table that is new."""
    broker = Broker([10**6, 10**6], **read_to)

    assert 0 == broker.followers().behind(KEYS)[0]


def test_who_does_not_move_is_waited_for_a_while_and_again_once_it_moves() -> None:
    """It does not run, or cannot: a replay of hours does not stand for that."""
    broker = Broker([500, 500], features=[100, 500])
    followers = broker.followers()

    seen = [followers.behind(KEYS)[0]]
    for seconds in (PATIENCE_SECONDS, 1.0, 5.0):
        broker.now += seconds
        seen.append(followers.behind(KEYS)[0])
    broker.groups["features"].read_to = [150, 500]
    seen.append(followers.behind(KEYS)[0])

    assert [400, 400, 0, 0, 350] == seen


async def test_a_replay_goes_on_while_there_is_room_and_looks_again_when_there_is_none_left() -> None:
    """The broker is not asked before every step."""
    broker = Broker([6_000, 0], features=[0, 0])
    pace = broker.pace()

    assert await goes_on(pace, AHEAD_RECORDS_MAX - 6_000)
    pace.took(1_000)
    assert await goes_on(pace, 3_000)
    assert 1 == broker.asked
    pace.took(3_000)
    broker.ends[0] = 10_000
    asking = asyncio.create_task(pace.next(asyncio.Event(), KEYS, 4_000))
    await until(lambda: broker.asked > 3)  # twice it looked and waited, and now it looks again
    assert ("features", False) == (pace.waits_for, asking.done())
    broker.groups["features"].read_to = [4_000, 0]
    await asyncio.wait_for(asking, 30)
    assert not pace.waits_for


async def test_a_replay_that_is_to_stop_waits_for_nobody() -> None:
    """Neither for a stage nor for its rate."""
    stopping = asyncio.Event()
    stopping.set()

    assert await goes_on(Broker([10**6, 0], features=[0, 0]).pace(rate_max=1), 4_000, stopping)


async def test_a_rate_holds_a_replay_back_that_has_room() -> None:
    """Both bounds hold."""
    broker = Broker([0, 0], features=[0, 0])
    pace = broker.pace(rate_max=10)

    assert await goes_on(pace, 1_000)
    pace.took(1_000)
    assert not await goes_on(pace, 1_000, within=0.3)
    broker.now = 100.0
    assert await goes_on(pace, 1_000)
