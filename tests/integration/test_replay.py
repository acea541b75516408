"""A table replayed while it runs: killed and gone on with, in part and whole; the ends stay, no alert comes again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from headgate.cli.codes import ExitCode
from schemas.change import HEADER_INTO, HEADER_REPLAY
from schemas.config import read_config
from schemas.position import postgresql_position
from streams.registration import load_tables
from streams.workers import read_workers
from tests.integration.stages import COLUMNS, ROOT, VIEW, Installation, event, filled, until, until_off_loop
from tests.oracles.topic import read_records
from tests.services import Kafka, RedisServer

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

ROWS = 200
SECONDS = 120
KILLED = "replay.after_write=kill@3"


@pytest.fixture
def installation(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> Iterator[Installation]:
    """A table of rows in four partitions, in transactions of a few records."""
    with filled(kafka, redis_server, tmp_path, rows=ROWS) as made:
        with made.file.open("a") as file:
            file.write("limits: {chunk_records_max: 20, group_records_max: 20}\n")
        made.config = read_config(made.file.read_text(), name="headgate.yaml")
        yield made


def replay(installation: Installation, *arguments: str, failpoints: str = "") -> subprocess.Popen[str]:
    """Begin `headgate tables replay patients` in a process of its own."""
    command = [sys.executable, "-m", "headgate", "tables", "replay", "patients", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HEADGATE_FAILPOINTS": failpoints}
    return subprocess.Popen(
        [*command, "--config", str(installation.file), "--json"], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


async def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """Wait for its end; return its exit code and what it printed."""
    out, err = await asyncio.to_thread(process.communicate, timeout=SECONDS)
    sys.stderr.write(err)
    return process.returncode, json.loads(out) if out else {}


def generations(installation: Installation) -> Counter[int]:
    """Return how many changes stand on the output topic, by the generation in which they were read."""
    records = read_records(installation.kafka, installation.output)
    return Counter(json.loads(record.value or b"")["source"]["origin"][1] for record in records)


async def passed(installation: Installation, alerts: int) -> None:
    """Insert a row in each partition, and wait until its alert stands behind all that was replayed."""
    installation.fill(4)
    await until_off_loop(lambda: len(installation.alerts()) >= alerts + 4, "the alerts of new rows")
    assert alerts + 4 == len(installation.alerts())


async def test_a_replay_that_was_killed_goes_on_and_changes_nothing(installation: Installation) -> None:
    """Of everything, then of a part for one stage alone, then one that is stopped in good order."""
    async with installation.running("normalize", "features", "alerts", "lake") as workers:
        await installation.emitted(ROWS)
        await until_off_loop(lambda: len(installation.alerts()) == ROWS, "an alert for each row")
        await until_off_loop(lambda: installation.lake()[0] == ROWS, "each row is in the lake")
        await until_off_loop(lambda: installation.features() == ROWS, "each row is in Redis")
        some = range(0, ROWS, 20)
        await until_off_loop(lambda: not any(installation.view(row).standing.pending for row in some), "and complete")
        before = [await asyncio.to_thread(installation.view, row) for row in some]

        assert ExitCode.USAGE == await installation.verb("tables", "replay", "patients")
        assert ExitCode.USAGE == await installation.verb("tables", "replay", "patients", "--from", "0", "--into", "x")
        assert ExitCode.CONFIGURATION == await installation.verb("tables", "replay", "patients", "--from", "x")
        assert ExitCode.FOUND == await installation.verb("tables", "replay", "patients", "--from", "99")
        assert ExitCode.OK == await installation.verb("tables", "replay", "patients", "--from", "9", "--dry-run")
        killed = replay(installation, "--from", "earliest", failpoints=KILLED)
        assert -signal.SIGKILL == (await ended(killed))[0]
        written = generations(installation)[1]
        assert 0 < written < ROWS
        assert ExitCode.FOUND == (await ended(replay(installation, "--from", "0=1")))[0], "another one is not through"
        code, said = await ended(replay(installation, "--from", "earliest"))

        assert (ExitCode.OK, True, ROWS - written, 0) == (code, said["through"], said["emitted"], said["left"])
        await installation.emitted(2 * ROWS)
        assert {0: ROWS, 1: ROWS} == generations(installation)
        await passed(installation, ROWS)
        await until_off_loop(lambda: installation.lake()[0] == 2 * ROWS + 4, "the lake has both generations")
        assert installation.lake()[1].ok
        await until_off_loop(lambda: installation.features() == ROWS + 4, "the new rows are in Redis")
        assert before == [await asyncio.to_thread(installation.view, row) for row in some]
        entry = load_tables(installation.config)["patients"]
        assert (None, 1, False) == (entry.replay, entry.generation, entry.replayed_apart)

        code, said = await ended(replay(installation, "--from", "45", "--into", "features"))
        assert (ExitCode.OK, 24, 2) == (code, said["emitted"], said["generation"])  # offsets 45 to 50 of four
        headers = [dict(each.headers) for each in read_records(installation.kafka, installation.output)]
        assert 24 == sum(each.get(HEADER_INTO) == b"features" for each in headers)
        assert ROWS + 24 == sum(each.get(HEADER_REPLAY) == b"true" for each in headers)
        await passed(installation, ROWS + 4)
        await until_off_loop(lambda: installation.lake()[0] == 2 * ROWS + 8, "the lake has only what is for it")

        slow = replay(installation, "--from", "earliest", "--rate", "10")
        await until(lambda: _lag_of_replay(installation) is not None, "the status tells of it")
        await until_off_loop(lambda: generations(installation)[3] > 0, "it has begun to emit")
        slow.send_signal(signal.SIGINT)
        code, said = await ended(slow)
        assert (ExitCode.INTERRUPTED, False) == (code, said["through"])
        assert 0 < said["left"] < ROWS + 8
        assert _lag_of_replay(installation) is None
        code, again = await ended(replay(installation))
        assert (ExitCode.OK, ROWS + 8) == (code, said["emitted"] + again["emitted"])
        assert {0: ROWS + 8, 1: ROWS, 2: 24, 3: ROWS + 8} == generations(installation)
        assert [] == [row["paused"] for row in workers["normalize"].host.status()["tables"] if row["paused"]]


async def test_a_replay_emits_nothing_by_a_spec_that_is_not_registered_any_more(installation: Installation) -> None:
    """Another spec is refused as long as it is not through; given up it ends, also where it runs: a mask holds."""
    apply = ("tables", "apply", str(installation.folder / "tables"), "--yes")
    async with installation.running("normalize"):
        await installation.emitted(ROWS)
        assert -signal.SIGKILL == (await ended(replay(installation, "--from", "earliest", failpoints=KILLED)))[0]
        installation.spec(columns={**COLUMNS, "name": {"type": "string", "mask": "null"}})
        assert ExitCode.FOUND == await installation.verb(*apply)
        before = generations(installation)[1]
        slow = replay(installation, "--rate", "5")
        await until_off_loop(lambda: generations(installation)[1] > before, "it goes on")
        assert ExitCode.OK == await installation.verb("tables", "replay", "patients", "--cancel")
        assert (ExitCode.FOUND, True) == await told(slow, "this replay is not registered any more")
        written = generations(installation)[1]
        assert 0 < written < ROWS
        assert ExitCode.OK == await installation.verb(*apply)
        code, said = await ended(replay(installation, "--from", "earliest"))

    assert (ExitCode.OK, ROWS, 2) == (code, said["emitted"], said["generation"])
    assert {0: ROWS, 1: written, 2: ROWS} == generations(installation)
    changes = [json.loads(record.value or b"") for record in read_records(installation.kafka, installation.output)]
    named = Counter(change["source"]["origin"][1] for change in changes if change["after"]["name"] is not None)
    assert {0: ROWS, 1: written} == named


async def test_a_replay_whose_offsets_are_gone_does_not_begin_again(installation: Installation) -> None:
    """Kafka drops them after some idle days. Begun anew it is a generation of its own."""
    async with installation.running("normalize"):
        await installation.emitted(ROWS)
        assert -signal.SIGKILL == (await ended(replay(installation, "--from", "earliest", failpoints=KILLED)))[0]
        before = generations(installation)
        installation.forget_offsets("replay-patients")

        assert (ExitCode.FOUND, True) == await told(replay(installation), "Kafka has dropped where it stood")
        assert before == generations(installation)
        assert 0 < before[1] < ROWS
        assert ExitCode.OK == await installation.verb("tables", "replay", "patients", "--cancel")
        code, said = await ended(replay(installation, "--from", "earliest"))

    assert (ExitCode.OK, ROWS, 2) == (code, said["emitted"], said["generation"])
    assert {**before, 2: ROWS} == generations(installation)


async def told(process: subprocess.Popen[str], text: str) -> tuple[int, bool]:
    """Wait for its end; return its exit code, and whether it said this."""
    _, err = await asyncio.to_thread(process.communicate, timeout=SECONDS)
    sys.stderr.write(err)
    return process.returncode, text in err


def _admit(installation: Installation, rows: range) -> None:
    """Insert rows that say in milliseconds when they came."""
    producer = Producer({"bootstrap.servers": installation.kafka})
    for row in rows:
        value = json.loads(event(row))
        value["after"]["came"] = 1_700_000_000_000
        producer.produce(installation.topic, json.dumps(value), b'{"id":%d}' % row, row % 4)
    assert producer.flush(30) == 0, "every record was delivered"


def _shown(installation: Installation, rows: range) -> set[tuple[str, str] | None]:
    """Return when rows came, each with its position, as a reader of Redis sees them."""
    shown = [installation.view(row).row for row in rows]
    return {None if row is None else (row.values["came"], row.position) for row in shown}


def _updates(installation: Installation) -> list[tuple[Any, ...]]:
    """Return of each feature update whose it is, what it was, what it is, and whether a replay caused it."""
    records = read_records(installation.kafka, f"{installation.prefix}.features.patient")
    found = [json.loads(record.value or b"") for record in records]
    sides = [[side and side["came"] for side in (update["before"], update["after"])] for update in found]
    return [(int(u["entity"]["id"]), *of_both, u["replay"]) for u, of_both in zip(found, sides, strict=True)]


async def test_a_replay_after_a_spec_was_bettered_mends_rows_that_do_not_change(
    kafka: Kafka, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Milliseconds were read as microseconds. A row makes one step to what is right, and none when that comes again."""
    wrong, right, rows, new = "1970-01-20T16:13:20.000000", "2023-11-14T22:13:20.000000", range(40), range(40, 44)

    def at(came: str, some: range) -> set[tuple[str, str]]:
        return {(came, postgresql_position(0, row, row + 1, streamed=True)) for row in some}

    here = Installation(kafka.address, redis_server.address, tmp_path)
    here.document |= {"features": [{**VIEW, "columns": ["name", "came"], "emit": True}], "rules": []}
    columns = {"id": "int", "name": "string", "came": {"type": "timestamp", "encoding": "time.MicroTimestamp"}}
    here.spec(columns=columns)
    here.make()
    try:
        async with here.running("normalize", "features"):
            _admit(here, rows)
            await until_off_loop(lambda: _shown(here, rows) == at(wrong, rows), "they are read wrongly")
            here.spec(columns=columns | {"came": {"type": "timestamp", "encoding": "time.Timestamp"}})
            assert 0 == await here.verb("tables", "apply", str(here.folder / "tables"), "--yes", "--force")

            for _ in range(2):
                assert ExitCode.OK == (await ended(replay(here, "--from", "earliest")))[0]
            await until_off_loop(lambda: _shown(here, rows) == at(right, rows), "they are mended, where they stand")
            _admit(here, new)
            await until_off_loop(lambda: _shown(here, new) == at(right, new), "all is read")
            await until_off_loop(lambda: len(_updates(here)) >= 2 * len(rows) + len(new), "all is told")

        expected = [(row, None, wrong, False) for row in rows] + [(row, wrong, right, True) for row in rows]
        expected += [(row, None, right, False) for row in new]
        assert sorted(expected, key=str) == sorted(_updates(here), key=str)
    finally:
        here.close()


def _lag_of_replay(installation: Installation) -> int | None:
    """Return how much is left by what the replay says of itself, None where there is none."""
    workers = [each for each in read_workers(installation.config) if each.stage == "replay"]
    return sum(row["lag"] for row in workers[0].status["tables"]) if workers else None
