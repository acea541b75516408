"""The FEATURES stage on a real Redis: what is there when a group is done, and what happens when Redis forgets."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from schemas.errors import ConfigurationError, PoisonRecord, RecordTooLarge, SinkUnavailable
from schemas.table import TableEntry
from sinks.redis.read import get_entity
from tests.integration.features_worker import KEYS, SEEN, SPEC, Worker, expected, history
from tests.services import RedisServer, until
from tests.unit.fakes import assignment_of
from tests.unit.features.changes import change


@pytest.fixture
async def worker(redis_server: RedisServer) -> Any:
    """Make workers with a prefix of this test's own; `worker(log)` gives another one of the same installation."""
    prefix = f"features-{uuid.uuid4().hex[:12]}"
    made: list[Worker] = []

    def make(log: Sequence[bytes | None], **redis: Any) -> Worker:
        made.append(Worker(redis_server.address, prefix, list(log), **redis))
        return made[-1]

    yield make
    for each in made:
        await each.stage.stop()
    client = Redis.from_url(redis_server.address)
    keys = [key async for key in client.scan_iter(match=f"{prefix}:*", count=1_000)]
    await client.delete(*keys, b"features-nothing")
    await client.aclose()


Make = Callable[..., Worker]


async def test_a_done_group_is_in_redis(worker: Make) -> None:
    """Values, nulls, unavailable columns and deletes are exact when the stage says done."""
    one = worker(history(5_000))
    assert await one.begin() == 0

    await one.read(0)

    assert expected(5_000) == await one.rows()


async def test_tombstones_that_nothing_can_bring_again_are_given_back(
    worker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the log begins behind the delete, and it is a week old; a change that comes late before that is refused."""
    monkeypatch.setattr("streams.features.SWEEP_SECONDS", 0.02)
    begins, now, asked = 0, 1_000.0, 0

    async def logs(keys: Iterable[Any]) -> dict[Any, tuple[int, int]]:
        nonlocal asked
        asked += 1
        return dict.fromkeys(keys, (begins, 3))

    log = [change(1, 1, {"name": "a"}), change(1, 2, None), change(2, 3, {"name": "b"})]
    one = worker(log, logs=logs, clock=lambda: now)
    await one.begin()
    await one.read(0)

    begins, now, before = 1, now + 30 * 24 * 3_600, asked
    await until(lambda: asked >= before + 2, "a whole sweep after the log was cut")
    kept = one.stage.counters()["tombstones_swept"]
    begins = 2
    await until(lambda: one.stage.counters()["tombstones_swept"], "the delete's tombstone is swept")

    assert (kept, one.stage.counters()["tombstones_swept"]) == (0, 1)
    assert {1: None, 2: "b"} == {
        key: row and row.values["name"] for key, row in (await one.rows()).items() if key in {1, 2}
    }


async def test_a_successor_begins_where_the_rows_stand(worker: Make) -> None:
    """A worker that stopped in good order has moved the offsets of all buckets."""
    one = worker(history(1_000))
    await one.begin()
    await one.read(0)
    await one.stage.stop()
    two = worker(history(1_000))

    assert await two.begin() == 1_000


async def test_kafka_may_be_ahead_of_redis(worker: Make) -> None:
    """The start is the lower of Kafka's offset and the lowest field."""
    one = worker(history(1_000))
    await one.begin()
    await one.read(0, 400)
    await one.stage.stop()
    two = worker(history(1_000))
    two.assignment.committed = 900

    assert await two.begin() == 400


async def test_reading_again_changes_nothing(worker: Make) -> None:
    """A replay from the beginning, by another worker, is invisible."""
    one, two = worker(history(3_000)), worker(history(3_000))
    await one.begin()
    await one.read(0)
    await two.begin()

    await two.read(0)
    await two.read(100, 900)

    assert expected(3_000) == await two.rows()
    assert two.stage.counters()["rows_changed"] == 0


async def test_a_frozen_worker_does_no_harm(worker: Make) -> None:
    """Its late rows are refused by position, its late moves because the fields are not what it last saw."""
    frozen, successor = worker(history(3_000)), worker(history(3_000))
    await frozen.begin()
    await frozen.read(0, 1_000)
    await successor.begin()
    await successor.read(0)

    await frozen.read(1_000, 2_000)

    assert expected(3_000) == await successor.rows()
    assert frozen.stage.counters()["moves_refused"] > 0
    assert frozen.consumer.seeks == []


async def test_a_bad_value_is_named_and_the_others_go_on(worker: Make) -> None:
    """The error names the index; the ladder then sends the rest without it."""
    log = history(100)
    log[50] = b'{"op": "update", "key": {"id": "1"}'
    one = worker(log)
    await one.begin()

    with pytest.raises(PoisonRecord, match="record 50"):
        await one.read(0)
    await one.read(0, 50)
    await one.read(51)

    assert expected(100).keys() == (await one.rows()).keys()


async def test_a_row_above_the_limit_is_refused_before_it_is_sent(worker: Make) -> None:
    """The limit is in bytes of the row, and the error does not name its values."""
    one = worker([change(1, 1, {"name": "x" * 5_000, "note": "", "ward": 1, "seen": SEEN})], row_bytes_max=4_096)
    await one.begin()

    with pytest.raises(RecordTooLarge) as caught:
        await one.read(0)

    assert "xxx" not in str(caught.value)
    assert (await one.rows())[1] is None


async def test_scripts_that_were_flushed_are_loaded_again(worker: Make, redis_server: RedisServer) -> None:
    """NOSCRIPT is a reason to try again, and trying again helps."""
    one = worker(history(500))
    await one.begin()
    await one.read(0, 100)
    with redis_server.client() as client:
        client.script_flush()

    with pytest.raises(SinkUnavailable):
        await one.read(100)
    await one.read(100)

    assert expected(500) == await one.rows()


async def test_fields_that_vanish_send_the_stage_back(worker: Make, redis_server: RedisServer) -> None:
    """An absent field means loss, found at the next move even without a new connection."""
    one = worker(history(2_000))
    await one.begin()
    await one.read(0, 1_000)
    prefix = one.config.redis.key_prefix
    with redis_server.client() as client:
        for key in client.scan_iter(match=f"{prefix}:{{b3}}:*", count=1_000):
            client.delete(key)

    await one.read_until_done(1_000)

    assert expected(2_000) == await one.rows()
    assert one.stage.counters()["fields_fallen_back"] > 0


@pytest.mark.parametrize("saved", [True, False])
async def test_redis_that_forgot_its_last_second_is_filled_again(
    private_redis: Callable[[], RedisServer], saved: bool
) -> None:
    """After a restart the stage goes back to what Redis still holds, or to the beginning."""
    server = private_redis()
    one = Worker(server.address, "features", history(3_000))
    try:
        await one.begin()
        await one.read(0, 1_000)
        if saved:
            server.save()
        await one.read(1_000, 2_000)
        server.restart()

        with pytest.raises(SinkUnavailable):
            await one.read(2_000)
        await one.read_until_done(2_000)

        assert expected(3_000) == await one.rows()
    finally:
        await one.stage.stop()


async def test_a_new_view_reads_its_table_from_the_beginning(worker: Make) -> None:
    """The view that was there goes on; repeats do not touch it."""
    one = worker(history(1_000))
    await one.begin()
    await one.read(0)
    features = [*SPEC["features"], {"view": "wards", "entity": "patient", "columns": ["ward"]}]
    one.tables["patients"] = TableEntry.model_validate({"spec": SPEC | {"features": features}})

    await one.stage.tables_changed({"patients"})
    assert one.consumer.seeks == [(0, 0)]
    await one.read_until_done(0)

    assert expected(1_000) == await one.rows()
    client = Redis.from_url(one.config.redis.url.get_secret_value())
    view = one.tables["patients"].spec.features[1]
    wards = {key: await get_entity(client, one.config.redis, view, [str(key)]) for key in range(KEYS)}
    await client.aclose()
    assert {k: row and row.values.get("ward") for k, row in expected(1_000).items()} == {
        k: row and row.values.get("ward") for k, row in wards.items()
    }


async def test_a_topic_made_anew_pauses_its_table(worker: Make) -> None:
    """Offsets of another topic id mean nothing here."""
    one, two = worker(history(100)), worker(history(100))
    await one.begin()
    await one.read(0)
    two.assignment.topic_id = "topic-2"

    await two.begin()

    assert [("headgate.changes.patients", "topic_id")] == two.consumer.pauses


async def test_another_number_of_buckets_is_refused(worker: Make) -> None:
    """Entities would be looked for where they are not."""
    one, two = worker([]), worker([], buckets=16)
    await one.begin()

    with pytest.raises(ConfigurationError, match="8 buckets"):
        await two.stage.start()


async def test_a_deleted_entity_is_absent_to_any_client(worker: Make, redis_server: RedisServer) -> None:
    """Its tombstone lies in a hash of its own."""
    one = worker([change(7, 1, {"name": "a", "note": "b", "ward": 1, "seen": SEEN}), change(7, 2, None)])
    await one.begin()

    await one.read(0, 1)
    with redis_server.client() as client:
        (key,) = set(client.scan_iter(match=f"{one.config.redis.key_prefix}:*latest.1:7"))
        alive = client.hgetall(key)
        await one.read(1)
        gone = client.hgetall(key)
        (tombstones,) = set(client.scan_iter(match=f"{one.config.redis.key_prefix}:*x:latest.1"))  # may name it twice
        tombstone = client.hgetall(tombstones)

    assert {b"name": b"a", b"note": b"b", b"ward": b"1", b".t": SEEN.encode(), b".v": b"1"} == {
        name: value for name, value in alive.items() if name != b".p"
    }
    assert {} == gone
    assert {b"7": f"0001{2:041d}|topic-1|0|1|1000000".encode()} == tombstone


async def test_a_view_name_of_another_table_pauses_the_second_table_only(worker: Make) -> None:
    """Both would write to the same keys; nothing of the second counts as done."""
    one = worker(history(100))
    second = SPEC | {"table": "visits"}
    one.tables["visits"] = TableEntry.model_validate({"spec": second})
    other = assignment_of("headgate.changes.visits")
    await one.stage.start()

    await one.stage.starts([one.assignment, other])
    await one.read(0)

    assert [("headgate.changes.visits", "view_name_taken")] == one.consumer.pauses
    assert expected(100) == await one.rows()


async def test_rows_that_share_an_entity_go_through_the_stage(worker: Make) -> None:
    """An entity shows its row with the latest event time, and none once all have left."""
    one = worker([])
    view = {"view": "by_ward", "entity": "ward", "entity_key": ["ward"], "columns": ["name"], "event_time": "seen"}
    one.tables["patients"] = TableEntry.model_validate({"spec": SPEC | {"features": [view]}})
    late, early = "2026-11-20T12:00:00.000000Z", "2026-11-20T11:00:00.000000Z"
    one.log += [
        change(1, 1, {"name": "a", "ward": 1, "seen": late}),
        change(2, 2, {"name": "b", "ward": 1, "seen": early}),
        change(3, 3, {"name": "c", "ward": 2, "seen": early}),
        change(1, 4, {"name": "a", "ward": 2, "seen": late}),
        change(3, 5, None),
    ]
    await one.begin()
    client = Redis.from_url(one.config.redis.url.get_secret_value())

    async def name_in(ward: int) -> str | None:
        row = await get_entity(client, one.config.redis, one.tables["patients"].spec.features[0], [str(ward)])
        return row.values["name"] if row else None

    try:
        await one.read(0, 3)
        assert ["a", "c"] == [await name_in(1), await name_in(2)]
        await one.read(3)
        assert ["b", "a"] == [await name_in(1), await name_in(2)]
    finally:
        await client.aclose()
    assert one.stage.counters()["moves_refused"] == 0
