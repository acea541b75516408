"""ALERTS and NOTIFY as processes on a real Kafka: every alert reaches its receiver, whatever is down or killed."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from confluent_kafka import Producer

from connectors.transport.producer import plain_outbox
from schemas.config import Config
from schemas.rule import alert_id
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.app import run_stage
from streams.redrive import Wanted, dead_letters, redrive
from streams.registration import ensure_own_topics, open_admin, own_topic, own_topics, write_entry
from streams.settings import client_settings
from tests.oracles import read_records
from tests.services import Kafka, until
from tests.unit.notify.receiver import SECRET, alert, receiving

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
def installation(kafka: Kafka, tmp_path: Path) -> Callable[..., Config]:
    """Makes the configuration, topics and table of an installation of this test's own."""
    prefix = f"notify-{uuid.uuid4().hex[:8]}"

    def make(url: str, dead_url: str = "http://127.0.0.1:9/") -> Config:
        to = {"secret": SECRET, "allow_private_addresses": True, "quick_attempts": 2, "timeout_seconds": 5}
        to["start"] = "earliest"
        config = Config.model_validate(
            {
                "kafka": {
                    "bootstrap": kafka.address,
                    "topic_prefix": prefix,
                    "group_prefix": prefix,
                    "session_timeout_seconds": 6,
                },
                "notify": {"ops": {"url": url, **to}, "dead": {"url": dead_url, **to}},
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
def running(config: Config, stages: Sequence[str] = STAGES) -> Iterator[dict[str, BaseProcess]]:
    """Run the stages; none is left at the end."""
    processes = {stage: start(config, stage) for stage in stages}
    try:
        yield processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.join(60)
            if process.is_alive():
                process.kill()
                process.join()


def read_alerts(config: Config) -> list[dict[str, Any]]:
    """Return what is committed on `headgate.alerts`, read by a consumer that is not ours."""
    records = read_records(config.kafka.bootstrap, TopicNames(config.kafka.topic_prefix).alerts)
    return [json.loads(record.value or b"") for record in records]


async def test_alerts_reach_their_receiver_through_an_outage_and_kills(installation: Callable[..., Config]) -> None:
    """All, under their own ids, while another destination is dead; and each stands once on the alerts' topic."""
    async with receiving() as receiver:
        receiver.answer = lambda _: web.Response(status=503)
        config = installation(receiver.url)
        await asyncio.to_thread(produce, config, range(CHANGES // 2))
        with running(config) as processes:
            await until(lambda: len(receiver.ids) > 3, seconds=120)
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


@asynccontextmanager
async def holding() -> AsyncIterator[str]:
    """Run a server that takes every connection, and holds it without a word."""
    release = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        release.set()


def raise_alerts(config: Config, numbers: range) -> None:
    """Write alerts as ALERTS does."""
    topic = TopicNames(config.kafka.topic_prefix).alerts
    with plain_outbox(client_settings(config)) as outbox:
        for number in numbers:
            outbox.produce(topic, number % 4, b"%d" % number, msgspec.json.encode(alert(number)))


async def test_a_kill_between_delivery_and_offset_repeats_the_id_and_a_dead_letter_comes_when_sent_again(
    installation: Callable[..., Config],
) -> None:
    """While another destination holds every connection for ever."""
    killed: list[str] = []
    async with receiving() as receiver, holding() as held:
        config = installation(receiver.url, held)
        with running(config, ["notify-ops", "notify-dead"]) as processes:

            def answer(body: dict[str, Any]) -> web.Response:
                if not killed:  # it took the alert, and the worker that sent it never hears of that
                    killed.append(body["data"]["id"])
                    processes["notify-ops"].kill()
                return web.Response(status=400 if body["data"]["values"]["n"] == 7 else 204)

            receiver.answer = answer
            await asyncio.to_thread(raise_alerts, config, range(20))
            await until(lambda: killed, "the first alert", seconds=90)
            await asyncio.to_thread(processes["notify-ops"].join)
            processes["notify-ops"] = start(config, "notify-ops")
            wanted = {alert(number).id for number in range(20) if number != 7}
            await until(lambda: wanted <= set(receiver.accepted_ids()[1:]), "the other alerts", seconds=90)
            await until(lambda: letters(config), "the dead letter", seconds=60)

            receiver.answer = lambda _: web.Response(status=204)
            sent = [await asyncio.to_thread(redrive, config, Wanted()) for _ in range(2)]
            await until(lambda: alert(7).id in receiver.accepted_ids(), "the dead letter, sent again", seconds=60)

    assert {process.exitcode for process in processes.values()} == {0}
    assert 2 <= receiver.ids.count(killed[0]), "under the id that it had"
    assert [1, 0] == [each.sent.total() for each in sent]
    assert [("ops", "status_400", 400, alert(7).id)] == letters(config)


def letters(config: Config) -> list[tuple[str, str, int | None, str]]:
    """Return destination, reason, status and id of the dead letters."""
    found = [each.letter for each in dead_letters(config, Wanted())]
    return [(each.destination, each.reason, each.status, each.alert.id) for each in found]
