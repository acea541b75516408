"""Watches a run: how far each group has come at each moment, what each worker holds, how soon a stage was back."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psutil
from confluent_kafka import KafkaException

from tests.bench.measure import Progress
from tests.services import wait_until

LOOK_SECONDS = 0.1
SIZES_SECONDS = 1.0
WINDOW_SECONDS = 3.0  # over which a speed is taken: commits come about once a second
BACK_SHARE = 0.9


@dataclass(slots=True)
class Sizes:
    """The largest that any worker had."""

    rss_bytes: int = 0
    threads: int = 0
    files: int = 0


class Watch:
    """A thread that looks; `committed` has the sums of the last look, by stage."""

    def __init__(
        self, bootstrap: str, groups: Mapping[str, tuple[str, Sequence[tuple[str, int]]]], pids: Callable[[], list[int]]
    ) -> None:
        """`groups` are group and partitions by stage; `pids` are the workers of the moment."""
        self._progress = {stage: Progress(bootstrap, *group) for stage, group in groups.items()}
        self._pids = pids
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.times: list[float] = []
        self.timeline: dict[str, list[int]] = {stage: [] for stage in groups}
        self.committed: dict[str, int] = dict.fromkeys(groups, 0)
        self.sizes = Sizes()

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.times, "the first look at the groups", deadline_seconds=60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        sizes_due = 0.0
        while not self._stop.wait(LOOK_SECONDS):
            for stage, progress in self._progress.items():
                with suppress(KafkaException):  # the broker is away: what was seen last holds
                    self.committed[stage] = max(progress.committed(), self.committed[stage])
            self.times.append(time.monotonic())
            for stage, seen in self.timeline.items():
                seen.append(self.committed[stage])
            if self.times[-1] >= sizes_due:
                self._look_at_sizes()
                sizes_due = self.times[-1] + SIZES_SECONDS

    def _look_at_sizes(self) -> None:
        for pid in self._pids():
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                self.sizes.rss_bytes = max(self.sizes.rss_bytes, process.memory_info().rss)
                self.sizes.threads = max(self.sizes.threads, process.num_threads())
                self.sizes.files = max(self.sizes.files, process.num_fds())

    def speed(self, stage: str, start: float, end: float) -> float:
        """Return records a second between two moments."""
        if end <= start or not self.times:
            return 0.0
        return (self._at(stage, end) - self._at(stage, start)) / (end - start)

    def back_after(self, stage: str, fault: float, *, speed: float) -> float | None:
        """Return after how many seconds a stage made 90% of `speed` again, over a window; None if it has not yet."""
        for at in self.times[bisect_left(self.times, fault) :]:
            end = at + WINDOW_SECONDS
            if end > self.times[-1]:
                return None
            if self.speed(stage, at, end) >= BACK_SHARE * speed:
                return at - fault
        return None

    def _at(self, stage: str, moment: float) -> float:
        """Return how far a stage had come; between two looks in proportion."""
        index = bisect_left(self.times, moment)
        seen = self.timeline[stage]
        if index == 0:
            return float(seen[0])
        if index >= len(seen):
            return float(seen[-1])
        before, after = self.times[index - 1], self.times[index]
        share = (moment - before) / (after - before)
        return seen[index - 1] + share * (seen[index] - seen[index - 1])
