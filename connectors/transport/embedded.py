"""The broker of the demo and of unit tests: librdkafka's own mock cluster, inside this process, on loopback.

It lives as long as its object. Its limits: about 100,000 records or 5 MB kept per partition, four partitions per topic,
no administration, no topic ids, and transactions that mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from schemas.errors import SourceUnavailable

PARTITIONS = 4
ANSWER_SECONDS_MAX = 10.0
_READ_RECORDS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read from a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class EmbeddedBroker:
    """A broker of one node; `bootstrap` is its address, which other processes of this machine can use as well."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            SourceUnavailable: librdkafka could not start it.
        """
        self._owner = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        brokers = list(self._list().brokers.values())
        if not brokers:
            raise SourceUnavailable(
                "the embedded broker has no address", hint="report it with the version of confluent-kafka"
            )
        self.bootstrap = f"{brokers[0].host}:{brokers[0].port}"
        # Always compressed and gathered: what it keeps per partition is counted in bytes of the log.
        settings = {"compression.type": "lz4", "linger.ms": 20, "partitioner": "murmur2_random", "log_level": 0}
        self._producer = Producer({"bootstrap.servers": self.bootstrap, **settings})

    def create_topics(self, topics: Sequence[str]) -> None:
        """Make topics, which this broker does for whoever asks for them by name."""
        for topic in topics:
            self._list(topic)

    def produce(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        at_ms: int = 0,
    ) -> None:
        """Send a record to the partition of its key; it is there after the next `flush`."""
        self._producer.produce(topic, key=key, value=value, headers=list(headers), timestamp=at_ms)
        self._producer.poll(0)

    def flush(self) -> None:
        """Return when all records are in the log.

        Raises:
            SourceUnavailable: some are not, after ten seconds.
        """
        if left := self._producer.flush(ANSWER_SECONDS_MAX):
            raise SourceUnavailable(f"{left} records did not reach the embedded broker", hint="start the demo again")

    def reader(self, topics: Sequence[str]) -> TopicReader:
        """Return a reader of all partitions of `topics` from their beginning, outside any group."""
        self.create_topics(topics)
        return TopicReader(self.bootstrap, topics)

    def _list(self, topic: str | None = None) -> Any:
        try:
            return self._owner.list_topics(topic, ANSWER_SECONDS_MAX)
        except KafkaException as exc:
            raise SourceUnavailable("the embedded broker does not answer", hint="start the demo again") from exc


class TopicReader:
    """Reads topics of the embedded broker from their beginning; used by one thread at a time."""

    def __init__(self, bootstrap: str, topics: Sequence[str]) -> None:
        """Assign all partitions; nothing is read yet."""
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "headgate-demo-reader",  # wanted by the client; nothing is committed
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                "log_level": 0,
            }
        )
        self._consumer.assign([TopicPartition(topic, number, 0) for topic in topics for number in range(PARTITIONS)])

    def read(self, timeout_seconds: float = 0.1) -> list[Record]:
        """Return what has come since the last call, at most a thousand records; waits until the time is up."""
        messages: list[Any] = self._consumer.consume(_READ_RECORDS_MAX, timeout_seconds)
        return [Record(m.topic(), m.partition(), m.offset(), m.key(), m.value()) for m in messages if m.error() is None]

    def close(self) -> None:
        """Leave."""
        self._consumer.close()
