"""The source of a run: what a maker makes, straight into Kafka, at any speed."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from tests.chaos.made import Headers, Maker
from tests.chaos.tables import TABLES
from tests.services import wait_until

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
        self._bootstrap = bootstrap
        self._producer = self._new_producer()
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        for table in TABLES:
            self._make_topic(table)

    def _new_producer(self) -> Producer:
        return Producer({
            "bootstrap.servers": self._bootstrap, "enable.idempotence": True, "linger.ms": 10,
            "compression.type": "lz4", "message.max.bytes": RECORD_BYTES_MAX, "message.timeout.ms": 600_000,
            "log_level": 0, "queue.buffering.max.messages": 200_000, "queue.buffering.max.kbytes": 256_000,
            "reconnect.backoff.max.ms": 500, "on_delivery": self._delivered, "delivery.report.only.error": True,
        })  # fmt: skip

    def _make_topic(self, table: str) -> None:
        limits = {"max.message.bytes": str(RECORD_BYTES_MAX)}
        topic = NewTopic(self.topic(table), len(self.history.logs[table]), 1, config=limits)
        self._admin.create_topics([topic])[topic.topic].result(30)

    def make_anew(self, table: str) -> None:
        """Delete a table's topic and make it again: what comes now is another life of it."""
        self.flush()
        topic = self.topic(table)
        self._admin.delete_topics([topic])[topic].result(30)
        wait_until(lambda: topic not in self._admin.list_topics(timeout=10).topics, f"{topic} is gone")
        self.history.begin_anew(table)
        self._make_topic(table)
        wait_until(lambda: topic in self._admin.list_topics(timeout=10).topics, f"{topic} is there")
        self._producer = self._new_producer()  # this one knows nothing of the topic that was

    def enlarge(self, table: str, partitions: int) -> None:
        """Give a table's topic more partitions: from now on keys lie elsewhere."""
        self.flush()
        topic = self.topic(table)
        self._admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(30)
        wait_until(
            lambda: len(self._admin.list_topics(topic, timeout=10).topics[topic].partitions) == partitions,
            f"{topic} has {partitions} partitions",
        )
        self.history.enlarge(table, partitions)
        self._producer = self._new_producer()

    def take(self, table: str, partition: int, lost: range) -> None:
        """Delete all below `lost.stop`, as retention does; what lies within `lost` nobody had read."""
        self.flush()
        place = TopicPartition(self.topic(table), partition, lost.stop)
        self._admin.delete_records([place])[place].result(30)
        self.history.logs[table][partition].gone = lost

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
