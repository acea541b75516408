"""Who waits says soon what for: clients of Kafka take ten seconds to say that nobody answers."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SOON_SECONDS = 1.0


@contextmanager
def telling_soon(tell: Callable[[], None], *, seconds: float = SOON_SECONDS) -> Iterator[None]:
    """Call `tell` where what is done inside takes longer than `seconds`; from a thread of its own, once."""
    timer = threading.Timer(seconds, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class AskedToStop(BaseException):
    """SIGTERM, SIGINT or SIGHUP came before the worker had begun: there is nothing to finish or to give back."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Have the signals that end a worker raise `AskedToStop`, until the worker's own handlers take their place.

    What was ignored before, as SIGHUP is under nohup, stays so.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise AskedToStop

    before = {}
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
