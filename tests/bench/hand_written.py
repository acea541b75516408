"""What people write instead, for comparison: consume, decode, rebuild, encode, produce, in one short loop.

It knows one table, checks nothing, keeps no order, repeats after a crash what it had not committed, and loses what it
committed too soon. Run as a process of its own: `python -m tests.bench.hand_written`.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
from confluent_kafka import Producer

from tests.bench.yardstick import TUNED, cpu_seconds, figures, reader

OPERATIONS = {"c": "insert", "u": "update", "d": "delete", "r": "snapshot"}
EPOCH, DAY_ONE = datetime(1970, 1, 1, tzinfo=UTC), date(1970, 1, 1)


def change(envelope: dict[str, Any]) -> dict[str, Any]:
    """Return the change that an envelope of the bench's table holds."""
    after, source = envelope["after"], envelope["source"]
    after["amount"] = f"{int.from_bytes(base64.b64decode(after['amount']), 'big', signed=True) / 100:.2f}"
    after["entered_at"] = (EPOCH + timedelta(microseconds=after["entered_at"])).isoformat()
    after["day"] = (DAY_ONE + timedelta(days=after["day"])).isoformat()
    return {
        "op": OPERATIONS[envelope["op"]], "key": {"id": after["id"]}, "after": after, "lsn": source["lsn"],
        "ts": (EPOCH + timedelta(microseconds=source["ts_us"])).isoformat(), "table": source["table"],
    }  # fmt: skip


def run(bootstrap: str, topic: str, output: str, partitions: int, total: int) -> dict[str, float]:
    """Read and write `total` records; return events a second, processor seconds and resident bytes."""
    consumer = reader(bootstrap, topic, partitions, TUNED)
    producer = Producer({
        "bootstrap.servers": bootstrap, "compression.type": "lz4", "linger.ms": 5, "enable.idempotence": True,
        "queue.buffering.max.messages": 500_000, "log_level": 0,
    })  # fmt: skip
    seen = 0
    t0, c0 = time.monotonic(), cpu_seconds()
    while seen < total:
        messages = consumer.consume(2_000, 1.0)
        for message in messages:
            value = orjson.dumps(change(orjson.loads(message.value() or b"null")))
            producer.produce(output, value, message.key(), message.partition() or 0)
        producer.poll(0)
        seen += len(messages)
        if seen % 50_000 < len(messages):
            producer.flush()
            consumer.commit(asynchronous=False)
    producer.flush()
    seconds, cpu = time.monotonic() - t0, cpu_seconds() - c0
    consumer.close()
    return figures(seen, seconds, cpu)


if __name__ == "__main__":
    bootstrap_, topic_, output_, partitions_, total_ = sys.argv[1:]
    print(json.dumps(run(bootstrap_, topic_, output_, int(partitions_), int(total_))))
