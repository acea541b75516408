"""Live changes and loads in one stage: they take turns, and loads are many at once only where nothing is live."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from connectors.transport import lane as transport
from connectors.transport.chunk import Chunk
from schemas.config import Config
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.loads import BESIDE_LIVE_RECORDS_MAX, LIVE_SECONDS, LOADS_LANE, InTurn, LoadShare, add_lanes, limit_of
from streams.stage import MAIN_LANE
from streams.tables import TableDirectory
from tests.unit.tenants.test_names import spec_of
from tests.unit.transport.fakes import run_of

MIB = 1024 * 1024


class Lane:
    """A lane to which so many records came."""

    def __init__(self) -> None:
        self.arrived_total = 0


async def test_the_lanes_alternate_while_both_have_work() -> None:
    """A live group waits for one group of loads at most, and never works beside it."""
    turns, done = InTurn(), list[str]()
    working = 0

    async def step(name: str) -> None:
        nonlocal working
        working += 1
        assert working == 1, "one group is worked on at a time"
        await asyncio.sleep(0)
        done.append(name)
        working -= 1

    async def lane(name: str, groups: int) -> None:
        for _ in range(groups):
            await turns.of(step)(name)

    await asyncio.gather(lane("loads", 6), lane("live", 3))

    assert ["loads", "live"] * 3 + ["loads"] * 3 == done


async def test_a_step_that_fails_ends_its_turn() -> None:
    """What becomes of the group is the lane's business; the other one goes on."""
    turns, done = InTurn(), list[str]()

    async def fail() -> None:
        raise ValueError("away")

    async def work() -> None:
        done.append("done")

    with pytest.raises(ValueError, match="away"):
        await turns.of(fail)()
    await turns.of(work)()

    assert ["done"] == done


def test_a_group_of_loads_is_small_while_live_changes_come() -> None:
    """And as large as any other some seconds after the last of them."""
    live, now = Lane(), 100.0
    share = LoadShare(live, lambda: 16_000, lambda: now)
    alone = share.records_max()
    live.arrived_total = 1
    beside = share.records_max()
    now += LIVE_SECONDS / 2
    still = share.records_max()
    now += LIVE_SECONDS
    after = share.records_max()

    assert (16_000, BESIDE_LIVE_RECORDS_MAX, BESIDE_LIVE_RECORDS_MAX, 16_000) == (alone, beside, still, after)
    assert 10 == LoadShare(live, 10, lambda: now).records_max()


def test_live_changes_that_wait_for_their_turn_make_the_next_group_of_loads_small() -> None:
    """Where a group takes longer than live changes are remembered, none of them is done meanwhile."""
    ladder: Any = None  # nothing is worked on
    live, now = transport.Lane("main", transport.LaneSettings(), ladder, threading.Lock()), 100.0
    share = LoadShare(live, 16_000, lambda: now)
    alone = share.records_max()
    live.receive(Chunk("main", [run_of([0])]))
    now += 2 * LIVE_SECONDS

    assert (16_000, BESIDE_LIVE_RECORDS_MAX) == (alone, share.records_max())


def test_the_two_lanes_share_the_bytes_of_one() -> None:
    """And have the same step and hooks, in turns; the second has no topics of its own."""
    made: dict[str, tuple[list[str], dict[str, Any]]] = {}

    class Consumer:
        def lane(self, name: str, topics: Any, step: Any, **options: Any) -> Lane:
            made[name] = (list(topics), {**options, "step": step})
            return Lane()

    async def step(group: Any) -> None:
        del group

    add_lanes(Consumer(), ["t"], step, {"bytes_max": 32 * MIB, "group_records_max": 5, "commits": False})
    (live_topics, live), (loads_topics, loads) = made[MAIN_LANE], made[LOADS_LANE]

    assert ([MAIN_LANE, LOADS_LANE], ["t"], []) == (list(made), live_topics, loads_topics)
    assert 32 * MIB == live["bytes_max"] + loads["bytes_max"]
    assert LOADS_LANE == live["loads"]
    assert "loads" not in loads
    assert (False, False, live["step"]) == (live["commits"], loads["commits"], loads["step"])


def test_a_limit_is_one_of_a_tenant_over_all_of_its_topics() -> None:
    """Sources and outputs alike; what is nobody's, or of several, has none."""
    shared = {"source_table": "a", "features": [], "rules": [], "topics": ["shared"]}
    specs = [
        spec_of(topics=["p"]),
        spec_of(table="visits", topics=["^v.*"], features=[], rules=[]),
        spec_of(tenant=None, table="own", topics=["o"], features=[], rules=[]),
        spec_of(tenant="acme", table="one", **shared),
        spec_of(tenant="zeta", table="two", **shared | {"source_table": "b"}),
    ]
    tables = TableDirectory({spec.table: TableEntry(spec=spec) for spec in specs})
    config = Config.model_validate({"limits": {"tenant_bytes_per_second": 4096}})
    find = limit_of(config, TopicNames(), tables)
    assert find is not None

    asked = ["p", "visits-7", "headgate.changes.acme.patients", "o", "shared", "unknown", "headgate.changes.own"]

    assert [("acme", 4096)] * 3 + [None] * 4 == list(map(find, asked))
    assert limit_of(Config(), TopicNames(), tables) is None
