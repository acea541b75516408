"""Single records of topics, read where they stand; outside any group."""

from __future__ import annotations

from time import monotonic
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.transport.answers import translated
from connectors.transport.hearing import OF_NO_GROUP, made
from connectors.transport.scan import SILENCE_SECONDS_MAX, Scanned
from connectors.transport.settings import ClientSettings
from schemas.errors import SourceUnavailable

_POLL_SECONDS = 0.1


class Picker:
    """Reads records by topic, partition and offset, one at a time; of one thread."""

    def __init__(self, client: ClientSettings) -> None:
        """Connect when first asked."""
        self._client = client
        self._consumer: Consumer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def pick(self, topic: str, partition: int, offset: int) -> Scanned | None:
        """Return the record at a place, with its headers; None where the log does not hold it.

        Raises:
            SourceUnavailable: the broker does not answer.
            ConfigurationError: it refuses to.
        """
        consumer = self._open()
        consumer.assign([TopicPartition(topic, partition, offset)])
        deadline = monotonic() + SILENCE_SECONDS_MAX
        try:
            while monotonic() < deadline:
                for message in consumer.consume(1, _POLL_SECONDS):
                    if (found := _heard(message, topic)) is not None:
                        return found if found.offset == offset else None
                    if _is_end(message):
                        return None
        finally:
            consumer.unassign()
        raise SourceUnavailable(
            f"{topic} brought nothing for {SILENCE_SECONDS_MAX:.0f} s", hint="does the broker still run?"
        )

    def _open(self) -> Consumer:
        if self._consumer is None:
            settings = {**self._client.reader(), "allow.auto.create.topics": False, **self._client.overrides}
            self._consumer = made(lambda: Consumer(settings))
        return self._consumer


def _is_end(message: Any) -> bool:
    error = message.error()
    gone = {
        KafkaError._PARTITION_EOF,  # noqa: SLF001 - confluent-kafka's public names of local errors begin so
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - the same
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - the same
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
    return error is not None and error.code() in gone


def _heard(message: Any, topic: str) -> Scanned | None:
    """Return the record of a message; None where it is an error that passes, or the end."""
    error = message.error()
    if error is None:
        at = message.timestamp()[1]
        key, value, headers = message.key(), message.value(), message.headers() or ()
        return Scanned(topic, message.partition(), message.offset(), at, key, value, headers)
    if not _is_end(message) and not error.retriable() and error.code() > 0 and error.code() != OF_NO_GROUP:
        raise translated(error, f"reading {topic}") from KafkaException(error)
    return None
