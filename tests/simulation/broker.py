"""A model of Kafka: logs, transactions with their markers, groups with generations. No I/O, no time of its own.

What it keeps of Kafka is what the product relies on: a marker takes an offset; a read_committed reader stops at the
first open transaction; a transaction's end is decided at once and arrives in each partition later; a producer whose
transactional id has a younger life is refused, one that took too long is aborted; offsets are taken of members of the
present generation only, at the time when they are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.loop import Process, the_loop

Key = tuple[str, int]


class Violation(AssertionError):
    """The product did what it promises never to do; it ends the run, whoever catches it."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        the_loop().failure = self


@dataclass(slots=True, eq=False)
class Transaction:
    """One transaction of one producer."""

    producer: str
    since: float
    state: str = "open"  # then committed or aborted: decided, and not yet known in every partition
    partitions: dict[Key, int] = field(default_factory=dict)  # where its marker has not arrived, and its first offset
    offsets: dict[tuple[str, Key], tuple[int, str]] = field(default_factory=dict)  # by group


@dataclass(slots=True)
class Entry:
    """One offset of a log; without a value and with a transaction it is a marker."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    at_ms: int
    transaction: Transaction | None = None
    marker: bool = False


@dataclass(slots=True, eq=False)
class Member:
    """One member of a group, as the coordinator knows it."""

    name: str
    process: Process
    heard_at: float
    joined: bool = False
    assigned: list[Key] = field(default_factory=list)
    told: int = 0  # the generation whose assignment its client has taken


class Group:
    """The coordinator of one group, with eager rebalances."""

    def __init__(self, session_seconds: float) -> None:
        self.session_seconds = session_seconds
        self.generation = 0
        self.rebalancing = False
        self.members: dict[str, Member] = {}
        self.offsets: dict[Key, tuple[int, str]] = {}
        self.pending: dict[Key, list[Transaction]] = {}
        self.partitions: list[Key] = []  # of the topics that its members read

    def join(self, member: Member, partitions: list[Key]) -> None:
        """Take part in the next generation; it begins once everybody does."""
        self.partitions = partitions
        if member.name not in self.members or not self.rebalancing:
            self._begin()
        self.members[member.name] = member
        member.joined = True
        self._settle()

    def leave(self, name: str) -> None:
        """Be a member no more."""
        if self.members.pop(name, None) is not None:
            self._begin()
            self._settle()

    def expire(self, now: float) -> None:
        """Put out those that were silent for too long."""
        for member in list(self.members.values()):
            if member.process.runs and not member.process.cut:
                member.heard_at = now
            elif now - member.heard_at > self.session_seconds:
                self.leave(member.name)

    def _settle(self) -> None:
        if not self.rebalancing or not all(member.joined for member in self.members.values()):
            return
        self.rebalancing = False
        self.generation += 1
        names = sorted(self.members)
        for place, name in enumerate(names):
            self.members[name].assigned = [key for at, key in enumerate(self.partitions) if at % len(names) == place]

    def accepts(self, name: str, generation: int) -> bool:
        """Say whether a member may move the group's offsets."""
        return name in self.members and generation == self.generation

    def _begin(self) -> None:
        if not self.rebalancing:
            self.rebalancing = True
            for member in self.members.values():
                member.joined = False


class Broker:
    """One cluster."""

    def __init__(self, clock: Callable[[], float], *, session_seconds: float, transaction_seconds: float) -> None:
        self.clock = clock
        self.logs: dict[Key, list[Entry]] = {}
        self.groups: dict[str, Group] = {}
        self.epochs: dict[str, int] = {}
        self.open: dict[str, Transaction] = {}  # by transactional id; also one whose markers have not arrived
        self.session_seconds = session_seconds
        self.transaction_seconds = transaction_seconds
        self.on_decided: Callable[[Transaction], None] = lambda _: None  # its markers are to arrive
        self.on_committed: Callable[[Transaction], None] = lambda _: None  # who looks on
        self.on_offset: Callable[[str, Key, int], None] = lambda *_: None
        self.changed: Callable[[], None] = lambda: None
        self._unfinished: dict[Key, list[Transaction]] = {}

    # -- logs --------------------------------------------------------------------------------------------------------

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic, unless it is there."""
        for number in range(partitions):
            self.logs.setdefault((topic, number), [])

    def partitions_of(self, topics: Iterable[str]) -> list[Key]:
        """Return the partitions of topics, in order."""
        wanted = set(topics)
        return sorted(key for key in self.logs if key[0] in wanted)

    def append(self, key: Key, entry: Entry) -> None:
        """Write at the end of a log."""
        transaction = entry.transaction
        if transaction is not None and not entry.marker and key not in transaction.partitions:
            transaction.partitions[key] = len(self.logs[key])
            self._unfinished.setdefault(key, []).append(transaction)
        self.logs[key].append(entry)
        self.changed()

    def stable_end(self, key: Key) -> int:
        """Return the last stable offset: what a read_committed reader sees at most."""
        firsts = [transaction.partitions[key] for transaction in self._unfinished.get(key, ())]
        return min([len(self.logs[key]), *firsts])

    def read(self, key: Key, offset: int, most: int) -> tuple[list[tuple[int, Entry]], int]:
        """Return up to `most` records at and behind `offset`, as a read_committed reader has them, and where it is."""
        log, end = self.logs[key], self.stable_end(key)
        found: list[tuple[int, Entry]] = []
        while offset < end and len(found) < most:
            entry = log[offset]
            if not entry.marker and (entry.transaction is None or entry.transaction.state == "committed"):
                found.append((offset, entry))
            offset += 1
        return found, offset

    def records(self, topic: str) -> dict[int, list[tuple[int, Entry]]]:
        """Return all that a read_committed reader finds, by partition."""
        return {key[1]: self.read(key, 0, len(self.logs[key]))[0] for key in self.partitions_of([topic])}

    # -- transactions ------------------------------------------------------------------------------------------------

    def init(self, producer: str) -> int:
        """Begin a new life of a transactional id; what the last one left open is aborted."""
        left = self.open.get(producer)
        if left is not None and left.state == "open":
            self.decide(left, "aborted")
        self.epochs[producer] = self.epochs.get(producer, -1) + 1
        return self.epochs[producer]

    def decide(self, transaction: Transaction, outcome: str) -> None:
        """Decide a transaction; its markers arrive later."""
        assert transaction.state == "open", "a transaction is decided once"
        transaction.state = outcome
        if outcome == "committed":
            self.on_committed(transaction)
        self.on_decided(transaction)

    def mark(self, transaction: Transaction) -> bool:
        """Let one marker arrive: of a partition, at last those of the groups' offsets; say whether more is to come."""
        if transaction.partitions:
            key = next(iter(transaction.partitions))
            self.append(key, Entry(None, None, [], 0, transaction, marker=True))
            del transaction.partitions[key]
            self._unfinished[key].remove(transaction)
            self.changed()
            return True
        for (name, key), (offset, metadata) in transaction.offsets.items():
            group = self.groups[name]
            group.pending[key].remove(transaction)
            if transaction.state == "committed":
                self.store(name, key, offset, metadata)
        self.open.pop(transaction.producer, None)
        return False

    def expire(self) -> None:
        """Put out silent members, and abort what took too long."""
        for group in self.groups.values():
            group.expire(self.clock())
        for transaction in list(self.open.values()):
            if transaction.state == "open" and self.clock() - transaction.since > self.transaction_seconds:
                self.epochs[transaction.producer] += 1
                self.decide(transaction, "aborted")

    # -- groups ------------------------------------------------------------------------------------------------------

    def group(self, name: str) -> Group:
        """Return a group, made when first asked for."""
        return self.groups.setdefault(name, Group(self.session_seconds))

    def store(self, name: str, key: Key, offset: int, metadata: str) -> None:
        """Store a group's offset."""
        self.on_offset(name, key, offset)
        self.groups[name].offsets[key] = (offset, metadata)

    def promise(self, transaction: Transaction, name: str, key: Key, offset: int, metadata: str) -> None:
        """Take a group's offset into a transaction."""
        if (name, key) not in transaction.offsets:
            self.group(name).pending.setdefault(key, []).append(transaction)
        transaction.offsets[name, key] = (offset, metadata)

    def committed(self, name: str, keys: Iterable[Key]) -> dict[Key, tuple[int | None, Any]]:
        """Return what a group stored; what an open transaction may still change is left out."""
        group = self.group(name)
        return {key: group.offsets.get(key, (None, "")) for key in keys if not group.pending.get(key)}
