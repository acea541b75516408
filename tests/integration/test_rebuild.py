"""Redis emptied under load, where only the lake has all of it; and one of two that fill it is killed meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from tests.oracles import require
from tests.proof.rebuild import prove
from tests.services import Kafka, RedisServer


def test_an_emptied_redis_is_the_source_again(
    kafka: Kafka, private_redis: Callable[[], RedisServer], tmp_path: Path
) -> None:
    """All stages as processes, FEATURES as two; no row is missing, none is left over."""
    folder, seed = tmp_path / "headgate", random.randrange(2**31)

    require(*prove(kafka, private_redis(), folder, entities=6_000, changes=1_500, kill=True, seed=seed, workers=2))
