"""What a stage keeps of the partitions that it has begun, in a compacted topic of its own: Kafka drops offsets.

An entry is written after the offset at which a partition begins was committed, and before a record of it is read. A
worker that dies in between leaves an offset and no entry: nothing came of the partition yet, and who begins it next
writes the entry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing

import msgspec

from connectors.transport.history import Key, Known
from connectors.transport.producer import plain_outbox
from connectors.transport.settings import ClientSettings
from connectors.transport.tail import CompactedReader
from schemas.errors import ConfigurationError

BOOK_VERSION = 1


class _Entry(msgspec.Struct):
    """The value of a record; its key is topic and partition."""

    v: int
    id: str
    generation: int


class Book:
    """The book of one stage, as one worker reads and writes it."""

    def __init__(self, topic: str, client: ClientSettings, *, ensure: Callable[[], None]) -> None:
        """Read nothing yet; `ensure` makes the topic where it is missing."""
        self.topic = topic
        self._client = client
        self._ensure = ensure
        self._known: dict[str, dict[int, Known]] | None = None

    async def of_topics(self, topics: Iterable[str], *, fresh: bool) -> Mapping[str, Mapping[int, Known]]:
        """Return what is kept of these topics' partitions; with `fresh` also what others have kept meanwhile.

        Raises:
            SourceUnavailable: the broker does not answer.
            ConfigurationError: a newer version wrote it, or somebody else.
        """
        if fresh or self._known is None:
            self._known = await asyncio.to_thread(self.load)
        return {topic: dict(self._known.get(topic, {})) for topic in topics}

    async def everything(self) -> Mapping[str, Mapping[int, Known]]:
        """Return all that is kept now, by topic and partition, also of topics that nobody reads any more.

        Raises what `of_topics` does.
        """
        return await asyncio.to_thread(self.load)

    async def keep(self, known: Mapping[Key, Known]) -> None:
        """Return once this is kept.

        Raises:
            SourceUnavailable: the broker does not answer; nothing is known of it.
        """
        if known:
            await asyncio.to_thread(self._write, known)

    def load(self) -> dict[str, dict[int, Known]]:
        """Return what is kept, by topic and partition, up to the topic's end as of now."""
        self._ensure()
        with closing(CompactedReader(self.topic, self._client)) as reader:
            records = reader.load()
        found: dict[str, dict[int, Known]] = {}
        for key, value in records.items():
            (topic, partition), known = read_record(key, value)
            found.setdefault(topic, {})[partition] = known
        return found

    def _write(self, known: Mapping[Key, Known]) -> None:
        with plain_outbox(self._client) as outbox:
            for key, each in known.items():
                outbox.produce(self.topic, 0, *record_of(key, each))
        for (topic, partition), each in known.items():
            if self._known is not None:
                self._known.setdefault(topic, {})[partition] = each


def record_of(key: Key, known: Known) -> tuple[bytes, bytes]:
    """Return key and value of an entry's record."""
    return msgspec.json.encode(key), msgspec.json.encode(_Entry(BOOK_VERSION, known.topic_id, known.generation))


def read_record(key: bytes, value: bytes) -> tuple[Key, Known]:
    """Return the entry that a record holds.

    Raises:
        ConfigurationError: a newer version wrote it, or somebody else.
    """
    try:
        where = msgspec.json.decode(key, type=tuple[str, int])
        entry = msgspec.json.decode(value, type=_Entry)
    except msgspec.MsgspecError:
        raise ConfigurationError(
            "an entry of a stage's state topic cannot be read", hint="only Headgate writes to topics that end in .state"
        ) from None
    if entry.v != BOOK_VERSION:
        raise ConfigurationError(
            f"a stage's state topic was written by a newer Headgate: version {entry.v}, this one knows {BOOK_VERSION}",
            hint="run the newer version",
        )
    return where, Known(entry.id, entry.generation)
