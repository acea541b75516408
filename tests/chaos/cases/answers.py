"""Case 4: every sink answers in every manner: it rejects, fails after it has written, holds, is slow.

The output topics have no layer that knows Kafka's language: there the same is done to connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.recovery import wait_all_go_on
from tests.chaos.stand import Stand
from tests.faults import DOWN, UP, Bandwidth, Cut, Direction, HalfOpen, Reset, Toxic
from tests.faults.manners import FAULTY, Manner
from tests.faults.redis_answers import ERRORS
from tests.faults.s3_answers import WRITES

SINKS = ("topics", "redis", "lake", "webhook")
SECONDS = 4.0
HELD_SECONDS = 8.0  # beyond the time-out of Redis
DID_SECONDS = 45.0  # beyond the rest that a refusing receiver is given
SAMPLE_EVERY = 4
ON_A_CONNECTION: dict[Manner, tuple[Toxic, Direction]] = {
    Manner.REJECT: (Cut(), UP),
    Manner.FAIL_AFTER_WRITE: (Reset(), DOWN),
    Manner.HOLD: (HalfOpen(), DOWN),
    Manner.SLOW: (Bandwidth(100_000), UP),
}


def plant(stand: Stand) -> None:
    """Go through all pairs, in an order of the seed; now and then look at what is durable while one lasts."""
    pairs = [(sink, manner) for sink in SINKS for manner in FAULTY]
    for number in range(stand.plan.faults):
        if number % len(pairs) == 0:
            stand.chance.shuffle(pairs)
        sink, manner = pairs[number % len(pairs)]
        stand.fault(f"{sink}: {manner}")
        with _answering(stand, sink, manner) as did:
            stand.wait(HELD_SECONDS if manner is Manner.HOLD else SECONDS)
            if number % SAMPLE_EVERY == 1:
                stand.sample()
            if not stand.wait_for(did, seconds=DID_SECONDS):
                stand.troubles.append(f"{sink}: {manner} did nothing")
        wait_all_go_on(stand, f"{sink}: {manner}")


@contextmanager
def _answering(stand: Stand, sink: str, manner: Manner) -> Iterator[Callable[[], int]]:
    """Have a sink answer in a manner for the body; what is yielded says how often it did."""
    wire = stand.wired
    if sink == "topics":
        (toxic, direction), proxy = ON_A_CONNECTION[manner], wire.proxies["kafka"]
        before = proxy.hits.total()
        with proxy.having(toxic, directions=(direction,)):
            yield lambda: proxy.hits.total() - before
        return
    if sink == "webhook":
        counts = stand.webhook.did
        before = counts.total()
        stand.webhook.put(manner)
    elif sink == "redis":
        counts = wire.redis_answers.did
        before = counts.total()
        wire.redis_answers.put(manner, error=stand.chance.choice(ERRORS))
    else:
        counts = wire.s3_answers.did
        before = counts.total()
        wire.s3_answers.put(manner, methods=WRITES)
    try:
        yield lambda: counts.total() - before
    finally:
        stand.webhook.put(Manner.TAKE)
        wire.clear()


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures: each pair once, or ten times."""
    pairs = len(SINKS) * len(FAULTY)
    changes = figure(scale, tiny=4_000, small=30_000, night=500_000)
    faults = figure(scale, tiny=4, small=pairs, night=10 * pairs)
    return [Plan("", changes, faults, plant, wired=True, per_second=600.0, drain_seconds=120.0)]


CASE = Case(4, "sink answers: reject, fail after write, hold, slow, of each sink", plans, minutes=3)
