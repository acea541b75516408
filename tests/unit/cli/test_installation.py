"""All workers of an installation, seen from a machine where none of them runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.transport.embedded import EmbeddedBroker
from headgate.cli.status import render
from headgate.installation import Watched, look
from schemas.config import Config
from schemas.topics import TopicNames
from streams.telling import Teller

DEADLINE_SECONDS = 60

pytestmark = pytest.mark.usefixtures("nothing_told_is_lost")


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    """An installation on a broker of its own, which nobody of this machine works for."""
    broker = EmbeddedBroker()
    broker.create_topics([TopicNames().status])
    kafka = {"bootstrap": broker.bootstrap, "broker": "embedded", "guarantee": "at_least_once"}
    yield Config.model_validate({"kafka": kafka, "web": {"state_folder": str(tmp_path)}})
    del broker


def teller(config: Config, stage: str) -> Teller:
    """Return a worker elsewhere."""
    made = Teller(
        config, f"{stage}-far-0", lambda: {"stage": stage, "instance": "far", "slot": 0, "state": "running", "pid": 7}
    )
    made.ready = True
    return made


async def test_workers_of_other_machines_and_stages_without_one_are_shown(config: Config) -> None:
    """With how to start what is missing."""
    workers = [teller(config, stage) for stage in ("normalize", "lake")]
    for worker in workers:
        worker.tell()

    async def told() -> bool:
        return len((await look(config)).workers) == len(workers)

    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await told():
            pass
    seen = await look(config)
    for worker in workers:
        worker.end(None)

    assert [("lake", "running"), ("normalize", "running")] == [(each.stage, each.state) for each in seen.workers]
    assert (["features", "alerts"], None, False) == (seen.missing, seen.unheard, seen.is_well)
    assert "features: no worker works for this stage\n  hint: `headgate run --stage features` starts one" in [
        str(part) for part in render(seen)
    ]


async def test_a_watch_sees_workers_come_and_go(config: Config) -> None:
    """Kafka is read once, and then followed."""
    worker, watched = teller(config, "lake"), Watched(config)

    async def names() -> list[str]:
        return [each.name for each in (await watched.look()).workers]

    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            worker.tell()
            while await names() != ["lake-far-0"]:
                pass
            heard = (await watched.look()).unheard
            worker.end(None)
            while await names():
                pass
    finally:
        watched.close()

    assert heard is None


async def test_kafka_away_is_said_and_nothing_is_called_missing(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what runs elsewhere."""
    monkeypatch.setattr("headgate.installation.KAFKA_SECONDS_MAX", 0.1)
    nowhere = config.model_copy(update={"kafka": config.kafka.model_copy(update={"bootstrap": "127.0.0.1:9"})})

    seen = await look(nowhere)

    assert ([], [], False) == (seen.workers, seen.missing, seen.is_well)
    assert seen.unheard is not None
    assert "Kafka did not answer" in seen.unheard.message
