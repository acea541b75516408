"""Each sample consumer runs as it was generated, and is given each change once, of a topic with repeats and a gap."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.contracts.documents import documents, files
from headgate.contracts.samples import SAMPLES
from schemas.config import KafkaConfig
from tests.integration.subscribing import PARTITIONS, by_partition, contract, plant
from tests.integration.transport_processes import ROOT, Bench
from tests.services import wait_until
from tests.services.jars import jars
from tests.services.java import BRIEF
from tests.services.system import require_program

SECONDS = 90.0


def command(file: Path) -> list[str]:
    """Return how a sample is started; Java compiles it first."""
    if file.suffix == ".java":
        return [require_program("java"), "-Xmx128m", *BRIEF, "-cp", f"{jars('kafka')}/*", str(file)]
    return [sys.executable, str(file)]


def lines(file: Path) -> list[str]:
    """Return the whole lines of a file."""
    return [line for line in file.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture
def given(bench: Bench, tmp_path: Path) -> dict[int, list[str]]:
    """The samples of a table, and its topic; what a subscriber must be given of it, by partition."""
    topic = bench.topic("changes.patients", PARTITIONS)
    for name, text in files("patients", documents(contract(topic), KafkaConfig(bootstrap=bench.bootstrap))).items():
        (tmp_path / name).write_text(text, "utf-8")
    return plant(bench.bootstrap, topic)


@pytest.mark.timeout(240)
def test_each_sample_is_given_each_change_once(given: dict[int, list[str]], bench: Bench, tmp_path: Path) -> None:
    """In order per partition, with the floors, without what was aborted; and says on stderr what is missing."""
    count = sum(map(len, given.values()))
    for name in SAMPLES:
        file = tmp_path / f"patients.{name}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "KAFKA_GROUP": f"{bench.group}-{name}"}
        with (tmp_path / f"{name}.out").open("wb") as printed, (tmp_path / f"{name}.err").open("wb") as said:
            bench.workers[name] = subprocess.Popen(
                command(file), env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=printed, stderr=said
            )

    for name, process in bench.workers.items():
        out, err = tmp_path / f"{name}.out", tmp_path / f"{name}.err"

        def enough(out: Path = out, err: Path = err, process: subprocess.Popen[bytes] = process) -> bool:
            assert process.poll() is None, err.read_text("utf-8")
            return len(lines(out)) >= count

        wait_until(enough, f"{name} printed {count} lines", deadline_seconds=SECONDS)
        assert given == by_partition(json.loads(line)["position"] for line in lines(out)), name
        (missing,) = (line for line in lines(err) if line.startswith("missing: "))
        assert re.search(r"behind .*8.* comes .*12", missing), f"{name}: the change between was never written"
