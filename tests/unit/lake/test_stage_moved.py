"""LAKE, the stage: what becomes of a batch of which somebody else has written a partition."""

from __future__ import annotations

from pathlib import Path

from connectors.transport.chunk import Group
from schemas.errors import SourceMoved
from schemas.table import TableEntry
from sinks.lake.storage import open_catalog
from sinks.lake.table import load_table
from tests.services import until
from tests.unit.fakes import assignment_of
from tests.unit.lake.changes import change, encoded, spec_of
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


async def test_a_table_whose_stand_cannot_be_read_is_held_alone(tmp_path: Path) -> None:
    """Somebody edited its property; the other tables go on."""
    world = World(tmp_path)
    world.tables["meters"] = TableEntry(spec=spec_of(table="meters"))
    stage, consumer = await world.worker()
    await give(stage, consumer, assignment_of(), 0, 3)
    await stage.stop()
    table = load_table(open_catalog(world.config.lake), "headgate", "patients")
    with table.transaction() as edit:
        edit.set_properties({"headgate.partition.0": "{}"})
    stage, _ = await world.worker()
    edited, other = assignment_of(), assignment_of("headgate.changes.meters")
    answers = await stage.starts([edited, other])
    await stage.stop()

    assert {edited: SourceMoved} == {assignment: type(answer) for assignment, answer in answers.items()}
