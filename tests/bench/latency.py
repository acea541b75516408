"""From the source's commit to the feature in Redis, at a steady rate: NORMALIZE and FEATURES running, nothing else.

An event is produced at the moment it says that it was committed; every fortieth is looked for in Redis until it is
there.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
from confluent_kafka import Producer

from tests.bench.events import events

RATE = 2_000  # events a second
SAMPLE_EVERY = 40
WARM_SECONDS = 10.0
LOOK_SECONDS = 0.002
GIVE_UP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from produce to Redis."""

    samples: int
    p50: float
    p99: float
    worst: float


def measure(
    bootstrap: str, topic: str, client: redis.Redis, key_of: Callable[[int], str], *, seconds: float
) -> Latency:
    """Produce at `RATE` for `seconds` and return how long the sampled events took."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1, "compression.type": "lz4"})
    waiting: dict[int, float] = {}
    taken: list[float] = []
    began = time.monotonic()
    stream = events(int(RATE * seconds), topic, updates=False)
    for sent, (key, value, row) in enumerate(stream):
        while (now := time.monotonic()) < began + sent / RATE:
            _look(client, key_of, waiting, taken)
            producer.poll(0)
            time.sleep(min(LOOK_SECONDS, max(began + sent / RATE - now, 0)))
        producer.produce(topic, value, key, row % 4)
        if sent % SAMPLE_EVERY == 0 and now > began + WARM_SECONDS:
            waiting[row] = time.monotonic()
    producer.flush(10)
    until = time.monotonic() + GIVE_UP_SECONDS
    while waiting and time.monotonic() < until:
        _look(client, key_of, waiting, taken)
        time.sleep(LOOK_SECONDS)
    assert not waiting, f"{len(waiting)} of {len(taken) + len(waiting)} sampled events never came to Redis"
    ordered = sorted(taken)
    return Latency(len(ordered), statistics.median(ordered), ordered[int(len(ordered) * 0.99)], ordered[-1])


def _look(client: redis.Redis, key_of: Callable[[int], str], waiting: dict[int, float], taken: list[float]) -> None:
    if not waiting:
        return
    rows = list(waiting)
    pipeline = client.pipeline(transaction=False)
    for row in rows:
        pipeline.exists(key_of(row))
    now = time.monotonic()
    for row, there in zip(rows, pipeline.execute(), strict=True):
        if there:
            taken.append(now - waiting.pop(row))
