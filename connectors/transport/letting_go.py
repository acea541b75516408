"""Where administrators' clients end: on a thread of ours, whichever thread finds that nobody needs them any more.

Their answers arrive on a thread of librdkafka, and Python may collect garbage there. A client among it would be
destroyed by librdkafka's own thread, which ends the process (`rd_kafka_destroy() called from librdkafka owned thread`).
Such garbage comes by itself: an error that was told, its future, and the frames between them hold each other.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import ExitStack
from queue import SimpleQueue

from confluent_kafka.admin import AdminClient

_UNUSED: SimpleQueue[list[AdminClient]] = SimpleQueue()  # a queue that may be filled while garbage is collected
_STARTING = threading.Lock()
_threads: list[threading.Thread] = []


def end_after(owner: object, clients: list[AdminClient]) -> None:
    """Keep what the list holds, now or later, as long as `owner`; then end it soon, answered or not."""
    with _STARTING:
        if not _threads or not _threads[-1].is_alive():  # the first one, or a fork has left it behind
            _threads[:] = [threading.Thread(target=_end, name="clients-end", daemon=True)]
            _threads[-1].start()
    weakref.finalize(owner, end_soon, clients).atexit = False


def end_soon(clients: list[AdminClient]) -> None:
    """Have clients ended, whoever still holds them: what is asked of them later raises RuntimeError."""
    _UNUSED.put(clients)


def _end() -> None:
    while True:
        with ExitStack() as ending:
            for client in _UNUSED.get():
                ending.enter_context(client)
