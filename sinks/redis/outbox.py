"""The outboxes in Redis, as their relay sees them: read from the beginning, removed by id.

It has a connection of its own: calls of the ledger may wait for room that only the relay makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from schemas.config import RedisConfig
from sinks.redis.layout import Layout
from sinks.redis.updates import Entry
from sinks.redis.wire import Wire, checked

FIELD = b"u"


class Size(NamedTuple):
    """What waits in some outboxes."""

    entries: int
    nbytes: int


class Outboxes:
    """The streams of feature updates of one installation."""

    def __init__(self, config: RedisConfig) -> None:
        """Connect when first asked."""
        self._layout = Layout(config.key_prefix, config.buckets)
        self._wire = Wire(config)

    async def close(self) -> None:
        """Leave; what is in flight fails with SinkUnavailable."""
        await self._wire.close()

    async def read(self, buckets: Iterable[int], count: int) -> list[Entry]:
        """Return the first `count` entries of each of `buckets`, in their order.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        asked = list(buckets)
        replies = await self._ask([("XRANGE", self._layout.outbox(b), "-", "+", "COUNT", count) for b in asked])
        return [
            Entry(bucket, entry_id, _payload(fields))
            for bucket, reply in zip(asked, replies, strict=True)
            for entry_id, fields in reply
        ]

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Remove exactly these entries; those that are gone already are passed over.

        Raises:
            SinkUnavailable: Redis does not answer; some may be left.
        """
        ids: dict[int, list[bytes]] = {}
        for entry in entries:
            ids.setdefault(entry.bucket, []).append(entry.id)
        await self._ask([("XDEL", self._layout.outbox(bucket), *some) for bucket, some in ids.items()])

    async def size(self, buckets: Iterable[int]) -> Size:
        """Return what waits in `buckets`.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        keys = [self._layout.outbox(bucket) for bucket in buckets]
        lengths = await self._ask([("XLEN", key) for key in keys])
        full = [key for key, length in zip(keys, lengths, strict=True) if length]
        sizes = await self._ask([("MEMORY", "USAGE", key) for key in full])
        return Size(sum(lengths), sum(size or 0 for size in sizes))

    async def _ask(self, commands: Sequence[tuple[object, ...]]) -> list[Any]:
        await self._wire.open()
        try:
            return [checked(reply) for reply in await self._wire.exchange(commands)]
        except BaseException:  # a server that refuses may be the wrong one by now: look for it anew
            await self._wire.close()
            raise


def _payload(fields: Sequence[bytes]) -> bytes:
    """Return what an entry holds; nothing where it is not one of ours."""
    return fields[1] if len(fields) == 2 and fields[0] == FIELD else b""  # noqa: PLR2004 - a name and a value
