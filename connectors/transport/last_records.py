"""The last records of many topics at once, for who wants to see what flows: bounded in records, bytes and time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.captured import OneRecord
from connectors.transport.answers import translated
from connectors.transport.hearing import OF_NO_GROUP, made
from connectors.transport.settings import ClientSettings
from connectors.transport.topics import TopicAdmin

PARTITIONS_OF_TOPIC_MAX = 3
BYTES_MAX = 64 * 1024 * 1024
_READ_RECORDS = 1_000


def last_records(
    topics: Iterable[str], client: ClientSettings, admin: TopicAdmin, *, each: int = 10, seconds_max: float = 5.0
) -> dict[str, list[OneRecord]]:
    """Return the last committed records of topics, about `each` of some partitions that have any; outside any group.

    Topics that are not there, may not be read, or did not answer in time have none, or fewer.

    Raises:
        SourceUnavailable: the broker does not answer.
    """
    described = admin.describe(topics, allowed_only=True)
    keys = [(topic, number) for topic, said in described.items() for number in range(said.partitions)]
    ends: dict[tuple[str, int], int] = {}
    starts = []
    for (topic, number), (low, high) in sorted(admin.watermarks_now(keys).items()):
        if high > low and sum(key[0] == topic for key in ends) < PARTITIONS_OF_TOPIC_MAX:
            ends[topic, number] = high
            starts.append(TopicPartition(topic, number, max(low, high - each)))
    if not starts:
        return {}
    consumer = made(lambda: Consumer({**client.reader(), "allow.auto.create.topics": False, **client.overrides}))
    try:
        consumer.assign(starts)
        return _read(consumer, ends, seconds_max)
    finally:
        consumer.close()


def _read(consumer: Consumer, ends: dict[tuple[str, int], int], seconds_max: float) -> dict[str, list[OneRecord]]:
    found: dict[str, list[OneRecord]] = {}
    deadline, nbytes = time.monotonic() + seconds_max, 0
    while ends and time.monotonic() < deadline and nbytes < BYTES_MAX:
        messages: list[Any] = consumer.consume(_READ_RECORDS, 0.1)
        for message in messages:
            key, error = (message.topic(), message.partition()), message.error()
            if error is not None:
                _on_error(error, key, ends)
                continue
            value, at = message.value(), message.timestamp()[1]
            nbytes += len(value or b"")
            record = OneRecord(*key, message.offset(), message.key(), value, message.headers() or (), at)
            found.setdefault(key[0], []).append(record)
            if message.offset() + 1 >= ends.get(key, 0):
                ends.pop(key, None)
    return found


def _on_error(error: KafkaError, key: tuple[str, int], ends: dict[tuple[str, int], int]) -> None:
    if error.code() in {KafkaError._PARTITION_EOF, KafkaError.TOPIC_AUTHORIZATION_FAILED}:  # noqa: SLF001 - its public name
        ends.pop(key, None)
    elif not error.retriable() and error.code() > 0 and error.code() != OF_NO_GROUP:
        raise translated(error, f"reading {key[0]}") from KafkaException(error)
