"""LAKE, the stage: what becomes of a batch of which somebody else has written a partition."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from connectors.transport.chunk import Group
from schemas.change import Height
from schemas.config import LakeConfig
from schemas.errors import SourceMoved
from schemas.table import Decision, TableEntry
from sinks.lake.commit import LakeBatch
from sinks.lake.drop import drop_table
from sinks.lake.files import write_files
from sinks.lake.sink import Lake
from sinks.lake.stand import Stand, read_stands
from sinks.lake.storage import open_catalog
from sinks.lake.sweep import referred_files
from sinks.lake.table import OFFSET, load_table
from tests.services import until
from tests.unit.fakes import CHANGES, assignment_of
from tests.unit.lake.changes import TOPIC, change, encoded, rows_of, spec_of
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


async def test_another_life_of_its_topic_is_gone_on_with_once_somebody_says_so(tmp_path: Path) -> None:
    """From the new log's beginning; what the lake has already is a repeat, and a dead worker leaves nothing behind."""
    world = World(tmp_path, commit_rows_max=3)
    first, consumer = await world.worker()
    await give(first, consumer, assignment_of(), 0, 6)
    await first.stop()

    second, consumer = await world.worker()
    undecided, anew = assignment_of(topic_id="topic-2"), assignment_of(topic_id="topic-2")
    anew.low, anew.decisions = 2, [Decision(topic_id="topic-2", generation=1)]
    held = (await second.starts([undecided]))[undecided]
    assert isinstance(held, SourceMoved)
    assert ("source_moved", True) == (held.reason, "resume TABLE --anew" in held.hint)
    assert {anew: 2} == await second.starts([anew])
    await second.step(Group([consumer.run(anew, 2, values(4, 5))], consumer))  # offsets 4 and 5 were there before
    await until(lambda: len(consumer.done_runs) == 1)
    await second.stop()

    third, _ = await world.worker()
    assert {anew: 7} == await third.starts([anew])
    await third.stop()
    assert [*range(9)] == world.offsets()


async def test_a_table_that_was_moved_aside_is_filled_from_what_the_log_holds(tmp_path: Path) -> None:
    """What the group committed says nothing of a table that is not there any more; a log that is gone still stops."""
    world = World(tmp_path)
    stage, _ = await world.worker()
    behind, below, fresh = (assignment_of(partition=number) for number in range(3))
    behind.low, behind.committed = 5, 40
    below.low, below.committed = 5, 3
    fresh.low = 5

    assert {behind: 5} == await stage.starts([behind, below, fresh])
    await stage.stop()


async def test_the_lake_says_from_where_on_it_has_all_of_a_partition(tmp_path: Path) -> None:
    """From where reading began, also for those who go on; behind a gap that somebody accepted, from there."""
    world = World(tmp_path, commit_rows_max=3)

    async def read(first: int, start: int, gap: tuple[int, int] | None = None) -> int | None:
        stage, consumer = await world.worker()
        assignment = assignment_of()
        assignment.low = assignment.start = start
        await stage.starts([assignment])
        assignment.gap = gap
        await give(stage, consumer, assignment, first, 3)
        await until(lambda: len(consumer.done_runs) == 1)
        await stage.stop()
        stands = read_stands(load_table(open_catalog(world.config.lake), "headgate", "patients").properties)
        return stands[0].first

    assert 7 == await read(7, 7)
    assert 7 == await read(10, 10)
    assert 20 == await read(20, 20, gap=(13, 20))


async def test_a_table_that_is_dropped_and_made_anew_is_taken_up_by_all_workers(tmp_path: Path) -> None:
    """Another worker has made it by the same spec; the one that has the old one open finds the new one."""
    world = World(tmp_path, commit_rows_max=3)
    first, its_consumer = await world.worker()
    assignment = assignment_of()
    await give(first, its_consumer, assignment, 0, 3)
    await until(lambda: len(its_consumer.done_runs) == 1)
    assert drop_table(world.config.lake, "patients")
    second, consumer = await world.worker()
    other = assignment_of(partition=1)
    assert {} == await second.starts([other])
    again = assignment_of()
    again.committed = 3

    assert {again: 0} == await first.starts([again])
    await give(first, its_consumer, again, 0, 4)
    await until(lambda: len(its_consumer.done_runs) == 2)
    await first.stop()
    await second.stop()
    assert [0, 1, 2, 3] == world.offsets()
    assert [] == consumer.done_runs


@pytest.mark.parametrize("made_anew", [False, True])
async def test_a_table_that_is_gone_while_rows_flow_pauses_alone_until_it_is_resumed(
    tmp_path: Path, made_anew: bool
) -> None:
    """Also where another worker has made a new one already; then it is filled from what the log holds."""
    world = World(tmp_path, commit_rows_max=3)
    world.tables["meters"] = TableEntry(spec=spec_of(table="meters"))
    first, its_consumer = await world.worker()
    assignment = assignment_of()
    await give(first, its_consumer, assignment, 0, 3)
    await until(lambda: len(its_consumer.done_runs) == 1)
    open_catalog(world.config.lake).rename_table(("headgate", "patients"), ("headgate", "patients_old"))
    if made_anew:
        second, _ = await world.worker()
        await second.starts([assignment_of(partition=1)])
        await second.stop()
    await give(first, its_consumer, assignment, 3, 3)
    await until(lambda: CHANGES in its_consumer.paused)

    assert ("lake_replaced", True) == (
        its_consumer.paused[CHANGES].reason,
        "tables resume patients" in its_consumer.paused[CHANGES].hint,
    )
    await until(lambda: first.counters()["buffered_bytes"] == 0)
    await give(first, its_consumer, assignment_of("headgate.changes.meters"), 0, 3)
    await until(lambda: len(its_consumer.done_runs) == 2)
    await its_consumer.resume(CHANGES)
    again = assignment_of()
    again.committed = 3
    assert {again: 0} == await first.starts([again])
    await give(first, its_consumer, again, 0, 7)
    await until(lambda: len(its_consumer.done_runs) == 3)
    await first.stop()
    assert [*range(7)] == world.offsets()
    old = open_catalog(world.config.lake).load_table(("headgate", "patients_old"))
    assert [0, 1, 2] == _offsets(old)


@pytest.mark.parametrize("in_one_folder", [False, True])
@pytest.mark.parametrize("namespace", ["headgate", "archive"])
async def test_the_sweep_leaves_a_table_that_was_moved_aside_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_one_folder: bool, namespace: str
) -> None:
    """Its successor lies elsewhere; where it does not, as tables that earlier builds made, nothing is searched for."""
    if in_one_folder:
        monkeypatch.setattr("sinks.lake.table._new_location", lambda *_: None)
    config = LakeConfig(warehouse=str(tmp_path), sweep_grace_seconds=600)
    catalog, now = open_catalog(config), [time.time()]
    lake = Lake(config, clock=lambda: now[0])
    await lake.open(spec_of())
    await lake.write(_batch(0, 5))
    catalog.create_namespace_if_not_exists(namespace)
    catalog.rename_table(("headgate", "patients"), (namespace, "patients_old"))
    orphan = await _orphan_of_a_new_one(lake, now)

    assert [*range(5)] == _offsets(catalog.load_table((namespace, "patients_old")))
    assert [*range(3)] == _offsets(_table(catalog))
    assert in_one_folder == orphan.exists()


async def test_files_of_a_table_that_was_moved_aside_are_not_those_of_the_new_one(tmp_path: Path) -> None:
    """A batch whose first commit failed is written anew: the new table has a folder and columns of its own."""
    config = LakeConfig(warehouse=str(tmp_path))
    catalog, lake, batch = open_catalog(config), Lake(config, clock=time.time), _batch(0, 5)
    old = (await lake.open(spec_of())).iceberg
    batch.files = write_files(old, batch.rows)
    batch.files_at, batch.files_of = time.time(), old.metadata.table_uuid
    catalog.rename_table(("headgate", "patients"), ("headgate", "patients_old"))
    await lake.open(spec_of(), fresh=True)
    await lake.write(batch)
    await lake.close()
    new = _table(catalog)

    assert [*range(5)] == _offsets(new)
    assert all(path.startswith(new.location()) for path in referred_files(new))


async def test_a_new_table_that_never_had_a_file_in_the_folder_keeps_no_search_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers make a table at the same moment: the slower one's first metadata file stays, and is nobody's."""
    monkeypatch.setattr("sinks.lake.table._new_location", lambda *_: None)
    config = LakeConfig(warehouse=str(tmp_path), sweep_grace_seconds=600)
    catalog, now = open_catalog(config), [time.time()]
    lake = Lake(config, clock=lambda: now[0])
    await lake.open(spec_of())
    catalog.rename_table(("headgate", "patients"), ("headgate", "patients_old"))
    orphan = await _orphan_of_a_new_one(lake, now)

    assert not orphan.exists()
    assert [] == _offsets(catalog.load_table(("headgate", "patients_old")))
    assert [*range(3)] == _offsets(_table(catalog))


async def _orphan_of_a_new_one(lake: Lake, now: list[float]) -> Path:
    """Make a table anew, with rows and a file that nobody refers to; search three times in six hours, return that."""
    table = await lake.open(spec_of(), fresh=True)
    await lake.write(_batch(0, 3))
    orphan = Path(table.iceberg.location()) / "data" / "dead.parquet"
    orphan.write_bytes(b"left behind")
    for _ in range(3):
        now[0] += 7_200
        table.sweep()
    await lake.close()
    return orphan


def _batch(first: int, count: int) -> LakeBatch:
    rows = rows_of([change(n, n) for n in range(first, first + count)])
    stand = Stand(CHANGES, "id-1", first + count, {(TOPIC, 0, 0): Height(first + count - 1)})
    return LakeBatch("patients", rows, {0: first or None}, {0: stand})


def _table(catalog: Catalog) -> Table:
    return load_table(catalog, "headgate", "patients")


def _offsets(table: Table) -> list[int]:
    return sorted(table.scan(selected_fields=(OFFSET,)).to_arrow().column(0).to_pylist())
