"""Feature updates on a real Redis: through the outbox, past a full one, a loss, and a relay that died or was frozen."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from schemas.errors import OutboxFull, SourceUnavailable, TransportFatal
from schemas.table import TableEntry
from schemas.topics import TopicNames
from tests.integration.features_worker import KEYS, SPEC, Worker, expected, history
from tests.integration.updates_worker import (
    EMITTING,
    Assigned,
    Topic,
    drained,
    emitting_worker,
    judge,
    relay_of,
    relaying,
    waiting,
)
from tests.oracles import require
from tests.services import RedisServer, until
from tests.unit.features.changes import change

Make = Callable[..., Worker]


@pytest.fixture
async def worker(redis_server: RedisServer) -> AsyncIterator[Make]:
    """Make workers with a prefix of this test's own."""
    prefix = f"updates-{uuid.uuid4().hex[:12]}"
    made: list[Worker] = []

    def make(log: Sequence[bytes | None], **redis: Any) -> Worker:
        made.append(emitting_worker(redis_server, prefix, list(log), **redis))
        return made[-1]

    yield make
    for each in made:
        await each.stage.stop()
    with redis_server.client() as client:
        for key in client.scan_iter(match=f"{prefix}:*", count=1_000):
            client.delete(key)


async def test_every_change_of_what_is_shown_is_written_once(worker: Make, redis_server: RedisServer) -> None:
    """Numbers without a gap, each going on from the last, together what Redis holds; then nothing waits."""
    one, topic = worker(history(3_000)), Topic()
    await one.begin()
    async with relaying(relay_of(one, topic)) as relay:
        await one.read(0)
        await drained(one, redis_server)
        await one.read(0, 1_000)  # again: nothing is shown that was not

    require(*judge(one, redis_server, topic))
    assert expected(3_000) == await one.rows()
    assert len(topic.records) == one.stage.counters()["updates"] == relay.counters()["updates_relayed"]
    assert waiting(one, redis_server) == 0


async def test_a_view_that_does_not_emit_leaves_no_outbox(worker: Make, redis_server: RedisServer) -> None:
    """And no relay runs, nor is its topic read."""
    one, topic = worker(history(500)), Topic()
    one.tables["patients"] = TableEntry.model_validate({"spec": SPEC})
    await one.begin()
    async with relaying(relay_of(one, topic)) as relay:
        await one.read(0)

    assert [] == relay.topics()
    assert {} == relay.counters()
    with redis_server.client() as client:
        keys = {bytes(key).rpartition(b":")[2] for key in client.scan_iter(match=f"{one.config.redis.key_prefix}:*")}
    assert set() == keys & {b"in", b"out"}


async def test_a_full_outbox_refuses_before_anything_is_written(worker: Make, redis_server: RedisServer) -> None:
    """The stage waits, says why, and goes on once the relay has made room."""
    one, topic = worker(history(4_000), outbox_bytes_max=400_000), Topic()
    await one.begin()

    async def read_on() -> None:
        for first in range(0, 4_000, 500):
            await one.read(first, first + 500)

    with pytest.raises(OutboxFull, match="wait in bucket") as caught:
        await read_on()

    assert "outbox_bytes_max" in caught.value.hint
    assert one.stage.counters()["outbox_full"] > 0
    assert one.consumer.done_runs[-1].next < 4_000
    async with relaying(relay_of(one, topic)):
        await drained(one, redis_server)
        await one.read_until_done(one.consumer.done_runs[-1].next)
        await drained(one, redis_server)
    require(*judge(one, redis_server, topic))
    assert expected(4_000) == await one.rows()


async def test_what_was_sent_behind_a_refused_call_is_refused_with_it(worker: Make, redis_server: RedisServer) -> None:
    """A smaller call would fit, and its newer changes would hide those of the refused one: each is its own step."""
    one, topic = worker(history(2_200), outbox_bytes_max=8 * 30_000), Topic()
    await one.begin()
    await one.read(0, 100)

    with pytest.raises(OutboxFull):
        await one.read(100)  # a round of 2,000 rows, and behind it one of 100

    assert waiting(one, redis_server) > 0
    async with relaying(relay_of(one, topic)):
        await one.read_until_done(100)
        await drained(one, redis_server)
    verdicts = judge(one, redis_server, topic)
    require(*verdicts)
    told = [json.loads(record.value or b"")["position"] for record in topic.records]
    assert [f"0001{number:041d}" for number in range(1, 2_201)] == sorted(told)
    numbers = next(verdict for verdict in verdicts if "incarnations" in verdict.figures)
    assert numbers.figures["incarnations"] == numbers.figures["buckets"], "nothing was lost"


async def test_a_call_above_the_limit_passes_through_an_empty_outbox(worker: Make, redis_server: RedisServer) -> None:
    """Else it could never pass."""
    one = worker(history(1_000), outbox_bytes_max=1_024)
    await one.begin()

    await one.read(0)

    assert waiting(one, redis_server) > 0


async def test_a_relay_that_died_before_it_removed_writes_again_with_the_same_numbers(
    worker: Make, redis_server: RedisServer
) -> None:
    """What the next one writes again, readers drop."""
    one, topic = worker(history(1_500)), Topic()
    await one.begin()
    await one.read(0, 1_000)
    dead = relay_of(one, topic)

    async def dies(entries: Any) -> None:
        raise TransportFatal("killed here")

    dead._outboxes.remove = dies  # type: ignore[method-assign]  # noqa: SLF001
    async with relaying(dead):
        await until(lambda: isinstance(dead._consumer, Assigned) and dead._consumer.failure is not None)  # noqa: SLF001
    repeated = len(topic.records)
    async with relaying(relay_of(one, topic)):
        await one.read(1_000)
        await drained(one, redis_server)

    verdicts = judge(one, redis_server, topic)
    require(*verdicts)
    assert 0 < repeated == verdicts[-1].figures["repeats"]


async def test_a_frozen_relay_removes_only_what_it_wrote(worker: Make, redis_server: RedisServer) -> None:
    """It wakes up when another has gone on: what came meanwhile stays for that one."""
    one, topic, gate = worker(history(1_500)), Topic(), asyncio.Event()
    await one.begin()
    await one.read(0, 700)
    frozen = relay_of(one, topic)
    remove = frozen._outboxes.remove  # noqa: SLF001

    async def waits(entries: Any) -> None:
        await gate.wait()
        await remove(entries)

    frozen._outboxes.remove = waits  # type: ignore[method-assign]  # noqa: SLF001
    async with relaying(frozen):
        await until(lambda: len(topic.records) > 0)
        async with relaying(relay_of(one, topic)):
            await drained(one, redis_server)
        frozen._consumer.mine = []  # type: ignore[attr-defined]  # noqa: SLF001
        await one.read(700)
        left = waiting(one, redis_server)
        gate.set()
        await frozen.stop()
        assert left == waiting(one, redis_server) > 0
    async with relaying(relay_of(one, topic)):
        await drained(one, redis_server)

    require(*judge(one, redis_server, topic))


async def test_each_bucket_is_relayed_by_the_owner_of_its_partition(worker: Make, redis_server: RedisServer) -> None:
    """Two workers share the buckets out; a partition that left is the other's."""
    one, topics, owners = worker(history(2_000)), (Topic(), Topic()), (Assigned(range(5)), Assigned(range(5, 8)))
    await one.begin()
    relays = [relay_of(one, topic, owner) for topic, owner in zip(topics, owners, strict=True)]
    async with relaying(relays[0]), relaying(relays[1]):
        await one.read(0, 1_000)
        await drained(one, redis_server)
        owners[0].mine[4].lost = True
        owners[1].mine.append(Assigned([4]).mine[0])
        await one.read(1_000)
        await drained(one, redis_server)

    both = Topic()
    both.records = [*topics[0].records, *topics[1].records]
    require(*judge(one, redis_server, both))
    assert topics[0].records
    assert topics[1].records


async def test_after_a_loss_a_bucket_counts_anew(worker: Make, redis_server: RedisServer) -> None:
    """Numbers that readers have seen would come again with other content: the incarnation is another."""
    one, topic = worker(history(2_000)), Topic()
    await one.begin()
    async with relaying(relay_of(one, topic)):
        await one.read(0, 500)
        with redis_server.client() as client:
            kept = client.dump(f"{one.config.redis.key_prefix}:{{b3}}:in")
        await one.read(500, 1_000)
        await drained(one, redis_server)
        with redis_server.client() as client:
            for key in client.scan_iter(match=f"{one.config.redis.key_prefix}:{{b3}}:*", count=1_000):
                client.delete(key)
            client.restore(f"{one.config.redis.key_prefix}:{{b3}}:in", 0, kept)  # as an older backup has it
        await one.read_until_done(1_000)
        await drained(one, redis_server)

    verdicts = judge(one, redis_server, topic)
    require(*verdicts)
    numbers = next(verdict for verdict in verdicts if "incarnations" in verdict.figures)
    assert numbers.figures["incarnations"] > numbers.figures["buckets"]
    assert expected(2_000) == await one.rows()


async def test_a_bucket_that_quietly_fell_back_counts_anew(worker: Make, redis_server: RedisServer) -> None:
    """On the same connection, to an older state: what it lacks is read again, under another incarnation."""
    one, topic = worker(history(2_000)), Topic()
    pattern = f"{one.config.redis.key_prefix}:{{b3}}:*"
    await one.begin()
    async with relaying(relay_of(one, topic)):
        await one.read(0, 500)
        await drained(one, redis_server)
        with redis_server.client() as client:
            older = {key: client.dump(key) for key in client.scan_iter(match=pattern, count=1_000)}
        await one.read(500, 1_000)
        await drained(one, redis_server)
        with redis_server.client() as client:
            for key in client.scan_iter(match=pattern, count=1_000):
                client.delete(key)
            for key, dumped in older.items():
                client.restore(key, 0, dumped)
        await one.read_until_done(1_000)
        await drained(one, redis_server)

    verdicts = judge(one, redis_server, topic)
    require(*verdicts)
    numbers = next(verdict for verdict in verdicts if "incarnations" in verdict.figures)
    assert numbers.figures["incarnations"] == numbers.figures["buckets"] + 1
    assert expected(2_000) == await one.rows()


async def test_a_server_that_came_back_counts_anew(private_redis: Callable[[], RedisServer]) -> None:
    """Restored from a dump that is older than what readers have seen, whoever writes first."""
    server, topic = private_redis(), Topic()
    one = emitting_worker(server, "updates", list(history(2_000)))
    await one.begin()
    await one.read(0, 600)
    server.save()
    async with relaying(relay_of(one, topic)):
        await one.read(600, 1_000)
        await drained(one, server)
    server.restart()
    async with relaying(relay_of(one, topic)):
        await one.read_until_done(1_000)
        await drained(one, server)
    verdicts = judge(one, server, topic)
    await one.stage.stop()

    require(*verdicts)
    numbers = next(verdict for verdict in verdicts if "incarnations" in verdict.figures)
    assert numbers.figures["incarnations"] > numbers.figures["buckets"]
    assert expected(2_000) == await one.rows()


async def test_an_entry_of_somebody_else_stands_in_nobodys_way(worker: Make, redis_server: RedisServer) -> None:
    """It is counted and taken out."""
    one, topic = worker(history(500)), Topic()
    await one.begin()
    with redis_server.client() as client:
        for fields in ({"u": "nonsense"}, {"a": "b", "c": "d"}):
            client.xadd(f"{one.config.redis.key_prefix}:{{b1}}:out", fields)
    async with relaying(relay_of(one, topic)) as relay:
        await one.read(0)
        await drained(one, redis_server)

    assert relay.counters()["outbox_foreign"] == 2
    require(*judge(one, redis_server, topic))


async def test_an_update_larger_than_a_record_may_be_is_left_out_alone(worker: Make, redis_server: RedisServer) -> None:
    """A row grows over changes that are not too large. It is counted, its number is missing, all others are told."""
    log = [change(key, key + 1, {"name": "x" * (3_000 if key % 10 == 7 else 3), "ward": 1}) for key in range(KEYS)]
    one, topic = worker(log), Topic()
    topic.bytes_max = 2_000
    await one.begin()
    async with relaying(relay_of(one, topic)) as relay:
        await one.read(0)
        await drained(one, redis_server)

    said = [json.loads(record.value or b"")["entity"]["id"] for record in topic.records]
    assert sorted(str(key) for key in range(KEYS) if key % 10 != 7) == sorted(said)
    assert (KEYS // 10, len(said)) == (relay.counters()["updates_left_out"], relay.counters()["updates_relayed"])
    assert relay.trouble is None


async def test_a_relay_waits_for_kafka_and_says_so(worker: Make, redis_server: RedisServer) -> None:
    """Nothing is removed before it is written."""
    one, topic = worker(history(500)), Topic()
    topic.fails = SourceUnavailable("Kafka is away", hint="is it up?")
    await one.begin()
    await one.read(0)
    before = waiting(one, redis_server)
    relay = relay_of(one, topic)
    async with relaying(relay):
        await until(lambda: relay.trouble is not None)
        assert before == waiting(one, redis_server)
        await drained(one, redis_server)
        await until(lambda: relay.trouble is None)

    require(*judge(one, redis_server, topic))


async def test_a_topic_that_takes_no_records_is_made_again(worker: Make, redis_server: RedisServer) -> None:
    """It was deleted while the relay had nothing to write to it; the others are not looked for."""
    one, topic, asked = worker(history(500)), Topic(), list[str]()
    gone = TopicNames().features("latest")
    topic.fails = SourceUnavailable(f"nothing can be written to {gone}", topic=gone)
    await one.begin()
    await one.read(0)
    async with relaying(relay_of(one, topic, asked=asked)):
        await drained(one, redis_server)

    require(*judge(one, redis_server, topic))
    assert {TopicNames().relay: 1, gone: 2} == Counter(asked)


async def test_a_view_that_begins_to_emit_is_relayed_without_a_restart(worker: Make, redis_server: RedisServer) -> None:
    """From then on: what entities showed before is the `before` of their first update. Kafka may be away meanwhile."""
    one, topic, consumer = worker(history(1_500)), Topic(), Assigned(range(8))
    away: list[BaseException] = [SourceUnavailable("Kafka is away", hint="is it up?")]
    one.tables["patients"] = TableEntry.model_validate({"spec": SPEC})
    await one.begin()
    async with relaying(relay_of(one, topic, consumer, fails=away)) as relay:
        await one.read(0, 300)
        one.tables["patients"] = TableEntry.model_validate({"spec": EMITTING})
        await relay.tables_changed()
        await one.stage.tables_changed({"patients"})
        await one.read(300)
        await drained(one, redis_server)

    require(*judge(one, redis_server, topic))
    assert ["headgate.relay"] == consumer.added
    assert [] == away
