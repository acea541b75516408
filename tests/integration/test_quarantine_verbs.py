"""`headgate quarantine` on what real stages put there: exported, tried, dropped, sent again in vain."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from streams.quarantine import Quarantine, Wanted
from tests.integration.stages import Installation, event, filled, until_off_loop
from tests.services import Kafka, RedisServer

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

LARGE = b"{" + b"x" * 900_000  # above what fits into an entry beside what it says
AGED_SECONDS = 8 * 24 * 3_600
Ask = Callable[..., Any]


@pytest.fixture
def installation(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> Iterator[Installation]:
    """A table with four rows in one partition."""
    with filled(kafka, redis_server, tmp_path, rows=0) as made:
        made.fill(4, partitions=1)
        yield made


@pytest.fixture
def ask(installation: Installation, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a verb on the quarantine; return its exit code and what it prints, JSON or lines of it."""

    def run(*arguments: str, lines: bool = False) -> tuple[int, Any]:
        capsys.readouterr()
        code = entry.run(["quarantine", *arguments, "--config", str(installation.file)])
        shown = capsys.readouterr().out
        return code, [json.loads(line) for line in shown.splitlines()] if lines else json.loads(shown or "null")

    return run


def send(installation: Installation, *values: bytes) -> None:
    """Write records to the source's topic that nobody can read."""
    producer = Producer({"bootstrap.servers": installation.kafka, "message.max.bytes": 2_000_000})
    for value in values:
        producer.produce(installation.topic, value, b'{"id":1}', 0, headers=[("own", b"\xff")])
    assert producer.flush(30) == 0, "every record was delivered"


async def put(installation: Installation, ask: Ask, total: int) -> dict[str, Any]:
    """Have NORMALIZE read on until there are so many entries; return what is listed."""

    def is_there() -> bool:
        return len(list(Quarantine(installation.config).held(Wanted()))) >= total

    async with installation.running("normalize"):
        await until_off_loop(is_there, f"{total} entries")
    found: dict[str, Any] = ask("list", "--json")[1]
    assert total == found["total"]
    return found


async def test_what_is_exported_is_what_the_source_sent(
    installation: Installation, ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also what the quarantine had no room for, which the source topic has; a spec can be tried on it."""
    send(installation, b"{", LARGE)
    await put(installation, ask, 2)

    code, lines = ask("export", "--table", "patients", lines=True)

    assert ExitCode.OK == code
    assert [4, 5] == [line["offset"] for line in lines]
    assert [b"{", LARGE] == [base64.b64decode(line["value"]) for line in lines]
    assert [["own", {"base64": "/w=="}]] == lines[0]["headers"]
    place = [installation.topic, "0", "5"]
    assert [True, False] == [ask("show", *place[:2], offset, "--json")[1]["kept"] for offset in ("4", "5")]
    assert ExitCode.FOUND == entry.run(["quarantine", "show", *place, "--bytes", "--config", str(installation.file)])
    exported = tmp_path / "exported.jsonl"
    exported.write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec = str(installation.folder / "tables" / "patients.yaml")
    capsys.readouterr()
    assert ExitCode.CONFIGURATION == entry.run(["decode", str(exported), "--spec", spec])
    assert ["quarantine"] * 2 == [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()]


async def test_a_topic_that_is_read_again_holds_what_it_held(installation: Installation, ask: Ask) -> None:
    """Its generation rises, and its records stand where they stood; only one that was made anew holds others."""
    send(installation, LARGE)
    await put(installation, ask, 1)
    assert ExitCode.OK == await installation.verb("tables", "resync", "patients", "--from", "earliest")
    await put(installation, ask, 2)

    _, lines = ask("export", "--table", "patients", lines=True)

    assert [LARGE] * 2 == [base64.b64decode(line["value"]) for line in lines]
    installation.remake(installation.topic)
    _, gone = ask("redrive", "--table", "patients", "--dry-run", "--json")
    assert {"bytes_gone": 2} == gone["passed_over"]


async def test_what_is_dropped_is_neither_open_nor_sent_again(installation: Installation, ask: Ask) -> None:
    """It can still be shown."""
    send(installation, b"{", b'{"op": "x"}')
    reasons = [row["reason"] for row in (await put(installation, ask, 2))["counts"]]

    planned = ask("drop", "--kind", "broken_json", "--dry-run", "--json")[1]
    dropped = ask("drop", "--kind", "broken_json", "--json")[1]

    assert (1, 1) == (planned["total"], dropped["total"])
    assert 0 == ask("drop", "--kind", "broken_json", "--json")[1]["total"]
    assert {"broken_json": (0, 1)} == {
        row["reason"]: (row["open"], row["dropped"]) for row in ask("list", "--json")[1]["counts"] if row["dropped"]
    }
    assert sorted(set(reasons) - {"broken_json"}) == [
        line["quarantine"]["reason"] for line in ask("export", "--table", "patients", lines=True)[1]
    ]
    assert 2 == len(ask("export", "--table", "patients", "--all", lines=True)[1])
    assert "dropped" == ask("show", installation.topic, "0", "4", "--json")[1]["state"]
    assert (ExitCode.OK, 0) == (
        (said := ask("redrive", "--kind", "broken_json", "--json"))[0], said[1]["total"]
    )  # fmt: skip


async def test_what_would_only_come_back_is_sent_when_somebody_insists_and_comes_back(
    installation: Installation, ask: Ask
) -> None:
    """Under its first origin, whole, and open once more."""
    send(installation, b"{", LARGE)
    await put(installation, ask, 2)

    refused = ask("redrive", "--table", "patients", "--json")
    again = ask("redrive", "--table", "patients", "--anyway", "--json")
    found = await put(installation, ask, 4)

    assert (ExitCode.FOUND, True, 0, 2) == (refused[0], refused[1]["refused"], refused[1]["total"], 2)
    assert (ExitCode.OK, 2) == (again[0], again[1]["total"])
    (row,) = found["counts"]
    assert (4, 2, 2) == (row["count"], row["open"], row["redriven"])
    shown = ask("show", installation.topic, "0", "5", "--json")[1]
    assert (2, "open") == (shown["times"], shown["state"])
    assert [f"{installation.prefix}.redrive", 0, 0] == shown["redriven"][:3]
    _, lines = ask("export", "--table", "patients", lines=True)
    assert [b"{", LARGE] == [base64.b64decode(line["value"]) for line in lines]
    assert [["own", {"base64": "/w=="}]] == lines[1]["headers"]


async def test_what_must_not_be_sent_is_passed_over_and_told_of(installation: Installation, ask: Ask) -> None:
    """What is too old, what is gone from the source topic, what is of a paused table."""
    fresh, old = (json.loads(event(1)) for _ in range(2))
    old["source"]["ts_us"] = int((time.time() - AGED_SECONDS) * 1e6)
    for each in (fresh, old):
        each["after"]["name"] = 5
    send(installation, json.dumps(fresh).encode(), json.dumps(old).encode(), LARGE)
    await put(installation, ask, 3)
    installation.spec(columns={"id": "int", "name": "int"})
    async with installation.running():
        installation.forget_records({0: 7})
    told = ask("redrive", "--table", "patients", "--dry-run", "--json")[1]
    await installation.verb("tables", "pause", "patients", "--reason", "test")
    paused = ask("redrive", "--table", "patients", "--dry-run", "--json")[1]

    assert {"bytes_gone": 1, "too_old_to_redrive": 1} == told["passed_over"]
    assert ([1], []) == ([row["count"] for row in told["chosen"]], told["rejected"])
    assert {"table_paused": 3} == paused["passed_over"]
