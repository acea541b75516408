"""Does a figure grow: a straight line through its samples, with an error that knows how alike neighbours are.

Least squares believe each sample to be news. Samples of a process's memory are not: what it holds now it held five
seconds ago. So the line's standard error is widened by what the residuals' correlation with their neighbours (of lag 1,
its bias for a fitted line taken out) leaves of the number of samples: sqrt((1 + r) / (1 - r)).
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

HOUR_SECONDS = 3_600.0
PERCENT_MAX = 1.0  # an hour
SAMPLES_MIN = 12
_CORRELATION_MAX = 0.999


class Growth(StrEnum):
    """What a slope and its error allow to say."""

    HOLDS = "HOLDS"
    GROWS = "GROWS"
    TOO_SHORT = "TOO SHORT TO TELL"


@dataclass(frozen=True, slots=True)
class Slope:
    """How much a figure grew an hour, in its own unit, with one standard error, and its mean."""

    per_hour: float
    error: float
    mean: float

    @property
    def percent(self) -> float:
        """The growth in percent of the mean an hour."""
        return self.per_hour / self.mean * 100

    @property
    def percent_error(self) -> float:
        """Its standard error, in the same unit."""
        return self.error / self.mean * 100

    @property
    def growth(self) -> Growth:
        """HOLDS needs a slope and an error below the limit; a slope two errors above the limit GROWS."""
        if self.percent - 2 * self.percent_error >= PERCENT_MAX:
            return Growth.GROWS
        if self.percent_error > PERCENT_MAX:
            return Growth.TOO_SHORT
        return Growth.HOLDS if self.percent < PERCENT_MAX else Growth.GROWS

    def __str__(self) -> str:
        return f"{self.percent:+.2f} ± {self.percent_error:.2f} %/h"


def slope_of(seconds: Sequence[float], values: Sequence[float]) -> Slope:
    """Return the slope of `values`, which are above 0 and were taken at even distances, at `seconds`."""
    assert len(seconds) == len(values) >= SAMPLES_MIN, f"{len(values)} samples are no series"
    line = statistics.linear_regression(seconds, values)
    rests = [value - line.intercept - line.slope * at for at, value in zip(seconds, values, strict=True)]
    middle = statistics.fmean(seconds)
    spread = math.sqrt(sum((at - middle) ** 2 for at in seconds))
    plain = math.sqrt(sum(rest * rest for rest in rests) / (len(rests) - 2)) / spread
    alike = _correlation(rests)
    error = plain * math.sqrt((1 + alike) / (1 - alike))
    return Slope(line.slope * HOUR_SECONDS, error * HOUR_SECONDS, statistics.fmean(values))


def _correlation(rests: Sequence[float]) -> float:
    """Return how much a residual resembles the one before it, from 0 up to less than 1."""
    whole, count = sum(rest * rest for rest in rests), len(rests)
    if whole == 0:
        return 0.0
    found = sum(one * other for one, other in itertools.pairwise(rests)) / whole
    unbiased = (found + 2 / count) / (1 - 4 / count)
    return min(max(unbiased, 0.0), _CORRELATION_MAX)
