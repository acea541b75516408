"""LAKE, the stage: buffers, commits and what happens when either is disturbed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from connectors.transport.chunk import Assignment, Group
from schemas.config import Config
from schemas.errors import PoisonRecord, SinkUnavailable, SourceMoved
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from sinks.base import Written
from sinks.lake.commit import LakeBatch
from sinks.lake.sink import Lake
from sinks.lake.storage import open_catalog
from sinks.lake.table import load_table
from sinks.lake.verify import verify
from streams import lake as stage_module
from streams.lake import LakeStage
from tests.services import until
from tests.unit.fakes import CHANGES, Consumer, assignment_of
from tests.unit.lake.changes import change, encoded, spec_of


class FlakyLake(Lake):
    """A lake that can be away, before a commit or behind its back."""

    away: Callable[[], str] = staticmethod(lambda: "")

    async def write(self, batch: LakeBatch) -> Written:
        """Write, or fail as `away` says: "before" or "after" the commit."""
        when = self.away()
        if when == "before":
            raise SinkUnavailable("storage is away")
        written = await super().write(batch)
        if when == "after":
            raise SinkUnavailable("the answer was lost")
        return written


class World:
    """One installation: a lake in a folder, tables, and workers that come and go."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.config = Config.model_validate({"lake": {"warehouse": str(folder), "commit_age_seconds": 3_600, **limits}})
        self.tables: dict[str, TableEntry] = {"patients": TableEntry(spec=spec_of())}
        self.away = ""
        self.stages: list[LakeStage] = []

    async def worker(self, clock: Callable[[], float] = time.time) -> tuple[LakeStage, Consumer]:
        """Return a new worker, started."""
        consumer, names = Consumer(buffers=True), TopicNames()
        lake = FlakyLake(self.config.lake, clock=time.time)
        lake.away = lambda: self.away
        stage = LakeStage(self.config, names=names, tables=self.tables, consumer=consumer, clock=clock, lake=lake)
        await stage.start()
        self.stages.append(stage)
        return stage, consumer

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows of the table."""
        table = load_table(open_catalog(self.config.lake), "headgate", "patients")
        assert verify(table).ok
        found: list[dict[str, Any]] = table.scan().to_arrow().to_pylist()
        return found

    def offsets(self) -> list[int]:
        """Return the origin offsets of all rows."""
        return sorted(row["_hg_offset"] for row in self.rows())


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff is tested by its result, not by waiting for it."""
    monkeypatch.setattr(stage_module, "_RETRY_SECONDS", 0.01)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An installation whose workers end with the test."""
    made = World(tmp_path, commit_rows_max=10)
    yield made
    made.away = ""
    for stage in made.stages:
        await stage.stop()


def values(first: int, count: int) -> list[bytes | None]:
    """Return the changes of these origin offsets."""
    return [*encoded([change(n, n % 4) for n in range(first, first + count)])]


async def give(stage: LakeStage, consumer: Consumer, assignment: Assignment, first: int, count: int) -> Group:
    """Hand the stage one run and return the group."""
    group = Group([consumer.run(assignment, first, values(first, count))], consumer)
    await stage.step(group)
    return group


async def test_enough_rows_are_committed_and_then_done(world: World) -> None:
    """Before that they are taken, and not in the lake."""
    stage, consumer = await world.worker()
    assignment = assignment_of()
    group = await give(stage, consumer, assignment, 0, 9)
    assert group.runs == consumer.taken_runs
    assert [] == world.offsets()
    await give(stage, consumer, assignment, 9, 3)
    await until(lambda: len(consumer.done_runs) == 2)

    assert list(range(12)) == world.offsets()
    assert (1, 12, 0) == tuple(stage.counters()[name] for name in ("commits", "rows_committed", "buffered_bytes"))


async def test_age_commits_without_new_changes(tmp_path: Path) -> None:
    """A quiet table is in the lake after `commit_age_seconds` at the latest."""
    world = World(tmp_path, commit_age_seconds=0.2)
    stage, consumer = await world.worker()
    await give(stage, consumer, assignment_of(), 0, 2)
    await until(lambda: len(consumer.done_runs) == 1)
    await stage.stop()

    assert [0, 1] == world.offsets()


async def test_age_is_what_has_passed_and_not_what_the_clock_says(tmp_path: Path) -> None:
    """One that is set back by an hour, as at the end of a wrong time, holds nothing up."""
    world, set_back = World(tmp_path, commit_age_seconds=0.2), iter([0, 0])
    stage, consumer = await world.worker(lambda: time.time() - next(set_back, 3_600))
    await give(stage, consumer, assignment_of(), 0, 2)
    await until(lambda: len(consumer.done_runs) == 1)
    await stage.stop()

    assert [0, 1] == world.offsets()


async def test_bytes_commit_too(tmp_path: Path) -> None:
    """Few rows, but large ones."""
    world = World(tmp_path, commit_bytes_max=16 * 1024)
    stage, consumer = await world.worker()
    large = encoded([change(n, n, after={"id": str(n), "name": "x" * 10_000}) for n in range(2)])
    await stage.step(Group([consumer.run(assignment_of(), 0, [*large])], consumer))
    await until(lambda: len(consumer.done_runs) == 1)
    await stage.stop()

    assert [0, 1] == world.offsets()


async def test_stop_commits_what_is_held(world: World) -> None:
    """A drain leaves nothing to be read again."""
    stage, consumer = await world.worker()
    await give(stage, consumer, assignment_of(), 0, 3)
    await stage.stop()

    assert 1 == len(consumer.done_runs)
    assert [0, 1, 2] == world.offsets()


async def test_stop_gives_up_in_time_when_the_lake_is_away(tmp_path: Path) -> None:
    """The successor reads it again."""
    world = World(tmp_path)
    world.config = world.config.model_copy(
        update={"limits": world.config.limits.model_copy(update={"drain_seconds": 0.2})}
    )
    stage, consumer = await world.worker()
    await give(stage, consumer, assignment_of(), 0, 3)
    world.away = "before"
    began = time.monotonic()
    await stage.stop()

    assert time.monotonic() - began < 7  # the default limit is 8
    assert [] == consumer.done_runs
    assert [] == world.offsets()


async def test_tombstones_have_no_row_and_move_the_offset(world: World) -> None:
    """A run of nothing else is committed all the same."""
    stage, consumer = await world.worker()
    assignment = assignment_of()
    await stage.step(Group([consumer.run(assignment, 0, [*values(0, 1), None])], consumer))
    await stage.step(Group([consumer.run(assignment, 2, [None, None])], consumer))
    await stage.stop()
    stage, _ = await world.worker()
    again = assignment_of()

    assert {again: 4} == await stage.starts([again])
    assert [0] == world.offsets()


async def test_a_broken_value_takes_nothing_of_its_group(world: World) -> None:
    """So that the group can come again without it."""
    world.tables["meters"] = TableEntry(spec=spec_of(table="meters"))
    stage, consumer = await world.worker()
    good = consumer.run(assignment_of(), 0, values(0, 2))
    bad = consumer.run(assignment_of("headgate.changes.meters"), 0, [b"{"])
    group = Group([good, bad], consumer)
    with pytest.raises(PoisonRecord):
        await stage.step(group)
    await stage.stop()

    assert [good, bad] == group.unanswered()
    assert [] == world.offsets()


async def test_repeats_are_dropped_and_counted(world: World) -> None:
    """By the subscriber's rule: upstream may be at least once."""
    stage, consumer = await world.worker()
    assignment = assignment_of()
    await stage.step(Group([consumer.run(assignment, 0, [*values(0, 6), *values(3, 6)])], consumer))
    await stage.stop()

    assert list(range(9)) == world.offsets()
    assert 3 == stage.counters()["repeats_dropped"]


async def test_repeats_are_dropped_across_restarts(world: World) -> None:
    """The highest offsets are read back from the table."""
    stage, consumer = await world.worker()
    await give(stage, consumer, assignment_of(), 0, 5)
    await stage.stop()
    stage, consumer = await world.worker()
    assignment = assignment_of()
    await stage.starts([assignment])
    await stage.step(Group([consumer.run(assignment, 5, [*values(2, 5)])], consumer))
    await stage.stop()

    assert list(range(7)) == world.offsets()


async def test_a_partition_starts_where_the_lake_stands(world: World) -> None:
    """Whatever Kafka has committed; one that the lake does not know is left to Kafka."""
    stage, consumer = await world.worker()
    await give(stage, consumer, assignment_of(), 0, 3)
    await stage.stop()
    stage, _ = await world.worker()
    known, unknown = assignment_of(), assignment_of(partition=1)

    assert {known: 3} == await stage.starts([known, unknown])


async def test_a_topic_made_anew_is_held(world: World) -> None:
    """Its offsets mean something else now."""
    stage, consumer = await world.worker()
    await give(stage, consumer, assignment_of(), 0, 3)
    await stage.stop()
    stage, _ = await world.worker()
    assignment = assignment_of(topic_id="id-2")
    answers = await stage.starts([assignment])

    assert isinstance(answers[assignment], SourceMoved)


async def test_a_frozen_worker_goes_where_its_successor_stood(world: World) -> None:
    """It discards its batch, seeks, and goes on if the partition is still its own."""
    frozen, its_consumer = await world.worker()
    assignment = assignment_of()
    await give(frozen, its_consumer, assignment, 0, 4)
    successor, consumer = await world.worker()
    await give(successor, consumer, assignment_of(), 0, 7)
    await successor.stop()
    await give(frozen, its_consumer, assignment, 4, 6)
    await until(lambda: its_consumer.seeks == [(0, 7)])
    await until(lambda: frozen.counters()["buffered_bytes"] == 0)
    await give(frozen, its_consumer, assignment, 7, 10)
    await until(lambda: len(its_consumer.done_runs) == 1)

    assert list(range(17)) == world.offsets()
    assert 1 == frozen.counters()["offsets_moved"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lake_that_is_away_is_waited_for(world: World, when: str) -> None:
    """The error is shown, and every row is there once in the end, also where only the answer was lost."""
    stage, consumer = await world.worker()
    assignment = assignment_of()
    world.away = when
    await give(stage, consumer, assignment, 0, 10)
    await until(lambda: stage.counters().get("commits_failed", 0) >= 1)
    assert isinstance(stage.last_error, SinkUnavailable)
    world.away = ""
    await until(lambda: len(consumer.done_runs) == 1 or consumer.seeks == [(0, 10)])
    await give(stage, consumer, assignment, 10, 10)
    await until(lambda: stage.counters().get("commits", 0) >= 1)
    await stage.stop()

    assert list(range(20)) == world.offsets()
    assert stage.last_error is None


async def test_full_buffers_make_the_step_wait(tmp_path: Path) -> None:
    """Memory is bounded while the lake is away, and the step goes on when it is back."""
    world = World(tmp_path, buffer_bytes_max=8 * 1024)
    stage, consumer = await world.worker()
    world.away = "before"
    waiting = asyncio.create_task(give(stage, consumer, assignment_of(), 0, 200))
    await until(lambda: stage.counters().get("commits_failed", 0) >= 2)
    assert not waiting.done()
    world.away = ""
    await asyncio.wait_for(waiting, 60)
    await stage.stop()

    assert list(range(200)) == world.offsets()


async def test_a_changed_spec_is_taken_up_between_two_runs(world: World) -> None:
    """Rows read with the old one are committed first."""
    narrow: TableSpec = spec_of(columns={"id": "long"})
    world.tables["patients"] = TableEntry(spec=narrow)
    stage, consumer = await world.worker()
    assignment = assignment_of()
    await give(stage, consumer, assignment, 0, 2)
    world.tables["patients"] = TableEntry(spec=spec_of())
    await stage.tables_changed({"patients"})
    await give(stage, consumer, assignment, 2, 1)
    await stage.stop()

    assert [None, None, "name 2"] == [row["name"] for row in sorted(world.rows(), key=lambda row: row["_hg_offset"])]


async def test_a_table_that_cannot_become_what_its_spec_says_is_paused(world: World) -> None:
    """Alone, with the reason."""
    stage, consumer = await world.worker()
    await give(stage, consumer, assignment_of(), 0, 10)
    await until(lambda: len(consumer.done_runs) == 1)
    world.tables["patients"] = TableEntry(spec=spec_of(columns={"id": "long", "name": "date"}))
    group = Group([consumer.run(assignment_of(), 10, [b"{}"])], consumer)
    await stage.step(group)

    assert "lake_schema" == consumer.paused[CHANGES].reason
    assert group.runs[0].lost


async def test_topics_are_those_of_tables_that_go_to_the_lake(world: World) -> None:
    """`lake: {enabled: false}` keeps a table out, and what was fetched of it is let go."""
    stage, consumer = await world.worker()
    assert [CHANGES] == stage.topics()
    world.tables["patients"] = TableEntry(spec=spec_of(lake={"enabled": False}))
    group = await give(stage, consumer, assignment_of(), 0, 2)

    assert [] == stage.topics()
    assert (group.runs, []) == (consumer.done_runs, consumer.taken_runs)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_every_change_is_there_once(tmp_path: Path, seed: int) -> None:
    """Rewinds, restarts, lost answers, storage away, in any order (the seed is the test's parameter)."""
    chance = random.Random(seed)
    world = World(tmp_path, commit_rows_max=7)
    log = values(0, 120)
    stage, consumer = await world.worker()
    assignment = assignment_of()
    consumer.at[assignment] = 0
    for _ in range(60):
        what = chance.choice(["give"] * 6 + ["rewind", "restart", "fail", "heal", "breathe"])
        match what:
            case "give" if (at := consumer.at[assignment]) < len(log):
                count = chance.randint(1, 6)
                await stage.step(Group([consumer.run(assignment, at, log[at : at + count])], consumer))
            case "rewind":
                consumer.rewind(assignment)
            case "fail":
                world.away = chance.choice(["before", "after"])
            case "heal":
                world.away = ""
            case "restart":
                world.away = ""
                assignment.lost = True
                await stage.leaving([assignment])
                await stage.stop()
                stage, consumer = await world.worker()
                assignment = assignment_of()
                consumer.at[assignment] = (await stage.starts([assignment])).get(assignment, 0)
            case _:
                await asyncio.sleep(0.02)
    world.away = ""
    deadline = time.monotonic() + 60
    while consumer.at[assignment] < len(log) or stage.counters()["buffered_bytes"]:
        assert time.monotonic() < deadline
        at = consumer.at[assignment]
        if at < len(log):
            await stage.step(Group([consumer.run(assignment, at, log[at : at + 7])], consumer))
        else:
            stage._flush("patients")  # noqa: SLF001  as age would
        await asyncio.sleep(0.02)
    await stage.stop()

    assert list(range(120)) == world.offsets()
