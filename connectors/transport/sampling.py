"""Samples of many topics: the head and the tail of each, bounded, by one consumer outside of any group.

Topics are read in waves, all of a wave at once: first the oldest records of each partition, then the newest. A topic
that holds little is read whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.captured import OneRecord
from connectors.transport.answers import translated
from connectors.transport.hearing import OF_NO_GROUP, made
from connectors.transport.settings import ClientSettings
from connectors.transport.topics import Key, TopicAdmin
from schemas.errors import SourceUnavailable

SILENCE_SECONDS_MAX = 15.0
_READ_RECORDS_MAX = 1_000
_WAVE_TOPICS = 24
_WAVE_PARTITIONS = 256
_QUEUED_KBYTES = 16 * 1024  # what the client fetches ahead


@dataclass(frozen=True, slots=True)
class SampleBounds:
    """How much of each topic is read: about half of it its oldest records, half its newest."""

    records_max: int = 1_000
    bytes_max: int = 2 * 1024 * 1024
    seconds_max: float = 45.0  # of all topics together; what is not read by then is left out


@dataclass(slots=True)
class TopicSampled:
    """What was read of one topic; `held` is how many offsets its partitions span, read or not."""

    topic: str
    partitions: int = 0
    held: int = 0
    records: int = 0
    bytes: int = 0
    is_complete: bool = False  # up to the bounds; False where time ran out


@dataclass(slots=True)
class _Span:
    """Offsets of one partition that are to be read."""

    key: Key
    start: int
    end: int


@dataclass(slots=True)
class _Reading:
    """The spans of one pass that are not at their end yet, and how much each topic may still bring."""

    spans: dict[Key, _Span]
    records_left: dict[str, int]
    bytes_left: dict[str, int]
    ended: list[Key] = field(default_factory=list)

    def end(self, key: Key) -> None:
        if self.spans.pop(key, None) is not None:
            self.ended.append(key)

    def end_topic(self, topic: str) -> None:
        for key in [key for key in self.spans if key[0] == topic]:
            self.end(key)


class Sampling:
    """One reading of some topics. Iterate over it once; `topics` says what came of each, in the order asked for."""

    def __init__(
        self,
        topics: Sequence[str],
        client: ClientSettings,
        admin: TopicAdmin,
        bounds: SampleBounds,
        *,
        on_wave: Callable[[int], None] = lambda _topics: None,
    ) -> None:
        """Read nothing yet; `on_wave` is told after each wave how many topics are done."""
        self._client, self._admin, self._bounds, self._on_wave = client, admin, bounds, on_wave
        self.topics = {topic: TopicSampled(topic) for topic in topics}
        self._deadline = 0.0

    def __iter__(self) -> Generator[OneRecord, None, None]:
        """Yield committed records; those of one partition in the order of their offsets, first head, then tail.

        Raises:
            SourceUnavailable: the broker does not answer, or stops answering.
            ConfigurationError: it refuses to.
        """
        self._deadline = time.monotonic() + self._bounds.seconds_max
        found = self._admin.describe(self.topics, allowed_only=True)
        for name, description in found.items():
            self.topics[name].partitions = description.partitions
        consumer = made(lambda: Consumer(self._settings()))
        try:
            done = 0
            for wave in _waves([each for each in self.topics.values() if each.partitions]):
                yield from self._wave(consumer, wave)
                done += len(wave)
                self._on_wave(done)
        finally:
            consumer.close()

    def _settings(self) -> dict[str, Any]:
        return {
            **self._client.reader(),
            "allow.auto.create.topics": False,
            "queued.max.messages.kbytes": _QUEUED_KBYTES,
            "fetch.message.max.bytes": 256 * 1024,
            "fetch.max.bytes": 4 * 1024 * 1024,
            **self._client.overrides,
        }

    def _wave(self, consumer: Consumer, wave: Sequence[TopicSampled]) -> Iterator[OneRecord]:
        keys = [(each.topic, number) for each in wave for number in range(each.partitions)]
        marks = self._admin.watermarks_now(keys)
        for key, (low, high) in marks.items():
            self.topics[key[0]].held += high - low
        heads, tails = self._spans(marks)
        finished = True
        for spans in (heads, tails):
            finished = (yield from self._pass(consumer, spans)) and finished
        for each in wave:
            each.is_complete = finished

    def _spans(self, marks: dict[Key, tuple[int, int]]) -> tuple[list[_Span], list[_Span]]:
        """Return what is read first and what is read then; a partition with little in it has no tail."""
        holding: dict[str, int] = {}
        for topic, _ in (key for key, (low, high) in marks.items() if high > low):
            holding[topic] = holding.get(topic, 0) + 1
        heads, tails = [], []
        for key, (low, high) in marks.items():
            if high <= low:
                continue
            share = max(self._bounds.records_max // holding[key[0]] // 2, 1)
            if high - low <= 2 * share:
                heads.append(_Span(key, low, high))
            else:
                heads.append(_Span(key, low, low + share))
                tails.append(_Span(key, high - share, high))
        return heads, tails

    def _pass(self, consumer: Consumer, spans: Sequence[_Span]) -> Generator[OneRecord, None, bool]:
        """Yield the records of the spans, and return whether there was time for all of them."""
        topics = {span.key[0] for span in spans}
        reading = _Reading(
            {span.key: span for span in spans},
            dict.fromkeys(topics, self._bounds.records_max),
            dict.fromkeys(topics, self._bounds.bytes_max // 2),
        )
        consumer.assign([TopicPartition(*span.key, span.start) for span in spans])
        heard = time.monotonic()
        while reading.spans:
            messages: list[Any] = consumer.consume(_READ_RECORDS_MAX, 0.05)
            now = time.monotonic()
            if messages:
                heard = now
            for message in messages:
                if (record := self._taken(message, reading)) is not None:
                    yield record
            if reading.ended:  # a partition that has brought enough is not fetched any further
                consumer.incremental_unassign([TopicPartition(*key) for key in reading.ended])
                reading.ended.clear()
            if now > self._deadline:
                return False
            if now - heard > SILENCE_SECONDS_MAX:
                (topic, number), *_ = reading.spans
                raise SourceUnavailable(
                    f"{topic}[{number}] brought nothing for {SILENCE_SECONDS_MAX:.0f} s",
                    hint="does the broker still run?",
                )
        return True

    def _taken(self, message: Any, reading: _Reading) -> OneRecord | None:
        """Return a message's record if it is asked for, and end its span where it is at its end."""
        key = message.topic(), message.partition()
        span, error = reading.spans.get(key), message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  confluent-kafka's public name
                reading.end(key)
            elif not error.retriable() and error.code() > 0 and error.code() != OF_NO_GROUP:
                raise translated(error, f"reading {key[0]}") from KafkaException(error)
            return None
        if span is None:  # fetched ahead
            return None
        offset, topic = message.offset(), key[0]
        if offset + 1 >= span.end:
            reading.end(key)
        if offset >= span.end:
            return None
        record = OneRecord(
            topic, key[1], offset, message.key(), message.value(), message.headers() or (), message.timestamp()[1]
        )
        self._count(record, reading)
        return record

    def _count(self, record: OneRecord, reading: _Reading) -> None:
        size = len(record.value or b"") + len(record.key or b"")
        sampled = self.topics[record.topic]
        sampled.records, sampled.bytes = sampled.records + 1, sampled.bytes + size
        reading.records_left[record.topic] -= 1
        reading.bytes_left[record.topic] -= size
        if reading.records_left[record.topic] <= 0 or reading.bytes_left[record.topic] <= 0:
            reading.end_topic(record.topic)


def _waves(topics: Sequence[TopicSampled]) -> Iterator[list[TopicSampled]]:
    """Yield the topics in groups that are read at once."""
    wave: list[TopicSampled] = []
    partitions = 0
    for each in topics:
        if wave and (len(wave) >= _WAVE_TOPICS or partitions + each.partitions > _WAVE_PARTITIONS):
            yield wave
            wave, partitions = [], 0
        wave.append(each)
        partitions += each.partitions
    if wave:
        yield wave
