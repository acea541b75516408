"""`previous` of each table in a topic of several, kept in the compacted topic `headgate.normalize.previous`.

A topic of one table keeps it in the metadata of its committed offset, which has no room for many. Here it is written
in the transaction that writes the changes and moves the offset, by table, origin topic and partition, and beside it
what a decoder remembers of the table in the partition, and whether its records are parked there. Whoever takes up
a partition reads the topic to its end, after the committed offset is known, and waits for open transactions below it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager

import msgspec

from connectors.formats.base import PartitionMemory
from connectors.transport.chunk import Assignment
from connectors.transport.producer import Outbox
from connectors.transport.tail import CompactedReader
from schemas import versions
from schemas.config import Config
from schemas.errors import ConfigurationError, SourceUnavailable
from schemas.topics import TopicNames
from streams.registration import ensure_own_topics
from streams.settings import client_settings, is_embedded


class Parked(msgspec.Struct, frozen=True):
    """That a table's records are parked in a partition: how many so far, and why.

    Without a reason somebody paused the table; else a record did, when the table had been resumed so often. `memory` is
    what was seen of the table before the first of them.
    """

    resumed: int
    records: int = 0
    nbytes: int = 0
    reason: str = ""
    message: str = ""
    hint: str = ""
    memory: PartitionMemory | msgspec.UnsetType = msgspec.UNSET

    def more(self, records: int, nbytes: int, memory: PartitionMemory) -> Parked:
        """Return it with so much more; `memory` is what was seen of the table before that."""
        seen = self.memory if self.records else memory
        sums = {"records": self.records + records, "nbytes": self.nbytes + nbytes}
        return msgspec.structs.replace(self, memory=seen, **sums)


class Link(msgspec.Struct, frozen=True):
    """The value of a record: the origin offset of a table's last change in a partition, read in this generation.

    The record's key is `[topic, partition, table]`. `memory` is not there where nothing is remembered, `parked` where
    nothing of the table is parked. It is of the topic's life `topic_id`, read since generation `since`, or this one.
    """

    generation: int
    previous: int | None
    memory: PartitionMemory | msgspec.UnsetType = msgspec.UNSET
    parked: Parked | msgspec.UnsetType = msgspec.UNSET
    v: int = versions.PREVIOUS.writes
    topic_id: str | msgspec.UnsetType = msgspec.UNSET
    since: int | msgspec.UnsetType = msgspec.UNSET

    def held(self, topic_id: str, generation: int) -> Link | None:
        """Return what of it holds where its partition is read in a generation of a topic's life; None: nothing.

        In a later generation of its own life the chain begins anew, and what was seen may come again. But a table that
        is parked stays so: others had the topic read again, and nobody has it resumed.
        """
        if self.topic_id and topic_id and self.topic_id != topic_id:
            return None
        if self.generation == generation:
            return self
        if not topic_id or self.topic_id != topic_id:
            return None
        memory = self.memory if self.memory is msgspec.UNSET else self.memory.again()
        return msgspec.structs.replace(self, generation=generation, previous=None, memory=memory, since=self.first)

    @property
    def first(self) -> int:
        """The first generation of this life in which something was kept of the table."""
        return self.generation if self.since is msgspec.UNSET else self.since


class Chain:
    """The last change of each table of one partition, and what is remembered, as one attempt at a group sees it."""

    __slots__ = ("_last", "_memories", "_parked", "_since", "changed")

    def __init__(
        self,
        last: Mapping[str, int],
        memories: Mapping[str, PartitionMemory] | None = None,
        parked: Mapping[str, Parked] | None = None,
        since: Mapping[str, int] | None = None,
    ) -> None:
        """Begin with the origin offsets in `last`, by table; `since` are the generations of this life it begins in."""
        self._last, self._memories, self._parked = dict(last), dict(memories or {}), dict(parked or {})
        self._since = dict(since or {})
        self.changed: set[str] = set()

    def copy(self) -> Chain:
        """Return an equal chain that changes apart."""
        made = Chain(self._last, self._memories, self._parked, self._since)
        made.changed = set(self.changed)
        return made

    def before(self, table: str, first: int) -> int | None:
        """Return the `previous` of a table's change at offset `first`.

        Without transactions what is written again is older than what is kept: readers drop it, whatever it names.
        """
        last = self._last.get(table)
        return last if last is not None and last < first else None

    def reach(self, table: str, last: int | None) -> None:
        """Note that the last change of a table which went out is the one at offset `last`; None: none did."""
        if last is not None and last > self._last.get(table, -1):
            self._last[table] = last
            self.changed.add(table)

    def reached(self, table: str) -> int:
        """Return the origin offset of a table's last change, -1 if there was none."""
        return self._last.get(table, -1)

    def memory(self, table: str) -> PartitionMemory:
        """Return a copy of what is remembered of a table as of its last change."""
        known = self._memories.get(table)
        return PartitionMemory() if known is None else known.copy()

    def remember(self, table: str, memory: PartitionMemory) -> None:
        """Remember this of a table from now on."""
        if memory != self._memories.get(table, PartitionMemory()):
            self._memories[table] = memory
            self.changed.add(table)

    def parked(self) -> Mapping[str, Parked]:
        """Return what is parked, by table."""
        return self._parked

    def since(self, table: str) -> int | None:
        """Return the first generation of this life of the topic that is known of a table; None where none is."""
        return self._since.get(table)

    def memory_at_head(self, table: str) -> PartitionMemory:
        """Return a copy of what was seen of a table before the first record of it that is parked; else as `memory`."""
        parked = self._parked.get(table)
        if parked is None or parked.memory is msgspec.UNSET:
            return self.memory(table)
        return parked.memory.copy()

    def park(self, table: str, parked: Parked | None) -> None:
        """Note what is parked of a table; None: it goes on."""
        if parked == self._parked.get(table):
            return
        self._parked.pop(table, None)
        if parked is not None:
            self._parked[table] = parked
        self.changed.add(table)

    def take_over(self, table: str, last: int | None, memory: PartitionMemory) -> None:
        """Go on where the topic's only table stood, unless it is known here already."""
        if table not in self._last and table not in self._memories:
            self.reach(table, last)
            self.remember(table, memory)

    def link(self, table: str, assignment: Assignment) -> Link:
        """Return what is to be kept of a table."""
        memory, parked = self._memories.get(table, msgspec.UNSET), self._parked.get(table, msgspec.UNSET)
        generation, topic_id = assignment.generation, assignment.topic_id or msgspec.UNSET
        first = self._since.setdefault(table, generation)
        since = first if first != generation else msgspec.UNSET
        return Link(generation, self._last.get(table), memory, parked, topic_id=topic_id, since=since)


@contextmanager
def waited_for() -> Iterator[None]:
    """Have chains that cannot be read waited for: the error would end the worker, and what all tables' topics bring.

    Raises:
        SourceUnavailable: in place of a ConfigurationError of what is done within.
    """
    try:
        yield
    except ConfigurationError as error:
        raise SourceUnavailable(error.message, hint=error.hint) from error


class Chains:
    """The chains of the partitions that a worker has; of one worker's stage."""

    def __init__(self, topic: str, load: Callable[[], Mapping[bytes, bytes]]) -> None:
        """`load` reads `topic` to its end; see `chains_of`."""
        self._topic, self._load = topic, load
        self._known: dict[Assignment, Chain] = {}

    async def take_up(self, assignments: Iterable[Assignment]) -> None:
        """Know the chains of these partitions, which are this worker's, and forget those of partitions that left.

        Raises:
            SourceUnavailable: the broker does not answer.
            ConfigurationError: a newer version wrote them, or somebody else.
        """
        self._known = {each: chain for each, chain in self._known.items() if not each.lost}
        new = {each for each in assignments if each not in self._known and not each.lost}
        if new:
            records = await asyncio.to_thread(self._load)
            found = _by_partition(records)
            for each in new:
                self._known[each] = _chain_of(each, found.get(each.key, {}))

    async def links(self) -> dict[tuple[str, int], dict[str, Link]]:
        """Return what is kept of tables in all partitions, whoever has them.

        Raises what `take_up` does.
        """
        return _by_partition(await asyncio.to_thread(self._load))

    async def behind(self, assignments: Iterable[Assignment]) -> dict[Assignment, int]:
        """Return the offset behind the last change that went out of each partition in its generation, where one did.

        For a partition of which Kafka has dropped the offset: that was moved in the transaction that wrote this.
        Records behind it of which no change came are read again. Nothing is taken up.

        Raises:
            SourceUnavailable: the broker does not answer, or the chains cannot be read.
        """
        with waited_for():
            found = _by_partition(await asyncio.to_thread(self._load))
        behind: dict[Assignment, int] = {}
        for each in assignments:
            links = [link for link in found.get(each.key, {}).values() if link.generation == each.generation]
            if last := [link.previous for link in links if link.previous is not None]:
                behind[each] = max(last) + 1
        return behind

    def attempt(self, assignment: Assignment) -> Chain:
        """Return a partition's chain, to be changed by one attempt at a group; `take_up` comes first."""
        return self._known.get(assignment, Chain({})).copy()

    def write(self, outbox: Outbox, assignment: Assignment, chain: Chain) -> None:
        """Write what an attempt changed, beside the changes themselves."""
        for table in sorted(chain.changed):
            key = msgspec.json.encode([assignment.topic, assignment.partition, table])
            value = msgspec.json.encode(chain.link(table, assignment))
            outbox.produce(self._topic, 0, key, value)

    def parked(self) -> dict[str, list[Parked]]:
        """Return what is parked in partitions that are this worker's, by table; from any thread."""
        found: dict[str, list[Parked]] = {}
        for assignment, chain in list(self._known.items()):
            for table, parked in chain.parked().items() if not assignment.lost else ():
                found.setdefault(table, []).append(parked)
        return found

    def settle(self, assignment: Assignment, chain: Chain) -> None:
        """Take it that what an attempt wrote is durable."""
        known = self._known[assignment] = chain.copy()
        known.changed.clear()


def _chain_of(assignment: Assignment, links: Mapping[str, Link]) -> Chain:
    topic_id, generation = assignment.topic_id, assignment.generation
    ours = {table: held for table, link in links.items() if (held := link.held(topic_id, generation)) is not None}
    memories = {table: link.memory for table, link in ours.items() if link.memory is not msgspec.UNSET}
    parked = {table: link.parked for table, link in ours.items() if link.parked is not msgspec.UNSET}
    since = {table: link.first for table, link in ours.items()}
    if assignment.gap:  # nobody knows what the change before was: the chain breaks, so that readers see it
        chain = Chain({}, memories, parked, since)
        chain.changed = set(ours)  # also of tables that have no change for long
        return chain
    last = {table: link.previous for table, link in ours.items() if link.previous is not None}
    return Chain(last, memories, parked, since)


def chains_of(config: Config) -> Chains:
    """Return the chains of an installation's NORMALIZE."""
    topic = TopicNames(config.kafka.topic_prefix).normalize_previous

    def load() -> Mapping[bytes, bytes]:
        ensure_own_topics(config, [topic])
        with closing(CompactedReader(topic, client_settings(config), embedded=is_embedded(config))) as reader:
            return reader.load()

    return Chains(topic, load)


def stream_name(topic: str, generation: int) -> str:
    """Return the name by which is kept what was seen of a topic's records where they are parked, by generation."""
    return f"{topic}@{generation}" if generation else topic  # no topic's name has an @


def topic_of(stream: str) -> str:
    """Return the topic of a stream's name."""
    return stream.partition("@")[0]


def read_link(value: bytes) -> Link:
    """Return what a record says was a table's last change.

    Raises:
        VersionRefused: it is of a version that this release does not read.
        msgspec.MsgspecError: it is no such record.
    """
    versions.PREVIOUS.check_json(value, "which change of a table was the last")
    return msgspec.json.decode(value, type=Link)


def _by_partition(records: Mapping[bytes, bytes]) -> dict[tuple[str, int], dict[str, Link]]:
    found: dict[tuple[str, int], dict[str, Link]] = {}
    for key, value in records.items():
        try:
            topic, partition, table = msgspec.json.decode(key, type=tuple[str, int, str])
            found.setdefault((topic, partition), {})[table] = read_link(value)
        except msgspec.MsgspecError as exc:
            raise ConfigurationError(
                "an entry of headgate.normalize.previous cannot be read", hint="only Headgate writes to this topic"
            ) from exc
    return found
