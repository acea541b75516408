"""The transport as LAKE sees it, in memory: one partition's log, runs of it, and a consumer that can rewind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

CHANGES = "headgate.changes.patients"


@dataclass(eq=False)
class FakeAssignment:
    """One life of a partition."""

    topic: str = CHANGES
    partition: int = 0
    topic_id: str = "id-1"
    lost: bool = False


@dataclass(eq=False)
class FakeRun:
    """Consecutive records of one partition."""

    assignment: FakeAssignment
    first: int
    records: Sequence[bytes | None]
    rewound: bool = False

    @property
    def topic(self) -> str:
        """The topic it was read from."""
        return self.assignment.topic

    @property
    def partition(self) -> int:
        """The partition it was read from."""
        return self.assignment.partition

    @property
    def next(self) -> int:
        """The offset behind it."""
        return self.first + len(self.records)

    @property
    def lost(self) -> bool:
        """No longer ours to finish."""
        return self.rewound or self.assignment.lost

    def values(self) -> list[bytes | None]:
        """The records' values."""
        return list(self.records)


@dataclass(eq=False)
class FakeGroup:
    """Runs begun together, with what was answered for them."""

    runs: list[FakeRun]
    answered: dict[FakeRun, str] = field(default_factory=dict)

    def done(self, runs: Iterable[FakeRun] | None = None) -> None:
        """Note them as done."""
        self.answered.update(dict.fromkeys(self.runs if runs is None else runs, "done"))

    def taken(self, runs: Iterable[FakeRun] | None = None) -> None:
        """Note them as taken."""
        self.answered.update(dict.fromkeys(self.runs if runs is None else runs, "taken"))


class FakeConsumer:
    """Notes what it is told; a seek or a pause loses the runs that were handed out."""

    def __init__(self) -> None:
        self.finished: list[FakeRun] = []
        self.seeks: list[tuple[int, int]] = []  # partition, offset
        self.paused: dict[str, Any] = {}
        self.handed_out: list[FakeRun] = []
        self.at: dict[FakeAssignment, int] = {}  # where each assignment reads on

    def run(self, assignment: FakeAssignment, first: int, records: Sequence[bytes | None]) -> FakeRun:
        """Return a run that this consumer can lose."""
        made = FakeRun(assignment, first, records)
        self.handed_out.append(made)
        self.at[assignment] = made.next
        return made

    def done(self, runs: Iterable[FakeRun]) -> None:
        """Note runs as durable."""
        self.finished += runs

    async def seek(self, assignment: FakeAssignment, offset: int) -> bool:
        """Note it and lose the assignment's unfinished runs."""
        await asyncio.sleep(0)
        self.seeks.append((assignment.partition, offset))
        self.rewind(assignment, offset)
        return not assignment.lost

    async def pause(self, topic: str, reason: Any) -> None:
        """Note the reason and lose the topic's unfinished runs."""
        self.paused[topic] = reason
        for run in self.handed_out:
            run.rewound = run.rewound or (run.topic == topic and run not in self.finished)

    async def give_up(self, runs: Iterable[FakeRun]) -> None:
        """Read the runs' partitions again from their first unfinished offset."""
        for assignment in {run.assignment for run in runs if not run.lost}:
            self.rewind(assignment)

    def rewind(self, assignment: FakeAssignment, offset: int | None = None) -> None:
        """Read on from `offset`, None: from the first unfinished one."""
        open_runs = [run for run in self.handed_out if run.assignment is assignment and run not in self.finished]
        first = min((run.first for run in open_runs if not run.lost), default=self.at.get(assignment, 0))
        for run in open_runs:
            run.rewound = True
        self.at[assignment] = first if offset is None else offset


async def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Return once `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)
