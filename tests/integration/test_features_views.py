"""Views emptied and removed in Redis beside a worker that runs: nothing else goes, and what is emptied comes back."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.config import Config
from schemas.errors import ConfigurationError, SinkUnavailable, SourceMoved, TableStopped, VersionRefused
from schemas.table import TableEntry
from sinks.redis.layout import Layout
from sinks.redis.views import Views
from streams.left_views import forget_view, left_views
from streams.rebuild_by_hand import Rebuild, empty_views
from streams.tables import TableDirectory
from tests.integration.features_worker import SPEC, Worker, expected, flow, history
from tests.services import RedisServer
from tests.unit.fakes import CHANGES
from tests.unit.features.changes import change

COUNT = 1_200
BY_WARD = {"view": "by_ward", "entity": "ward", "entity_key": ["ward"], "columns": ["name"], "event_time": "seen"}
ALL = ["by_ward.1", "latest.1"]


@pytest.fixture
def one(redis_server: RedisServer) -> Iterator[Worker]:
    """A worker of a table with a view of its rows and one whose entities rows share, which emits."""
    made = Worker(redis_server.address, f"features-{uuid.uuid4().hex[:12]}", history(COUNT))
    made.tables["patients"] = TableEntry.model_validate(
        {"spec": SPEC | {"features": [*SPEC["features"], BY_WARD | {"emit": True}]}}
    )
    yield made
    with redis_server.client() as client:
        for key in client.scan_iter(match=f"{made.config.redis.key_prefix}:*", count=1_000):
            client.delete(key)


def keys(one: Worker, server: RedisServer, *views: str) -> set[str]:
    """Return the keys that belong to these views alone, in any bucket."""
    with server.client() as client:
        found = {key.decode() for key in client.scan_iter(match=f"{one.config.redis.key_prefix}:*", count=1_000)}
    return {key for key in found if any(f":{view}:" in f"{key}:" for view in views)}


def hashes(one: Worker, server: RedisServer, view: str) -> dict[str, Any]:
    """Return what every client reads of a view."""
    with server.client() as client:
        return {key: client.hgetall(key) for key in sorted(keys(one, server, view)) if ":f:" in key}


def incarnations(one: Worker, server: RedisServer) -> set[bytes]:
    """Return under which incarnations the buckets number their updates."""
    with server.client() as client:
        held = [client.get(key) for key in client.scan_iter(match=f"{one.config.redis.key_prefix}:*:in", count=1_000)]
    return {text.partition(b"|")[0] for text in held if text is not None}


async def find_and_fill(one: Worker) -> None:
    """Have a worker to which nothing comes look, as it does every 30 seconds, and do what there is to do."""
    await one.stage._move()  # noqa: SLF001
    await flow(one)


async def test_an_emptied_view_comes_back_and_another_stays(one: Worker, redis_server: RedisServer) -> None:
    """It is pending meanwhile; entities that rows share come out the same, their updates under new incarnations."""
    await one.begin()
    await flow(one)
    before, was_numbered = hashes(one, redis_server, "by_ward.1"), incarnations(one, redis_server)
    others = keys(one, redis_server, "latest.1")
    async with Views(one.config.redis) as views:
        assert {view: {(CHANGES, "topic-1")} for view in ALL} == await views.topic_ids()
        gone = await views.empty(["by_ward.1"])

    assert gone > len(before) > 0
    assert {"m"} >= {key.split(":")[2] for key in keys(one, redis_server, "by_ward.1")}
    assert others == keys(one, redis_server, "latest.1")
    await one.stage._move()  # noqa: SLF001 - what is done every 30 seconds
    assert ["patients"] == list(one.stage.filling())
    await flow(one)
    assert before == hashes(one, redis_server, "by_ward.1")
    assert expected(COUNT) == await one.rows()
    assert set() == was_numbered & incarnations(one, redis_server)
    await one.stage.stop()


async def test_a_command_that_dies_half_way_loses_nothing(
    one: Worker, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows go with the offsets that say that they are there, also where a worker has filled them again meanwhile."""
    monkeypatch.setattr("sinks.redis.views.SCAN_KEYS", 20)
    await one.begin()
    await flow(one)
    ask, asked = Views._ask, [0]  # noqa: SLF001
    before = keys(one, redis_server, *ALL)

    async def dies(views: Views, commands: Any) -> Any:
        asked[0] += 1
        if asked[0] == 10:
            await find_and_fill(one)
        # Some more of it is gone again: which keys a scan finds first is chance.
        if asked[0] > 14 and keys(one, redis_server, *ALL) < before:
            raise SinkUnavailable("the machine is gone")
        return await ask(views, commands)

    monkeypatch.setattr(Views, "_ask", dies)
    with pytest.raises(SinkUnavailable):
        async with Views(one.config.redis) as views:
            await views.empty(ALL)
    assert set() < keys(one, redis_server, *ALL) < before
    await find_and_fill(one)

    assert before == keys(one, redis_server, *ALL)
    assert expected(COUNT) == await one.rows()
    await one.stage.stop()


async def test_a_row_that_moves_while_its_view_is_emptied_leaves_its_entity(
    one: Worker, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ledger is gone, and with it where it was; the entity that still shows it hears of it when it comes again."""
    log = [change(key, key + 1, {"name": f"name {key}", "ward": key % 4}) for key in range(40)]
    one.log = list(log)
    await one.begin()
    await flow(one)
    by_bucket = Views._by_bucket  # noqa: SLF001

    def rows_alone(views: Views, found: list[bytes]) -> dict[int, list[bytes]]:
        return by_bucket(views, [key for key in found if b"}:r:" in key])

    monkeypatch.setattr(Views, "_by_bucket", rows_alone)  # it dies before it comes to the entities
    async with Views(one.config.redis) as views:
        await views.empty(["by_ward.1"])
    one.log += [change(key, key + 101, {"name": f"name {key}", "ward": 9}) for key in range(40)]
    await flow(one)
    await find_and_fill(one)

    assert ["by_ward.1:9"] == [key.partition(":f:")[2] for key in hashes(one, redis_server, "by_ward.1")]
    await one.stage.stop()


async def test_a_removed_view_leaves_nothing(one: Worker, redis_server: RedisServer) -> None:
    """Neither rows nor what says how far it is; what is there under another prefix stays."""
    await one.begin()
    await flow(one)
    await one.stage.stop()
    other = Worker(redis_server.address, f"{one.config.redis.key_prefix}2", history(50))
    await other.begin()
    await flow(other)
    await other.stage.stop()
    async with Views(one.config.redis) as views:
        await views.remove(["by_ward.1"])
        assert {"latest.1"} == (await views.topic_ids()).keys()
    async with Views(other.config.redis) as views:
        assert {"latest.1"} == (await views.topic_ids()).keys()

    assert set() == keys(one, redis_server, "by_ward.1")
    assert expected(COUNT) == await one.rows()
    assert expected(50) == await other.rows()
    with redis_server.client() as client:
        for key in client.scan_iter(match=f"{other.config.redis.key_prefix}:*", count=1_000):
            client.delete(key)


@pytest.mark.parametrize("asked_first", [2, 4, 6])
async def test_a_removal_that_dies_half_way_is_known_and_done_again(
    one: Worker, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, asked_first: int
) -> None:
    """Whenever it dies, the view is still named: rows that nobody names would stay for ever."""
    monkeypatch.setattr("sinks.redis.views.SCAN_KEYS", 200)
    await one.begin()
    await flow(one)
    await one.stage.stop()
    ask, asked = Views._ask, [0]  # noqa: SLF001

    async def dies(views: Views, commands: Any) -> Any:
        asked[0] += 1
        if asked[0] > asked_first:
            raise SinkUnavailable("the machine is gone")
        return await ask(views, commands)

    with monkeypatch.context() as patch:
        patch.setattr(Views, "_ask", dies)
        with pytest.raises(SinkUnavailable):
            async with Views(one.config.redis) as views:
                await views.remove(["by_ward.1"])
    async with Views(one.config.redis) as views:
        assert "by_ward.1" in await views.topic_ids()
        await views.remove(["by_ward.1"])
        assert {"latest.1"} == (await views.topic_ids()).keys()

    assert set() == keys(one, redis_server, "by_ward.1")
    assert expected(COUNT) == await one.rows()


async def test_nothing_is_taken_away_while_rows_below_a_floor_are_swept(one: Worker, redis_server: RedisServer) -> None:
    """Each of them is told as deleted; those that were not there any more would never be."""
    await one.begin()
    await flow(one)
    before, floors = (
        keys(one, redis_server, *ALL),
        Layout(one.config.redis.key_prefix, one.config.redis.buckets).floors(1),
    )
    with redis_server.client() as client:
        client.hset(floors, "by_ward.1|SWEEPING", "{}")

    with pytest.raises(TableStopped, match="are on their way out of view by_ward") as refused:
        await empty_views(one.config, Rebuild("patients", CHANGES, "topic-1", tuple(ALL), False, COUNT))

    assert "sweeping" == refused.value.reason
    assert before == keys(one, redis_server, *ALL)
    await one.stage.stop()


async def test_rows_of_another_life_of_the_topic_are_not_taken_away(one: Worker, redis_server: RedisServer) -> None:
    """With the offsets the topic's id would be forgotten, and the new one read as if it were the same."""
    await one.begin()
    await flow(one)
    before = keys(one, redis_server, *ALL)

    with pytest.raises(SourceMoved, match="its id is another"):
        await empty_views(one.config, Rebuild("patients", CHANGES, "topic-2", ("latest.1",), False, COUNT))
    assert before == keys(one, redis_server, *ALL)
    await one.stage.stop()


async def test_where_nothing_is_nothing_is_made(one: Worker, redis_server: RedisServer) -> None:
    """Not even the layout's marker."""
    async with Views(one.config.redis) as views:
        assert 0 == await views.empty(["latest.1"])
        assert {} == await views.topic_ids()

    with redis_server.client() as client:
        assert [] == list(client.scan_iter(match=f"{one.config.redis.key_prefix}:*"))


async def test_a_layout_of_another_release_is_left_alone(one: Worker, redis_server: RedisServer) -> None:
    """Its keys may mean something else."""
    with redis_server.client() as client:
        client.set(f"{one.config.redis.key_prefix}:layout", '{"layout": 99, "buckets": 8}')

    with pytest.raises(VersionRefused):
        await Views(one.config.redis).__aenter__()


async def test_views_of_another_installation_are_not_called_left_over(one: Worker, redis_server: RedisServer) -> None:
    """Whose topics have another prefix; nor is any where it is not known what tables have."""
    await one.begin()
    await flow(one)
    await one.stage.stop()

    def config(prefix: str) -> Config:
        kafka = {"broker": "embedded", "guarantee": "at_least_once", "topic_prefix": prefix}
        return Config.model_validate({"kafka": kafka}).model_copy(update={"redis": one.config.redis})

    nobody, tables = TableDirectory(), TableDirectory(one.tables)
    assert [("by_ward", ("by_ward.1",)), ("latest", ("latest.1",))] == [
        (each.view, each.ids) for each in await left_views(config("headgate"), nobody)
    ]
    assert [] == await left_views(config("headgate"), tables) == await left_views(config("other"), nobody)
    nobody.update({b"visits": b'{"spec": 1}'})
    with pytest.raises(ConfigurationError):
        await forget_view(config("headgate"), nobody, "latest")
    assert expected(COUNT) == await one.rows()
