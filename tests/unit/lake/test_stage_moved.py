"""LAKE, the stage: what becomes of a batch of which somebody else has written a partition."""

from __future__ import annotations

from pathlib import Path

from connectors.transport.chunk import Group
from tests.services import until
from tests.unit.fakes import assignment_of
from tests.unit.lake.changes import change, encoded
from tests.unit.lake.test_stage import World, give, values


async def test_a_partition_new_to_the_lake_is_read_again_where_another_one_moved(tmp_path: Path) -> None:
    """A batch of both is discarded; of the new one the lake has lost nothing, so it goes on."""
    world = World(tmp_path, commit_rows_max=10)
    frozen, its_consumer = await world.worker()
    moved, fresh = assignment_of(), assignment_of(partition=1)
    await frozen.starts([moved, fresh])
    successor, consumer = await world.worker()
    await give(successor, consumer, assignment_of(), 0, 7)
    await successor.stop()
    its_consumer.at[fresh] = 0
    news = [*encoded([change(n, n, source={"origin": ["clinic.public.patients", 0, 1, n]}) for n in range(100, 106)])]
    held = its_consumer.run(fresh, 0, news)
    await frozen.step(Group([its_consumer.run(moved, 0, values(0, 6)), held], its_consumer))
    await until(lambda: frozen.counters()["buffered_bytes"] == 0)

    assert ({}, [(0, 7)], [held]) == (its_consumer.paused, its_consumer.seeks, its_consumer.given_up)
    await frozen.step(Group([its_consumer.run(fresh, its_consumer.at[fresh], news)], its_consumer))
    await frozen.stop()
    assert [*range(7), *range(100, 106)] == world.offsets()
