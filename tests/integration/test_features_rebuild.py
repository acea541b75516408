"""Redis filled from the lake where the log does not reach back: under a running worker, beside changes that flow."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from connectors.contract import ContractReader
from schemas.change import Height
from schemas.table import TableEntry
from sinks.lake.commit import LakeBatch
from sinks.lake.rows import ROWS_READ, lake_rows
from sinks.lake.sink import Lake
from sinks.lake.stand import Stand
from sinks.redis.fold import Gatherer
from sinks.redis.read import EntityRead, read_entity
from sinks.redis.rows import TableRows
from tests.integration.features_worker import KEYS, SPEC, Worker, expected, flow, history
from tests.services import RedisServer, until
from tests.unit.fakes import CHANGES

LAKE_HAS = 1_500  # the offset that the lake has come to
LOG_BEGINS = 1_200  # what retention left of the log
WARDS = {"view": "wards", "entity": "patient", "columns": ["ward"]}
FAR_FUTURE = 10_000_000_000.0  # every delete of the lake is older than what may be sent again

Make = Callable[..., Worker]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that has read the history up to LAKE_HAS."""
    folder = tmp_path_factory.mktemp("rebuild") / "lake"
    asyncio.run(fill(folder))
    return folder


async def fill(folder: Path, first: int | None = None) -> None:
    """Write the history up to LAKE_HAS to a lake, which says that it has it from `first` on."""
    one = Worker("redis://127.0.0.1:1", "nothing", [], lake=folder)
    spec, values = one.tables["patients"].spec, [value for value in history(LAKE_HAS) if value is not None]
    rows = lake_rows(spec, ContractReader(spec, rows=ROWS_READ).read(values), values, ingested=datetime.now(UTC))
    sink = Lake(one.config.lake, clock=lambda: 0.0)
    await sink.open(spec)
    stand = Stand(CHANGES, "topic-1", LAKE_HAS, {("clinic.public.patients", 0, 0): Height(LAKE_HAS)}, first)
    await sink.write(LakeBatch("patients", rows, {0: None}, {0: stand}))
    await sink.close()


@pytest.fixture
async def worker(redis_server: RedisServer, lake: Path) -> AsyncIterator[Make]:
    """Make workers of one installation, with a prefix of this test's own."""
    prefix = f"features-{uuid.uuid4().hex[:12]}"
    made: list[Worker] = []

    def make(count: int, **options: Any) -> Worker:
        address, folder = options.pop("address", redis_server.address), options.pop("folder", lake)
        made.append(Worker(address, prefix, history(count), lake=folder, **options))
        return made[-1]

    yield make
    for each in made:
        await each.stage.stop()
    with redis_server.client() as client:
        for key in client.scan_iter(match=f"{prefix}:*", count=1_000):
            client.delete(key)


async def read(one: Worker, key: int, view: int = 0) -> EntityRead:
    """Return what the read side says of a key."""
    client = Redis.from_url(one.config.redis.url.get_secret_value())
    try:
        return await read_entity(client, one.config.redis, one.tables["patients"].spec.features[view], [str(key)])
    finally:
        await client.aclose()


def live_keys(one: Worker, server: RedisServer) -> int:
    """Return how many rows Redis holds of the first view."""
    with server.client() as client:
        return len(set(client.scan_iter(match=f"{one.config.redis.key_prefix}:*:f:latest.1:*", count=1_000)))


def forget(one: Worker, server: RedisServer) -> None:
    """Lose all that Redis holds of the installation."""
    with server.client() as client:
        for key in client.scan_iter(match=f"{one.config.redis.key_prefix}:*", count=1_000):
            client.delete(key)


async def run_in(one: Worker) -> None:
    """Have a worker that has read 2,000 changes, whose log has then lost the first ones."""
    await one.begin()
    one.log, later = one.log[:2_000], one.log[2_000:]
    await flow(one)
    one.log += later
    one.assignment.low = LOG_BEGINS


async def test_a_wiped_redis_is_filled_from_the_lake_while_changes_flow(
    worker: Make, redis_server: RedisServer
) -> None:
    """Values, nulls, unavailable columns and deletes are those of the source; until then the view is pending."""
    one = worker(2_600)
    await run_in(one)
    forget(one, redis_server)

    await one.read(2_000, 2_100)
    assert (await read(one, 5)).standing.pending
    await flow(one)

    assert expected(2_600) == await one.rows()
    assert live_keys(one, redis_server) == sum(row is not None for row in expected(2_600).values())
    assert not (await read(one, 5)).standing.pending
    assert one.stage.counters()["rebuilds"] == 1
    with redis_server.client() as client:
        assert client.exists(f"{one.config.redis.key_prefix}:layout"), "the layout's marker is there again"


@pytest.mark.parametrize("clock", [1_000.0, FAR_FUTURE])
async def test_an_older_backup_loses_what_was_deleted_since(
    private_redis: Callable[[], RedisServer], worker: Make, clock: float
) -> None:
    """Also where the deletes are so old that they need no tombstone any more."""
    server = private_redis()
    one = worker(2_600, address=server.address, clock=lambda: clock)
    await one.begin()
    one.log, later = one.log[:700], one.log[700:]
    await flow(one)
    await one.stage._move()  # noqa: SLF001 - quiet buckets too
    server.save()
    one.log += later[:1_300]
    await flow(one)
    one.log += later[1_300:]
    one.assignment.low = LOG_BEGINS
    server.restart()
    await flow(one, until_complete=False)
    await flow(one)

    assert expected(2_600) == await one.rows()
    assert live_keys(one, server) == sum(row is not None for row in expected(2_600).values())
    await one.stage.stop()


async def test_a_rebuild_that_was_cut_off_is_begun_again_by_the_successor(
    worker: Make, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its offsets stood still, and the view stayed pending."""
    monkeypatch.setattr("streams.rebuild.ROUND_ROWS", 20)
    one = worker(2_600)
    await run_in(one)
    killed, gathered = asyncio.Event(), one.stage._rebuild._gathered  # noqa: SLF001

    async def dies(*arguments: Any) -> Any:
        if one.stage._store.counts["rows"] > 2_100:  # noqa: SLF001 - some rounds were sent
            killed.set()
            await asyncio.Event().wait()
        return await gathered(*arguments)

    monkeypatch.setattr(one.stage._rebuild, "_gathered", dies)  # noqa: SLF001
    forget(one, redis_server)
    await one.read(2_000, 2_100)
    await asyncio.wait_for(killed.wait(), 60)
    for task in one.stage._tasks:  # noqa: SLF001 - as SIGKILL does: nothing is said to anyone
        task.cancel()
    one.assignment.lost = True
    two = worker(2_600)
    two.assignment.low, two.assignment.committed = LOG_BEGINS, 2_100
    assert (await read(two, 5)).standing.pending

    two.consumer.at[two.assignment] = await two.begin()
    await flow(two)

    assert expected(2_600) == await two.rows()


async def test_a_new_view_on_an_old_table_is_filled_from_the_lake(worker: Make) -> None:
    """The view that was there is complete all the time."""
    one = worker(2_600)
    await run_in(one)
    one.tables["patients"] = TableEntry.model_validate({"spec": SPEC | {"features": [*SPEC["features"], WARDS]}})

    await one.stage.tables_changed({"patients"})
    before = (await read(one, 5)).standing.pending, (await read(one, 5, 1)).standing.pending
    await flow(one)

    assert (False, True) == before
    assert expected(2_600) == await one.rows()
    wards = {key: (await read(one, key, 1)).row for key in range(KEYS)}
    assert {k: row and row.values.get("ward") for k, row in expected(2_600).items()} == {
        k: row and row.values.get("ward") for k, row in wards.items()
    }
    assert not (await read(one, 5, 1)).standing.pending


async def test_history_that_nobody_has_pauses_its_table_until_somebody_resumes(
    worker: Make, redis_server: RedisServer
) -> None:
    """The lake ends below where the log begins; a resume goes on without what is missing."""
    one = worker(2_000)
    await one.begin()
    await flow(one)
    one.assignment.low = LAKE_HAS + 200
    forget(one, redis_server)
    await one.stage._move()  # noqa: SLF001 - what is done every 30 seconds
    await until(lambda: bool(one.consumer.pauses), seconds=60)

    assert [(CHANGES, "history_gone")] == one.consumer.pauses
    one.tables["patients"] = one.tables["patients"].model_copy(update={"resumed": 1})
    await one.stage.tables_changed({"patients"})
    await until(lambda: bool(one.consumer.sought), seconds=60)
    await flow(one)

    assert {} == one.consumer.paused
    assert [(0, LAKE_HAS + 200)] == one.consumer.seeks
    late = {(n * 7919) % KEYS for n in range(LAKE_HAS + 200, 2_000) if n % 11 != 10 and n % 4}
    rows = await one.rows()
    assert {key: expected(2_000)[key] for key in late} == {key: rows[key] for key in late}


async def test_a_lake_that_began_late_fills_only_what_somebody_agrees_to(
    worker: Make, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Without the rows of before, the view would be told of as complete; a resume takes what the lake has."""
    await fill(tmp_path / "lake", first=200)
    one = worker(2_000, folder=tmp_path / "lake")
    await one.begin()
    await flow(one)
    one.assignment.low = LOG_BEGINS
    forget(one, redis_server)
    await one.stage._move()  # noqa: SLF001 - what is done every 30 seconds
    await until(lambda: bool(one.consumer.pauses), seconds=60)
    paused = one.consumer.paused[CHANGES]
    one.tables["patients"] = one.tables["patients"].model_copy(update={"resumed": 1})
    await one.stage.tables_changed({"patients"})
    await until(lambda: one.stage.counters().get("rebuilds") == 1, seconds=60)
    await flow(one)

    assert ("history_gone", True) == (paused.reason, "the lake begins at 200" in paused.message)
    assert {} == one.consumer.paused
    assert expected(2_000) == await one.rows()


async def test_what_was_read_before_is_no_news(
    worker: Make, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the record: what comes again after a loss is history, what comes for the first time is not."""
    one, told, add = worker(1_250), Counter[bool](), Gatherer.add

    def noting(gatherer: Gatherer, table: TableRows, changes: Any, *rest: Any, **options: Any) -> list[int]:
        told[table.plans[0].loading] += len(changes)
        return add(gatherer, table, changes, *rest, **options)

    monkeypatch.setattr(Gatherer, "add", noting)
    await one.begin()
    one.log, later = one.log[:1_050], one.log[1_050:]
    await flow(one)
    forget(one, redis_server)
    one.log += later
    await one.stage._move()  # noqa: SLF001 - what is done every 30 seconds
    await flow(one)

    assert {False: 1_250, True: 1_050} == told
    assert expected(1_250) == await one.rows()


async def test_a_redis_restored_in_the_middle_of_a_rebuild_is_filled_from_the_beginning(
    private_redis: Callable[[], RedisServer], worker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its offsets stood still, so they do not show that rows are gone; the new connection does."""
    monkeypatch.setattr("streams.rebuild.ROUND_ROWS", 20)
    server, rounds = private_redis(), Counter[str]()
    one = worker(2_600, address=server.address)
    await run_in(one)
    server.flush()
    gathered = one.stage._rebuild._gathered  # noqa: SLF001

    async def disturbed(*arguments: Any) -> Any:
        rounds["all"] += 1
        if rounds["all"] == 4:
            await asyncio.to_thread(server.save)
        if rounds["all"] == 8:
            await asyncio.to_thread(server.restart)
        return await gathered(*arguments)

    monkeypatch.setattr(one.stage._rebuild, "_gathered", disturbed)  # noqa: SLF001
    await one.read(2_000, 2_100)
    await flow(one)

    assert expected(2_600) == await one.rows()
    assert rounds["all"] > 8
    await one.stage.stop()
