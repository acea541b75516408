"""A worker that stands still ends itself: nobody else sees from outside that its loop will not go on."""

from __future__ import annotations

import asyncio
import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

STANDSTILL_SECONDS_MAX = 60.0  # far longer than a session: its partitions are others' by then
_LOOKS = 10  # within that time


@contextmanager
def watched(loop: asyncio.AbstractEventLoop, *, seconds: float = STANDSTILL_SECONDS_MAX) -> Iterator[None]:
    """End this process with code 1 once `loop` has stood still for `seconds`; stderr has where each thread was.

    Also where no Python code can run any more, as when a library waits for ever and holds the interpreter: the clock
    and the end are C's own. A process that was stopped for so long, by a signal or with its machine, ends as well.
    """
    waiting: asyncio.Handle

    def again() -> None:
        nonlocal waiting
        faulthandler.dump_traceback_later(seconds, exit=True)
        waiting = loop.call_later(seconds / _LOOKS, again)

    waiting = loop.call_soon(again)
    try:
        yield
    finally:
        waiting.cancel()
        faulthandler.cancel_dump_traceback_later()
