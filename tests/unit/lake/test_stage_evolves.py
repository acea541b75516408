"""LAKE, the stage: a table's columns change under workers that run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connectors.transport.chunk import Assignment, Group
from schemas.errors import SourceUnavailable
from schemas.table import TableEntry
from sinks.lake.view import open_lake_sql
from streams.lake import LakeStage
from tests.services import until
from tests.unit.fakes import CHANGES, Consumer, assignment_of
from tests.unit.lake.changes import TOPIC, change, encoded, spec_of
from tests.unit.lake.test_stage import World

BEFORE = TableEntry(spec=spec_of(columns={"id": "int", "amount": "int"}), schema_version=1)
NOW = TableEntry(spec=spec_of(columns={"id": "long", "amount": "string", "more": "date"}), schema_version=3)
OLD_ROW, NEW_ROW = {"id": 1, "amount": 5}, {"id": "1", "amount": "5 and more", "more": "2024-02-29"}


class Worker:
    """A worker with one partition."""

    def __init__(self, stage: LakeStage, consumer: Consumer, partition: int) -> None:
        self.stage, self.consumer = stage, consumer
        self.assignment: Assignment = assignment_of(partition=partition)

    async def give(self, first: int, row: dict[str, Any], *, count: int = 2, version: int) -> Group:
        """Hand the stage changes to a row, written by the spec of a version."""
        partition = self.assignment.partition
        values = encoded(
            [
                change(
                    n, 1, after=row, key={"id": row["id"]},
                    source={"origin": [TOPIC, 0, partition, n], "previous": n - 1 if n else None},
                )
                for n in range(first, first + count)
            ]
        )  # fmt: skip
        group = Group([self.consumer.run(self.assignment, first, [*values], version=version)], self.consumer)
        await self.stage.step(group)
        return group


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An installation whose table is of before."""
    made = World(tmp_path)
    made.tables["patients"] = BEFORE
    yield made
    for stage in made.stages:
        await stage.stop()


async def worker_of(world: World, partition: int = 0) -> Worker:
    """Return a worker that is started and has its partition."""
    made = Worker(*await world.worker(), partition)
    await made.stage.starts([made.assignment])
    return made


def seen(world: World) -> list[tuple[Any, ...]]:
    """Return what DuckDB sees of all changes, once each of them is proved to be there once."""
    world.rows()
    with open_lake_sql(world.config.lake) as connection:
        columns = "id, amount, more::varchar"
        return connection.execute(f"SELECT {columns} FROM patients ORDER BY _hg_partition, _hg_offset").fetchall()


async def test_a_version_that_is_met_is_taken_up_and_nothing_of_before_is_lost(world: World) -> None:
    """What was read of before is committed by its own spec first, what comes late of before is read as it is now."""
    worker = await worker_of(world)

    async def catch_up() -> None:
        world.tables["patients"] = NOW
        await worker.stage.tables_changed({"patients"})

    worker.stage.gate.catch_up = catch_up
    await worker.give(0, OLD_ROW, version=1)
    await worker.give(2, NEW_ROW, version=3)
    await worker.give(4, OLD_ROW, version=1)
    await worker.stage.stop()

    old, new = (1, "5", None), (1, "5 and more", "2024-02-29")
    assert [old, old, new, new, old, old] == seen(world)
    assert 6 == sum(map(len, worker.consumer.done_runs))


async def test_two_workers_change_the_table_at_once(world: World) -> None:
    """Each holds rows of before when it hears of the change, one of them later than the other."""
    first, second = await worker_of(world, 0), await worker_of(world, 1)
    for worker in (first, second):
        await worker.give(0, OLD_ROW, version=1)
    tables, second.stage._tables = world.tables, dict(world.tables)  # noqa: SLF001 - it has not heard of it yet
    tables["patients"] = NOW
    await first.give(2, NEW_ROW, version=3)
    await first.stage.stop()
    await second.give(2, OLD_ROW, version=1)
    second.stage._tables = tables  # noqa: SLF001
    await second.give(4, NEW_ROW, version=3)
    await second.stage.stop()

    old, new = (1, "5", None), (1, "5 and more", "2024-02-29")
    assert [old, old, new, new, *[old] * 4, new, new] == seen(world)


async def test_a_version_that_nobody_knows_pauses_the_table(world: World) -> None:
    """Its changes would lose what they have more; the other tables go on."""
    worker = await worker_of(world)
    group = await worker.give(0, NEW_ROW, version=2)

    assert "schema_unknown" == worker.consumer.paused[CHANGES].reason
    assert group.runs[0].lost
    assert [] == worker.consumer.taken_runs


async def test_a_topic_of_tables_that_does_not_answer_is_waited_for(world: World) -> None:
    """The group comes again; nothing of it was taken."""
    worker = await worker_of(world)

    async def away() -> None:
        raise SourceUnavailable("no broker")

    worker.stage.gate.catch_up = away
    with pytest.raises(SourceUnavailable):
        await worker.give(0, NEW_ROW, version=2)
    assert ({}, []) == (worker.consumer.paused, worker.consumer.taken_runs)


async def test_a_column_that_cannot_be_had_pauses_the_table(world: World) -> None:
    """What was read before is committed all the same."""
    worker = await worker_of(world)
    await worker.give(0, OLD_ROW, version=1)
    columns = {"id": "int", "amount": "int", "AMOUNT": "int"}
    world.tables["patients"] = TableEntry(spec=spec_of(columns=columns), schema_version=2)
    await worker.give(2, {**OLD_ROW, "AMOUNT": 6}, version=2)
    await until(lambda: len(worker.consumer.done_runs) == 1)

    assert "lake_schema" == worker.consumer.paused[CHANGES].reason
    assert [0, 1] == world.offsets()
