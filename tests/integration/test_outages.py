"""A service goes away under load and comes back: nothing is lost, nothing doubled, and stages say that they wait."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from tests.oracles import require
from tests.proof.outages import OUTAGES, prove
from tests.services import Kafka, RedisServer


def test_outages_lose_and_double_nothing(
    private_kafka: Callable[..., Kafka], private_redis: Callable[[], RedisServer], tmp_path: Path
) -> None:
    """The webhook, then Redis with its last second, then the broker: the four ends are the source afterwards."""
    folder, seed = tmp_path / "headgate", random.randrange(2**31)

    require(*prove(private_kafka(), private_redis(), folder, outages=OUTAGES, seconds=3, seed=seed))
