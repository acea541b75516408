"""The transport as the FEATURES stage sees it, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from schemas.errors import TableStopped


@dataclass(eq=False)
class FakeAssignment:
    """One life of a partition."""

    topic: str = "headgate.changes.patients"
    partition: int = 0
    topic_id: str = "topic-1"
    committed: int | None = None
    low: int = 0
    lost: bool = False


@dataclass(eq=False)
class FakeRun:
    """Consecutive records of one partition."""

    assignment: FakeAssignment
    first: int
    records: Sequence[bytes | None]
    lost_by_seek: bool = False

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
        return self.lost_by_seek or self.assignment.lost

    def __len__(self) -> int:
        return len(self.records)

    def values(self) -> list[bytes | None]:
        """The records' values."""
        return list(self.records)

    def offsets(self) -> list[int]:
        """The records' offsets."""
        return list(range(self.first, self.next))


@dataclass
class FakeGroup:
    """Runs that a stage begins together."""

    runs: list[FakeRun]
    finished: bool = False

    def done(self, runs: Iterable[FakeRun] | None = None) -> None:
        """Note what is durable."""
        self.finished = {id(run) for run in self.runs if not run.lost} <= {id(run) for run in runs or self.runs}


@dataclass
class FakeConsumer:
    """Remembers what it was asked for; a seek makes the runs it was shown lost."""

    seeks: list[tuple[int, int]] = field(default_factory=list)
    pauses: list[tuple[str, str]] = field(default_factory=list)
    runs: list[FakeRun] = field(default_factory=list)

    async def seek(self, assignment: Any, offset: int) -> bool:
        """Note it."""
        self.seeks.append((assignment.partition, offset))
        for run in self.runs:
            run.lost_by_seek |= run.assignment is assignment
        return True

    async def pause(self, topic: str, reason: TableStopped) -> None:
        """Note it."""
        self.pauses.append((topic, reason.reason))
        for run in self.runs:
            run.lost_by_seek |= run.topic == topic


def change(key: int, position: int, after: dict[str, Any] | None, unavailable: Sequence[str] = ()) -> bytes:
    """Write a change as the contract has it; `after` None is a delete."""
    value: dict[str, Any] = {
        "op": "delete" if after is None else "update",
        "key": {"id": str(key)},
        "old_key": None,
        "new_key": None,
        "before": None,
        "after": None if after is None else {"id": str(key)} | after,
        "position": f"0001{position:041d}",
        "ts": "2026-11-20T19:45:57.123456Z",
        "unavailable": list(unavailable),
        "source": {"connector": "postgresql", "origin": ["clinic.public.patients", 0, 0, position]},
    }
    return msgspec.json.encode(value)
