"""Feeds changes at a pace while faults are planted: so many at least, and for as long as somebody plants."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.chaos.source import Source

BATCH = 200
AHEAD_RECORDS_MAX = 80_000  # so far it runs before the slowest reader of the source, and waits then


class Feeder:
    """A thread that makes changes; entering begins, leaving waits for the end, at once where something failed."""

    def __init__(
        self, source: Source, *, changes: int, per_second: float, slower: float, behind: Callable[[], int]
    ) -> None:
        """`slower` is by what the pace is divided once all is made and faults are still planted.

        `behind` says how many records of the source are not read yet.
        """
        self._source, self._changes, self._behind, self._slower = source, changes, behind, slower
        self._seconds = 1 / per_second
        self._works: deque[Callable[[], None]] = deque()
        self._released, self._stop = threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        if kind is not None:
            self._stop.set()
            return
        self._thread.join()
        self.check()

    def set_pace(self, per_second: float) -> None:
        """Make so many changes a second from now on."""
        self._seconds = 1 / per_second

    def release(self) -> None:
        """Let it end once all changes are made."""
        self._released.set()

    def do(self, work: Callable[[], None]) -> None:
        """Have something done by the thread that the source belongs to, between two batches."""
        self._works.append(work)

    def feeds(self) -> bool:
        """Say whether it still makes changes."""
        return self._thread.is_alive()

    def check(self) -> None:
        """Raise what it failed of.

        Raises:
            AssertionError: changes could not be written.
        """
        if self._failure is not None:
            raise AssertionError("the source failed") from self._failure

    def _run(self) -> None:
        try:
            self._feed()
            self._source.flush()
        except BaseException as exc:  # noqa: BLE001  who waits for the thread decides: it raises there
            self._failure = exc

    def _feed(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            over = self._source.made >= self._changes
            if over and self._released.is_set():
                return
            self._source.make(BATCH)
            while self._works:
                self._works.popleft()()
            due = max(due + BATCH * self._seconds * (self._slower if over else 1.0), time.monotonic() - 1)
            self._stop.wait(max(0.0, due - time.monotonic()))
            while self._behind() > AHEAD_RECORDS_MAX and not self._stop.wait(0.1):
                continue
