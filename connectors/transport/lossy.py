"""A writer of records that may be lost: a newer one says all that an older one said. It never waits and never fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException, Producer

from connectors.transport.settings import ClientSettings

QUEUE_RECORDS_MAX = 4
RECORD_SECONDS_MAX = 5  # what was not taken by then is dropped: its successor is there


class LossyWriter:
    """A producer of a few small records. Kafka away: what is waiting is dropped, and so is what finds no room."""

    def __init__(self, client: ClientSettings, *, message_bytes_max: int) -> None:
        """Connect when there is something to write."""
        self.dropped = 0
        self._producer: Producer | None = None
        self._settings: Mapping[str, Any] = {
            **client.librdkafka(),
            "acks": 1,
            "compression.type": "lz4",
            "linger.ms": 0,
            "max.in.flight.requests.per.connection": 1,  # tried again, an older one would come behind a newer one
            "message.timeout.ms": RECORD_SECONDS_MAX * 1_000,
            "message.max.bytes": message_bytes_max,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": QUEUE_RECORDS_MAX,
            "queue.buffering.max.kbytes": max(QUEUE_RECORDS_MAX * message_bytes_max // 1_024, 1),
            "log_level": 0,
            "error_cb": lambda _: None,  # that the broker is away others say
        }

    def write(self, topic: str, key: bytes, value: bytes | None) -> None:
        """Hand a record over to the client, or drop it; returns at once and raises nothing of Kafka."""
        try:
            if self._producer is None:
                self._producer = Producer({**self._settings, "on_delivery": self._delivered})
            self._producer.produce(topic, value, key)
            self._producer.poll(0)
        except (BufferError, KafkaException):
            self.dropped += 1

    def close(self, seconds_max: float) -> None:
        """Wait for what was handed over, at most so long, and let go of the rest."""
        if self._producer is None:
            return
        self._producer.flush(seconds_max)
        self._producer.purge()
        self._producer = None

    def _delivered(self, error: object, message: object) -> None:
        del message
        self.dropped += error is not None
