"""Waiting on a condition with a deadline, and choosing ports."""

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Below the range from which Linux takes ports for outgoing connections (32768 and up): while a broker is down for a
# minute in a fault test, nobody takes its port by accident.
PORTS = range(20_000, 32_000)
PROCESSES_MAX = 8  # of one run whose ports never meet
_given: set[int] = set()


def process_number() -> int | None:
    """Which of pytest-xdist's processes this is, from 0; None where there is one only."""
    name = os.environ.get("PYTEST_XDIST_WORKER")
    return None if name is None else int(name.removeprefix("gw"))


def own_ports() -> range:
    """The ports that this process chooses from: another's server may be down for a moment, with its port free."""
    number = process_number()
    return PORTS if number is None else PORTS[number % PROCESSES_MAX :: PROCESSES_MAX]


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on, and that this process has not given away before."""
    for port in random.SystemRandom().sample(own_ports(), 200):
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise OSError("no free port among 200 tried between 20000 and 32000")


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def wait_until(
    condition: Callable[[], T], what: str, *, deadline_seconds: float = 60.0, poll_seconds: float = 0.05
) -> T:
    """The first true answer of `condition`.

    Raises:
        TimeoutError: none came within `deadline_seconds`; the message names `what` and the last answer.
    """
    ends_at = time.monotonic() + deadline_seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= ends_at:
            raise TimeoutError(f"{what}: not within {deadline_seconds:g} s; the last answer was {answer!r}")
        time.sleep(poll_seconds)


async def until(condition: Callable[[], object], what: str = "the condition", *, seconds: float = 30.0) -> None:
    """Return once `condition` holds, while everything else of the event loop goes on.

    Raises:
        TimeoutError: it did not within `seconds`; the message names `what`.
    """
    ends_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= ends_at:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        await asyncio.sleep(0.01)
