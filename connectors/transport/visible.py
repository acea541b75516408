"""Whether a stretch of a partition holds a record that readers see: a log written by transactions ends in markers."""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, TopicPartition

from connectors.transport.hearing import made
from connectors.transport.history import Key
from connectors.transport.settings import ClientSettings
from schemas.errors import SourceUnavailable

ANSWER_SECONDS_MAX = 15.0


def with_records(client: ClientSettings, stretches: Mapping[Key, tuple[int, int]]) -> set[Key]:
    """Return those partitions that hold a committed record from the first offset up to, without, the second.

    Raises:
        SourceUnavailable: the broker does not answer.
    """
    if not stretches:
        return set()
    consumer = made(lambda: Consumer({**client.reader(), "allow.auto.create.topics": False, **client.overrides}))
    try:
        consumer.assign([TopicPartition(*key, first) for key, (first, _) in stretches.items()])
        return _read(consumer, {key: end for key, (_, end) in stretches.items()})
    finally:
        consumer.close()


def _read(consumer: Consumer, ends: Mapping[Key, int]) -> set[Key]:
    waiting, found = set(ends), set[Key]()
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    while waiting:
        message = consumer.poll(0.1)
        if time.monotonic() > deadline:
            raise SourceUnavailable(
                f"{len(waiting)} partitions were not read to their end", hint="does the broker still run?"
            )
        if message is None:
            continue
        error, key = message.error(), (message.topic() or "", message.partition() or 0)
        if error is None and key in waiting:
            waiting.discard(key)
            if (message.offset() or 0) < ends[key]:
                found.add(key)
        elif error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - confluent-kafka's public name
            waiting.discard(key)
    return found
