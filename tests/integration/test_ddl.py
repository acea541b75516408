"""Tables of a real PostgreSQL and a real MariaDB are changed while rows flow: the lake and Redis are the sources."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.oracles import require
from tests.proof.ddl import prove
from tests.services import Connect, Kafka, MariaDB, Postgres, RedisServer
from tests.workloads.changing_sources import SOURCES, Servers


@pytest.fixture
def servers(kafka: Kafka, connect: Connect, postgres: Postgres, mariadb: MariaDB) -> Servers:
    """Both databases, and what follows them."""
    return Servers(kafka, connect, postgres, mariadb)


def test_lake_and_redis_are_the_sources_though_their_tables_change(
    servers: Servers, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Fourteen changes of schemas, no stage started again, nothing in quarantine."""
    seed = random.randrange(2**31)
    require(*prove(servers, redis_server, tmp_path / "headgate", sources=list(SOURCES), rows=600, seed=seed))
