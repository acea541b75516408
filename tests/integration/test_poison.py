"""Broken records go to quarantine by their reason; every other one goes on, in order."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.oracles import require
from tests.proof.poison import prove
from tests.services import Kafka, RedisServer
from tests.workloads.poison import DEEP_LEVELS, KINDS, LARGE_BYTES


def test_a_poisoned_stream_is_sorted_out(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> None:
    """Ten ways of being broken, four times each among ten thousand records."""
    require(
        *prove(kafka, redis_server, tmp_path / "headgate", records=10_000, one_in=250, seed=random.randrange(2**31))
    )


def test_the_ten_ways_are_what_they_say() -> None:
    """Each broken record is broken in its own way, and by the size that it claims."""
    values = {kind.name: kind.value(7) for kind in KINDS}

    assert 10 == len(values) == len({kind.reason for kind in KINDS})
    assert len(values["5 MB"]) > LARGE_BYTES
    assert DEEP_LEVELS == values["10,000 levels"].count(b"[") - values["no op"].count(b"[")
    with pytest.raises(UnicodeDecodeError):
        values["not UTF-8"].decode()
