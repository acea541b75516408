"""Plays a model's steps as the records that Debezium would make of them, straight into Kafka.

For tests that need a broker of their own, or broken records: the shapes are those of real captures of the PostgreSQL
connector 3.7 without schema block, the order is that of commits, and log positions are given when a statement runs, so
that they do not rise from one transaction to the next. Idempotent, so the records are there once, also after an outage.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.oracles import Shape
from tests.workloads.ledger_of_changes import LedgerOfChanges
from tests.workloads.model import OUT_OF_LINE, End, Key, Row, RowChange, Step

PLACEHOLDER = "__debezium_unavailable_value"
INLINE_BYTES_MAX = 2_000
_QUEUE_WAIT_SECONDS = 0.2
Headers = Sequence[tuple[str, bytes]]


class DebeziumPlayer:
    """Produces the records of committed steps; `ledger` holds what was committed."""

    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        shapes: Mapping[str, Shape],
        *,
        partitions: int = 4,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Create a topic per table, named like the connector's, with `settings`."""
        self._prefix, self._shapes, self.partitions = prefix, shapes, partitions
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 5,
                "compression.type": "lz4",
                "message.max.bytes": 10_000_000,
                "message.timeout.ms": 600_000,
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 512_000,
                "log_level": 0,
                "reconnect.backoff.max.ms": 500,
            }
        )
        self._failures: list[str] = []
        self._lsn, self._tx = 26_000_000, 700
        self._last_commit: int | None = None
        self._lsns: dict[int, tuple[RowChange, int]] = {}
        self.ledger = LedgerOfChanges()
        self.produced = 0
        admin = AdminClient({"bootstrap.servers": bootstrap})
        topics = [NewTopic(self.topic(table), partitions, 1, config=dict(settings or {})) for table in shapes]
        for done in admin.create_topics(topics).values():
            done.result(30)

    def topic(self, table: str) -> str:
        """Return the source topic of a table."""
        return f"{self._prefix}.public.{table}"

    def play(self, steps: Iterable[Step]) -> None:
        """Produce the records of `steps` and return once the broker has acknowledged all."""
        for step in steps:
            self.do(step)
        self.flush()

    def do(self, step: Step) -> int:
        """Take one step; return how many changes it committed."""
        if isinstance(step, RowChange):
            self._lsn += 56
            self._lsns[id(step)] = (step, self._lsn)
        committed = self.ledger.follow(step)
        if isinstance(step, End):
            self._lsn += 48
            self._tx += 1
            for change in committed:
                self._emit(change, self._lsns[id(change)][1])
            if committed:
                self._last_commit = self._lsn
            held = [change for changes in self.ledger.open_changes() for change in changes]
            self._lsns = {id(change): self._lsns[id(change)] for change in held}
        return sum(change.changes for change in committed)

    def send(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers | None = None
    ) -> None:
        """Hand one record to the producer; waits while its queue is full."""
        while True:
            try:
                self._producer.produce(
                    topic, value, key, partition=partition, headers=[*(headers or [])], on_delivery=self._delivered
                )
            except BufferError:
                self._producer.poll(_QUEUE_WAIT_SECONDS)
                continue
            self._producer.poll(0)
            self.produced += 1
            return

    def flush(self, seconds: float = 300.0) -> None:
        """Return once all is acknowledged.

        Raises:
            AssertionError: a record was not.
        """
        assert self._producer.flush(seconds) == 0, "every record was acknowledged"
        assert not self._failures, self._failures[:5]

    def _delivered(self, error: Any, _: Any) -> None:
        if error is not None:
            self._failures.append(str(error))

    # ── the records of one change ──

    def _emit(self, change: RowChange, lsn: int) -> None:
        shape = self._shapes[change.table]
        old, new = change.key_before, change.key_after
        if old is not None and old != new:
            marks = [("__debezium.newkey", key_json(shape, new))] if new is not None else []
            self._put(shape, old, self._envelope(shape, "d", lsn, before=_identity(shape, old)), marks)
            self._put(shape, old, None, marks)
        if new is not None:
            assert change.after is not None, "a new key has a row"
            op = "u" if old == new else "c"
            marks = [("__debezium.oldkey", key_json(shape, old))] if old is not None and old != new else []
            after = {name: encode(shape.columns[name], value) for name, value in change.after.items()}
            if change.before is not None:
                after |= _placeholders(shape, change.before, change.touched)
            self._put(shape, new, self._envelope(shape, op, lsn, after=after), marks)

    def _put(self, shape: Shape, key: Key, value: dict[str, Any] | None, headers: Headers) -> None:
        key_bytes = key_json(shape, key)
        data = None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        self.send(self.topic(shape.table), self.partition(key_bytes), key_bytes, data, headers)

    def partition(self, key: bytes) -> int:
        """Return the partition of a key."""
        return zlib.crc32(key) % self.partitions

    def _envelope(
        self, shape: Shape, op: str, lsn: int, *, before: Row | None = None, after: Row | None = None
    ) -> dict[str, Any]:
        sequence = json.dumps(
            [None if self._last_commit is None else str(self._last_commit), str(lsn)], separators=(",", ":")
        )
        return envelope(shape.table, op, lsn, sequence, prefix=self._prefix, tx=self._tx, before=before, after=after)


def envelope(
    table: str,
    op: str,
    lsn: int,
    sequence: str,
    *,
    prefix: str,
    tx: int,
    before: Row | None = None,
    after: Row | None = None,
) -> dict[str, Any]:
    """Return a value as the PostgreSQL connector writes it."""
    now_ns = time.time_ns() // 1000 * 1000
    times = {"ts_ms": now_ns // 10**6, "ts_us": now_ns // 1000, "ts_ns": now_ns}
    source = {
        "version": "3.7.0.Final",
        "connector": "postgresql",
        "name": prefix,
        "ts_ms": times["ts_ms"],
        "snapshot": "false",
        "db": "clinic",
        "sequence": sequence,
        "ts_us": times["ts_us"],
        "ts_ns": times["ts_ns"],
        "schema": "public",
        "table": table,
        "txId": tx,
        "lsn": lsn,
        "xmin": None,
        "origin": None,
        "origin_lsn": None,
    }
    return {"before": before, "after": after, "source": source, "transaction": None, "op": op, **times}


def key_json(shape: Shape, key: Key) -> bytes:
    """Return the record's key."""
    values = {name: encode(shape.columns[name], value) for name, value in zip(shape.key, key, strict=True)}
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def _identity(shape: Shape, key: Key) -> Row:
    """Return the `before` of a delete with default identity: the key, and null for the rest."""
    return {**dict.fromkeys(shape.columns), **json.loads(key_json(shape, key))}


def _placeholders(shape: Shape, before: Row, touched: frozenset[str]) -> Row:
    """Return what stands for the columns that lie out of line and that the statement did not set."""
    untouched = OUT_OF_LINE[shape.table] - touched
    large = [name for name in untouched if before[name] is not None and len(before[name]) > INLINE_BYTES_MAX]
    text = {"string": PLACEHOLDER, "binary": base64.b64encode(PLACEHOLDER.encode()).decode()}
    return {name: text[shape.columns[name]] for name in large}


def encode(type_text: str, value: Any) -> Any:
    """Return a value as Debezium writes it: adaptive times, precise decimals, base64."""
    if value is None:
        return None
    match value:
        case Decimal():
            unscaled = int(value.scaleb(int(type_text.rstrip(")").split(",")[1])))
            return base64.b64encode(unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)).decode()
        case bytes():
            return base64.b64encode(value).decode()
        case datetime() if type_text == "timestamptz":
            return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        case datetime():
            return round((value - datetime(1970, 1, 1)).total_seconds() * 10**6)  # noqa: DTZ001  a column without zone
        case date():
            return (value - date(1970, 1, 1)).days
        case tuple():
            return list(value)
        case _ if type_text == "time":
            return ((value.hour * 60 + value.minute) * 60 + value.second) * 10**6 + value.microsecond
        case _:
            return value
