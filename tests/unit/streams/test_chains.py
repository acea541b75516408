"""What `headgate.normalize.previous` says of partitions whose offsets Kafka has dropped."""

from __future__ import annotations

import msgspec
import pytest

from connectors.transport.chunk import Assignment
from schemas.errors import SourceUnavailable
from streams.chains import Chains, Link

TOPIC = "headgate.normalize.previous"


def mine(topic: str, partition: int = 0, generation: int = 0) -> Assignment:
    """A partition that was read in this generation before."""
    made = Assignment("parked", topic, partition)
    made.generation = generation
    return made


def record(topic: str, partition: int, table: str, generation: int, previous: int | None) -> tuple[bytes, bytes]:
    """What is kept of one table in one partition."""
    key = msgspec.json.encode([topic, partition, table])
    return key, msgspec.json.encode(Link(generation, previous))


async def test_a_partition_goes_on_behind_the_last_change_of_all_its_tables() -> None:
    """Each was read in its order; what another generation or partition had says nothing of it."""
    kept = dict(
        [
            record("redrive", 0, "patients", 2, 41),
            record("redrive", 0, "visits", 2, 57),
            record("redrive", 0, "wards", 1, 90),
            record("redrive", 0, "bills", 2, None),
            record("redrive", 1, "patients", 2, 7),
        ]
    )
    one, other, fresh = mine("redrive", 0, 2), mine("redrive", 1, 2), mine("redrive", 2)
    chains = Chains(TOPIC, lambda: kept)

    assert {one: 58, other: 8} == await chains.behind([one, other, fresh])
    assert {} == chains.parked(), "nothing was taken up"


async def test_what_cannot_be_read_is_waited_for() -> None:
    """It would end the worker, and with it what all other topics bring."""
    chains = Chains(TOPIC, lambda: {b"x": b"y"})

    with pytest.raises(SourceUnavailable, match="cannot be read"):
        await chains.behind([mine("redrive")])
