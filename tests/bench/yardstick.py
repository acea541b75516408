"""What the same machine does at best in the same run: raw consume, and consume with `orjson.loads` of every value.

For records behind schema blocks there is msgspec, which passes over the block without making anything of it.
With the client's own defaults a consumer waits a second whenever its queue was full; tuned, it fetches as ours does.
Run as a process of its own, so that its memory and processor time are its own: `python -m tests.bench.yardstick`.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import psutil
from confluent_kafka import Consumer, TopicPartition


class _Behind(msgspec.Struct, gc=False):
    """A record behind a schema block, which is passed over."""

    payload: dict[str, Any]


passing_block = msgspec.json.Decoder(_Behind).decode
DECODES: dict[str, Callable[[bytes], Any] | None] = {"raw": None, "decode": orjson.loads, "passing": passing_block}
TUNED = {"fetch.queue.backoff.ms": 5, "queued.max.messages.kbytes": 32_768}


def run(
    bootstrap: str,
    topic: str,
    partitions: int,
    total: int,
    *,
    decode: Callable[[bytes], Any] | None,
    settings: dict[str, int],
) -> dict[str, float]:
    """Read `total` records; return events a second, processor seconds and resident bytes."""
    consumer = reader(bootstrap, topic, partitions, settings)
    seen = 0
    t0, c0 = time.monotonic(), cpu_seconds()  # what the client fetches ahead is part of the work
    while seen < total:
        messages = consumer.consume(2_000, 1.0)
        if decode is not None:
            for message in messages:
                decode(message.value() or b"null")
        seen += len(messages)
    seconds, cpu = time.monotonic() - t0, cpu_seconds() - c0
    consumer.close()
    return figures(seen, seconds, cpu)


def reader(bootstrap: str, topic: str, partitions: int, settings: dict[str, int]) -> Consumer:
    """Return a consumer at the beginning of a topic's partitions; nothing of it is committed unless told."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": f"bench-{uuid.uuid4()}", "enable.auto.commit": False,
        "auto.offset.reset": "earliest", "log_level": 0, **settings,
    })  # fmt: skip
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    return consumer


def figures(events: int, seconds: float, cpu: float) -> dict[str, float]:
    """Return what the bench reads from a process of its own, with its resident bytes now."""
    rss = psutil.Process().memory_info().rss
    return {"events_per_second": events / seconds, "cpu_seconds": cpu, "events": events, "rss_bytes": rss}


def cpu_seconds() -> float:
    """Return the processor seconds that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    bootstrap_, topic_, partitions_, total_, decode_, tuned_ = sys.argv[1:]
    found = run(
        bootstrap_, topic_, int(partitions_), int(total_),
        decode=DECODES[decode_], settings=TUNED if tuned_ == "tuned" else {},
    )  # fmt: skip
    print(json.dumps(found))
