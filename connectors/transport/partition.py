"""What the owning thread keeps for one assigned partition: its window, its unfinished runs, why it is paused."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import StrEnum
from itertools import groupby
from operator import lt, methodcaller
from typing import Any, cast

from confluent_kafka import Message as Fetched

from connectors.transport.chunk import Assignment, Message, Run
from connectors.transport.commit_metadata import CommitMetadata
from connectors.transport.window import Window
from schemas.errors import HeadgateError, TransportFatal

_OFFSET = methodcaller("offset")
_WENT_BACK_MAX = 5  # within one assignment


class Status(StrEnum):
    """Whether a partition brings records."""

    RESOLVING = "resolving"  # where it starts is being found out
    RUNNING = "running"
    HELD = "held"  # it is not what we read before; `trouble` says why


class Budget:
    """The bytes that one lane may hold."""

    __slots__ = ("bytes_max", "lane", "paused", "used")

    def __init__(self, lane: str, bytes_max: int) -> None:
        """Begin with nothing used."""
        self.lane = lane
        self.bytes_max = bytes_max
        self.used = 0
        self.paused = False

    @property
    def full(self) -> bool:
        """The lane holds what it may."""
        return self.used >= self.bytes_max

    @property
    def room(self) -> int:
        """How many bytes more it may hold."""
        return max(self.bytes_max - self.used, 0)

    def charge(self, run: Run) -> None:
        """Count a delivered run."""
        self.used += run.credit_bytes

    def give_back(self, run: Run, nbytes: int | None = None) -> None:
        """Return `nbytes` of a run's credit, or all that is left of it; never more than it was charged."""
        root = run.root
        amount = root.credit_bytes if nbytes is None else min(nbytes, root.credit_bytes)
        root.credit_bytes -= amount
        self.used -= amount
        assert self.used >= 0, f"lane {self.lane} was given back more than it was charged"


class Partition:
    """One assignment as the owning thread sees it. Only that thread changes it; others may read its plain fields."""

    __slots__ = (
        "assignment",
        "brought_bytes",
        "budget",
        "commits",
        "committed",
        "delivered_at",
        "doubts",
        "end",
        "fetch_end",
        "fetch_position",
        "last_arrival",
        "last_timestamp",
        "moved_at",
        "moving_to",
        "paused",
        "position",
        "runs",
        "status",
        "suspect",
        "trouble",
        "waits",
        "went_back",
        "window",
        "withheld",
    )

    def __init__(self, assignment: Assignment, budget: Budget, *, commits: bool, now: float) -> None:
        """Begin unresolved and paused."""
        self.assignment = assignment
        self.budget = budget
        self.commits = commits  # by offset commits of ours; False where offsets go with a transaction
        self.status = Status.RESOLVING
        self.trouble: HeadgateError | None = None
        self.doubts: list[float] = []  # when the topic may have become another one: its id is to be compared
        self.suspect = False  # so much so that nothing is read until that is known
        self.withheld: list[Run] = []  # came while in doubt, oldest first: handed on once the id was compared
        self.paused = True  # at the client
        self.position = -1  # the next offset to come
        self.went_back = 0  # how often the client brought what came before
        self.committed: int | None = None
        self.window: Window | None = None
        self.runs: deque[Run] = deque()  # delivered and not finished, oldest first
        self.end: int | None = None  # the log's end, as last heard
        self.fetch_position = -1  # what the client fetches next, markers included; and where that ends
        self.fetch_end = -1
        self.last_arrival = now
        self.last_timestamp = -1
        self.delivered_at = 0.0  # when it last brought records
        self.brought_bytes = 0  # since somebody last took them
        self.waits = False  # its lane takes records again, but its turn has not come
        self.moving_to: str | None = None  # the lane that it changes to, once nothing of it is held
        self.moved_at = float("-inf")

    @property
    def key(self) -> tuple[str, int]:
        """Topic and partition."""
        return self.assignment.key

    @property
    def head(self) -> int | None:
        """The offset to commit; None before it is resolved."""
        return None if self.window is None else self.window.head

    @property
    def running(self) -> bool:
        """Records are to come."""
        return self.status is Status.RUNNING and not self.suspect

    @property
    def doubted_at(self) -> float | None:
        """Since when it is in doubt; None if it is not."""
        doubts = self.doubts  # another thread asks, too
        return doubts[0] if doubts else None

    @property
    def behind(self) -> bool:
        """As far as is known, there is something to read."""
        return self.end is None or self.position < self.end

    @property
    def drained(self) -> bool:
        """No run of it is begun and unfinished."""
        return all(run.begun_at is None or run.lost for run in self.runs)

    @property
    def holds_nothing(self) -> bool:
        """No record of it fills its lane: each that came is durable, copied into a buffer, or lost."""
        return not any(run.credit_bytes for run in self.runs)

    def change_lane(self, lane: str, budget: Budget) -> None:
        """Fill another lane with what comes from here on."""
        assert self.holds_nothing, f"{self.key} changes its lane while records of it are in work"
        self.assignment.lane, self.budget, self.moving_to = lane, budget, None
        self.waits = False  # its turn would have come in the lane that it leaves

    def start(self, offset: int) -> None:
        """Begin, or begin anew, at `offset`: window and order check start there, unfinished runs are lost."""
        self.lose_runs()
        if self.window is not None and self.window.note is not None:
            self.assignment.metadata = self.window.note
        self.window = Window(offset)
        self.position = offset
        if self.end is None and self.assignment.high >= 0:
            self.end = self.assignment.high  # as its start was found; the client hears of it after a while

    def is_next(self, messages: Sequence[Message]) -> bool:
        """Tell whether `messages` rise from the next offset to come on; there may be gaps."""
        offsets = [self.position - 1, *map(_OFFSET, messages)]
        return all(map(lt, offsets, offsets[1:]))

    def bring_back(self) -> dict[str, object]:
        """Note that the client brought again what came before; return what to say of it. It must be sought.

        librdkafka asks where a log begins for each partition that it is assigned. An answer that a seek overtook makes
        it ask again half a second later, and go there.

        Raises:
            TransportFatal: it goes back again and again.
        """
        self.went_back += 1
        if self.went_back > _WENT_BACK_MAX:
            raise TransportFatal(
                f"{self.key[0]}[{self.key[1]}]: the client goes back from {self.position} again and again",
                hint="the worker ends rather than repeat records; this is a bug of the client or ours",
            )
        return {"topic": self.key[0], "partition": self.key[1], "position": self.position}

    def deliver(self, messages: Sequence[Message], *, now: float) -> Run:
        """Take what came as a run.

        Raises:
            TransportFatal: an offset went back within this assignment.
        """
        assert self.window is not None
        run = Run(self.assignment, messages, arrived_at=now)
        if run.first < self.position:
            raise TransportFatal(
                f"{run.topic}[{run.partition}]: offset {run.first} came after {self.position - 1}",
                hint="the worker ends rather than repeat records; this is a bug of the client or ours",
            )
        self.window.add(run.first, run.next)
        self.position = run.next
        self.runs.append(run)
        self.budget.charge(run)
        self.brought_bytes += run.nbytes
        self.last_arrival = self.delivered_at = now
        kind, at = messages[-1].timestamp()
        self.last_timestamp = at if kind else -1
        return run

    def take_brought_bytes(self) -> int:
        """Return how many bytes came since this was last asked."""
        brought, self.brought_bytes = self.brought_bytes, 0
        return brought

    def clear(self, asked_at: float) -> bool:
        """End the doubts that arose before the topic's id was asked for, and found unchanged; tell whether one did."""
        if self.doubted_at is None or self.doubted_at >= asked_at:
            return False
        self.doubts, self.suspect = [at for at in self.doubts if at >= asked_at], False
        return True

    def take_cleared(self) -> list[Run]:
        """Return what was kept back, is still ours and came before what is in doubt, once."""
        kept, since = self._take_withheld(), self.doubted_at
        cleared = kept if since is None else [run for run in kept if run.arrived_at < since]
        self.withheld = kept[len(cleared) :]
        return cleared

    def _take_withheld(self) -> list[Run]:
        kept, self.withheld = self.withheld, []
        return [run for run in kept if not run.lost]

    def finish(self, run: Run, note: str | None) -> bool:
        """Take a done run or slice; tell whether the head moved. A lost one changes nothing."""
        if run.lost or self.window is None:
            return False
        moved = self.window.done(run.first, run.next, note)
        head = self.window.head
        while self.runs and self.runs[0].next <= head:
            self._drop(self.runs.popleft())
        if run.root.answered and not self._open(run.root):
            self._drop(run.root)  # done before an older one: its records can go, its place in the queue stays
        return moved or note is not None

    def drop_unbegun(self) -> None:
        """Lose every run that no step has begun, and what came behind it; under the lock of `begin`."""
        assert all(run.begun_at is None for run in self._from_first_unbegun()), "runs are begun in order"
        self._drop_last(self._from_first_unbegun())

    def drop_withheld(self) -> None:
        """Lose what was kept back: it is to come again."""
        self._drop_last(self._take_withheld())

    def lose_runs(self) -> None:
        """Lose every unfinished run; under the lock of `begin`."""
        while self.runs:
            self._lose(self.runs.popleft())

    def metadata(self, *, note: str | None = None) -> CommitMetadata:
        """Return what is to be committed beside the head."""
        said = note if note is not None else (self.window.note if self.window is not None else None)
        mine = self.assignment
        return CommitMetadata(mine.topic_id, mine.generation, mine.metadata if said is None else said)

    def lag(self) -> int | None:
        """Return how many offsets are still to come and to be finished; None while nothing is known of the end."""
        if self.end is None or self.window is None:
            return None
        caught_up = self.fetch_position >= self.fetch_end > 0 and not self.runs
        return 0 if caught_up and self.end <= self.fetch_end else max(self.end - self.window.head, 0)

    def _from_first_unbegun(self) -> list[Run]:
        for index, run in enumerate(self.runs):
            if run.begun_at is None:
                return list(self.runs)[index:]
        return []

    def _drop_last(self, lost: list[Run]) -> None:
        if not lost or self.window is None:
            return
        self.window.cut(max(lost[0].first, self.window.head))
        self.position = self.window.end
        for run in reversed(lost):
            last = self.runs.pop()
            assert last is run, f"{run!r} is not the last one, {last!r} is"
            self._lose(run)

    def _open(self, root: Run) -> bool:
        assert self.window is not None
        return self.window.overlaps(root.first, root.next)

    def _lose(self, run: Run) -> None:
        run.lose()
        self._drop(run)

    def _drop(self, run: Run) -> None:
        self.budget.give_back(run)
        if not run.lost:
            run.release()


def by_partition(messages: list[Any]) -> dict[tuple[str, int], list[Any]]:
    """Return the messages of each partition, in order; they come in blocks, so blocks are what is looped over."""
    found: dict[tuple[str, int], list[Any]] = {}
    for number, same_number in groupby(messages, Fetched.partition):
        for topic, block in groupby(same_number, Fetched.topic):
            found.setdefault((cast("str", topic), cast("int", number)), []).extend(block)
    return found
