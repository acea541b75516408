"""What stands in for the transport in tests of the stages: messages of real runs, a consumer, a writer into a list."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from connectors.transport.chunk import Assignment, Headers, Run
from connectors.transport.producer import Advance, Outbox, Work, WriteReport
from schemas.change import HEADER_SCHEMA_VERSION
from schemas.errors import HeadgateError, TableStopped

CHANGES = "headgate.changes.patients"


class Message:
    """A record as the transport holds it."""

    def __init__(
        self, offset: int, key: bytes | None, value: bytes | None, headers: Headers | None = None, *, at_ms: int = 0
    ) -> None:
        """Make one written at `at_ms`, below 0: at no known time."""
        self._offset, self._key, self._value, self._headers, self._at_ms = offset, key, value, headers, at_ms

    def __len__(self) -> int:
        return len(self._value or b"")

    def offset(self) -> int:
        """Its offset."""
        return self._offset

    def key(self) -> bytes | None:
        """Its key."""
        return self._key

    def value(self) -> bytes | None:
        """Its value."""
        return self._value

    def headers(self) -> Headers | None:
        """Its headers."""
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        """The kind of its time, and its milliseconds."""
        return (1, self._at_ms) if self._at_ms >= 0 else (0, 0)


def assignment_of(topic: str = CHANGES, partition: int = 0, *, topic_id: str = "topic-1") -> Assignment:
    """Return a life of a partition whose log begins at 0."""
    made = Assignment("main", topic, partition)
    made.topic_id, made.low = topic_id, 0
    return made


def run_of(assignment: Assignment, first: int, values: Sequence[bytes | None], *, version: int | None = None) -> Run:
    """Return a run of these values, from offset `first` on; with `version` their headers say the table's schema."""
    headers: Headers = [] if version is None else [(HEADER_SCHEMA_VERSION, b"%d" % version)]
    return Run(assignment, [Message(first + at, None, value, headers) for at, value in enumerate(values)])


class Consumer:
    """Notes what a stage asks of the consumer; seeking, pausing and giving up lose what is unfinished, as there."""

    def __init__(self, *, buffers: bool = False) -> None:
        """With `buffers` the stage may say that it has taken runs."""
        self._buffers = buffers
        self.done_runs: list[Run] = []
        self.taken_runs: list[Run] = []
        self.metadata: dict[Run, str] = {}
        self.paused: dict[str, TableStopped] = {}
        self.pauses: list[tuple[str, str]] = []  # topic, reason; every one that was asked for
        self.given_up: list[Run] = []
        self.sought: list[tuple[Assignment, int]] = []
        self.handed_out: list[Run] = []
        self.at: dict[Assignment, int] = {}  # where each assignment reads on
        self.added: dict[str, set[str]] = {}  # topics by lane

    @property
    def seeks(self) -> list[tuple[int, int]]:
        """The partitions and offsets that were sought."""
        return [(assignment.partition, offset) for assignment, offset in self.sought]

    def run(
        self, assignment: Assignment, first: int, values: Sequence[bytes | None], *, version: int | None = None
    ) -> Run:
        """Return a run that this consumer can lose."""
        made = run_of(assignment, first, values, version=version)
        self.handed_out.append(made)
        self.at[assignment] = made.next
        return made

    def done(self, runs: Iterable[Run], metadata: Mapping[Run, str] | None = None) -> None:
        """Note what is durable."""
        for run in list(runs):
            run.answer()
            self.done_runs.append(run)
        self.metadata.update(metadata or {})

    def taken(self, runs: Iterable[Run]) -> None:
        """Note what was taken."""
        assert self._buffers, "this stage buffers nothing"
        for run in list(runs):
            run.answer()
            self.taken_runs.append(run)

    async def seek(self, assignment: Assignment, offset: int) -> bool:
        """Note the seek, and read on from there."""
        await asyncio.sleep(0)
        self.sought.append((assignment, offset))
        self.rewind(assignment, offset)
        return not assignment.lost

    async def pause(self, topic: str, reason: TableStopped) -> None:
        """Note the reason, and lose the topic's unfinished runs."""
        self.paused[topic] = reason
        self.pauses.append((topic, reason.reason))
        for run in self._open():
            if run.topic == topic:
                run.lose()

    async def resume(self, topic: str) -> None:
        """Forget the pause."""
        del self.paused[topic]

    async def add_topics(self, lane: str, topics: Iterable[str]) -> None:
        """Note the topics."""
        self.added.setdefault(lane, set()).update(topics)

    async def give_up(self, runs: Iterable[Run]) -> None:
        """Lose the runs, and read their partitions again from their first unfinished offset."""
        runs = list(runs)
        for assignment in {run.assignment for run in runs if not run.lost}:
            self.rewind(assignment)
        for run in runs:
            self.given_up.append(run)
            run.lose()

    def rewind(self, assignment: Assignment, offset: int | None = None) -> None:
        """Read on from `offset`, None: from the first unfinished one."""
        unfinished = [run for run in self._open() if run.assignment is assignment]
        first = min((run.first for run in unfinished if not run.lost), default=self.at.get(assignment, 0))
        for run in unfinished:
            run.lose()
        self.at[assignment] = first if offset is None else offset

    def _open(self) -> list[Run]:
        return [run for run in self.handed_out if run not in self.done_runs]


class Record(NamedTuple):
    """A record as it was written; with partition -1 where its key belongs."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: dict[str, bytes | None]

    @property
    def content(self) -> Any:
        """What its JSON says."""
        return json.loads(self.value)


class Writer:
    """Does the work as the transport's writers do, into a list; each of `failures` ends one write after its work."""

    def __init__(self, *failures: HeadgateError) -> None:
        """Raise `failures` first, one by one: of such a write nothing is kept."""
        self.failures = list(failures)
        self.records: list[Record] = []
        self.advances: list[Advance] = []
        self.lives: list[str] = []  # opened, closed
        self.waits: HeadgateError | None = None

    def waits_for(self) -> HeadgateError | None:
        """Return what was set."""
        return self.waits

    async def start(self) -> None:
        """Note it."""
        self.lives.append("opened")

    async def close(self) -> None:
        """Note it."""
        self.lives.append("closed")

    def partitions_max(self) -> None:
        """Allow any number of output partitions."""

    async def write(self, runs: Sequence[Run], work: Work, *, parted: bool = False) -> WriteReport:
        """Write all or nothing."""
        del parted
        records: list[Record] = []

        def note(topic: str, value: bytes, key: bytes | None, partition: int, *rest: Any) -> None:
            records.append(Record(topic, partition, key, value, dict(rest[-1]) if rest else {}))

        outbox = Outbox(note, 2**20)
        advances = list(work(outbox, [run for run in runs if not run.lost]))
        if self.failures:
            raise self.failures.pop(0)
        self.records += records
        self.advances += advances
        return outbox.report(advances, 0.0)
