"""A row changed in a real PostgreSQL is, once, on the output topic, in Redis, at the webhook and in the lake."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest

from tests.integration.verifying import equal_under_load, finds_what_is_planted
from tests.oracles import require
from tests.proof.end_to_end import RealParts, prove
from tests.services import Connect, Kafka, Postgres, RedisServer


@pytest.fixture
def parts(kafka: Kafka, redis_server: RedisServer, postgres: Postgres, connect: Connect) -> RealParts:
    """The real services."""
    return RealParts(kafka, redis_server, postgres, connect)


def test_the_four_ends_are_the_source_and_verify_says_so(parts: RealParts, tmp_path: Path) -> None:
    """Inserts, updates, deletes and key changes of three tables; `headgate verify` finds only what is planted."""
    plant = partial(finds_what_is_planted, redis_server=parts.redis)
    seed = random.randrange(2**31)
    folder = tmp_path / "headgate"
    verdicts = prove(
        parts, folder, changes=3_000, kills=0, seed=seed, under_load=equal_under_load, afterwards=plant
    )  # fmt: skip
    require(*verdicts)


def test_the_four_ends_are_the_source_though_every_stage_is_killed(parts: RealParts, tmp_path: Path) -> None:
    """Twice each, under load."""
    require(*prove(parts, tmp_path / "headgate", changes=3_000, kills=2, seed=random.randrange(2**31)))
