"""Case 8: every toxic between the workers and every peer, a while each.

What is behind Kafka's line must be in its group all the time: a slow or silent sink throws nobody out. With Kafka's own
line a worker may be missed and must come back.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.recovery import members, wait_all_go_on
from tests.chaos.stand import Stand
from tests.chaos.wire import PEERS
from tests.faults import BOTH, DOWN, UP, Bandwidth, Cut, Direction, HalfOpen, Latency, Reset, Slice, Toxic
from tests.services import wait_until
from tests.workloads.installation import STAGES

SMALL_SECONDS, NIGHT_SECONDS, TINY_SECONDS = 15.0, 120.0, 2.0
BACK_SECONDS = 60.0
TOUCHED_SECONDS = 45.0  # beyond the rest that a refusing receiver is given
OTHERS = PEERS[1:]
BYTES_PER_SECOND = {"kafka": 200_000, "redis": 100_000, "s3": 200_000, "webhook": 5_000}
NAMES = ("latency", "cut", "half-open", "reset", "bandwidth", "slice")


def toxic_of(name: str, peer: str) -> Toxic:
    """Return a toxic with the figures of a peer."""
    toxics: dict[str, Toxic] = {
        "latency": Latency(0.1, 0.2), "cut": Cut(), "half-open": HalfOpen(), "reset": Reset(),
        "bandwidth": Bandwidth(BYTES_PER_SECOND[peer]), "slice": Slice(),
    }  # fmt: skip
    return toxics[name]


def plant(stand: Stand, seconds: float) -> None:
    """Have the toxics at Kafka one by one, and at the other three side by side, each another one."""
    directions: list[tuple[Direction, ...]] = [(UP,), (DOWN,), BOTH]
    turns = [{"kafka": name} for name in NAMES]
    turns += [{peer: NAMES[(turn + 2 * n) % len(NAMES)] for n, peer in enumerate(OTHERS)} for turn in range(len(NAMES))]
    stand.chance.shuffle(turns)
    for turn in turns:
        before = members(stand)
        hits = {peer: stand.wired.proxies[peer].hits.total() for peer in turn}
        for peer, name in turn.items():
            where = stand.chance.choice(directions)
            stand.fault(f"{peer}: {name}, {' and '.join(where)}")
            stand.wired.proxies[peer].put(toxic_of(name, peer), directions=where)
        stand.wait(seconds)
        for peer, name in turn.items():
            proxy = stand.wired.proxies[peer]
            if not stand.wait_for(lambda: proxy.hits.total() > hits[peer], seconds=TOUCHED_SECONDS):  # noqa: B023
                stand.troubles.append(f"{peer}: {name} touched nothing")
            proxy.clear()
        what = ", ".join(f"{peer}: {name}" for peer, name in turn.items())
        wait_all_go_on(stand, what)
        wait_until(
            lambda: all(members(stand).values()), f"every group has members after {what}", deadline_seconds=BACK_SECONDS
        )
        if "kafka" not in turn and (left := [s for s in STAGES if not before[s] <= members(stand)[s]]):
            stand.troubles.append(f"{what}: {left} were thrown out of their groups")
    stand.sample()


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures: each toxic at each peer, once."""
    seconds = {"tiny": TINY_SECONDS, "small": SMALL_SECONDS, "night": NIGHT_SECONDS}[scale]
    changes = figure(scale, tiny=4_000, small=20_000, night=800_000)
    return [
        Plan(
            "", changes, len(NAMES) * len(PEERS), lambda stand: plant(stand, seconds), wired=True, per_second=600.0,
            drain_seconds=120.0,
        )
    ]  # fmt: skip


CASE = Case(8, "every toxic at every peer", plans, minutes=5)
