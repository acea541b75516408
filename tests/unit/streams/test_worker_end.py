"""What a worker prints when it ends: its logs, and nothing of any library."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import headgate
from connectors.transport.embedded import EmbeddedBroker
from tests.bench.events import bench_spec
from tests.services import wait_until

START = [sys.executable, "-P", str(Path(headgate.__file__).with_name("__main__.py"))]


@pytest.fixture(scope="module")
def broker() -> EmbeddedBroker:
    """The demo's broker."""
    return EmbeddedBroker()


@pytest.fixture
def command(broker: EmbeddedBroker, tmp_path: Path) -> list[str]:
    """`headgate run --apply` of one worker that has DuckDB loaded."""
    spec = bench_spec("results", "clinic.public.results")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "results.yaml").write_text(spec.model_dump_json())
    config = tmp_path / "headgate.yaml"
    config.write_text(
        f"kafka: {{bootstrap: '{broker.bootstrap}', broker: embedded, guarantee: at_least_once}}\n"
        f"web: {{state_folder: '{tmp_path / 'state'}'}}\n"
    )
    return [*START, "run", "--apply", str(tmp_path / "tables"), "--stage", "alerts", "--config", str(config)]


def test_a_worker_ends_without_a_word_of_the_libraries(command: list[str], tmp_path: Path) -> None:
    """DuckDB's bindings print what is still alive at the very end, as leaks: there is nothing."""
    log = tmp_path / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr, text=True)
    try:
        wait_until(lambda: '"event": "started"' in log.read_text(), "the worker runs")
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
    finally:
        process.kill()
        process.wait(10)

    written = log.read_text().splitlines()
    applied, *lines = [line for line in written if not line.startswith("waiting")]  # Kafka may take its time
    assert 0 == code, lines
    assert "table results: added" == applied
    assert "stopped" in [json.loads(line)["event"] for line in lines]


def test_an_apply_that_is_refused_says_what_is_wrong_and_no_more(command: list[str], tmp_path: Path) -> None:
    """The error's own frames hold DuckDB's objects."""
    spec = bench_spec("results", "clinic.public.results").model_dump_json().replace("after.amount", "after.amuont")
    (tmp_path / "tables" / "results.yaml").write_text(spec)

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert 3 == done.returncode
    said = [line.split()[0] for line in done.stderr.splitlines()]
    assert ["error:", "hint:"] == [word for word in said if word != "waiting"]  # Kafka may take its time
