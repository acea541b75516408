"""ALERTS and NOTIFY as processes on a real Kafka: every alert reaches its receiver, whatever is down or killed."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from confluent_kafka import Consumer, Producer

from schemas.config import Config
from schemas.rule import alert_id
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.app import run_stage
from streams.registration import ensure_own_topics, open_admin, own_topic, own_topics, write_entry
from tests.services import Kafka, until
from tests.unit.notify.receiver import SECRET, receiving

CHANGES = 600
PARTITIONS = 2
STAGES = ("alerts", "notify-ops", "notify-dead")
RULE = {"rule": "big", "when": "after.amount > 100", "values": {"amount": "after.amount"}, "max_age_seconds": 10**9}
SPEC = {
    "table": "bills",
    "topics": ["src"],
    "key": ["id"],
    "columns": {"id": "long", "amount": "decimal(12,2)"},
    "rules": [RULE],
}


def change(number: int) -> dict[str, Any]:
    """Return a value of the contract; every third one fires."""
    amount = "500.00" if number % 3 == 0 else "5.00"
    return {
        "op": "update",
        "key": {"id": str(number % 50)},
        "old_key": None,
        "new_key": None,
        "before": None,
        "after": {"id": str(number % 50), "amount": amount},
        "position": f"{number:045d}",
        "ts": "2026-11-20T19:45:57.123456Z",
        "unavailable": [],
        "source": {
            "connector": "postgresql",
            "name": "c",
            "table": "public.bills",
            "tx": None,
            "snapshot": False,
            "origin": ["src", 0, number % PARTITIONS, number],
            "first_origin": None,
            "previous": None,
        },
    }


def expected_ids(numbers: range) -> set[str]:
    """Return the ids of the alerts that these changes raise."""
    return {
        alert_id("big", 1, "bills", {"id": str(number % 50)}, f"{number:045d}") for number in numbers if number % 3 == 0
    }


@pytest.fixture
def installation(kafka: Kafka, tmp_path: Path) -> Callable[[str], Config]:
    """Makes the configuration, topics and table of an installation of this test's own."""
    prefix = f"notify-{uuid.uuid4().hex[:8]}"

    def make(url: str) -> Config:
        to = {"secret": SECRET, "allow_private_addresses": True, "quick_attempts": 2, "timeout_seconds": 5}
        config = Config.model_validate(
            {
                "kafka": {"bootstrap": kafka.address, "topic_prefix": prefix, "group_prefix": prefix},
                "notify": {"ops": {"url": url, **to}, "dead": {"url": "http://127.0.0.1:9/", **to}},
                "web": {"state_folder": str(tmp_path)},
            }
        )
        ensure_own_topics(config, own_topics(config))
        changes = TopicNames(prefix).changes("bills")
        open_admin(config).ensure(changes, own_topic(config, changes, partitions=PARTITIONS))
        write_entry(config, TableEntry.model_validate({"spec": SPEC}))
        return config

    return make


def produce(config: Config, numbers: range) -> None:
    """Write changes to the output topic."""
    producer = Producer({"bootstrap.servers": config.kafka.bootstrap})
    topic = TopicNames(config.kafka.topic_prefix).changes("bills")
    for number in numbers:
        value = change(number)
        producer.produce(topic, json.dumps(value), json.dumps(value["key"]), number % PARTITIONS)
    assert producer.flush(30) == 0


def start(config: Config, stage: str) -> BaseProcess:
    """Start one worker of `stage`."""
    process = multiprocessing.get_context("spawn").Process(
        target=work, args=(stage, config.model_dump_json(exclude_none=True), config_secrets(config))
    )
    process.start()
    return process


def config_secrets(config: Config) -> dict[str, str]:
    """Return the secrets, which a dump masks."""
    return {name: each.secret.get_secret_value() for name, each in config.notify.items()}


def work(stage: str, text: str, secrets: dict[str, str]) -> None:
    """Run a worker to its end."""
    document = json.loads(text)
    del document["redis"], document["lake"]
    for name, secret in secrets.items():
        document["notify"][name]["secret"] = secret
    raise SystemExit(run_stage(stage, Config.model_validate(document), instance="test", slot=0))


@contextmanager
def running(config: Config) -> Iterator[dict[str, BaseProcess]]:
    """Run the stages; none is left at the end."""
    processes = {stage: start(config, stage) for stage in STAGES}
    try:
        yield processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.join(20)
            if process.is_alive():
                process.kill()
                process.join()


def read_alerts(config: Config) -> list[dict[str, Any]]:
    """Return what is committed on `headgate.alerts`, read by a consumer that is not ours."""
    consumer = Consumer(
        {
            "bootstrap.servers": config.kafka.bootstrap,
            "group.id": f"check-{uuid.uuid4().hex}",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.subscribe([TopicNames(config.kafka.topic_prefix).alerts])
    found: list[dict[str, Any]] = []
    ends: set[int | None] = set()
    while len(ends) < 4:
        message = consumer.poll(20)
        assert message is not None, "the topic's ends come within 20 s"
        if message.error():
            ends.add(message.partition())
        else:
            found.append(json.loads(message.value() or b""))
    consumer.close()
    return found


async def test_alerts_reach_their_receiver_through_an_outage_and_kills(installation: Callable[[str], Config]) -> None:
    """All, under their own ids, while another destination is dead; and each stands once on the alerts' topic."""
    async with receiving() as receiver:
        receiver.answer = lambda _: web.Response(status=503)
        config = installation(receiver.url)
        await asyncio.to_thread(produce, config, range(CHANGES // 2))
        with running(config) as processes:
            await until(lambda: len(receiver.ids) > 3, seconds=60)
            for stage in ("notify-ops", "alerts"):
                processes[stage].kill()
                await asyncio.to_thread(processes[stage].join)
            await asyncio.to_thread(produce, config, range(CHANGES // 2, CHANGES))
            for stage in ("notify-ops", "alerts"):
                processes[stage] = start(config, stage)
            receiver.answer = lambda _: web.Response(status=200)
            wanted = expected_ids(range(CHANGES))
            await until(lambda: wanted <= set(receiver.accepted_ids()), seconds=120)
        alerts = await asyncio.to_thread(read_alerts, config)

    assert {process.exitcode for process in processes.values()} == {0}
    assert wanted == set(receiver.ids) == set(receiver.accepted_ids())
    assert len(wanted) == len(alerts) == len({alert["id"] for alert in alerts})
