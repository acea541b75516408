"""Up to where NORMALIZE has decoded a table's records, where it parked some of them: to the first that is still parked.

The offsets of its group stand behind those, for it went on with the other tables of the topic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import replace

from connectors.transport.chunk import Assignment
from connectors.transport.history import Key
from connectors.transport.scan import scan_between
from schemas.config import Config
from schemas.errors import SourceUnavailable
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.chains import Chain, chains_of
from streams.decide import Found
from streams.parking import is_parked
from streams.poison import parted
from streams.registration import open_admin
from streams.settings import client_settings, group_of


def chains_in(config: Config, found: Sequence[Found]) -> dict[Key, Chain]:
    """Return what NORMALIZE keeps by table in each partition, as of its committed offset.

    Raises:
        SourceUnavailable: Kafka does not answer.
        ConfigurationError: a newer version wrote it, or somebody else.
    """
    mine = [each for one in found for each in one.partitions.values()]
    chains = chains_of(config)
    asyncio.run(chains.take_up(mine))
    return {each.key: chains.attempt(each) for each in mine}


def read_since(table: str, found: Sequence[Found], chains: Mapping[Key, Chain]) -> dict[str, int]:
    """Return the first generation in which topics were read in the lives that they have, where one is known."""
    firsts: dict[str, int] = {}
    for each in found:
        ours = [chains[mine.key] for mine in each.partitions.values() if mine.topic_id == each.topic_id]
        known = [first for chain in ours if (first := chain.since(table)) is not None]
        if known:
            firsts[each.topic] = min(known)
    return firsts


def parked_heads(config: Config, table: str, found: Sequence[Found], chains: Mapping[Key, Chain]) -> dict[Key, int]:
    """Return where the first record stands that is parked and not read yet, by source topic and partition.

    Raises:
        SourceUnavailable: Kafka does not answer, or a transaction is open where it was read to.
    """
    topic, admin = TopicNames(config.kafka.topic_prefix).parked(table), open_admin(config)
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
    lives = _lives(table, found, chains)
    heads: dict[Key, int] = {}
    enough: set[int] = set()
    for record in scan_between(topic, client_settings(config), stretches, enough=enough):
        first = parted(list(record.headers))[1]
        if first is None or first[1] not in lives.get((first[0], first[2]), ()):
            continue
        heads.setdefault((first[0], first[2]), first[3])
        if all((each.topic, record.partition) in heads for each in found):
            enough.add(record.partition)
    return heads


def _lives(table: str, found: Sequence[Found], chains: Mapping[Key, Chain]) -> dict[Key, range]:
    """Return the generations in which each partition was read in the life that its topic has.

    Before it was read again for another table, what was parked was parked in an earlier one.
    """
    lives = {}
    for each in found:
        for mine in each.partitions.values():
            since = chains[mine.key].since(table)
            lives[mine.key] = range(mine.generation if since is None else since, mine.generation + 1)
    return lives


def parked_now(entry: TableEntry, chains: Mapping[Key, Chain]) -> set[Key]:
    """Return the partitions of which the table's records are parked as they come, so that nobody decodes them."""
    known = {key: chain.parked().get(entry.spec.table) for key, chain in chains.items()}
    return {key for key, each in known.items() if each is not None and is_parked(entry, each)}


def read_to(found: Sequence[Found], heads: Mapping[Key, int], parked: Collection[Key] = ()) -> list[Found]:
    """Return what was found as if the group stood before the first record of each partition in `heads`.

    And in those of `parked` nowhere else: below it may be read again for other tables, but what was seen of the table
    is known as of there.
    """
    return [
        replace(each, partitions={number: _read_to(mine, heads, parked) for number, mine in each.partitions.items()})
        for each in found
    ]


def _read_to(mine: Assignment, heads: Mapping[Key, int], parked: Collection[Key]) -> Assignment:
    head = heads.get(mine.key)
    if head is None or (mine.key not in parked and (mine.committed is None or mine.committed <= head)):
        return mine
    made = copy(mine)
    made.committed = head
    return made
