"""Case 12: one record in a thousand is broken; and records of 10 MB that are right go all the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.stand import Stand
from tests.oracles import Verdict
from tests.proof.poison import prove
from tests.services import Kafka, RedisServer

ONE_IN = 1_000
LARGE_BYTES = 10 * 1024 * 1024
MESSAGE_BYTES_MAX = 12 * 1024 * 1024
BETWEEN_SECONDS = 2.0


def plant(stand: Stand) -> None:
    """Put a large record among the others, now and then."""
    for _ in range(stand.plan.faults):
        stand.fault(f"an order of {LARGE_BYTES:,} bytes")
        stand.feeder.do(lambda: stand.source.make_large(LARGE_BYTES))
        stand.wait(BETWEEN_SECONDS)


def plans(scale: Scale) -> Sequence[Plan]:
    """Return both."""
    records = figure(scale, tiny=4_000, small=30_000, night=500_000)

    def poisoned(kafka: Kafka, redis: RedisServer, folder: Path, seed: int) -> list[Verdict]:
        return prove(kafka, redis, folder, records=records, one_in=ONE_IN, seed=seed)

    large = {"kafka": {"message_bytes_max": MESSAGE_BYTES_MAX}, "limits": {"record_bytes_max": MESSAGE_BYTES_MAX}}
    faults = figure(scale, tiny=1, small=3, night=20)
    changes = figure(scale, tiny=4_000, small=20_000, night=200_000)
    return [
        Plan("1 in 1000 broken", records, records // ONE_IN, _never, whole=poisoned),
        Plan("records of 10 MB", changes, faults, plant, overrides=large, per_second=2_000.0),
    ]


def _never(stand: Stand) -> None:
    raise AssertionError("its run is its own")


CASE = Case(12, "poison 1 in 1,000; a 10 MB legal record", plans, minutes=2)
