"""`headgate features rebuild` under real stages: what somebody changed in Redis by hand is right again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headgate.cli.codes import ExitCode
from sinks.redis.layout import Layout
from streams.app import Worker
from tests.integration.stages import Installation, document_of, filled, until, until_off_loop
from tests.services import Kafka, RedisServer

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

ROWS = 80
CHANGED, ADDED, REMOVED = 5, 7_777_777, 11  # rows that are wrong in Redis


@pytest.fixture
def installation(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> Iterator[Installation]:
    """A table whose topic has four partitions."""
    with filled(kafka, redis_server, tmp_path, rows=ROWS) as made:
        yield made


def plant(installation: Installation, server: RedisServer) -> None:
    """Change a row in Redis, add one and remove one, none of which any position shows."""
    layout = Layout(installation.config.redis.key_prefix, installation.config.redis.buckets)
    changed, added, removed = (layout.values("patient.1", str(row)) for row in (CHANGED, ADDED, REMOVED))
    with server.client() as client:
        client.hset(changed, "name", "changed by hand")
        client.hset(added, mapping={".p": "9" * 45, ".v": "1", "name": "never there"})
        client.delete(removed)


def is_right(installation: Installation) -> bool:
    """Tell whether Redis has all rows, those that were wrong among them, and says so."""
    if installation.features() != installation.rows:
        return False
    found = {row: installation.view(row) for row in (0, CHANGED, REMOVED, installation.rows - 1)}
    right = all(each.row is not None and each.row.values == {"name": f"n{row}"} for row, each in found.items())
    return right and not any(each.standing.pending for each in found.values())


def was_filled(worker: Worker) -> bool:
    """Tell whether a worker has found a loss, and all is there again by its own account."""
    status = worker.host.status()
    return status["counters"]["fields_fallen_back"] > 0 and not any(row["pending"] for row in status["tables"])


@asynccontextmanager
async def load(installation: Installation) -> AsyncIterator[None]:
    """Insert rows for as long as the block lasts."""
    ended = asyncio.Event()

    async def insert() -> None:
        while not ended.is_set():
            await asyncio.to_thread(installation.fill, 4)
            await asyncio.sleep(0.02)  # some 150 rows a second

    task = asyncio.create_task(insert())
    try:
        yield
    finally:
        ended.set()
        await task


@pytest.mark.parametrize("source", ["log", "lake"])
async def test_rows_changed_by_hand_are_right_after_a_rebuild_under_load(
    installation: Installation, redis_server: RedisServer, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that was changed, one that nobody ever sent and one that was gone; no worker is restarted."""
    async with installation.running("normalize", "features", "lake") as workers:
        await until_off_loop(lambda: installation.features() == ROWS, "Redis has all")
        if source == "lake":
            await until_off_loop(lambda: installation.lake()[0] == ROWS, "the lake has all")
            installation.forget_records(dict.fromkeys(range(4), ROWS // 8), topic=installation.output)
        plant(installation, redis_server)

        async with load(installation):
            await until_off_loop(lambda: installation.features() > ROWS + 20, "changes flow")
            assert ExitCode.OK == await installation.verb("features", "rebuild", "patients", "--json")
            await until(lambda: was_filled(workers["features"]), "its worker found it, and filled it")
        await until_off_loop(lambda: is_right(installation), "all is right")

    said = document_of(capsys.readouterr().out)
    assert (source, ["patient.1"], "patients") == (said["from"], said["views"], said["table"])
    assert said["keys_removed"] >= ROWS
    with redis_server.client() as client:
        assert not client.exists(Layout(installation.prefix, 4).values("patient.1", str(ADDED)))


async def test_what_would_not_come_back_is_not_taken_away(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log has lost its beginning, and the lake knows nothing of the table."""
    async with installation.running("normalize", "features"):
        await until_off_loop(lambda: installation.features() == ROWS, "Redis has all")
        assert ExitCode.OK == await installation.verb("features", "rebuild", "patients", "--dry-run")
        assert "would be emptied, and filled again from" in capsys.readouterr().err
        installation.forget_records({2: 4}, topic=installation.output)

        assert ExitCode.FOUND == await installation.verb("features", "rebuild", "patients")
        assert "nothing was taken away: the log of" in capsys.readouterr().err
        assert ExitCode.FOUND == await installation.verb("features", "rebuild", "patientz")
        assert "did you mean patients?" in capsys.readouterr().err
        assert ROWS == installation.features()
