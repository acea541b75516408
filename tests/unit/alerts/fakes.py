"""What stands in for the transport in tests of ALERTS and NOTIFY: records, consumer, a writer into a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.transport.chunk import Assignment, Headers, Run
from connectors.transport.producer import Advance, Outbox, Work, WriteReport
from schemas.errors import SinkUnavailable, TableStopped


class Message:
    """A record as the transport holds it."""

    def __init__(self, offset: int, key: bytes | None, value: bytes | None, headers: Headers | None = None) -> None:
        self._offset, self._key, self._value, self._headers = offset, key, value, headers

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
        """Its time."""
        return 1, 0


class Consumer:
    """Notes what the stage asks of the consumer."""

    def __init__(self) -> None:
        self.done_runs: list[Run] = []
        self.metadata: dict[Run, str] = {}
        self.paused: dict[str, TableStopped] = {}
        self.given_up: list[Run] = []
        self.sought: list[tuple[Assignment, int]] = []

    def done(self, runs: Any, metadata: Mapping[Run, str] | None = None) -> None:
        """Note what is done."""
        runs = list(runs)
        for run in runs:
            run.answer()
        self.done_runs += runs
        self.metadata.update(metadata or {})

    def taken(self, runs: Any) -> None:
        """Nothing takes."""
        raise AssertionError

    async def give_up(self, runs: Any) -> None:
        """Lose the runs, as the owning thread does."""
        for run in runs:
            self.given_up.append(run)
            run.lose()

    async def pause(self, topic: str, reason: TableStopped) -> None:
        """Note the pause."""
        self.paused[topic] = reason

    async def resume(self, topic: str) -> None:
        """Forget the pause."""
        del self.paused[topic]

    async def seek(self, assignment: Assignment, offset: int) -> None:
        """Note the seek."""
        self.sought.append((assignment, offset))


class Writer:
    """Does the work as the transport's writers do, into a list; `failures` writes raise first."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.advances: list[Advance] = []
        self.failures = 0

    async def start(self) -> None:
        """Open nothing."""

    async def close(self) -> None:
        """Close nothing."""

    async def write(self, runs: Sequence[Run], work: Work) -> WriteReport:
        """Write all or nothing."""
        if self.failures:
            self.failures -= 1
            raise SinkUnavailable("away")
        records: list[dict[str, Any]] = []

        def note(topic: str, value: bytes, key: bytes, partition: int, *rest: Any) -> None:
            headers = next((dict(each) for each in rest if isinstance(each, list)), {})
            named = {"topic": topic, "value": value, "key": key, "partition": partition, "headers": headers}
            records.append(named)

        outbox = Outbox(note, 2**20)
        advances = list(work(outbox, [run for run in runs if not run.lost]))
        self.records += records
        self.advances += advances
        return outbox.report(advances, 0.0)
