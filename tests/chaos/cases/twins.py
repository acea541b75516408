"""Case 16: two workers by mistake in one slot; and workers that are killed again while they recover.

On one machine the second is refused. On two, who writes in transactions is fenced: one of both ends. The other stages
share their partitions, as two workers of different names would.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

import yaml

from tests.chaos.cases.redis_losses import caught_up
from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.recovery import wait_all_go_on
from tests.chaos.stand import Stand
from tests.chaos.workers import Worker
from tests.services import wait_until
from tests.workloads.installation import STAGES

REFUSED_CODE = 3
FENCED = ("normalize", "alerts")
FENCED_SECONDS = 60.0
TOGETHER_SECONDS = 8.0
AGAIN_SECONDS = (0.5, 4.0)  # from the start of Python to the first commits
CRASHES_IN_A_ROW = 3
OTHER_CONFIG = "headgate-other.yaml"


def same_machine(stand: Stand) -> None:
    """Start a second worker in each slot; it must say no, and leave the first alone."""
    for stage in STAGES:
        (first,) = stand.workers.running(stage)
        stand.fault(f"a second {stage} in slot 0")
        second = stand.workers.start(stage)
        code = second.wait()
        if code != REFUSED_CODE or first.ended():
            stand.troubles.append(f"{stage}: the second ended with {code}, the first {_state(first)}")
    if (said := stand.installation.log.read_text(errors="replace").count("is held by process")) < len(STAGES):
        stand.troubles.append(f"{said} of {len(STAGES)} said why they are refused")
    wait_all_go_on(stand, "second workers that were refused")
    stand.sample()


def two_machines(stand: Stand) -> None:
    """Start a second worker under the same name with another state folder, as on another machine."""
    document = yaml.safe_load((stand.installation.folder / "headgate.yaml").read_text())
    document["web"]["state_folder"] = str(stand.installation.folder / "state-other")
    (stand.installation.folder / OTHER_CONFIG).write_text(yaml.safe_dump(document))
    for stage in STAGES:
        (first,) = stand.workers.running(stage)
        stand.fault(f"a second {stage} of the same name on another machine")
        pair = (first, stand.workers.start(stage, config=OTHER_CONFIG))
        if stage in FENCED:
            wait_until(
                lambda pair=pair: any(worker.ended() for worker in pair), f"one {stage} is fenced",  # type: ignore[misc]
                deadline_seconds=FENCED_SECONDS,
            )  # fmt: skip
            stand.wait(1)
            if all(worker.ended() for worker in pair):
                stand.troubles.append(f"both workers of {stage} ended: {[_state(worker) for worker in pair]}")
        else:
            stand.wait(TOGETHER_SECONDS)
            stand.troubles += [f"{stage}: one {_state(worker)}" for worker in pair if worker.ended()]
        for worker in pair:
            if not worker.ended():
                stand.workers.end(worker)
        stand.workers.wait_runs(stand.workers.start(stage))
    wait_all_go_on(stand, "twins on two machines")
    stand.sample()


def _state(worker: Worker) -> str:
    return f"ended with {worker.process.returncode}" if worker.ended() else "runs"


def while_recovering(stand: Stand) -> None:
    """Kill a worker, and its successors before they have recovered."""
    for number in range(stand.plan.faults):
        stage = STAGES[number % len(STAGES)]
        stand.fault(f"{stage} is killed, and {CRASHES_IN_A_ROW} times again while it recovers")
        _crash(stand, stage)
    wait_all_go_on(stand, "crashes during recovery")
    stand.sample()
    _only_killed(stand)


def while_rebuilding(stand: Stand) -> None:
    """Empty Redis under FEATURES, and kill the worker and its successors before what was lost is back."""
    for _ in range(stand.plan.faults):
        stand.fault(f"Redis is emptied, and features killed {CRASHES_IN_A_ROW + 1} times before it is full again")
        stand.redis.flush()
        time.sleep(stand.chance.uniform(*AGAIN_SECONDS))
        _crash(stand, "features")
        stand.wait(stand.chance.uniform(*AGAIN_SECONDS))
    wait_all_go_on(stand, "crashes during a rebuild")
    _only_killed(stand)


def _crash(stand: Stand, stage: str) -> None:
    """Kill a worker, and its successors at moments between the start of Python and their first commits."""
    (worker,) = stand.workers.running(stage)
    for _ in range(CRASHES_IN_A_ROW):
        stand.workers.kill(worker)
        worker = stand.workers.start(stage)
        time.sleep(stand.chance.uniform(*AGAIN_SECONDS))
    stand.workers.kill(worker)
    stand.workers.wait_runs(stand.workers.start(stage))


def _only_killed(stand: Stand) -> None:
    """Note workers that ended by themselves."""
    for worker in stand.workers.all:
        if worker.ended() and worker.process.returncode != -signal.SIGKILL:
            stand.troubles.append(f"{worker.stage} {_state(worker)}")


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures."""
    changes = figure(scale, tiny=4_000, small=10_000, night=300_000)
    crashes = figure(scale, tiny=5, small=5, night=100)
    return [
        Plan("one machine", changes, len(STAGES), same_machine, supervised=False, per_second=800.0),
        Plan("two machines", changes, len(STAGES), two_machines, supervised=False, per_second=800.0),
        Plan("while recovering", changes, crashes, while_recovering, supervised=False, per_second=800.0),
        Plan(
            "while rebuilding", changes, crashes // 2, while_rebuilding, supervised=False, per_second=1_000.0,
            afterwards=caught_up,
        ),
    ]  # fmt: skip


CASE = Case(16, "two workers in one slot; killed again while recovering, while rebuilding", plans, minutes=5)
