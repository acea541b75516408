"""Case 17: each stage has a clock that is a day ahead or a day back, then the other: nothing may be ordered by it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.recovery import wait_all_go_on
from tests.chaos.stand import Stand
from tests.workloads.installation import STAGES

SOURCE = Path(__file__).parents[1] / "clock.c"
SHIFTS = {"a day ahead": 86_400, "a day back": -86_400}


def before(stand: Stand) -> None:
    """Build what shifts a clock.

    Raises:
        RuntimeError: there is no compiler of C.
    """
    if (compiler := shutil.which("cc")) is None:
        raise RuntimeError("no C compiler here: apt-get install gcc libc6-dev")
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library(stand)), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)


def library(stand: Stand) -> Path:
    """Return what a process loads to have another time of day."""
    return stand.folder / "clock.so"


def plant(stand: Stand) -> None:
    """Start all stages anew, each with a clock of its own; then each with the other one."""
    ahead = set(stand.chance.sample(STAGES, 3))
    for _ in range(stand.plan.faults // len(STAGES)):
        stand.troubles += stand.workers.stop()
        started = []
        for stage in STAGES:
            shift = "a day ahead" if stage in ahead else "a day back"
            stand.fault(f"the clock of {stage} is {shift}")
            stand.workers.environment = {"LD_PRELOAD": str(library(stand)), "CLOCK_SHIFT_SECONDS": str(SHIFTS[shift])}
            started.append(stand.workers.start(stage))
        for worker in started:
            stand.workers.wait_runs(worker)
        wait_all_go_on(stand, "a change of clocks")
        stand.sample()
        ahead ^= set(STAGES)


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures."""
    changes = figure(scale, tiny=4_000, small=20_000, night=300_000)
    rounds = figure(scale, tiny=2, small=2, night=10)
    return [Plan("", changes, rounds * len(STAGES), plant, supervised=False, per_second=1_500.0, before=before)]


CASE = Case(17, "the clock a day ahead, a day back", plans)
