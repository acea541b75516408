"""Case 2: SIGTERM and SIGINT under load: a worker ends in time, with code 0, and nothing is done twice."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.stand import Stand
from tests.workloads.installation import STAGES

END_SECONDS_MAX = 10.0
BETWEEN_SECONDS = (0.2, 1.5)


def plant(stand: Stand) -> None:
    """End a random worker in good order, start it again, and so on."""
    for _ in range(stand.plan.faults):
        (worker,) = stand.workers.running(stand.chance.choice(STAGES))
        number = stand.chance.choice([signal.SIGTERM, signal.SIGINT])
        stand.fault(f"{number.name} to {worker.stage}")
        code, seconds = stand.workers.end(worker, number)
        if code or seconds > END_SECONDS_MAX:
            stand.troubles.append(f"{number.name}: {worker.stage} ended with {code} after {seconds:.1f} s")
        stand.workers.wait_runs(stand.workers.start(worker.stage))
        stand.wait(stand.chance.uniform(*BETWEEN_SECONDS))
    stand.sample()


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures."""
    changes = figure(scale, tiny=4_000, small=30_000, night=2_000_000)
    faults = figure(scale, tiny=2, small=10, night=200)
    return [Plan("", changes, faults, plant, supervised=False, uncommitted=True, per_second=2_000.0)]


CASE = Case(2, "SIGTERM and SIGINT under load", plans)
