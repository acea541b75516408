"""Faults that a test plants in processes, by their id: killed, signalled, frozen and let go, told to fail at a point.

Services know `kill`, `pause`, `resume` and `restart` themselves (tests/services); this is for processes of Headgate.
The names of failpoints are the product's (schemas/failpoints.py); a worker takes them from its environment.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "HEADGATE_FAILPOINTS"
_STATE = Path("/proc")


def kill(pid: int) -> None:
    """End a process as a crash would; one that has ended already is left alone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def freeze(pid: int) -> None:
    """Stop a process where it is: its connections stay open, nothing of it runs, and it notices nothing."""
    os.kill(pid, signal.SIGSTOP)


def thaw(pid: int) -> None:
    """Let a frozen process go on; one that has ended meanwhile is left alone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def is_frozen(pid: int) -> bool:
    """Say whether a process is stopped, by us or by a failpoint of its own."""
    try:
        return (_STATE / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


@contextmanager
def frozen(pid: int, *, seconds: float) -> Iterator[None]:
    """Freeze a process for the body, and for at least so many seconds; it goes on afterwards whatever happens."""
    ends_at = time.monotonic() + seconds
    freeze(pid)
    try:
        yield
        time.sleep(max(0.0, ends_at - time.monotonic()))
    finally:
        thaw(pid)


def armed(points: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker that fails at `points`: name → action, such as `kill@3`."""
    return {VARIABLE: ";".join(f"{name}={action}" for name, action in points.items())} if points else {}
