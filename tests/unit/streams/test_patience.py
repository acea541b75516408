"""A worker whose Kafka is away says at once what it waits for, and ends cleanly when it is asked to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import headgate
from streams.patience import AskedToStop, stoppable, telling_soon
from tests.services import wait_until

START = [sys.executable, "-P", str(Path(headgate.__file__).with_name("__main__.py"))]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """An installation whose Kafka is nowhere."""
    file = tmp_path / "headgate.yaml"
    file.write_text(f"kafka: {{bootstrap: '127.0.0.1:9'}}\nweb: {{state_folder: '{tmp_path / 'state'}'}}\n")
    return file


@pytest.fixture
def hangup_ignored() -> Iterator[None]:
    """As `nohup` leaves it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("options", "number"),
    [(["--stage", "lake"], signal.SIGTERM), (["--stage", "lake"], signal.SIGINT), ([], signal.SIGINT)],
    ids=["one worker", "Ctrl-C", "all"],
)
def test_who_waits_for_kafka_says_so_and_ends_cleanly(config: Path, options: list[str], number: int) -> None:
    """Well before the client gives up, and with exit code 0: nothing had begun."""
    log = config.with_name("log")
    with log.open("w") as stderr:
        process = subprocess.Popen([*START, "run", *options, "--config", str(config)], stderr=stderr, text=True)
    try:
        workers, event = 1 if options else 4, '"event": "waiting_for_kafka"'
        wait_until(lambda: log.read_text().count(event) >= workers, "all say so", deadline_seconds=90)
        process.send_signal(number)
        code = process.wait(30)
    finally:
        process.kill()
        process.wait(10)

    said = log.read_text()
    assert 0 == code, said
    assert '"bootstrap": "127.0.0.1:9"' in said
    assert "Traceback" not in said


def test_what_takes_long_is_told_of_once_and_what_does_not_never() -> None:
    """Silence when healthy."""
    told, heard = threading.Event(), threading.Event()
    with telling_soon(told.set, seconds=0.01):
        assert told.wait(10)
    with telling_soon(heard.set, seconds=3_600):
        pass

    assert not heard.is_set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_before_the_beginning_is_an_end_and_handlers_are_put_back(number: int) -> None:
    """Wherever the start is at that moment."""
    before = signal.getsignal(number)

    def asked_in_the_middle() -> None:
        with stoppable():
            os.kill(os.getpid(), number)
            threading.Event().wait(10)

    with pytest.raises(AskedToStop):
        asked_in_the_middle()

    assert before == signal.getsignal(number)


@pytest.mark.usefixtures("hangup_ignored")
def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    """Who starts it so means it."""
    with stoppable():
        os.kill(os.getpid(), signal.SIGHUP)
