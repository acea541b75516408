"""FEATURES on a real Redis where keys change: many in one statement, and killed between the steps of the hand-over."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis.asyncio import Redis

from connectors.contract import ContractReader
from schemas.change import Height
from schemas.failpoints import arm
from schemas.table import TableEntry
from sinks.lake.commit import LakeBatch
from sinks.lake.rows import ROWS_READ, lake_rows
from sinks.lake.sink import Lake
from sinks.lake.stand import Stand
from sinks.redis.read import get_entity
from tests.integration.features_worker import Worker, flow
from tests.property.handovers import COLUMNS, SPEC, Rows, Source, encoded
from tests.services import RedisServer
from tests.unit.fakes import CHANGES

ROWS = 150


def history() -> Source:
    """Rows that all change their key in one statement; then every other one goes back, and on to a third."""
    source = Source()
    for key in range(ROWS):
        source.put(key, {name: f"{name} of {key}" for name in COLUMNS})
    for key in range(ROWS):
        source.move(key, key + 1_000, {"name": f"moved {key}"})
    for key in range(0, ROWS, 2):
        source.move(key + 1_000, key, {})
    for key in range(0, ROWS, 2):
        source.move(key, key + 5_000, {"memo": None})
    return source


def worker_of(address: str, prefix: str, log: Sequence[bytes | None], *, lake: Path | None = None) -> Worker:
    """Return a worker for the views of `SPEC`."""
    one = Worker(address, prefix, list(log), lake=lake)
    one.tables["patients"] = TableEntry(spec=SPEC)
    return one


async def read_all(one: Worker, records: int) -> None:
    """Read from where the worker begins, in groups of so many records."""
    at = await one.begin()
    while at < len(one.log):
        await one.read(at, at + records)
        at += records
    await one.stage.stop()


async def rows_of(address: str, prefix: str) -> dict[str, Rows]:
    """Return the rows of the views whose entities are rows, without what is unavailable in them."""
    one, client, found = worker_of(address, prefix, []), Redis.from_url(address), {}
    for view in SPEC.features[:2]:
        rows = {
            key: await get_entity(client, one.config.redis, view, [str(key)])
            for key in (start + key for start in (0, 1_000, 5_000) for key in range(ROWS))
        }
        found[view.view] = {key: {**dict.fromkeys(r.null), **r.values} for key, r in rows.items() if r is not None}
    await client.aclose()
    return found


@pytest.fixture
async def prefix(redis_server: RedisServer) -> AsyncIterator[str]:
    """Nothing is left under it."""
    made = f"features-{uuid.uuid4().hex[:12]}"
    yield made
    client = Redis.from_url(redis_server.address)
    await client.delete(b"features-nothing", *[key async for key in client.scan_iter(match=f"{made}:*", count=1_000)])
    await client.aclose()


def die(address: str, prefix: str, where: str) -> None:
    """Read the history until the worker is killed there."""
    arm(f"{where}=kill")
    asyncio.run(read_all(worker_of(address, prefix, encoded(history().changes)), 400))


@pytest.mark.parametrize("where", ["features.before_giving", "features.before_leaving"])
async def test_whoever_is_killed_between_the_steps_leaves_them_to_its_successor(
    redis_server: RedisServer, prefix: str, where: str
) -> None:
    """No value is lost: the old row is there until the new one has what is its own."""
    process = multiprocessing.get_context("spawn").Process(target=die, args=(redis_server.address, prefix, where))
    process.start()
    await asyncio.to_thread(process.join, 60)
    source = history()

    assert -signal.SIGKILL == process.exitcode
    assert source.rows not in (await rows_of(redis_server.address, prefix)).values()
    await read_all(worker_of(redis_server.address, prefix, encoded(source.changes)), 1_000)
    assert {"latest": source.rows, "told": source.rows} == await rows_of(redis_server.address, prefix)


async def test_many_keys_that_change_at_once_cost_few_calls(redis_server: RedisServer, prefix: str) -> None:
    """A step goes through all buckets at once; a round is cut only where a key changes a second time."""
    source = history()
    one = worker_of(redis_server.address, prefix, encoded(source.changes))

    await read_all(one, 1_000)

    assert {"latest": source.rows, "told": source.rows} == await rows_of(redis_server.address, prefix)
    assert 300 * len(SPEC.features) <= one.stage.counters()["handed_over"]
    assert one.stage.counters()["calls"] < 200


async def fill(folder: Path, values: list[bytes]) -> None:
    """Write changes to a lake."""
    one = Worker("redis://127.0.0.1:1", "nothing", [], lake=folder)
    rows = lake_rows(SPEC, ContractReader(SPEC, rows=ROWS_READ).read(values), values, ingested=datetime.now(UTC))
    sink = Lake(one.config.lake, clock=lambda: 0.0)
    await sink.open(SPEC)
    stand = Stand(CHANGES, "topic-1", len(values), {("clinic.patients", 0, 0): Height(len(values))})
    await sink.write(LakeBatch("patients", rows, {0: None}, {0: stand}))
    await sink.close()


async def test_a_wiped_redis_is_given_again_from_the_lake_what_new_keys_had_from_old_ones(
    redis_server: RedisServer, prefix: str, tmp_path: Path
) -> None:
    """Also where the lake has the delete of the old key and not yet the insert of the new one."""
    source = history()
    values = encoded(source.changes)
    lake_has, log_begins = 3 * ROWS + 51, 3 * ROWS + 20
    assert source.changes[lake_has - 1]["new_key"] == source.changes[lake_has]["key"]
    await fill(tmp_path, values[:lake_has])
    one = worker_of(redis_server.address, prefix, values, lake=tmp_path)
    await one.begin()
    one.log, later = one.log[: lake_has + 50], one.log[lake_has + 50 :]
    await flow(one)
    one.log, one.assignment.low = one.log + later, log_begins
    with redis_server.client() as client:
        client.delete(*client.scan_iter(match=f"{prefix}:*", count=1_000))

    await flow(one)
    await one.stage.stop()

    assert 1 == one.stage.counters()["rebuilds"]
    assert {"latest": source.rows, "told": source.rows} == await rows_of(redis_server.address, prefix)
