"""A topic followed from given offsets on, for as long as somebody wants to hear of it; outside of any group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.transport.answers import translated
from connectors.transport.hearing import OF_NO_GROUP, made
from connectors.transport.scan import Scanned
from connectors.transport.settings import ClientSettings
from connectors.transport.topics import TopicAdmin

_LOOK_SECONDS = 0.5


def ends_of(topic: str, admin: TopicAdmin) -> dict[int, int]:
    """Return where the partitions of a topic end now; none while there is no such topic."""
    said = admin.describe([topic]).get(topic)
    keys = [(topic, number) for number in range(said.partitions)] if said is not None else []
    return {number: high for (_, number), (_, high) in admin.watermarks_now(keys).items()}


def follow(
    topic: str, client: ClientSettings, admin: TopicAdmin, starts: Mapping[int, int]
) -> Iterator[Scanned | None]:
    """Yield the records of a topic from `starts` on as they come, and None now and then where none does.

    A partition that is not named is read from its beginning, a topic that is not there yet is waited for.

    Raises:
        SourceUnavailable: the broker stops answering for good.
        ConfigurationError: it refuses to.
    """
    settings = {**client.reader(), "allow.auto.create.topics": False, **client.overrides}
    with closing(made(lambda: Consumer(settings))) as consumer:
        assigned = False
        while True:
            if not assigned and (partitions := ends_of(topic, admin)):
                consumer.assign([TopicPartition(topic, number, starts.get(number, 0)) for number in partitions])
                assigned = True
            message = consumer.poll(_LOOK_SECONDS)
            error = message.error() if message is not None else None
            if message is None or (error is not None and _passes(error)):
                yield None
            elif error is not None:
                raise translated(error, f"reading {topic}") from KafkaException(error)
            else:
                at = message.timestamp()[1]
                yield Scanned(
                    topic, message.partition() or 0, message.offset() or 0, at, message.key(), message.value()
                )


def _passes(error: KafkaError) -> bool:
    """Tell whether it goes on by itself: the end of what is there, a broker that is away for a moment."""
    end = error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001 - confluent-kafka's public name
    return end or error.retriable() or error.code() < 0 or error.code() == OF_NO_GROUP
