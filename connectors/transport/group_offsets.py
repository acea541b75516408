"""What a group has committed, asked of a consumer that joins none."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence

from confluent_kafka import Consumer, TopicPartition

from connectors.transport.answers import ANSWER_SECONDS, answer_to, translated
from connectors.transport.hearing import made
from connectors.transport.resolve import Committed
from connectors.transport.settings import ClientSettings
from schemas.errors import SourceUnavailable

Key = tuple[str, int]

# How long open transactions of a dead worker are waited for: over all partitions, then over each by itself.
STABLE_SECONDS = 2.0
STABLE_SECONDS_APART = 0.5


class Standing:
    """Where a group stands, asked again and again, of one thread at a time.

    A transaction that is open is passed over: what it brings is not committed yet, and nobody waits for it here.
    """

    def __init__(self, client: ClientSettings, group: str) -> None:
        """Connect when first asked; the caller closes it."""
        ours = {"group.id": group, "enable.auto.commit": False, "isolation.level": "read_uncommitted"}
        self._settings = {**client.librdkafka(), **ours}
        self._reader: Consumer | None = None

    def now(self, keys: Iterable[Key]) -> dict[Key, Committed]:
        """Return what the group committed of each partition.

        Raises:
            SourceUnavailable: Kafka does not answer.
        """
        if self._reader is None:
            self._reader = made(lambda: Consumer(self._settings))
        return committed(self._reader, [TopicPartition(*key) for key in keys], ANSWER_SECONDS)

    def close(self) -> None:
        """Give the connection up, if there is one."""
        if self._reader is not None:
            self._reader.close()


def committed(reader: Consumer, asked: Sequence[TopicPartition], seconds: float) -> dict[Key, Committed]:
    """Return what the reader's group committed; of all that are asked for, or a SourceUnavailable."""
    said = answer_to(lambda: reader.committed(list(asked), timeout=seconds)) if asked else []
    for each in said:
        if each.error is not None:
            raise translated(each.error, f"the offset of {each.topic}[{each.partition}]")
    return {(each.topic, each.partition): _committed_at(each) for each in said}


def committed_apart(reader: Consumer, asked: Sequence[TopicPartition]) -> dict[Key, Committed]:
    """Return what can be had of each partition by itself; those that there is no time for are asked for again later."""
    found: dict[Key, Committed] = {}
    failure: SourceUnavailable | None = None
    deadline = time.monotonic() + ANSWER_SECONDS
    for each in random.sample(asked, len(asked)):  # so that no partition is always behind those that do not answer
        if time.monotonic() > deadline:
            break
        try:
            found |= committed(reader, [each], STABLE_SECONDS_APART)
        except SourceUnavailable as error:
            failure = error
    if failure is not None and not found:
        raise failure
    return found


def _committed_at(each: TopicPartition) -> Committed:
    return Committed(each.offset if each.offset >= 0 else None, each.metadata or "")
