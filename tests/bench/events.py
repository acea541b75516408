"""Debezium PostgreSQL events of 12 columns without schema block, about 870 bytes each, as the bench reads them."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Iterator

from confluent_kafka import Producer

from schemas.document import read_document
from schemas.table import TableSpec

Make = Callable[[int, str], Iterator[tuple[bytes, bytes, int]]]

COLUMNS = """
columns:
  id: long
  patient_id: int
  code: string
  amount: decimal(12,2)
  taken_at: timestamptz
  entered_at: {type: timestamp, encoding: time.MicroTimestamp}
  day: {type: date, encoding: time.Date}
  final: boolean
  score: double
  device: uuid
  note: string
  attempt: int
"""

NOTE = (
    "taken at the ward on the second floor, kept cool, sent to the laboratory within the hour "
    "as the protocol of the clinic wants it"
)

FEATURES = """
features:
  - {view: latest_VIEW, entity: result, columns: [patient_id, code, amount, taken_at, final], event_time: taken_at}
rules:
  - {rule: high, when: after.amount > 9990}
  - {rule: retried, when: after.attempt = 3 and after.score > 0.999}
  - {rule: odd, when: "op = 'update' and after.code = 'K' and after.amount < 0.05"}
"""


def bench_spec(table: str, topic: str) -> TableSpec:
    """Return the spec of the bench's table."""
    text = f"table: {table}\ntopics: [{topic}]\nkey: [id]\n{COLUMNS}" + FEATURES.replace("VIEW", table)
    return read_document(text, TableSpec, name=f"{table}.yaml")


def events(n: int, topic: str, *, seed: int = 7, updates: bool = True) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield key, value and a number to partition by; four fifths are inserts, the rest updates of a recent row."""
    rng = random.Random(seed)
    server, _, table = topic.partition(".public.")
    base_us = 1_795_219_394_000_000
    for i in range(n):
        update = updates and i > 100 and rng.random() < 0.2
        row = i - rng.randrange(1, 100) if update else i
        amount = base64.b64encode(rng.randrange(0, 1_000_000).to_bytes(4, "big")).decode()
        us = base_us + i * 500
        ms, lsn = us // 1000, 26_692_408 + i * 120
        after = (
            f'{{"id":{row},"patient_id":{row % 50_000},"code":"{"KNCG"[row % 4]}","amount":"{amount}",'
            f'"taken_at":"2026-11-20T19:45:{i % 60:02d}.{us % 1_000_000:06d}Z","entered_at":{us},'
            f'"day":{20_400 + i % 300},"final":{"true" if i % 3 else "false"},"score":{rng.random():.6f},'
            f'"device":"7f1c2d3e-0000-4000-8000-{row % 10**12:012d}","note":"sample {i} {NOTE}","attempt":{i % 4}}}'
        )
        source = (
            f'{{"version":"3.7.0.Final","connector":"postgresql","name":"{server}","ts_ms":{ms},"snapshot":"false",'
            f'"db":"clinic","sequence":"[\\"{lsn - 120}\\",\\"{lsn}\\"]","ts_us":{us},"ts_ns":{us}000,'
            f'"schema":"public","table":"{table}","txId":{700 + i},"lsn":{lsn},"xmin":null,"origin":null,'
            f'"origin_lsn":null}}'
        )
        value = (
            f'{{"before":null,"after":{after},"source":{source},"transaction":null,"op":"{"u" if update else "c"}",'
            f'"ts_ms":{ms + 41},"ts_us":{us + 41_841},"ts_ns":{us}257}}'
        )
        yield f'{{"id":{row}}}'.encode(), value.encode(), row


def fill(bootstrap: str, topic: str, n: int, *, partitions: int = 4, make: Make = events) -> float:
    """Write `n` events to `topic`, whose partition is the row's number modulo `partitions`; return the mean size."""
    producer = Producer({
        "bootstrap.servers": bootstrap, "compression.type": "lz4", "linger.ms": 50,
        "queue.buffering.max.messages": 500_000, "enable.idempotence": True,
    })  # fmt: skip
    size = 0
    for key, value, number in make(n, topic):
        size += len(value)
        while True:
            try:
                producer.produce(topic, value, key, number % partitions)
                break
            except BufferError:
                producer.poll(0.1)
    until = time.monotonic() + 300
    while producer.flush(5) and time.monotonic() < until:
        continue
    return size / max(n, 1)
