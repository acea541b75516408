"""What the consumer hands to a stage: chunks of runs, begun as groups.

A *run* is consecutive records of one partition, a *chunk* what one round of the consumer brought for one lane, a
*group* one or more chunks that a stage begins together. A stage answers for every live run of a group: `done`
(durable) or `taken` (copied into a buffer with a byte limit of its own; `done` follows later, from wherever the
buffer is emptied).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from connectors.transport.window import Window
from schemas.table import Decision

Headers = list[tuple[str, bytes | None]]

RECORD_OVERHEAD_BYTES = 160  # what a record costs in memory beside its key and value


class Message(Protocol):
    """The part of confluent_kafka.Message that is used here."""

    def __len__(self) -> int: ...

    def offset(self) -> int | None:
        """Its place in the partition."""

    def value(self) -> bytes | None:
        """Its value."""

    def key(self) -> bytes | None:
        """Its key."""

    def headers(self) -> Headers | None:
        """Its headers, made when asked for."""

    def timestamp(self) -> tuple[int, int]:
        """The kind of its timestamp, 0 for none, and its milliseconds."""
        ...


class Acknowledging(Protocol):
    """Who is told that runs are done or taken."""

    def done(self, runs: Iterable[Run], metadata: Mapping[Run, str] | None = None) -> None:
        """Take it that `runs` are durable."""

    def taken(self, runs: Iterable[Run]) -> None:
        """Take it that `runs` were copied into a buffer with a limit of its own."""


class Assignment:
    """One life of one partition on this worker: a new object at each assignment, compared by identity."""

    __slots__ = (
        "committed",
        "decided_start",
        "decisions",
        "gap",
        "generation",
        "high",
        "lane",
        "lost",
        "low",
        "metadata",
        "partition",
        "start",
        "state",
        "topic",
        "topic_id",
    )

    def __init__(self, lane: str, topic: str, partition: int) -> None:
        """Begin unresolved: where it starts is not known yet."""
        self.lane = lane
        self.topic = topic
        self.partition = partition
        self.topic_id = ""
        self.generation = 0
        self.committed: int | None = None  # the group's committed offset when the assignment began
        self.metadata = ""  # the stage's own text beside it
        self.decisions: Sequence[Decision] = ()  # what somebody decided about this life of its topic, for any table
        self.decided_start: int | None = None  # where it begins by that, and not where a first start would
        self.gap: tuple[int, int] | None = None  # what is missing before its start, as somebody decided: from, up to
        self.low = -1  # the log's first and next offset when the assignment began
        self.high = -1
        self.start = -1  # where reading began; -1 until resolved
        self.lost = False  # true from the moment the partition is no longer ours
        self.state: Any = None  # the stage's own, dropped with the assignment

    @property
    def key(self) -> tuple[str, int]:
        """Topic and partition."""
        return self.topic, self.partition

    @property
    def decision(self) -> Decision | None:
        """The decision of the highest generation, which is what the topic is to be read in; None without one."""
        return max(self.decisions, key=lambda each: each.generation, default=None)

    def __repr__(self) -> str:
        return f"<{self.topic}[{self.partition}] from {self.start}{' lost' if self.lost else ''}>"


class Run:
    """Consecutive records of one partition within a chunk, or a slice of such a run.

    Offsets rise; they may have gaps. `first` is the first record's offset, `next` the offset behind the run: slices of
    a run tile it. Records can be read until the run is done or taken.
    """

    __slots__ = (
        "_answered",
        "_left",
        "_lost",
        "_messages",
        "_records",
        "_whole",
        "arrived_at",
        "assignment",
        "begun_at",
        "credit_bytes",
        "first",
        "nbytes",
        "next",
    )

    def __init__(self, assignment: Assignment, messages: Sequence[Message], *, arrived_at: float = 0.0) -> None:
        """Hold `messages`, all of one partition and in order."""
        first, last = messages[0].offset(), messages[-1].offset()
        assert first is not None, "a record has an offset"
        assert last is not None, "a record has an offset"
        assert last - first >= len(messages) - 1, "offsets rise within a run"
        self.assignment = assignment
        self.first = first
        self.next = last + 1
        self.arrived_at = arrived_at
        self.begun_at: float | None = None
        self._messages: Sequence[Message] = messages
        self._records = len(messages)
        self._whole: Run | None = None  # no reference to itself: that would keep every run until garbage is collected
        self._lost = False
        self._answered = False  # all of it was said to be done or taken; of a slice its root knows
        self._left: Window | None = None  # what was not, by offsets, once slices of it were; the root's
        self.nbytes = sum(map(len, messages)) + _key_bytes(messages) + RECORD_OVERHEAD_BYTES * self._records
        self.credit_bytes = self.nbytes  # what its lane is still charged for; the owning thread's

    @property
    def topic(self) -> str:
        """The topic it was read from."""
        return self.assignment.topic

    @property
    def partition(self) -> int:
        """The partition it was read from."""
        return self.assignment.partition

    @property
    def lost(self) -> bool:
        """No longer ours to finish: the partition left, or is read again from an earlier offset."""
        return self.root._lost or self.assignment.lost  # noqa: SLF001 - another run of the same class

    @property
    def root(self) -> Run:
        """The run as delivered, of which this one is a slice; itself if it is none."""
        return self if self._whole is None else self._whole

    @property
    def answered(self) -> bool:
        """Every record of it was said to be done or taken."""
        root = self.root
        if root._answered:  # noqa: SLF001 - another run of the same class
            return True
        left = root._left  # noqa: SLF001 - the same
        return root is not self and left is not None and not left.overlaps(self.first, self.next)

    def __len__(self) -> int:
        return self._records

    def __repr__(self) -> str:
        return f"<run {self.topic}[{self.partition}] {self.first}..{self.next}{' lost' if self.lost else ''}>"

    def values(self) -> list[bytes | None]:
        """Every record's value; None is a tombstone."""
        return [message.value() for message in self._open()]

    def keys(self) -> list[bytes | None]:
        """Every record's key."""
        return [message.key() for message in self._open()]

    def offsets(self) -> list[int]:
        """Every record's offset."""
        if self.next - self.first == self._records:
            return list(range(self.first, self.next))
        return [message.offset() or 0 for message in self._open()]

    def offset(self, index: int) -> int:
        """The offset of one record."""
        return self._open()[index].offset() or 0

    def time_ms(self, index: int) -> int:
        """The timestamp of one record in milliseconds since 1970, -1 where it has none."""
        kind, at = self._open()[index].timestamp()
        return at if kind else -1

    def headers(self, index: int) -> Headers:
        """The headers of one record; made when asked for, at 2 µs each."""
        return self._open()[index].headers() or []

    def slice(self, start: int, stop: int) -> Run:
        """Return the records `start` up to, without, `stop` as a run; slices side by side leave no offset out."""
        assert 0 <= start < stop <= self._records, f"{start}:{stop} of {self._records} records"
        messages = self._open()
        part = Run(self.assignment, messages[start:stop], arrived_at=self.arrived_at)
        following = messages[stop].offset() if stop < self._records else self.next
        assert following is not None
        part.next = following
        part.first = self.first if start == 0 else part.first
        part.begun_at = self.begun_at
        part._whole = self.root
        return part

    def unanswered(self) -> list[Run]:
        """Return slices of what was neither said to be done nor taken; the run itself where that is all of it."""
        left = self.root._left  # noqa: SLF001 - another run of the same class
        if self.answered:
            return []
        if left is None:
            return [self]
        parts = left.open_within(self.first, self.next)
        if parts == [(self.first, self.next)]:
            return [self]
        offsets = self.offsets()
        return [self.slice(bisect_left(offsets, first), bisect_left(offsets, behind)) for first, behind in parts]

    def answer(self) -> None:
        """Take it that the run is done or taken, and with it every other slice of the same records."""
        root = self.root
        if root is self:
            self._answered = True
        elif not root._answered:  # noqa: SLF001 - another run of the same class
            root._answer_part(self.first, self.next)  # noqa: SLF001 - the same

    def _answer_part(self, first: int, following: int) -> None:
        # By offsets, not by how many: an attempt that is made again cuts the run into other slices.
        if self._left is None:
            self._left = Window(self.first)
            self._left.add(self.first, self.next)
        self._left.done(first, following)
        self._answered = self._left.head == self.next

    def lose(self) -> None:
        """Make it and its slices no longer ours; by the owning thread, under the lock of `begin`."""
        self.root._lost = True  # noqa: SLF001 - another run of the same class

    def release(self) -> None:
        """Let the records go; by the owning thread, once the run is done or lost."""
        self._messages = ()

    def _open(self) -> Sequence[Message]:
        assert self._messages, f"{self!r} was read after it was done"
        return self._messages


def _key_bytes(messages: Sequence[Message]) -> int:
    return sum([len(key) for message in messages if (key := message.key())])


class OfTopic(Protocol):
    """What belongs to a topic: a run, an assignment, a view of a partition."""

    @property
    def topic(self) -> str:
        """Its name."""


T = TypeVar("T", bound=OfTopic)


def by_topic(those: Iterable[T]) -> dict[str, list[T]]:
    """Return those of each topic, in their order."""
    found: dict[str, list[T]] = {}
    for one in those:
        found.setdefault(one.topic, []).append(one)
    return found


class Chunk:
    """What one round of the consumer brought for one lane."""

    __slots__ = ("lane", "nbytes", "records", "runs")

    def __init__(self, lane: str, runs: list[Run]) -> None:
        """Hold `runs`, one for each partition."""
        self.lane = lane
        self.runs = runs
        self.nbytes = sum(run.nbytes for run in runs)
        self.records = sum(map(len, runs))

    def live(self) -> list[Run]:
        """Return the runs that are still ours."""
        return [run for run in self.runs if not run.lost]


def chunks_of(runs: Iterable[Run]) -> list[Chunk]:
    """Return one chunk for each lane, of runs of one partition each."""
    lanes: dict[str, list[Run]] = {}
    for run in runs:
        lanes.setdefault(run.assignment.lane, []).append(run)
    return [Chunk(lane, some) for lane, some in lanes.items()]


class Group:
    """One or more chunks begun together: what a step works on."""

    __slots__ = ("_acknowledging", "nbytes", "records", "runs")

    def __init__(self, runs: list[Run], acknowledging: Acknowledging) -> None:
        """Hold the runs that are live when the step begins, in the order in which they came."""
        self.runs = runs
        self.nbytes = sum(run.nbytes for run in runs)
        self.records = sum(map(len, runs))
        self._acknowledging = acknowledging

    def __len__(self) -> int:
        return self.records

    def live(self) -> list[Run]:
        """Return the runs that are still ours; a partition may leave in the middle of a step."""
        return [run for run in self.runs if not run.lost]

    def done(self, runs: Iterable[Run] | None = None, metadata: Mapping[Run, str] | None = None) -> None:
        """Say that `runs` (all, if not given) are durable; `metadata` is committed beside the offset behind each."""
        self._acknowledging.done(self.runs if runs is None else runs, metadata)

    def taken(self, runs: Iterable[Run] | None = None) -> None:
        """Say that `runs` were copied into a buffer with a byte limit of its own: bytes come back, offsets stand."""
        self._acknowledging.taken(self.runs if runs is None else runs)

    def unanswered(self) -> list[Run]:
        """Return the live runs of which neither was said."""
        return [run for run in self.runs if not run.answered and not run.lost]
