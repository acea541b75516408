"""What each worker holds, taken again and again, and what came of it: a row per stage and a verdict."""

from __future__ import annotations

import random
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil
from confluent_kafka import KafkaException

from tests.bench.measure import Progress
from tests.proof.slope import PERCENT_MAX, Growth, Slope, slope_of
from tests.workloads.installation import Installation

MIB = 1024 * 1024
SAMPLE_SECONDS = 5.0
WEIGHED = 10  # times within a sample
EDGE_SAMPLES = 12  # of which a value at the start or the end is the median: a minute
HELD_SHARE = 0.9  # of the pace that was asked for, at least: else it was another load
FIGURES = ("seed", "seconds", "warm", "per_second", "pace", "made", "drained_seconds")  # of the document
BEHIND_SECONDS_MAX = 60.0  # of the load, that a stage may be behind at the end: else it was more than half of its speed


@dataclass(frozen=True, slots=True)
class Sample:
    """One worker at a moment, in seconds from the beginning; its memory is the mean since the sample before.

    Offsets count the markers of transactions too.
    """

    at: float
    pid: int
    rss_bytes: int
    threads: int
    files: int
    committed: int
    lag: int


def moments(chance: random.Random) -> list[float]:
    """Return when to weigh the workers within one sample, in seconds from its beginning, in order.

    By chance: LAKE commits every six seconds and holds more while it does. What is weighed at even distances meets the
    same parts of that cycle for half an hour and then others, which looks like growth and is none.
    """
    return sorted(chance.uniform(0, SAMPLE_SECONDS) for _ in range(WEIGHED))


class Sizes:
    """Looks at the workers of an installation; `groups` are group and partitions by stage."""

    def __init__(
        self, installation: Installation, bootstrap: str,
        groups: Mapping[str, tuple[str, Sequence[tuple[str, int]]]], began: float,
    ) -> None:  # fmt: skip
        self._installation, self._began = installation, began
        self._progress = {stage: Progress(bootstrap, *group) for stage, group in groups.items()}
        self._weighed: defaultdict[int, list[int]] = defaultdict(list)  # bytes by process, since the last look

    def weigh(self) -> None:
        """Note what each worker that is there holds now."""
        for stage in self._progress:
            pid = self._installation.pid_of(stage)
            with suppress(psutil.Error):  # it ended just now
                if pid is not None:
                    self._weighed[pid].append(psutil.Process(pid).memory_info().rss)

    def look(self) -> dict[str, Sample]:
        """Return a sample of each stage whose worker is there, of what was weighed since the last look, else now."""
        if not self._weighed:
            self.weigh()
        found = {stage: sample for stage in self._progress if (sample := self._sample(stage)) is not None}
        self._weighed.clear()
        return found

    def _sample(self, stage: str) -> Sample | None:
        pid, progress = self._installation.pid_of(stage), self._progress[stage]
        if pid is None or not self._weighed[pid]:
            return None
        rss = round(statistics.fmean(self._weighed[pid]))
        try:
            process = psutil.Process(pid)
            threads, files = process.num_threads(), process.num_fds()
            committed, ends = progress.committed(), progress.ends()
        except (psutil.Error, KafkaException):  # it ended just now; a topic that was just made has no leader yet
            return None
        return Sample(time.monotonic() - self._began, pid, rss, threads, files, committed, max(ends - committed, 0))


@dataclass(frozen=True, slots=True)
class Row:
    """One stage after the warm-up; memory in MB, `first` and `last` over a minute each."""

    stage: str
    first_mb: float
    last_mb: float
    median_mb: float
    slope: Slope
    files: tuple[int, int]
    threads: tuple[int, int]
    per_second: float
    lag_median: int
    lag_max: int

    def line(self) -> str:
        """Return the row of the table."""
        return (
            f"{self.stage:<14}{self.first_mb:>8.1f}{self.last_mb:>8.1f}{self.median_mb:>8.1f}"
            f"{self.slope.per_hour:>+9.2f}  {self.slope!s:>21}{_range(self.files):>9}{_range(self.threads):>9}"
            f"{self.per_second:>10,.0f}{self.lag_median:>9,}{self.lag_max:>9,}  {self.slope.growth}"
        )

    def document(self) -> dict[str, Any]:
        """Return what `--json` prints of it."""
        percents = {"percent_per_hour": self.slope.percent, "percent_error": self.slope.percent_error}
        return {**asdict(self), **percents, "verdict": self.slope.growth}


HEAD = (
    f"{'RSS in MB':<14}{'start':>8}{'end':>8}{'median':>8}{'MB/h':>9}  {'of the mean':>21}{'files':>9}{'threads':>9}"
    f"{'offsets/s':>10}{'lag':>9}{'at most':>9}"
)


def _range(of: tuple[int, int]) -> str:
    return f"{of[0]}" if of[0] == of[1] else f"{of[0]}-{of[1]}"


def row_of(stage: str, samples: Sequence[Sample]) -> Row:
    """Return what came of one stage's samples, which are those after the warm-up."""
    sizes = [sample.rss_bytes / MIB for sample in samples]
    first, last, lags = samples[0], samples[-1], [sample.lag for sample in samples]
    return Row(
        stage, statistics.median(sizes[:EDGE_SAMPLES]), statistics.median(sizes[-EDGE_SAMPLES:]),
        statistics.median(sizes), slope_of([sample.at for sample in samples], sizes),
        _ends(sample.files for sample in samples), _ends(sample.threads for sample in samples),
        (last.committed - first.committed) / (last.at - first.at), round(statistics.median(lags)), max(lags),
    )  # fmt: skip


def _ends(values: Iterable[int]) -> tuple[int, int]:
    found = list(values)
    return min(found), max(found)


@dataclass(slots=True)
class Report:
    """What was measured; `troubles` is what went wrong besides, `pace` what all stages can take, if it was measured."""

    seed: int
    seconds: float
    warm: float
    per_second: float
    pace: float | None
    series: dict[str, list[Sample]] = field(default_factory=dict)
    made: int = 0
    drained_seconds: float = 0.0
    troubles: list[str] = field(default_factory=list)

    def take(self, looked: Mapping[str, Sample], *, made: int) -> None:
        """Take the samples of a moment, at which so many changes were made."""
        self.made = made
        for stage, sample in looked.items():
            before = self.series.setdefault(stage, [])
            if before and before[-1].pid != sample.pid:
                self.troubles.append(f"{stage} was started anew before {sample.at:.0f} s")
            before.append(sample)

    def now(self) -> str:
        """Return a line of progress."""
        sizes = ", ".join(
            f"{stage} {of[-1].rss_bytes / MIB:.0f} MB (lag {of[-1].lag:,})" for stage, of in self.series.items()
        )
        return f"{self.made:,} changes made; {sizes}"

    def rows(self) -> list[Row]:
        """Return a row of each stage that was seen to the end."""
        late = {stage: [sample for sample in of if sample.at >= self.warm] for stage, of in self.series.items()}
        return [row_of(stage, of) for stage, of in late.items() if len(of) >= EDGE_SAMPLES]

    def verdict(self) -> str:
        """Return HOLDS, or the first of what speaks against it."""
        rows = self.rows()
        growths = {row.slope.growth for row in rows}
        if self.all_troubles() or not rows:
            return "FAILS"
        return next(str(one) for one in (Growth.GROWS, Growth.TOO_SHORT, Growth.HOLDS) if one in growths)

    def all_troubles(self) -> list[str]:
        """Return what went wrong; a load that was not held, or with which a stage did not keep up, is one of it."""
        reached = max((of[-1].at for of in self.series.values()), default=0.0)
        held = self.made / reached if reached else 0.0
        found = list(self.troubles)
        if held < HELD_SHARE * self.per_second:
            found.append(f"{held:,.0f} of {self.per_second:,.0f} changes/s were made")
        for stage, of in self.series.items():
            if of[-1].lag > BEHIND_SECONDS_MAX * self.per_second:
                found.append(f"{stage} did not keep up: {of[-1].lag:,} behind at the end")
        return found

    def lines(self) -> list[str]:
        """Return the table and the verdict line."""
        rows = self.rows()
        least = max(rows, key=lambda row: row.slope.percent, default=None)
        worst = "" if least is None else f", the steepest {least.stage} with {least.slope}"
        pace = "as was asked" if self.pace is None else f"half of the {self.pace:,.0f} that all take together"
        line = (
            f"memory: {self.verdict()} (below {PERCENT_MAX:g} % an hour), seed {self.seed}, "
            f"{self.seconds / 60:g} minutes, {self.warm / 60:g} of them warm-up, {self.per_second:,.0f} changes/s, "
            f"{pace}{worst}; drained in {self.drained_seconds:.1f} s"
        )
        return [HEAD, *(row.line() for row in rows), *self.all_troubles(), line]

    def document(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        own = {name: getattr(self, name) for name in FIGURES}
        series = {stage: [asdict(sample) for sample in of] for stage, of in self.series.items()}
        rows, troubles = [row.document() for row in self.rows()], self.all_troubles()
        return {**own, "verdict": self.verdict(), "troubles": troubles, "stages": rows, "series": series}
