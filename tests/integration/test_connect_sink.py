"""A real JDBC sink of Kafka Connect, by the generated settings, keeps tables equal to the latest topics."""

from __future__ import annotations

import random
from pathlib import Path

from tests.oracles import require
from tests.proof.connect_sink import prove
from tests.proof.end_to_end import RealParts
from tests.services import Connect, Kafka, Postgres, RedisServer


def test_a_sinks_tables_are_the_sources(
    kafka: Kafka, redis_server: RedisServer, postgres: Postgres, connect: Connect, tmp_path: Path
) -> None:
    """Inserts, updates, deletes, changes of keys and values that were not sent again, of three tables."""
    parts = RealParts(kafka, redis_server, postgres, connect)

    require(*prove(parts, tmp_path / "headgate", changes=1_000, kills=0, seed=random.randrange(2**31)))
