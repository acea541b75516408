"""The programs of docs/subscribe.md run as they stand there, but for the broker's address and the group."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from headgate.contracts.documents import documents, files
from schemas.config import KafkaConfig
from tests.integration.subscribing import PARTITIONS, contract, floor, position, records, write
from tests.integration.transport_processes import ROOT, Bench
from tests.services import wait_until
from tests.unit.docs.pages import blocks_of
from tests.unit.lake.changes import deletion

SECONDS = 60.0
ATTEMPTS = 5  # a program may be through before it is killed, where this process had to wait for a core


@pytest.fixture
def topic(bench: Bench, tmp_path: Path) -> str:
    """The table's topic; its contract lies in the folder that the page says."""
    topic = bench.topic("changes.patients", PARTITIONS)
    (tmp_path / "contracts").mkdir()
    for name, text in files("patients", documents(contract(topic), KafkaConfig())).items():
        (tmp_path / "contracts" / name).write_text(text, "utf-8")
    return topic


def start(bench: Bench, name: str, number: int) -> Path:
    """Start the page's program of this number, and return the file of what it prints."""
    block = [block.text for block in blocks_of(ROOT / "docs" / "subscribe.md") if block.language == "python"][number]
    assert "127.0.0.1:9092" in block
    program = block.replace("127.0.0.1:9092", bench.bootstrap).replace("billing", f"billing-{uuid.uuid4().hex[:8]}")
    printed = bench.folder / f"{name}.out"
    with printed.open("wb") as to:
        bench.workers[name] = subprocess.Popen(
            [sys.executable, "-u", "-c", program],
            cwd=bench.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=to,
            stderr=to,
        )
    return printed


def test_the_first_program_prints_what_happened(bench: Bench, topic: str) -> None:
    """A change, a delete and a floor, each once."""
    [one], [two] = records(0, [1, 1])
    gone = deletion(4, 1, position=position(0, 4), source={"previous": 2})
    write(bench.bootstrap, topic, [(0, value) for value in (one, two, one, two, gone, gone, floor(0, 5))])

    printed = start(bench, "client", 0)

    wait_until(lambda: "are dead" in printed.read_text(), "the floor is printed", deadline_seconds=SECONDS)
    lines = printed.read_text().splitlines()
    assert ["update {'id':", "update {'id':", "gone {'id': 1}", "rows below 0"] == [
        lines[0][:13], lines[1][:13], lines[2], lines[3][:12]
    ]  # fmt: skip
    assert 4 == len(lines)
    assert "Decimal('70.50')" in lines[0]


def test_the_second_program_counts_each_change_once_although_it_is_killed(bench: Bench, topic: str) -> None:
    """Killed in the middle of its work and started again, with all of it sent once more."""
    stands = [(number, one) for number in range(PARTITIONS) for [one] in records(number, [1] * 600)]
    write(bench.bootstrap, topic, stands)

    def counted() -> int | None:
        """Return how many changes were counted; None where nobody has begun, or somebody writes just now."""
        try:
            with closing(sqlite3.connect(bench.folder / "changes.db", timeout=0.1)) as database:
                return int(database.execute("select sum(changes) from counts").fetchone()[0] or 0)
        except sqlite3.OperationalError:
            return None

    for attempt in range(ATTEMPTS):
        for left in bench.folder.glob("changes.db*"):
            left.unlink()
        start(bench, f"first-{attempt}", 1)
        wait_until(counted, "it has begun", deadline_seconds=SECONDS, poll_seconds=0.001)
        bench.kill(f"first-{attempt}")
        if (killed_at := counted() or 0) < len(stands):
            break
    write(bench.bootstrap, topic, [*stands, *((1, one) for [one] in records(1, [1], first=1200))])
    printed = start(bench, "second", 1)

    wait_until(lambda: (counted() or 0) > len(stands), "all is counted", deadline_seconds=SECONDS)
    assert 0 < killed_at < len(stands), "it was killed in the middle of it"
    assert len(stands) + 1 == counted()
    assert "" == printed.read_text()
