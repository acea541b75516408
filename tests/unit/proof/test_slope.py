"""The arithmetic of the proof of memory: a planted leak is found, noise is not one, and a short series says so."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator

import pytest

from tests.proof.sizes import SAMPLE_SECONDS, Report, Sample, moments, row_of
from tests.proof.slope import Growth, slope_of
from tests.proof.steady import LOOK_SECONDS, keeps_up

MIB = 1024 * 1024
SECONDS_BETWEEN, MEAN = 5.0, 250.0
TRIES = 200


def series(minutes: float, *, percent_per_hour: float, noise: float, alike: float = 0.0, seed: int = 1) -> list[float]:
    """Return megabytes every five seconds: a leak, and noise of so many MB in which neighbours are alike."""
    chance, off, values = random.Random(seed), 0.0, []
    for number in range(int(minutes * 60 / SECONDS_BETWEEN) + 1):
        off = alike * off + chance.gauss(0, noise * (1 - alike**2) ** 0.5)
        values.append(MEAN * (1 + percent_per_hour / 100 * number * SECONDS_BETWEEN / 3600) + off)
    return values


def times(values: list[float]) -> list[float]:
    """Return when they were taken."""
    return [number * SECONDS_BETWEEN for number in range(len(values))]


@pytest.mark.parametrize(
    ("minutes", "percent_per_hour", "noise", "alike", "expected"),
    [
        (25, 2.0, 1.0, 0.5, Growth.GROWS),
        (25, 0.0, 1.0, 0.5, Growth.HOLDS),
        (25, -3.0, 1.0, 0.5, Growth.HOLDS),
        (25, 0.0, 8.0, 0.8, Growth.TOO_SHORT),
        (2, 0.0, 1.0, 0.5, Growth.TOO_SHORT),
        (25, 20.0, 8.0, 0.8, Growth.GROWS),
    ],
)
def test_a_leak_is_found_and_noise_is_none(
    minutes: float, percent_per_hour: float, noise: float, alike: float, expected: Growth
) -> None:
    """Two percent an hour are found within 25 minutes; too much noise, or too little time, is said."""
    values = series(minutes, percent_per_hour=percent_per_hour, noise=noise, alike=alike)

    assert expected == slope_of(times(values), values).growth


def test_a_line_without_noise_is_measured_exactly() -> None:
    """Slope, mean and percent are those that were planted."""
    values = series(30, percent_per_hour=4.0, noise=0.0)

    slope = slope_of(times(values), values)

    assert pytest.approx(10.0) == slope.per_hour
    assert pytest.approx(252.5) == slope.mean
    assert pytest.approx(0.0, abs=1e-6) == slope.error
    assert pytest.approx(10.0 / 252.5 * 100) == slope.percent


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.9])
def test_the_error_is_as_large_as_it_says(alike: float) -> None:
    """Of many series nine in ten lie within two errors, also where neighbours are alike; and the error is no excuse."""
    near, errors, slopes = 0, 0.0, []
    for seed in range(TRIES):
        values = series(25, percent_per_hour=2.0, noise=2.0, alike=alike, seed=seed)
        slope = slope_of(times(values), values)
        near += abs(slope.per_hour - 0.02 * MEAN) <= 2 * slope.error
        errors += slope.error / TRIES
        slopes.append(slope.per_hour - 0.02 * MEAN)

    spread = (sum(off * off for off in slopes) / TRIES) ** 0.5
    assert near >= 0.9 * TRIES
    assert pytest.approx(spread, rel=0.25) == errors


def test_a_step_in_the_middle_does_not_hold() -> None:
    """Memory that was taken once and kept is no line, but it is no proof that nothing grows either."""
    values = series(25, percent_per_hour=0.0, noise=0.2)
    half = len(values) // 2
    values = values[:half] + [value * 1.02 for value in values[half:]]

    assert Growth.HOLDS != slope_of(times(values), values).growth


def test_a_figure_that_never_moves_holds() -> None:
    """Its error is nothing, which is no division by it."""
    slope = slope_of(times([MEAN] * 20), [MEAN] * 20)

    assert Growth.HOLDS == slope.growth
    assert slope.error == 0


def held(at: float) -> float:
    """Return what a worker holds that commits every six seconds, and does so a little earlier each time."""
    return MEAN + (30.0 if (at - 0.15) % 5.9995 < 0.3 else 0.0)


def test_commits_that_beat_with_the_samples_are_no_growth() -> None:
    """Weighed every five seconds such a worker seems to grow, or not to be known; at moments of chance it holds."""
    chance, starts = random.Random(7), [number * SAMPLE_SECONDS for number in range(720)]

    evenly = slope_of(starts, [held(start) for start in starts])
    means = [statistics.fmean(held(start + moment) for moment in moments(chance)) for start in starts]
    by_chance = slope_of(starts, means)

    assert Growth.HOLDS != evenly.growth
    assert Growth.HOLDS == by_chance.growth


def samples(values: list[float], *, pid: int = 7, per_second: float = 100.0) -> Iterator[Sample]:
    """Return the samples of a worker that holds so many MB."""
    for at, value in zip(times(values), values, strict=True):
        yield Sample(at, pid, round(value * MIB), 9, 20 + (at == 0), round(at * per_second), 3)


def report(**series_of: list[Sample]) -> Report:
    """Return what a run of half an hour at 100 changes a second came to."""
    found = Report(4711, 1_800, 300, 100.0, 200.0)
    for stage, of in series_of.items():
        for sample in of:
            found.take({stage: sample}, made=round(sample.at * 100))
    return found


def test_a_report_takes_the_worst_of_its_stages() -> None:
    """One that grows is the verdict, and the verdict line names it; what came within the warm-up does not count."""
    flat = series(30, percent_per_hour=0.0, noise=1.0)
    grown = [10.0] * 60 + series(30, percent_per_hour=2.5, noise=1.0)[60:]

    holds = report(lake=list(samples(flat)))
    grows = report(lake=list(samples(flat)), alerts=list(samples(grown)))

    assert holds.verdict() == "HOLDS"
    assert grows.verdict() == "GROWS"
    assert "memory: GROWS (below 1 % an hour), seed 4711, 30 minutes, 5 of them warm-up, 100" in grows.lines()[-1]
    assert "half of the 200 that all take together, the steepest alerts with +2." in grows.lines()[-1]
    assert [row["verdict"] for row in grows.document()["stages"]] == ["HOLDS", "GROWS"]


def test_a_worker_that_was_started_anew_fails_the_report() -> None:
    """Its memory began anew with it."""
    flat = series(30, percent_per_hour=0.0, noise=1.0)
    both = [*list(samples(flat))[:200], *list(samples(flat, pid=8))[200:]]

    found = report(lake=both)

    assert found.verdict() == "FAILS"
    assert ["lake was started anew before 1000 s"] == found.all_troubles()


def test_a_load_that_was_not_held_fails_the_report() -> None:
    """Half the load would be another measurement."""
    found = report(lake=list(samples(series(30, percent_per_hour=0.0, noise=1.0))))
    found.made //= 2

    assert ["50 of 100 changes/s were made"] == found.all_troubles()
    assert found.verdict() == "FAILS"


def test_a_stage_that_did_not_keep_up_fails_the_report() -> None:
    """What has a backlog at the end was not at half of its speed."""
    values = list(samples(series(30, percent_per_hour=0.0, noise=1.0)))
    late = Sample(1_805.0, 7, round(MEAN * MIB), 9, 20, 180_500, 6_001)

    found = report(lake=[*values, late])

    assert ["lake did not keep up: 6,001 behind at the end"] == found.all_troubles()
    assert found.verdict() == "FAILS"


def test_a_row_says_what_a_worker_held() -> None:
    """Memory at both edges, files and threads from least to most, offsets a second, and lag."""
    row = row_of("lake", list(samples(series(30, percent_per_hour=4.0, noise=0.0))))

    assert (20, 21) == row.files
    assert (9, 9) == row.threads
    assert pytest.approx(100.0) == row.per_second
    assert (3, 3) == (row.lag_median, row.lag_max)
    assert MEAN < row.first_mb < row.median_mb < row.last_mb
    assert all(text in row.line() for text in ("lake", "+10.00", "20-21", "GROWS"))


@pytest.mark.parametrize(("taken", "expected"), [(1.0, True), (0.98, True), (0.9, False), (0.5, False)])
@pytest.mark.parametrize("commit_seconds", [0, 5, 5.7])
def test_a_stage_that_takes_less_than_comes_falls_behind(
    taken: float, commit_seconds: float, *, expected: bool
) -> None:
    """Also where it commits from time to time, so that it is behind by what came since."""
    pace = 2_000
    lags = [
        round(pace * (second * (1 - taken) + (second % commit_seconds if commit_seconds else 0)))
        for second in range(int(LOOK_SECONDS))
    ]

    assert expected is keeps_up(lags, pace)
