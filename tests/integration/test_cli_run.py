"""`headgate run` on a real Kafka and Redis: all stages start, answer, and end cleanly; a second one is refused."""

import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import headgate
from headgate.demo.folder import example_specs
from tests.services import Kafka, RedisServer, wait_until

START = [sys.executable, "-P", str(Path(headgate.__file__).with_name("__main__.py"))]
STAGES = ["alerts", "features", "lake", "normalize"]


@pytest.fixture
def installation(tmp_path: Path, kafka: Kafka, redis_server: RedisServer) -> Path:
    """A configuration with a prefix of its own, and the demo's specs beside it."""
    prefix = f"run-{uuid.uuid4().hex[:8]}"
    file = tmp_path / "headgate.yaml"
    file.write_text(
        f"kafka: {{bootstrap: '{kafka.address}', topic_prefix: {prefix}, group_prefix: {prefix}}}\n"
        f"redis: {{url: '{redis_server.address}', key_prefix: {prefix}}}\n"
        f"lake: {{warehouse: {tmp_path / 'lake'}}}\nweb: {{state_folder: {tmp_path / 'state'}}}\n"
    )
    (tmp_path / "tables").mkdir()
    for name, text in example_specs().items():
        (tmp_path / "tables" / name).write_text(text.replace("topics: [town.", f"topics: [{prefix}-town."))
    return file


@pytest.fixture
def running(installation: Path) -> Iterator[subprocess.Popen[str]]:
    """`headgate run --apply`; whatever the test does, it ends with it."""
    command = [*START, "run", "--apply", str(installation.parent / "tables"), "--config", str(installation)]
    with (installation.parent / "run.log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, text=True, cwd=installation.parent)
    yield process
    if process.poll() is None:
        process.terminate()
        process.wait(30)


def status(installation: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Return what `headgate status --json` says."""
    command = [*START, "status", "--json", *options, "--config", str(installation)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def statuses(installation: Path) -> dict[str, str]:
    """Return the state of each stage that `headgate status` knows of."""
    return {stage["stage"]: stage["state"] for stage in json.loads(status(installation).stdout)}


def test_all_stages_start_answer_and_end_cleanly(installation: Path, running: subprocess.Popen[str]) -> None:
    """SIGTERM ends with exit code 0, and no process and no state file is left."""
    wait_until(
        lambda: statuses(installation) == dict.fromkeys(STAGES, "running"), "all stages run", deadline_seconds=90
    )
    family = psutil.Process(running.pid).children(recursive=True)
    elsewhere = installation.with_name("elsewhere.yaml")  # another machine: it shares nothing but Kafka
    elsewhere.write_text(installation.read_text().replace(str(installation.parent / "state"), "/nowhere"))
    wait_until(
        lambda: statuses(elsewhere) == dict.fromkeys(STAGES, "running"), "all stages told of it", deadline_seconds=60
    )
    sums = status(elsewhere, "--sums")

    running.send_signal(signal.SIGTERM)
    code = running.wait(30)

    log = (installation.parent / "run.log").read_text()
    assert code == 0, log[-4000:]
    assert "table customers: added\n" in log
    assert len(family) == len(STAGES)
    assert psutil.wait_procs(family, timeout=5)[1] == []
    assert list((installation.parent / "state").glob("*.json")) == []
    assert sums.returncode == 0, sums.stderr
    assert [1] * 4 == [stage["workers"] for stage in json.loads(sums.stdout)["stages"]]
    assert statuses(elsewhere) == {}


def test_a_second_supervisor_is_refused_and_a_stage_that_crashes_comes_back(
    installation: Path, running: subprocess.Popen[str]
) -> None:
    """The slot's lock names the process that holds it; the stage says where it was, and gets a new process there."""
    wait_until(lambda: statuses(installation).get("alerts") == "running", "the alerts run", deadline_seconds=90)
    second = subprocess.run(
        [*START, "run", "--config", str(installation)], capture_output=True, text=True, timeout=60, check=False
    )
    [lock] = (installation.parent / "state").glob("alerts-*-0.lock")
    killed = int(lock.read_text())

    psutil.Process(killed).send_signal(signal.SIGSEGV)
    wait_until(lambda: lock.read_text() != str(killed), "the slot is taken again", deadline_seconds=60)
    wait_until(lambda: statuses(installation).get("alerts") == "running", "the alerts run again", deadline_seconds=60)

    assert second.returncode == 3
    assert f"process {running.pid}" in second.stderr
    log = (installation.parent / "run.log").read_text()
    assert '"reason": "ended by SIGSEGV"' in log
    assert "Fatal Python error: Segmentation fault" in log
