"""LAKE while partitions leave: what was given up is the successor's, and nothing is committed behind it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from connectors.transport.chunk import Group
from sinks.base import Written
from sinks.lake.commit import LakeBatch
from tests.unit.fakes import assignment_of
from tests.unit.lake.changes import change, encoded
from tests.unit.lake.test_stage import World, give, values, world

__all__ = ["world"]


async def test_a_partition_that_leaves_takes_its_open_batch_along(world: World) -> None:
    """Its rows are the successor's; those of other partitions stay."""
    stage, consumer = await world.worker()
    leaving, staying = assignment_of(), assignment_of(partition=1)
    stays = [change(n, n, source={"origin": ["clinic.public.patients", 0, 1, n]}) for n in range(2)]
    await give(stage, consumer, leaving, 0, 3)
    await stage.step(Group([consumer.run(staying, 0, [*encoded(stays)])], consumer))
    leaving.lost = True
    await stage.leaving([leaving])
    await stage.stop()

    assert [0, 1] == world.offsets()
    assert [staying] == [run.assignment for run in consumer.done_runs]


async def test_what_is_read_while_a_partition_leaves_is_not_committed_behind_what_was_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first three changes are being committed, the next are given up, the last come from a step that had begun."""
    world = World(tmp_path, commit_rows_max=3)
    stage, consumer = await world.worker()
    assignment, committing, go_on = assignment_of(), asyncio.Event(), asyncio.Event()
    write = stage._lake.write  # noqa: SLF001 - a commit that takes its time

    async def slowly(batch: LakeBatch) -> Written:
        committing.set()
        await go_on.wait()
        return await write(batch)

    monkeypatch.setattr(stage._lake, "write", slowly)  # noqa: SLF001 - the same
    await give(stage, consumer, assignment, 0, 3)
    await committing.wait()
    await give(stage, consumer, assignment, 3, 3)
    late = consumer.run(assignment, 6, values(6, 3))
    leaving = asyncio.create_task(stage.leaving([assignment]))
    await asyncio.sleep(0)
    step = asyncio.create_task(stage.step(Group([late], consumer)))
    await asyncio.sleep(0.3)
    go_on.set()
    await asyncio.gather(leaving, step)
    await stage.stop()

    assert [0, 1, 2] == world.offsets()
    assert late.lost, "its successor reads it again"
