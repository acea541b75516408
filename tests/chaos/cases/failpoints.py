"""Case 3: each failpoint of each stage, several times: the process dies there, the next one goes on.

The stages go through their points side by side, each with one worker at a time: it is started with a point armed, dies
there under load, and its successor, armed for the next point, recovers. Now and then a step is also made to fail.
"""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.stand import Stand
from tests.chaos.workers import Worker
from tests.services import wait_until
from tests.workloads.ends import NOTIFY_STAGE
from tests.workloads.installation import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

REACHED_SECONDS = 120.0
SESSION_SECONDS = 3.0
HITS_MAX = 4
REBALANCE = ("rebalance.assigned", "rebalance.committed", "commit.before_wait")
TRANSACTION = ("transaction.before_offsets", "transaction.before_commit", "transaction.after_commit")
COMMIT = ("commit.before_send", "commit.after_answer")
POINTS: dict[str, tuple[str, ...]] = {
    "normalize": ("normalize.before_write", "normalize.after_decode", "normalize.after_write", *TRANSACTION),
    "features": (
        "features.before_write", "features.after_decode", "features.before_entities", "features.after_write",
        "features.before_giving", "features.before_leaving", *COMMIT,
    ),
    "alerts": ("alerts.after_decode", "alerts.after_write", *TRANSACTION),
    "lake": (
        "lake.after_decode", "lake.before_write", "lake.before_commit", "lake.after_commit", "lake.after_write",
        *COMMIT,
    ),
    NOTIFY_STAGE: (
        "notify.before_delivery", "notify.after_delivery", "notify.before_done", "plain.before_flush",
        "plain.after_flush", *COMMIT,
    ),
}  # fmt: skip
# Where an error is what may really come: before anything is durable, or where what is done again changes nothing.
MAY_FAIL: dict[str, tuple[str, ...]] = {
    "normalize": ("normalize.before_write", "normalize.after_decode", *TRANSACTION[:2]),
    "features": POINTS["features"][:4],
    "alerts": ("alerts.after_decode", *TRANSACTION[:2]),
    "lake": POINTS["lake"][:5],
    NOTIFY_STAGE: ("notify.before_delivery", "plain.before_flush"),
}
# Where a worker does not come often: once, or in the leaving. A receiver that refused is left in peace for a while.
SELDOM = {
    "rebalance.assigned": 1, "rebalance.committed": 1, "commit.before_wait": 2, "plain.before_flush": 1,
    "plain.after_flush": 1,
}  # fmt: skip
WHEN_LEAVING = frozenset({"rebalance.committed", "commit.before_wait"})


def points_of(stage: str) -> list[str]:
    """Return the points at which a stage can die."""
    return [*POINTS[stage], *REBALANCE]


def plant(stand: Stand) -> None:
    """Go through the points, stage by stage at the same time."""
    rounds = stand.plan.faults // sum(len(points_of(stage)) for stage in STAGES)
    threads = [
        threading.Thread(target=_guarded, args=(stand, stage, rounds), name=f"points of {stage}", daemon=True)
        for stage in STAGES
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and not stand.troubles:  # one that failed is enough to know
        stand.wait(0.5)
    assert not stand.troubles, stand.troubles[:5]


def _guarded(stand: Stand, stage: str, rounds: int) -> None:
    try:
        _through(stand, stage, rounds)
    except Exception as error:  # noqa: BLE001  the thread's end is looked at by who started it
        stand.troubles.append(f"{stage}: {type(error).__name__}: {error}")


def _through(stand: Stand, stage: str, rounds: int) -> None:
    chance = random.Random(f"{stand.seed} {stage}")
    for worker in stand.workers.running(stage):
        stand.workers.kill(worker)
    for _ in range(rounds):
        points = points_of(stage)
        chance.shuffle(points)
        for point in points:
            die_at(stand, stage, point, chance)
    stand.workers.wait_runs(stand.workers.start(stage))


def die_at(stand: Stand, stage: str, point: str, chance: random.Random) -> None:
    """Start a worker that dies at `point`, and return once it has."""
    leaving = point in WHEN_LEAVING
    hit = SELDOM.get(point, chance.randint(1, HITS_MAX))
    points = {point: f"kill@{hit}"}
    if chance.random() < 0.5 and (others := [name for name in MAY_FAIL[stage] if name != point]):
        points[chance.choice(others)] = "raise@1"
    with _refusing(stand) if point.startswith("plain.") else nullcontext():
        worker = stand.workers.start(stage, points=points)
        stand.workers.wait_runs(worker)
        other = _another(stand, worker) if leaving else None  # its coming takes partitions away
        wait_until(worker.ended, f"{stage} dies at {points}", deadline_seconds=REACHED_SECONDS, poll_seconds=0.05)
    code = worker.process.returncode
    assert code == -signal.SIGKILL, f"{stage} ended with {code}, not at {points}"
    stand.fault(f"{stage} died at {point}")
    if other is not None:
        stand.workers.kill(other)


def _another(stand: Stand, worker: Worker) -> Worker:
    """Start a second worker of a stage once the first has partitions: else both get theirs at the same time."""
    wait_until(
        lambda: worker.ended() or stand.workers.status(worker).get("assigned"), f"{worker.stage} has partitions",
        deadline_seconds=REACHED_SECONDS, poll_seconds=0.05,
    )  # fmt: skip
    return stand.workers.start(worker.stage, 1)


@contextmanager
def _refusing(stand: Stand) -> Iterator[None]:
    """Have the receiver refuse: then alerts go to the topics of those that wait."""
    stand.webhook.refusing = True
    try:
        yield
    finally:
        stand.webhook.refusing = False


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures: every point of every stage, 3 or 20 times."""
    once = sum(len(points_of(stage)) for stage in STAGES)
    rounds = figure(scale, tiny=1, small=3, night=20)
    changes = figure(scale, tiny=4_000, small=60_000, night=1_000_000)
    session = {"kafka": {"session_timeout_seconds": SESSION_SECONDS}}  # each successor waits for it
    return [
        Plan(
            "", changes, once * rounds, plant, supervised=False, per_second=1_000.0, drain_seconds=90.0,
            overrides=session,
        )
    ]  # fmt: skip


CASE = Case(3, "every failpoint of every stage", plans, minutes=4)
