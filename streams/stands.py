"""Where NORMALIZE stands in partitions that other workers may have, as the broker knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from connectors.transport.commit_metadata import read_commit_metadata
from connectors.transport.history import Key
from connectors.transport.topics import TopicAdmin
from connectors.transport.visible import with_records
from schemas.config import Config
from streams.resyncs import Stand
from streams.settings import client_settings, group_of


class NormalizeStands:
    """Asks the broker; see `resyncs.Broker`."""

    def __init__(self, config: Config, admin: TopicAdmin) -> None:
        """Connect when first asked."""
        self._client, self._admin, self._group = client_settings(config), admin, group_of(config, "normalize")

    async def stands(self, topics: Collection[str]) -> Mapping[Key, Stand]:
        """Return all partitions of topics; those on which a transaction is open are told of as not begun.

        Raises:
            SourceUnavailable: the broker does not answer.
            ConfigurationError: it refuses to, or a newer version wrote what stands beside the offsets.
        """
        return await asyncio.to_thread(self._stands, topics)

    async def with_records(self, stretches: Mapping[Key, tuple[int, int]]) -> set[Key]:
        """Return those partitions that hold a record in a stretch, from its first offset up to its second.

        Raises:
            SourceUnavailable: the broker does not answer.
        """
        return await asyncio.to_thread(with_records, self._client, stretches) if stretches else set()

    def _stands(self, topics: Collection[str]) -> dict[Key, Stand]:
        described = self._admin.describe(topics, allowed_only=True)
        keys = [(topic, number) for topic, said in described.items() for number in range(said.partitions)]
        committed = self._admin.committed_now(self._group, keys)
        logs = self._admin.watermarks_now(keys)
        found = {}
        for key, (_, end) in logs.items():
            at = committed.get(key)
            beside = read_commit_metadata(at.metadata) if at is not None else None
            # An offset of another life of the topic says nothing of this one.
            ours = beside is not None and beside.topic_id in ("", described[key[0]].topic_id)
            next_ = at.offset if at is not None and ours else None
            generation, text = (beside.generation, beside.stage) if beside is not None and ours else (0, "")
            found[key] = Stand(described[key[0]].topic_id, generation, next_, text, end)
        return found
