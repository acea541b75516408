"""Case 1: SIGKILL of a random stage under load, again and again; the supervisor starts it anew at once."""

from __future__ import annotations

from collections.abc import Sequence

from tests.chaos.frame import worst_is
from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.stand import Stand
from tests.oracles import Verdict
from tests.workloads.installation import STAGES

BACK_SECONDS_MAX = 20.0
BETWEEN_SECONDS = (1.5, 4.0)
SAMPLES_MAX = 4
WAIT_SECONDS = 60.0
PER_SECOND = 2_000.0


def plant(stand: Stand) -> None:
    """Kill stages that are back at their speed since their last kill, at random moments."""
    every = max(stand.plan.faults // SAMPLES_MAX, 1)
    for number in range(stand.plan.faults):
        stage = stand.chance.choice(STAGES)
        stand.wait_back([kill for kill in stand.kills if kill.stage == stage][-1:], seconds=WAIT_SECONDS)
        stand.note_kill(stage)
        stand.fault(f"killed {stage}, process {stand.installation.kill_stage(stage)}")
        if number % every == every - 1:
            stand.sample()
        stand.wait(stand.chance.uniform(*BETWEEN_SECONDS))
    stand.wait_back(stand.kills, seconds=stand.plan.back_seconds)


def check(stand: Stand) -> list[Verdict]:
    """Each stage was back in time."""
    return [worst_is(stand, BACK_SECONDS_MAX)]


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures."""
    changes = figure(scale, tiny=6_000, small=200_000, night=2_000_000)
    faults = figure(scale, tiny=1, small=10, night=100)
    if scale == "tiny":  # of the suite, which asserts no times: its machine may be busy with anything
        return [
            Plan(
                "", changes, faults, plant, per_second=1_500.0, warm_seconds=2.0, back_seconds=1.0, drain_seconds=240.0
            )
        ]
    # The pace stays what it is until the last kill: a stage can only be back at its speed where it is offered as much.
    return [Plan("", changes, faults, plant, check, per_second=PER_SECOND, slower=1.0)]


CASE = Case(1, "SIGKILL of a random stage under load", plans, alone=True)
