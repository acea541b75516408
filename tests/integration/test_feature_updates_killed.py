"""Feature updates with real Kafka and Redis, when the worker dies between writing them and removing them from Redis."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import uuid
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from connectors.transport.topics import TopicSettings
from schemas.config import Config
from schemas.table import TableEntry
from schemas.topics import TopicNames
from sinks.redis.outbox import Outboxes
from sinks.redis.updates import Entry
from streams.app import run_stage
from streams.registration import ensure_own_topics, open_admin, own_topic, own_topics, write_entry
from tests.integration.features_worker import history
from tests.integration.updates_worker import EMITTING
from tests.oracles import Shape, ViewShape, check_updates, read_records, read_stored, require
from tests.services import Kafka, RedisServer, wait_until

BUCKETS, PARTITIONS, UPDATES_PARTITIONS, CHANGES = 8, 4, 3, 4_000


def work(document: dict[str, Any], dies: bool) -> None:
    """Run a FEATURES worker; one that dies does so in its relay, with updates in Kafka that are still in Redis."""
    if dies:

        async def die(self: Outboxes, entries: Sequence[Entry]) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        Outboxes.remove = die  # type: ignore[method-assign]
    raise SystemExit(run_stage("features", Config.model_validate(document), instance="test", slot=0))


def start(document: dict[str, Any], *, dies: bool) -> BaseProcess:
    """Start a worker."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=(document, dies), daemon=True)
    process.start()
    return process


@pytest.fixture
def document(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> dict[str, Any]:
    """The configuration of an installation of this test's own, whose topics and table are there."""
    prefix = f"updates-{uuid.uuid4().hex[:8]}"
    made = {
        "kafka": {
            "bootstrap": kafka.address,
            "topic_prefix": prefix,
            "group_prefix": prefix,
            "session_timeout_seconds": 6,
        },
        "redis": {"url": redis_server.address, "key_prefix": prefix, "buckets": BUCKETS},
        "web": {"state_folder": str(tmp_path)},
    }
    config = Config.model_validate(made)
    ensure_own_topics(config, own_topics(config))
    changes = TopicNames(prefix).changes("patients")
    open_admin(config).ensure(changes, own_topic(config, changes, partitions=PARTITIONS))
    # Somebody made the topic of updates beforehand: it is taken as it is.
    open_admin(config).create(TopicNames(prefix).features("latest"), TopicSettings(partitions=UPDATES_PARTITIONS))
    write_entry(config, TableEntry.model_validate({"spec": EMITTING}))
    return made


def produce(document: dict[str, Any], log: Sequence[bytes | None]) -> None:
    """Write changes to the output topic, each key in one partition."""
    producer = Producer({"bootstrap.servers": document["kafka"]["bootstrap"]})
    topic = TopicNames(document["kafka"]["topic_prefix"]).changes("patients")
    for number, value in enumerate(log):
        producer.produce(topic, value, None, (number * 7919) % 200 % PARTITIONS)
    assert producer.flush(30) == 0


def last_positions(log: Sequence[bytes | None]) -> set[bytes]:
    """Return where the last change of each row that lives stands: partitions are not read at one pace."""
    last: dict[str, bytes | None] = {}
    for change in (json.loads(value) for value in log if value is not None):
        last[json.dumps(change["key"])] = None if change["op"] == "delete" else change["position"].encode()
    return {position for position in last.values() if position is not None}


def test_what_was_written_before_a_kill_is_written_again_and_dropped_by_its_number(
    document: dict[str, Any], redis_server: RedisServer
) -> None:
    """SIGKILL between Kafka and Redis; the successor is another process. What readers keep is exact."""
    prefix, bootstrap = document["redis"]["key_prefix"], document["kafka"]["bootstrap"]
    log = history(CHANGES)
    view = ViewShape.all_of(Shape.of(EMITTING))[0]
    expected = last_positions(log)

    def relayed() -> bool:
        with redis_server.client() as client:
            stored = read_stored(client, prefix)
            waiting = sum(client.xlen(f"{prefix}:{{b{bucket}}}:out") for bucket in range(BUCKETS))
        # The last change of each row is seen in Redis, and nothing waits any more.
        return waiting == 0 and {row[".p"] for _, row in stored.rows.get(view.id, {}).values()} == expected

    produce(document, log[: CHANGES // 2])
    killed = start(document, dies=True)
    produce(document, log[CHANGES // 2 :])
    killed.join(120)
    assert killed.exitcode == -signal.SIGKILL
    successor = start(document, dies=False)
    try:
        wait_until(relayed, "every change is in Redis, every update in Kafka", deadline_seconds=120)
    finally:
        successor.terminate()
        successor.join(30)
    records = read_records(bootstrap, TopicNames(prefix).features("latest"))
    with redis_server.client() as client:
        stored = read_stored(client, prefix)

    verdicts = check_updates([view], {"latest": records}, stored, buckets=BUCKETS, at_least=CHANGES // 2)
    require(*verdicts)
    assert verdicts[-1].figures["repeats"] > 0
    assert successor.exitcode == 0
    assert stored.unknown == []
    assert {record.partition for record in records} == set(range(UPDATES_PARTITIONS))
