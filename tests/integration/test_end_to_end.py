"""A row changed in a real PostgreSQL is, once, on the output topic, in Redis, at the webhook and in the lake."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.oracles import require
from tests.proof.end_to_end import RealParts, prove
from tests.services import Connect, Kafka, Postgres, RedisServer


@pytest.fixture
def parts(kafka: Kafka, redis_server: RedisServer, postgres: Postgres, connect: Connect) -> RealParts:
    """The real services."""
    return RealParts(kafka, redis_server, postgres, connect)


@pytest.mark.parametrize("kills", [0, 2], ids=["calm", "killed"])
def test_the_four_ends_are_the_source(parts: RealParts, tmp_path: Path, kills: int) -> None:
    """Inserts, updates, deletes and key changes of three tables, also while each stage is killed under load."""
    require(*prove(parts, tmp_path / "headgate", changes=3_000, kills=kills, seed=random.randrange(2**31)))
