"""Plays a workload in a thread of its own, at a pace, through gates: so that faults can be planted while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from tests.services import wait_until
from tests.workloads.model import End, Step

PACED_CHANGES = 20  # how many changes are committed before the clock is looked at


class Loader:
    """Gives steps to a player; `committed` rises while it runs, and never above what `allow` allowed by much."""

    def __init__(self, do: Callable[[Step], int], steps: Iterable[Step], *, changes_per_second: float) -> None:
        """Prepare; entering the context begins to play, leaving it waits for the end."""
        self._do, self._steps = do, steps
        self._seconds_per_change = 1 / changes_per_second
        self._allowed = 0
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)
        self._failure: BaseException | None = None
        self.committed = 0

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End: at once if something failed, else when all is played."""
        if kind is not None:
            self._stop.set()
        self.allow(2**62)
        self._thread.join()
        if kind is None:
            self._raise()

    def allow(self, changes: int) -> None:
        """Let it play until `changes` are committed in all."""
        with self._changed:
            self._allowed = max(self._allowed, changes)
            self._changed.notify_all()

    def wait_committed(self, changes: int, *, deadline_seconds: float = 120.0) -> None:
        """Return once so many changes are committed, or all there are."""

        def reached() -> bool:
            self._raise()
            return self.committed >= changes or self.finished()

        wait_until(reached, f"{changes} changes committed", deadline_seconds=deadline_seconds, poll_seconds=0.01)

    def finished(self) -> bool:
        """Say whether all steps are played."""
        return not self._thread.is_alive()

    def _raise(self) -> None:
        if self._failure is not None:
            raise AssertionError("the loader failed") from self._failure

    def _run(self) -> None:
        try:
            self._play()
        except BaseException as exc:  # noqa: BLE001  the thread that waits for it decides: it raises there
            self._failure = exc

    def _play(self) -> None:
        since_look, due = 0, time.monotonic()
        for step in self._steps:
            if self._stop.is_set():
                return
            done = self._do(step)
            self.committed += done
            since_look += done
            # A gate stands between transactions, so that none is left open for as long as somebody needs.
            if isinstance(step, End) and since_look >= PACED_CHANGES:
                due = max(due + since_look * self._seconds_per_change, time.monotonic() - 1)
                since_look = 0
                self._stop.wait(max(0.0, due - time.monotonic()))
                self._wait_allowed()

    def _wait_allowed(self) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self.committed < self._allowed or self._stop.is_set(), timeout=600):
                raise TimeoutError("nobody opened the gate")
