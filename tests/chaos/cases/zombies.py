"""Case 10: a worker of each stage is frozen beyond its session, another one takes over, then it wakes up.

Half of them freeze at a moment of their own choosing: exactly before or behind a write. What they write late must be
refused by whoever keeps it: the broker, Redis, the catalogue; NOTIFY repeats under the same id.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.stand import Stand
from tests.chaos.workers import Worker
from tests.faults import freeze, is_frozen, thaw
from tests.services import wait_until
from tests.workloads.ends import NOTIFY_STAGE
from tests.workloads.installation import STAGES

SESSION_SECONDS = 3.0
FROZEN_SECONDS = (SESSION_SECONDS + 2.5, 15.0)  # the longer is beyond the time-out of a transaction
TAKEN_SECONDS = 40.0
HITS_MAX = 5
AT: dict[str, tuple[str, ...]] = {
    "normalize": ("transaction.before_offsets", "transaction.before_commit", "normalize.after_write"),
    "features": ("features.before_write", "features.after_decode", "features.after_write"),
    "alerts": ("transaction.before_offsets", "transaction.before_commit", "alerts.after_write"),
    "lake": ("lake.before_write", "lake.before_commit", "lake.after_commit"),
    NOTIFY_STAGE: ("notify.before_delivery", "notify.after_delivery", "notify.before_done"),
}


def plant(stand: Stand) -> None:
    """Freeze workers of all stages, side by side."""
    each = stand.plan.faults // len(STAGES)
    threads = [
        threading.Thread(target=_guarded, args=(stand, stage, each), name=f"zombies of {stage}", daemon=True)
        for stage in STAGES
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        stand.wait(0.5)
    stand.sample()


def _guarded(stand: Stand, stage: str, count: int) -> None:
    chance = random.Random(f"{stand.seed} {stage}")
    try:
        for number in range(count):
            _one(stand, stage, number, chance)
    except Exception as error:  # noqa: BLE001  the thread's end is looked at by who started it
        stand.troubles.append(f"{stage}: {type(error).__name__}: {error}")


def _one(stand: Stand, stage: str, number: int, chance: random.Random) -> None:
    """Freeze one worker for longer than its session while another one of the stage runs, and let it go on."""
    worker, where = _frozen(stand, stage, number, chance)
    seconds = chance.choice(FROZEN_SECONDS)
    ends_at = time.monotonic() + seconds
    stand.fault(f"{stage} {worker.slot} is frozen {where} for {seconds:g} s")
    time.sleep(max(0.0, ends_at - time.monotonic()))
    (other,) = (one for one in stand.workers.running(stage) if one is not worker)
    wait_until(
        lambda: _partitions(stand, other) >= len(stand.groups()[stage][1]), f"{stage} {other.slot} has all partitions",
        deadline_seconds=TAKEN_SECONDS, poll_seconds=0.2,
    )  # fmt: skip
    thaw(worker.pid)
    stand.wait(4.0)  # it finds out; NORMALIZE ends where it was in a transaction
    if worker.ended():
        worker = stand.workers.start(stage, worker.slot)
    stand.workers.wait_runs(worker)
    wait_until(
        lambda: _partitions(stand, worker) > 0, f"{stage} {worker.slot} has partitions again",
        deadline_seconds=TAKEN_SECONDS, poll_seconds=0.2,
    )  # fmt: skip


def _frozen(stand: Stand, stage: str, number: int, chance: random.Random) -> tuple[Worker, str]:
    """Return a worker that is frozen now, and where."""
    worker = chance.choice(stand.workers.running(stage))
    if number % 2:
        freeze(worker.pid)
        return worker, "at any moment"
    stand.workers.end(worker)
    point = chance.choice(AT[stage])
    worker = stand.workers.start(stage, worker.slot, points={point: f"stop@{chance.randint(1, HITS_MAX)}"})
    wait_until(lambda: is_frozen(worker.pid), f"{stage} freezes at {point}", deadline_seconds=60, poll_seconds=0.02)
    return worker, f"at {point}"


def _partitions(stand: Stand, worker: Worker) -> int:
    return int(stand.workers.status(worker).get("assigned", 0))


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures: so many of each stage."""
    changes = figure(scale, tiny=4_000, small=30_000, night=1_000_000)
    each = figure(scale, tiny=1, small=3, night=30)
    session = {"kafka": {"session_timeout_seconds": SESSION_SECONDS}}
    return [
        Plan(
            "", changes, each * len(STAGES), plant, supervised=False, slots=2, per_second=1_000.0, drain_seconds=180.0,
            overrides=session,
        )
    ]  # fmt: skip


CASE = Case(10, "zombies: a worker of each stage frozen beyond its session", plans, minutes=2)
