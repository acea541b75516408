"""What a case is, as data: its figures at each scale, how its installation is run, and what it does under load."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tests.oracles import Verdict
from tests.services import Kafka, RedisServer

if TYPE_CHECKING:
    from tests.chaos.stand import Stand

Scale = Literal["tiny", "small", "night"]
Plant = Callable[["Stand"], None]
Whole = Callable[[Kafka, RedisServer, Path, int], list[Verdict]]
Check = Callable[["Stand"], list[Verdict]]


def nothing(stand: Stand) -> list[Verdict]:
    """Check nothing beyond what every run is asked."""
    del stand
    return []


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: `changes` at least, while `plant` plants `faults` faults; then every oracle and `check`.

    Without `supervised` the case starts and ends workers itself, beginning with `slots` of each stage. `repeats` says
    that output topics may repeat, since offsets were set back: the subscriber's rule then drops what comes again.
    """

    name: str
    changes: int
    faults: int
    plant: Plant
    check: Check = nothing
    supervised: bool = True
    slots: int = 1
    per_second: float = 5_000.0
    slower: float = 10.0  # than that, once all changes are made and faults are still planted
    keys_max: int = 12_000
    warm_seconds: float = 5.0  # of load before the first fault
    back_seconds: float = 60.0  # how long is waited for stages that were taken away
    drain_seconds: float = 60.0
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    repeats: bool = False
    uncommitted: bool = False  # readers of aborted records must not see a double either
    before: Plant | None = None  # what is done before anything of Headgate runs
    afterwards: Plant | None = None  # what is done once all is drained, while workers still run
    wired: bool = False  # a wire stands between the workers and their peers, and the lake lies on S3
    whole: Whole | None = None  # a run of its own, with a seed and services: nothing of the stand is used


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the list: its number, what is done, and its plans at a scale (`tiny` is for the suite)."""

    number: int
    title: str
    plans: Callable[[Scale], Sequence[Plan]]
    minutes: float = 1.0  # about, at the small scale: the longest begin first
    alone: bool = False  # it asks how long something took: no other case runs beside it


def figure(scale: Scale, *, tiny: int, small: int, night: int) -> int:
    """Return the figure of a scale."""
    return {"tiny": tiny, "small": small, "night": night}[scale]
