"""Topics deleted, made anew, cut short or forgotten by Kafka under real stages: never a silent jump, and a way on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from connectors.transport.settings import ClientSettings
from connectors.transport.tail import CompactedReader
from headgate.cli.codes import ExitCode
from streams.app import Worker
from streams.settings import consumer_settings
from tests.integration.stages import Installation, filled, none_waits, paused, until, until_off_loop
from tests.services import Kafka, RedisServer

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]


@pytest.fixture
def installation(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> Iterator[Installation]:
    """A table whose topic has four partitions and forty rows."""
    with filled(kafka, redis_server, tmp_path, rows=40) as made:
        yield made


def _says(worker: Worker, text: str) -> bool:
    """Tell whether this worker paused something and says why in these words."""
    return any(text in why for why in paused(worker))


def _tells_another_log(worker: Worker) -> bool:
    """Tell whether this worker has found that a topic is another one, by its id or by an offset that it lacks."""
    return _says(worker, "made anew") or _says(worker, "lies beyond the log's end")


async def test_a_topic_made_anew_while_nobody_looked_is_no_first_start(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kafka dropped its offsets; NORMALIZE stops, says why, and goes on in a new generation once somebody says so."""
    async with installation.running("normalize"):
        await installation.emitted(40)
    await asyncio.to_thread(installation.remake, installation.topic)
    installation.fill(20)

    async with installation.running("normalize") as workers:
        await until(partial(_says, workers["normalize"], "made anew"), "it stops")
        assert ExitCode.FOUND == await installation.verb("tables", "resume", "patients")
        said = capsys.readouterr().err
        assert "deleted and made anew" in said
        assert "`headgate tables resume patients --anew`" in said
        await until(partial(_says, workers["normalize"], "made anew"), "it stays so")
        assert 40 == len(await installation.emitted(40))
        assert ExitCode.OK == await installation.verb("tables", "resume", "patients", "--anew")
        assert f"{installation.topic} is read from its beginning as generation 1: 20 records" in capsys.readouterr().err
        await installation.emitted(60)
    installation.fill(10)
    async with installation.running("normalize") as workers:
        changes = await installation.emitted(70)
        await none_waits(workers["normalize"])

    assert [40, 30] == [sum(change.origin[1] == generation for change in changes) for generation in (0, 1)]


@pytest.mark.parametrize("records", [20, 80], ids=["shorter", "longer"])
async def test_a_topic_made_anew_under_a_running_worker_is_gone_on_with_in_a_new_generation(
    installation: Installation, records: int
) -> None:
    """Whether the old offset lies within the new log or beyond it; the lake keeps both lives apart, and whole."""
    async with installation.running("normalize", "lake") as workers:
        await installation.emitted(40)
        await asyncio.to_thread(installation.remake, installation.topic)
        installation.fill(records)
        await until(partial(_tells_another_log, workers["normalize"]), "it stops")
        assert ExitCode.OK == await installation.verb("tables", "resume", "patients", "--anew")
        changes = await installation.emitted(40 + records)
        await until_off_loop(lambda: installation.lake()[0] == 40 + records, "the lake has all")

    assert [40, records] == [sum(change.origin[1] == generation for change in changes) for generation in (0, 1)]
    assert installation.lake()[1].ok


async def test_offsets_that_kafka_dropped_are_no_first_start(installation: Installation) -> None:
    """Of NORMALIZE and ALERTS: they stop and wait. LAKE knows itself where it stands."""
    async with installation.running("normalize", "alerts", "lake"):
        await installation.emitted(40)
        await until_off_loop(lambda: installation.lake()[0] == 40, "the lake has all")
        await until_off_loop(lambda: len(installation.alerts()) == 40, "all fired")
    installation.forget_offsets("normalize", "alerts", "lake")
    installation.fill(8)

    async with installation.running("normalize", "alerts", "lake") as workers:
        for worker in (workers["normalize"], workers["alerts"]):
            await until(partial(_says, worker, "dropped where"), "it stops")
        assert ExitCode.OK == await installation.verb("tables", "resume", "patients", "--anew")
        changes = await installation.emitted(88)
        await until_off_loop(lambda: installation.lake()[0] == 88, "the lake has all")
        await until_off_loop(lambda: len(set(installation.alerts())) == 48, "what is new has fired")
        await none_waits(workers["alerts"], workers["lake"])

    assert [40, 48] == [sum(change.origin[1] == generation for change in changes) for generation in (0, 1)]
    assert installation.lake()[1].ok


def _stored(installation: Installation) -> dict[bytes, bytes]:
    """Return what the broker has stored of NORMALIZE's offsets in the source topic, with when it did."""
    group, client = f"{installation.prefix}-normalize".encode(), ClientSettings(bootstrap=installation.kafka)
    with closing(CompactedReader("__consumer_offsets", client)) as reader:
        records = reader.load()
    return {key: value for key, value in records.items() if group in key and installation.topic.encode() in key}


async def test_offsets_of_a_paused_table_are_committed_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka drops those of a topic that a running group does not read; the table goes on where it stood."""
    async with installation.running("normalize"):
        await installation.emitted(40)
        assert ExitCode.OK == await installation.verb("tables", "pause", "patients", "--reason", "maintenance")
    installation.fill(8)
    before = await asyncio.to_thread(_stored, installation)
    assert 4 == len(before)

    # Each second, the first time and after: a look may come too early, or fail.
    often = partial(replace, keep_offsets_seconds=1.0)
    monkeypatch.setattr("streams.app.consumer_settings", lambda *of: often(consumer_settings(*of)))
    async with installation.running("normalize"):

        def is_kept() -> bool:
            now = _stored(installation)
            return now.keys() == before.keys() and all(now[key] != before[key] for key in before)

        await until_off_loop(is_kept, "each is stored anew")
        assert ExitCode.OK == await installation.verb("tables", "resume", "patients")
        changes = await installation.emitted(48)

    assert {0} == {change.origin[1] for change in changes}, "in the same generation, and its chain is unbroken"


async def test_records_that_retention_took_before_they_were_read_are_said_and_left_out_on_request(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    """First under a worker that stood still, then while nobody looked; the chain of the others shows the gap."""
    async with installation.running("normalize", "lake") as workers:
        await installation.emitted(40)
        installation.truncate()
        installation.fill(40)
        await until(partial(_says, workers["normalize"], "truncate"), "it stops at a truncate")
        installation.forget_records({0: 14})
        assert ExitCode.FOUND == await installation.verb("tables", "resume", "patients")
        await until(partial(_says, workers["normalize"], "4 records are gone"), "it says so")
        assert ExitCode.OK == await installation.verb("tables", "resume", "patients", "--from", "earliest")
        assert f"{installation.topic}[0] goes on at 14: 4 records are gone" in capsys.readouterr().err
        await installation.emitted(77, breaks=1)
    installation.fill(40)
    installation.forget_records({1: 25})

    async with installation.running("normalize", "lake") as workers:
        await until(partial(_says, workers["normalize"], "5 records are gone"), "it stops")
        assert ExitCode.OK == await installation.verb("tables", "resume", "patients", "--from", "earliest")
        changes = await installation.emitted(112, breaks=2)
        await until_off_loop(lambda: installation.lake()[0] == 112, "the lake has all")

    assert {0} == {change.origin[1] for change in changes}
    assert (2, 0) == (installation.lake()[1].gaps, installation.lake()[1].overlaps)


async def test_an_output_topic_that_was_deleted_is_made_again_and_taken_up_on_request(
    installation: Installation, redis_server: RedisServer
) -> None:
    """By all that read it; the lake's chain shows what it lost, and nothing is there twice.

    NORMALIZE is started again, as by its supervisor: the new topic may refuse a producer that had written to the old
    one (out of order), which ends the worker.
    """
    stages = ("features", "alerts", "lake")
    async with installation.running(*stages) as workers:
        async with installation.running("normalize"):
            await installation.emitted(40)
            await until_off_loop(lambda: installation.lake()[0] == 40, "the lake has all")
            await until_off_loop(lambda: len(installation.alerts()) == 40, "all fired")
        await asyncio.to_thread(installation.remake, installation.output, 1)  # and smaller than its source
        async with installation.running("normalize") as again:
            for stage in stages:
                await until(partial(_tells_another_log, workers[stage]), f"{stage} stops")
            installation.fill(40)
            assert ExitCode.OK == await installation.verb("tables", "resume", "patients", "--anew")
            await until_off_loop(lambda: installation.lake()[0] == 80, "the lake has all")
            await until_off_loop(lambda: len(set(installation.alerts())) == 80, "all fired")
            await until_off_loop(lambda: installation.features() == 80, "Redis has all")
            await none_waits(*workers.values(), *again.values())

    assert (80, True) == (installation.lake()[0], installation.lake()[1].ok)


async def test_partitions_added_under_load_lose_and_double_nothing(installation: Installation) -> None:
    """From four to eight: the output grows first, and each stage reads the new ones from their first offset."""
    stages = ("normalize", "features", "alerts", "lake")
    async with installation.running(*stages) as workers:
        await installation.emitted(40)
        for number in range(40):
            if number == 10:
                await asyncio.to_thread(installation.admin.enlarge, installation.topic, 8)
            installation.fill(20, 4 if number < 10 else 8)
            await asyncio.sleep(0)
        changes = await installation.emitted(840)
        await until_off_loop(lambda: installation.lake()[0] == 840, "the lake has all")
        await until_off_loop(lambda: len(set(installation.alerts())) == 840, "all fired")
        await until_off_loop(lambda: installation.features() == 840, "Redis has all")
        await none_waits(*workers.values())

    assert set(range(8)) == {change.record.partition for change in changes}
    assert 840 == len(installation.alerts())
    assert installation.lake()[1].ok
