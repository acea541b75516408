"""MongoDB's documents with clashing fields become one table of the lake, by the spec that they propose themselves."""

from __future__ import annotations

import random
from pathlib import Path

from tests.oracles import require
from tests.proof.clashing_fields import prove
from tests.services import Kafka, RedisServer


def test_each_field_is_in_the_lake_what_it_is_in_its_document(
    kafka: Kafka, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Forty fields, each of seven kinds, null or not there: DuckDB reads what MongoDB holds."""
    require(*prove(kafka, redis_server, tmp_path, documents=5_000, seed=random.randrange(2**31)))
