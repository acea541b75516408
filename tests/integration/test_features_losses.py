"""The FEATURES stage on a Redis that loses what it acknowledged: no offset ever passes over rows that are gone."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest

from connectors.transport.chunk import Group
from schemas.errors import PoisonRecord
from schemas.table import Decision, TableEntry
from tests.integration.features_worker import SPEC, Worker, expected, history
from tests.property.handovers import COLUMNS, Source, encoded
from tests.property.handovers import SPEC as MOVING
from tests.services import RedisServer, until
from tests.unit.fakes import assignment_of
from tests.unit.features.changes import change

Make = Callable[..., Worker]


@pytest.fixture
async def worker(redis_server: RedisServer) -> AsyncIterator[Make]:
    """Make workers with a prefix of this test's own."""
    prefix = f"features-{uuid.uuid4().hex[:12]}"
    made: list[Worker] = []

    def make(log: Sequence[bytes | None]) -> Worker:
        made.append(Worker(redis_server.address, prefix, list(log)))
        return made[-1]

    yield make
    for each in made:
        await each.stage.stop()
    delete_all(made[0], redis_server)


async def test_a_view_that_left_and_came_back_reads_what_it_missed(worker: Make) -> None:
    """Its table went on with another view meanwhile, on the same worker; until it has that, it is pending."""
    one = worker(history(1_200))
    wards = {"view": "wards", "entity": "patient", "columns": ["name", "note", "ward"], "event_time": "seen"}

    async def apply(*views: Any) -> None:
        one.tables["patients"] = TableEntry.model_validate({"spec": SPEC | {"features": [*views]}})
        await one.stage.tables_changed({"patients"})

    await one.begin()
    await apply(wards, *SPEC["features"])
    await one.read_until_done(0)
    one.log += history(1_850)[1_200:]
    await apply(*SPEC["features"])
    await one.read(1_200, 1_800)
    await apply(wards, *SPEC["features"])
    assert ["patients"] == list(one.stage.filling())
    await one.read_until_done(min(offset for _, offset in one.consumer.seeks) if one.consumer.seeks else 1_800)

    assert expected(1_850) == await one.rows()


async def test_no_offset_passes_over_what_redis_lost(worker: Make, redis_server: RedisServer) -> None:
    """One task finds the loss and goes back; a step that runs before the consumer has gone back moves nothing."""
    one, gate, waiting = worker(history(2_000)), asyncio.Event(), []
    await one.begin()
    await one.read(0, 1_000)
    seek = one.consumer.seek

    async def slow(assignment: Any, offset: int) -> bool:
        waiting.append(offset)
        await gate.wait()
        return await seek(assignment, offset)

    one.consumer.seek = slow  # type: ignore[method-assign]
    await lose(one, redis_server)
    tasks = [asyncio.create_task(one.stage.starts([])), asyncio.create_task(one.read(1_000))]
    await until(lambda: len(waiting) >= 2 or tasks[1].done())
    gate.set()
    await asyncio.gather(*tasks)
    successor = worker(history(2_000))
    successor.assignment.committed = 2_000  # the first worker was killed before it could commit where it went back to

    assert await successor.begin() == 0


async def test_a_partition_that_cannot_go_back_yet_does_so_later(worker: Make, redis_server: RedisServer) -> None:
    """Redis lost rows after the start was looked up, and before reading began there."""
    one = worker(history(1_050))
    await one.begin()
    await one.read(0, 1_000)
    seek = one.consumer.seek

    async def not_reading(assignment: Any, offset: int) -> bool:
        return False

    one.consumer.seek = not_reading  # type: ignore[method-assign]
    await lose(one, redis_server)
    await one.stage.starts([])
    one.consumer.seek = seek  # type: ignore[method-assign]
    await one.read_until_done(1_000)

    assert expected(1_050) == await one.rows()


async def test_a_loss_found_beside_a_bad_value_is_not_forgotten(
    worker: Make, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moves were refused, then a later round of the same step failed."""
    monkeypatch.setattr("streams.features.ROUND_ROWS", 20)
    one = worker([*history(1_060), b"{"])
    await one.begin()
    await one.read(0, 1_000)
    delete_all(one, redis_server)

    with pytest.raises(PoisonRecord):
        await one.read(1_000)
    one.log.pop()
    await one.read_until_done(1_000)

    assert expected(1_060) == await one.rows()


@pytest.mark.parametrize("connection", ["stays", "breaks"])
async def test_a_worker_to_which_nothing_comes_learns_of_a_loss(
    worker: Make, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, connection: str
) -> None:
    """Nothing is to be moved, so it must ask; of a connection that broke it learns no other way either."""
    monkeypatch.setattr("streams.features.MOVE_SECONDS", 0.05)
    one = worker(history(1_000))
    await one.begin()
    await one.read(0, 1_000)
    with redis_server.client() as client:
        delete_all(one, redis_server)
        if connection == "breaks":
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await until(lambda: one.consumer.seeks, "it goes back")
    await one.read_until_done(min(offset for _, offset in one.consumer.seeks))

    assert expected(1_000) == await one.rows()


async def test_a_stop_moves_quiet_buckets_though_its_partitions_left(worker: Make) -> None:
    """The consumer ends before the stage does."""
    one = worker([change(1, n, {"name": "a"}) for n in range(10)])
    await one.begin()
    await one.read(0)
    one.assignment.lost = True
    await one.stage.stop()

    assert await worker([]).begin() == 10


async def test_another_life_of_its_topic_is_gone_on_with_once_somebody_says_so(worker: Make) -> None:
    """From its beginning: positions refuse what is older, and a worker of the old life moves nothing any more."""
    one = worker(history(1_000))
    await one.begin()
    await one.read(0)
    await one.stage.stop()
    anew = worker(history(1_200)[900:])
    anew.assignment.topic_id = "topic-2"
    await anew.begin()
    assert ("topic_id", True) == (
        anew.consumer.paused[anew.assignment.topic].reason,
        "resume TABLE --anew" in anew.consumer.paused[anew.assignment.topic].hint,
    )

    anew.assignment.decisions = [Decision(topic_id="topic-2", generation=1)]
    assert {anew.assignment: 0} == await anew.stage.starts([anew.assignment])
    await anew.read_until_done(0)

    assert expected(1_200) == await anew.rows()


async def test_a_loss_shows_in_a_table_whose_rows_came_beside_a_change_of_a_key(
    worker: Make, redis_server: RedisServer
) -> None:
    """Redis comes back as it was before the round: what was behind the change of the key was of another table."""
    moves = Source()
    moves.put(1, dict.fromkeys(COLUMNS, "a"))
    moves.move(1, 2, {"name": "moved"})
    one, notes = worker(history(1_000)), assignment_of("headgate.changes.notes")
    one.tables["notes"] = TableEntry(spec=MOVING.model_copy(update={"table": "notes", "features": MOVING.features[2:]}))
    await one.begin()
    await one.stage.starts([notes])
    await one.read(0, 900)
    backup = contents(one, redis_server)
    group = Group(
        [one.consumer.run(one.assignment, 900, one.log[900:]), one.consumer.run(notes, 0, encoded(moves.changes))],
        one.consumer,
    )
    await one.stage.step(group)
    assert not group.unanswered()

    await lose(one, redis_server, backup)
    await one.stage.starts([])
    await one.read_until_done(min(offset for assignment, offset in one.consumer.sought if assignment is one.assignment))

    assert expected(1_000) == await one.rows()


def contents(one: Worker, server: RedisServer) -> dict[bytes, bytes]:
    """Return what Redis holds of the worker's installation, as it dumps it."""
    with server.client() as client:
        return {key: client.dump(key) for key in client.scan_iter(match=f"{one.config.redis.key_prefix}:*")}


async def lose(one: Worker, server: RedisServer, backup: Mapping[bytes, bytes] = MappingProxyType({})) -> None:
    """Break the worker's connection to a Redis that then holds of it what `backup` has: nothing."""
    await one.stage._store._ledger.close()  # noqa: SLF001
    delete_all(one, server)
    with server.client() as client:
        for key, dumped in backup.items():
            client.restore(key, 0, dumped)


def delete_all(one: Worker, server: RedisServer) -> None:
    """Forget what Redis holds of the worker's installation."""
    with server.client() as client:
        for key in client.scan_iter(match=f"{one.config.redis.key_prefix}:*", count=1_000):
            client.delete(key)
