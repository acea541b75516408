"""Case 9: a storm of rebalances: one to four workers of each stage come and go, under each protocol of groups."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.stand import Stand
from tests.chaos.workers import Worker
from tests.workloads.installation import STAGES

EVERY_SECONDS = 3.0
WORKERS_MAX = 4
KILLED_SHARE = 0.2  # of those that leave: without a word
PROTOCOLS: dict[str, dict[str, object]] = {
    "classic": {},
    "KIP-848": {"group_protocol": "consumer"},
    "static": {"static_membership": True},
}


def plant(stand: Stand) -> None:
    """Every three seconds a worker of some stage joins or leaves."""
    leaving: list[Worker] = []
    due = time.monotonic()
    for _ in range(stand.plan.faults):
        stage = stand.chance.choice(STAGES)
        there = [one for one in stand.workers.running(stage) if one not in leaving and stand.workers.status(one)]
        free = sorted(set(range(WORKERS_MAX)) - {worker.slot for worker in stand.workers.running(stage)})
        joins = bool(free) and (len(there) <= 1 or (len(there) < WORKERS_MAX and stand.chance.random() < 0.5))
        if joins:
            slot = stand.chance.choice(free)
            stand.fault(f"{stage} {slot} joins {len(there)}")
            stand.workers.start(stage, slot)
        elif len(there) > 1:
            worker = stand.chance.choice(there)
            stand.fault(f"{stage} {worker.slot} leaves {len(there)}")
            if stand.chance.random() < KILLED_SHARE:
                stand.workers.kill(worker)
            else:
                worker.process.send_signal(signal.SIGTERM)
                leaving.append(worker)
        due += EVERY_SECONDS
        stand.wait(max(0.0, due - time.monotonic()))
    for worker in (one for one in stand.workers.running() if one not in leaving):
        stand.workers.wait_runs(worker)  # it may still be starting, and a signal would end it as any other program
    for worker in leaving:
        if code := worker.wait():
            stand.troubles.append(f"{worker.stage} {worker.slot} left with {code}")
    for worker in stand.workers.all:
        if worker.ended() and worker.process.returncode not in {0, -signal.SIGKILL}:
            stand.troubles.append(f"{worker.stage} {worker.slot} ended with {worker.process.returncode}")


def plans(scale: Scale) -> Sequence[Plan]:
    """Return a plan per protocol."""
    changes = figure(scale, tiny=4_000, small=25_000, night=250_000)
    faults = figure(scale, tiny=2, small=7, night=100)
    per_second = figure(scale, tiny=2_500, small=2_500, night=800)  # so that the storm and the load end together
    return [
        Plan(
            name, changes, faults, plant, supervised=False, per_second=per_second, drain_seconds=180.0,
            overrides={"kafka": dict(settings)},
        )
        for name, settings in PROTOCOLS.items()
    ]  # fmt: skip


CASE = Case(9, "rebalance storm: 1 to 4 workers of each stage", plans, minutes=4)
