"""Up to where NORMALIZE has decoded a table's records, where it parked some of them: to the first that is still parked.

The offsets of its group stand behind those, for it went on with the other tables of the topic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

from connectors.transport.chunk import Assignment
from connectors.transport.history import Key
from connectors.transport.scan import scan_between
from schemas.config import Config
from schemas.errors import SourceUnavailable
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.chains import chains_of
from streams.decide import Found
from streams.parking import is_parked
from streams.poison import parted
from streams.registration import open_admin
from streams.settings import client_settings, group_of


def parked_heads(config: Config, entry: TableEntry, found: Sequence[Found]) -> dict[Key, int]:
    """Return where the first record stands that is parked and not read yet, by source topic and partition.

    Raises:
        SourceUnavailable: Kafka does not answer, or a transaction is open where it was read to.
    """
    topic, admin = TopicNames(config.kafka.topic_prefix).parked(entry.spec.table), open_admin(config)
    said = admin.describe([topic], allowed_only=True).get(topic)
    if said is None:
        return {}
    keys = [(topic, number) for number in range(said.partitions)]
    read = admin.committed_now(group_of(config, "normalize"), keys)
    stretches = {}
    for key, (low, high) in admin.watermarks_now(keys).items():
        if key not in read:  # from its beginning on it would tell of records that were read long ago
            raise SourceUnavailable(
                f"where NORMALIZE stands in {topic} is not known now",
                hint="a worker has a transaction open, or one that died left it: run it again in a moment",
            )
        stretches[key[1]] = (max(read[key].offset or 0, low), high)
    generations = {each.topic: {n: mine.generation for n, mine in each.partitions.items()} for each in found}
    heads: dict[Key, int] = {}
    enough: set[int] = set()
    for record in scan_between(topic, client_settings(config), stretches, enough=enough):
        first = parted(list(record.headers))[1]
        if first is None or generations.get(first[0], {}).get(first[2]) != first[1]:
            continue
        heads.setdefault((first[0], first[2]), first[3])
        if all((name, record.partition) in heads for name in generations):
            enough.add(record.partition)
    return heads


def parked_now(config: Config, entry: TableEntry, found: Sequence[Found]) -> set[Key]:
    """Return the partitions of which the table's records are parked as they come, so that nobody decodes them."""
    mine = [each for one in found for each in one.partitions.values()]
    chains = chains_of(config)
    asyncio.run(chains.take_up(mine))
    table = entry.spec.table
    known = {each.key: chains.attempt(each).parked().get(table) for each in mine}
    return {key for key, each in known.items() if each is not None and is_parked(entry, each)}


def read_to(found: Sequence[Found], heads: Mapping[Key, int]) -> list[Found]:
    """Return what was found as if the group stood before the first record of each partition in `heads`."""
    return [
        replace(each, partitions={number: _read_to(mine, heads) for number, mine in each.partitions.items()})
        for each in found
    ]


def _read_to(mine: Assignment, heads: Mapping[Key, int]) -> Assignment:
    head = heads.get(mine.key)
    if head is None or mine.committed is None or mine.committed <= head:
        return mine
    made = copy(mine)
    made.committed = head
    return made
