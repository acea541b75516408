"""Case 13: Redis, S3 and the webhook take a hundredth of what is written, and all falls behind.

The stages before them wait in a memory that does not grow, stay in their groups, and catch up when the sinks are fast.
"""

from __future__ import annotations

from collections.abc import Sequence

import psutil

from tests.chaos.look import MIB
from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.recovery import members, wait_all_go_on
from tests.chaos.stand import SPEED_SECONDS, Stand
from tests.faults import Bandwidth
from tests.workloads.ends import NOTIFY_STAGE

STAGE_OF = {"redis": "features", "s3": "lake", "webhook": NOTIFY_STAGE}
# About a hundredth of what the changes of a second need.
BYTES_PER_SECOND = {"redis": 12_000, "s3": 4_000, "webhook": 300}
SLOWED_SHARE = 0.3  # of its speed before, at most: else nothing was shown
FILLS_SECONDS = 20.0  # until all that may lie in memory does
FILLED_SOON = {
    "lake": {"buffer_bytes_max": 12 * MIB, "commit_bytes_max": 6 * MIB},
    "limits": {"lane_bytes_max": 8 * MIB},
}
GROWTH_BYTES_MAX = 48 * MIB  # from then on


def plant(stand: Stand, seconds: float) -> None:
    """Have all three slow at once, for a while."""
    wait_all_go_on(stand, "the start")
    stand.wait(SPEED_SECONDS)
    speeds = {stage: stand.speed(stage) for stage in STAGE_OF.values()}
    before, pids = members(stand), {stage: stand.workers.running(stage)[0].pid for stage in STAGE_OF.values()}
    for peer, rate in BYTES_PER_SECOND.items():
        stand.fault(f"{peer} takes {rate:,} bytes a second")
        stand.wired.proxies[peer].put(Bandwidth(rate))
    stand.wait(FILLS_SECONDS)
    start, began = {stage: _rss(pid) for stage, pid in pids.items()}, stand.watch.times[-1]
    stand.wait(seconds)
    for peer, stage in STAGE_OF.items():
        speed, grown = stand.watch.speed(stage, began, stand.watch.times[-1]), _rss(pids[stage]) - start[stage]
        behind = stand.watch.committed["normalize"] - stand.watch.committed[stage]
        stand.say(
            f"{stage}: {speed:,.0f} of {speeds[stage]:,.0f} a second, {behind:,} behind, grew by {grown // MIB} MB"
        )
        if speed > speeds[stage] * SLOWED_SHARE:
            stand.troubles.append(f"{peer} was not slow: {speed:,.0f} of {speeds[stage]:,.0f} a second")
        if grown > GROWTH_BYTES_MAX:
            stand.troubles.append(f"{stage} grew by {grown // MIB} MB while {peer} was slow")
    after = members(stand)
    if left := [stage for stage in STAGE_OF.values() if not before[stage] <= after[stage]]:
        stand.troubles.append(f"{left} were thrown out of their groups")
    stand.wired.clear()
    wait_all_go_on(stand, "slow sinks")


def _rss(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures: how long, and how much comes meanwhile."""
    seconds = {"tiny": 10.0, "small": 35.0, "night": 180.0}[scale]
    changes = figure(scale, tiny=20_000, small=120_000, night=600_000)
    return [
        Plan(
            "", changes, len(STAGE_OF), lambda stand: plant(stand, seconds), wired=True, supervised=False,
            per_second=2_500.0, drain_seconds=150.0, overrides=FILLED_SOON,
        )
    ]  # fmt: skip


CASE = Case(13, "Redis, S3 and the webhook at a hundredth of their speed", plans, minutes=4)
