"""The source of a run: what a maker makes, straight into Kafka, at any speed."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.chaos.made import Headers, Maker
from tests.chaos.tables import TABLES

RECORD_BYTES_MAX = 16 * 1024 * 1024
POLL_RECORDS = 200
_QUEUE_SECONDS, _FLUSH_SECONDS = 0.2, 300.0


class Source(Maker):
    """A maker whose records are produced; idempotent, so that each is there once, in order, also after an outage."""

    def __init__(self, bootstrap: str, prefix: str, seed: int, *, keys_max: int = 12_000) -> None:
        """Create the topics."""
        super().__init__(prefix, seed, self._produce, keys_max=keys_max)
        self._failures: list[str] = []
        self._produced = 0
        self._producer = Producer({
            "bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 10, "compression.type": "lz4",
            "message.max.bytes": RECORD_BYTES_MAX, "message.timeout.ms": 600_000, "log_level": 0,
            "queue.buffering.max.messages": 200_000, "queue.buffering.max.kbytes": 256_000,
            "reconnect.backoff.max.ms": 500, "on_delivery": self._delivered, "delivery.report.only.error": True,
        })  # fmt: skip
        limits = {"max.message.bytes": str(RECORD_BYTES_MAX)}
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        topics = [NewTopic(self.topic(name), table.partitions, 1, config=limits) for name, table in TABLES.items()]
        for done in admin.create_topics(topics).values():
            done.result(30)

    def flush(self) -> None:
        """Return once all is acknowledged.

        Raises:
            AssertionError: a record was not.
        """
        assert self._producer.flush(_FLUSH_SECONDS) == 0, "every record was acknowledged"
        assert not self._failures, self._failures[:5]

    def _delivered(self, error: Any, _: Any) -> None:
        if error is not None:
            self._failures.append(str(error))

    def _produce(self, topic: str, value: bytes | None, key: bytes, partition: int, headers: Headers) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, partition, headers=headers)
            except BufferError:
                self._producer.poll(_QUEUE_SECONDS)
                continue
            self._produced += 1
            if not self._produced % POLL_RECORDS:
                self._producer.poll(0)
            return
