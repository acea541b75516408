"""A truncate by way of Kafka, Redis and the lake: rows, truncate, rows again, while workers are killed; then a loss."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from redis import Redis

from headgate.cli.codes import ExitCode
from schemas.position import postgresql_position
from tests.integration.stages import (
    VIEW,
    Installation,
    event,
    filled,
    run_until_killed,
    until_off_loop,
)
from tests.oracles import require
from tests.oracles.features import ViewShape, check_all_views, read_stored
from tests.oracles.lake import check_latest, check_origins, read_lake
from tests.oracles.shape import Shape
from tests.services import Kafka, RedisServer

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]
OLD, NEW = 40, 20
NAMES = {"view": "by_name", "entity": "name", "entity_key": ["name"], "columns": ["id"], "emit": True}


@pytest.fixture
def installation(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> Iterator[Installation]:
    """A table of four partitions that applies truncates, with a view whose entities rows share."""
    with filled(kafka, redis_server, tmp_path, rows=OLD) as made:
        made.document |= {"truncate": "apply", "rules": [], "features": [VIEW, NAMES]}
        made.shape = Shape.of(made.document)
        made.spec()
        yield made


def _rows() -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return what the source has in the end."""
    return {(n,): {"id": n, "name": f"n{n}"} for n in range(OLD + 1, OLD + 1 + NEW)}


def _check_redis(installation: Installation) -> None:
    with Redis.from_url(installation.redis) as client:
        stored = read_stored(client, installation.prefix)
    for verdict in check_all_views(ViewShape.all_of(installation.shape), stored, {"patients": _rows()}, buckets=4):
        require(verdict)


def _floors(installation: Installation) -> set[bytes]:
    """Return all that the buckets have of floors, but for which view it is."""
    with Redis.from_url(installation.redis) as client:
        keys = client.keys(f"{installation.prefix}:{{b*}}:floor")
        assert len(keys) in {0, 4}
        return {value for key in keys for value in client.hgetall(key).values()}


def _produce(installation: Installation, row: int) -> None:
    producer = Producer({"bootstrap.servers": installation.kafka})
    producer.produce(installation.topic, event(row), b'{"id":%d}' % row, row % 4)
    assert producer.flush(30) == 0, "the record was delivered"


async def test_a_truncate_takes_the_rows_of_before_everywhere_and_they_stay_away(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    """NORMALIZE dies with the floor in an open transaction, FEATURES before it has swept; then Redis loses all."""
    async with installation.running("normalize", "features", "lake"):
        await installation.emitted(OLD)
        await until_off_loop(lambda: installation.features() == OLD, "Redis has all")
        await until_off_loop(lambda: installation.lake()[0] == OLD, "the lake has all")
    floor = postgresql_position(0, installation.rows, installation.rows + 1, streamed=True)
    installation.truncate()
    installation.rows += 1
    installation.fill(NEW)

    assert -signal.SIGKILL == await asyncio.to_thread(run_until_killed, installation, "transaction.before_commit=kill")
    async with installation.running("normalize"):
        changes = await installation.emitted(OLD + 4 + NEW)
    assert 4 == sum(change.op == "floor" for change in changes)
    assert -signal.SIGKILL == await asyncio.to_thread(
        run_until_killed, installation, "features.after_write=kill", "features"
    )
    read = await asyncio.to_thread(installation.view, 0)
    assert (None, True) == (read.row, read.sweeping)
    assert installation.features() >= OLD
    assert ExitCode.FOUND == await installation.verb("features", "get", "patient", "0")
    assert "SWEEPING: view patient" in capsys.readouterr().err
    async with installation.running("features", "lake") as workers:
        await until_off_loop(lambda: {floor.encode()} == _floors(installation), "swept")
        await until_off_loop(lambda: installation.features() == NEW, "Redis has the new rows")
        await until_off_loop(lambda: installation.lake()[0] == OLD + 1 + NEW, "the lake has all")
        (row,) = workers["features"].host.status()["tables"]
        assert not row["sweeping"]

    _check_redis(installation)
    in_lake = read_lake(installation.folder / "lake", "headgate", installation.shape)
    require(check_latest(installation.shape, in_lake, _rows()))
    require(check_origins(installation.shape, in_lake, changes))
    assert installation.lake()[1].ok
    last = {number: max(c.record.offset for c in changes if c.record.partition == number) for number in range(4)}
    await _loses_all(installation, floor, last)


async def _loses_all(installation: Installation, floor: str, last: dict[int, int]) -> None:
    """Redis is emptied, and the log has but its last records: rows and floor come from the lake, and nothing else."""
    installation.forget_records(last, topic=installation.output)
    with Redis.from_url(installation.redis) as client:
        client.delete(*client.keys(f"{installation.prefix}:*"))

    async with installation.running("normalize", "features"):
        await until_off_loop(lambda: {floor.encode()} == _floors(installation), "the floor is back, and swept")
        await until_off_loop(lambda: installation.features() == NEW, "the rows are back")
        _produce(installation, 3)  # a redelivery of a row that the truncate took
        _produce(installation, OLD + 1 + NEW)
        await until_off_loop(lambda: installation.features() > NEW, "what comes is taken")
        assert (await asyncio.to_thread(installation.view, 3)).row is None
