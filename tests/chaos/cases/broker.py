"""Case 5: the broker is killed and started again, and frozen for 30 seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.chaos.frame import worst_is
from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.stand import Stand
from tests.oracles import Verdict
from tests.workloads.installation import STAGES

FROZEN_SECONDS = 30.0
BACK_SECONDS_MAX = 60.0
DOWN_SECONDS = (0.5, 3.0)


def plant(stand: Stand) -> None:
    """Take the broker away in one way and another; each time wait until all stages are back."""
    freezes = max(stand.plan.faults // 3, 1)
    ways = ["kill"] * (stand.plan.faults - freezes) + ["freeze"] * freezes
    stand.chance.shuffle(ways)
    for way in ways:
        stand.fault(f"broker: {way}")
        speeds = {stage: stand.speed(stage) for stage in STAGES}
        if way == "kill":
            stand.kafka.kill()
            time.sleep(stand.chance.uniform(*DOWN_SECONDS))
            stand.kafka.start()
        else:
            stand.kafka.pause()
            time.sleep(FROZEN_SECONDS)
            stand.kafka.resume()
        since = len(stand.kills)
        for stage in STAGES:
            stand.note_kill(stage, speed=speeds[stage])
        stand.wait_back(stand.kills[since:], seconds=2 * BACK_SECONDS_MAX)
        stand.wait(5)
    stand.sample()


def check(stand: Stand) -> list[Verdict]:
    """All stages were back in time."""
    return [worst_is(stand, BACK_SECONDS_MAX)]


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures."""
    changes = figure(scale, tiny=4_000, small=40_000, night=2_000_000)
    faults = figure(scale, tiny=1, small=2, night=60)
    return [Plan("", changes, faults, plant, check, per_second=600.0, slower=1.0)]


CASE = Case(5, "broker SIGKILL and restart, SIGSTOP of 30 s", plans, minutes=3)
