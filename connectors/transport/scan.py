"""A topic read once, from its start or a given distance before its end to where it ends now; outside any group."""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.transport.answers import translated
from connectors.transport.hearing import OF_NO_GROUP, made
from connectors.transport.settings import ClientSettings
from connectors.transport.topics import TopicAdmin
from schemas.errors import SourceUnavailable

SILENCE_SECONDS_MAX = 15.0
_READ_RECORDS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Scanned:
    """A record with where it stands."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()  # only where they were asked for: slow


def scan(
    topic: str, client: ClientSettings, admin: TopicAdmin, *, last: int | None = None, headers: bool = False
) -> Iterator[Scanned]:
    """Yield the committed records up to the end as of now, per partition in order; `last` is how many offsets of each.

    A topic that does not exist has none.

    Raises:
        SourceUnavailable: the broker does not answer, or stops answering.
        ConfigurationError: it refuses to.
    """
    description = admin.describe([topic]).get(topic)
    if description is None:
        return
    marks = admin.watermarks_now([(topic, number) for number in range(description.partitions)])
    ends = {number: high for (_, number), (low, high) in marks.items() if high > low}
    starts = {number: low if last is None else max(low, high - last) for (_, number), (low, high) in marks.items()}
    consumer = _consumer(client)
    try:
        consumer.assign([TopicPartition(topic, number, starts[number]) for number in ends])
        yield from _until(consumer, topic, ends, headers=headers)
    finally:
        consumer.close()


def scan_between(
    topic: str, client: ClientSettings, stretches: Mapping[int, tuple[int, int]], *, enough: Container[int] = ()
) -> Iterator[Scanned]:
    """Yield the committed records of partitions from a first offset up to, without, a second, with their headers.

    A partition that is in `enough`, which may grow meanwhile, is read no further.

    Raises what `scan` does.
    """
    ends = {number: end for number, (first, end) in stretches.items() if first < end}
    consumer = _consumer(client)
    try:
        consumer.assign([TopicPartition(topic, number, stretches[number][0]) for number in ends])
        yield from _until(consumer, topic, ends, headers=True, enough=enough)
    finally:
        consumer.close()


def _until(
    consumer: Consumer, topic: str, ends: dict[int, int], *, headers: bool, enough: Container[int] = ()
) -> Iterator[Scanned]:
    """Read until every partition has passed its end, be it by a record or by the word that there is none left."""
    open_ends = dict(ends)
    heard = time.monotonic()
    while open_ends:
        messages: list[Any] = consumer.consume(_READ_RECORDS_MAX, 0.1)
        for message in messages:
            heard = time.monotonic()
            partition = message.partition()
            error = message.error()
            if error is None:
                if message.offset() < ends[partition]:
                    at = message.timestamp()[1]
                    found = message.headers() or () if headers else ()
                    yield Scanned(topic, partition, message.offset(), at, message.key(), message.value(), found)
                if message.offset() + 1 >= ends[partition]:
                    open_ends.pop(partition, None)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  confluent-kafka's public name
                open_ends.pop(partition, None)
            elif not error.retriable() and error.code() > 0 and error.code() != OF_NO_GROUP:
                raise translated(error, f"reading {topic}") from KafkaException(error)
        if done := [number for number in open_ends if number in enough]:
            consumer.incremental_unassign([TopicPartition(topic, number) for number in done])
            for number in done:
                del open_ends[number]
        if time.monotonic() - heard > SILENCE_SECONDS_MAX:
            raise SourceUnavailable(
                f"{topic} brought nothing for {SILENCE_SECONDS_MAX:.0f} s", hint="does the broker still run?"
            )


def _consumer(client: ClientSettings) -> Consumer:
    settings = {**client.reader(), "allow.auto.create.topics": False, **client.overrides}
    return made(lambda: Consumer(settings))
