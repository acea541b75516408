"""Latest topics on a real Redis: what compaction leaves is the table, past repeats, losses, floors and changed keys."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from schemas.table import TableEntry, TableSpec
from streams.latest_views import with_latest_view
from tests.integration.features_worker import KEYS, SEEN, SPEC, Worker, expected, history
from tests.integration.test_features_moved_keys import history as history_of_moves
from tests.integration.updates_worker import Assigned, Topic, drained, relay_of, relaying
from tests.oracles.latest import compacted
from tests.property.handovers import SPEC as MOVING
from tests.property.handovers import encoded
from tests.services import RedisServer, until
from tests.unit.features.changes import change, floor

TOPIC = "headgate.latest.patients"
Make = Callable[..., Worker]
Rows = dict[tuple[str, ...], dict[str, Any]]


@pytest.fixture
async def worker(redis_server: RedisServer) -> AsyncIterator[Make]:
    """Make workers with a prefix of this test's own."""
    prefix = f"latest-{uuid.uuid4().hex[:12]}"
    made: list[Worker] = []

    def make(log: Sequence[bytes | None], document: dict[str, Any] = SPEC, **output: Any) -> Worker:
        one = Worker(redis_server.address, prefix, list(log))
        spec = TableSpec.model_validate(document | {"features": [], "output": {"latest": True} | output})
        one.tables["patients"] = TableEntry(spec=with_latest_view(spec, 1))
        made.append(one)
        return one

    yield make
    for each in made:
        await each.stage.stop()
    with redis_server.client() as client:
        for key in client.scan_iter(match=f"{prefix}:*", count=1_000):
            client.delete(key)


def table(count: int) -> Rows:
    """Return what `history` leaves, as the contract has rows."""
    rows: Rows = {}
    for key, row in expected(count).items():
        if row is not None:
            known: dict[str, Any] = {"id": str(key), "name": row.values["name"], "seen": SEEN, "ward": None}
            known |= {"ward": int(row.values["ward"])} if "ward" in row.values else {}
            known |= {"note": row.values["note"]} if "note" in row.values else {}
            rows[(str(key),)] = known
    return rows


async def test_what_compaction_leaves_is_the_table(worker: Make, redis_server: RedisServer) -> None:
    """With what the source did not send filled from before; what comes again is written once."""
    one, topic = worker(history(3_000)), Topic()
    await one.begin()
    async with relaying(relay_of(one, topic)) as relay:
        await one.read(0)
        await drained(one, redis_server)
        await one.read(0, 1_000)
        await drained(one, redis_server)

    assert {TOPIC} == {record.topic for record in topic.records}
    assert table(3_000) == compacted(topic.records)
    assert KEYS > len(table(3_000)) > KEYS // 2
    assert len(topic.records) == one.stage.counters()["updates"] == relay.counters()["latest_rows"]
    assert 0 == relay.counters()["updates_relayed"]


async def test_a_relay_that_lost_its_bucket_in_between_leaves_the_entry_to_the_next_owner(
    worker: Make, redis_server: RedisServer
) -> None:
    """What it had read is behind what the next one has written: it may not come last."""
    one, topic, owner = worker(history(1_500)), Topic(), Assigned(range(8))
    await one.begin()
    await one.read(0, 700)
    frozen = relay_of(one, topic, owner)
    write = frozen._latest.write  # noqa: SLF001

    async def wakes_late(*arguments: Any) -> None:
        async with relaying(relay_of(one, topic)):
            await drained(one, redis_server)
            await one.read(700)
            await drained(one, redis_server)
        for assignment in owner.mine:
            assignment.lost = True
        await write(*arguments)

    frozen._latest.write = wakes_late  # type: ignore[method-assign, assignment]  # noqa: SLF001
    async with relaying(frozen):
        await until(lambda: frozen.trouble is not None)

    assert "has left" in str(frozen.trouble)
    assert table(1_500) == compacted(topic.records)


async def test_after_a_loss_rows_come_again_and_end_as_they_are(worker: Make, redis_server: RedisServer) -> None:
    """A bucket that was emptied is filled again, and so is the topic: rows of before, then those of now."""
    one, topic = worker(history(2_000)), Topic()
    await one.begin()
    async with relaying(relay_of(one, topic)):
        await one.read(0, 1_980)
        await drained(one, redis_server)
        before = len(topic.records)
        with redis_server.client() as client:
            for key in client.scan_iter(match=f"{one.config.redis.key_prefix}:{{b[25]}}:*", count=1_000):
                client.delete(key)
        await one.read_until_done(1_980)
        await drained(one, redis_server)

    assert table(2_000) == compacted(topic.records)
    assert len(topic.records) - before > 200, "the lost buckets were written again"


async def test_a_row_whose_key_changed_has_what_the_old_one_had(worker: Make, redis_server: RedisServer) -> None:
    """The old key has a tombstone, the new one the whole row, whichever was read first."""
    source = history_of_moves()
    one, topic = worker(encoded(source.changes), MOVING.model_dump(mode="json")), Topic()
    await one.begin()
    async with relaying(relay_of(one, topic)):
        await one.read(0)
        await drained(one, redis_server)

    assert {(str(key),): {"id": str(key), **row} for key, row in source.rows.items()} == compacted(topic.records)


async def test_rows_below_a_floor_have_a_tombstone_each(worker: Make, redis_server: RedisServer) -> None:
    """As fast as they are swept; a row that came again behind it stays."""
    rows = [change(key, key + 1, {"name": "before"}) for key in range(50)]
    log = [*rows, floor(100), *(change(key, 101 + key, {"name": "after"}) for key in range(5))]
    one, topic = worker(log), Topic()
    await one.begin()
    async with relaying(relay_of(one, topic)):
        await one.read(0)
        await one.stage._floors.once()  # noqa: SLF001 - what is done every second
        await drained(one, redis_server)

    assert {(str(key),): {"id": str(key), "name": "after"} for key in range(5)} == compacted(topic.records)
    assert {str(key) for key in range(5, 50)} == {
        record.key.partition(b'"id":"')[2].rstrip(b'"}').decode()
        for record in topic.records
        if record.key is not None and record.value is None
    }
