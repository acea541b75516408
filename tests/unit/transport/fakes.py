"""Messages, runs and answers without a broker."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from connectors.transport.chunk import Assignment, Run


class FakeMessage:
    """What a record looks like to a run."""

    def __init__(self, offset: int, value: bytes | None = b"v", key: bytes | None = b"k", at: int = 5) -> None:
        self._offset, self._value, self._key, self._at = offset, value, key, at

    def __len__(self) -> int:
        return len(self._value or b"")

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes | None:
        return self._value

    def key(self) -> bytes | None:
        return self._key

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return [("offset", b"%d" % self._offset)]

    def timestamp(self) -> tuple[int, int]:
        return (1, self._at) if self._at >= 0 else (0, 0)


def assignment(topic: str = "t", partition: int = 0) -> Assignment:
    """An assignment of lane `main`."""
    return Assignment("main", topic, partition)


def messages(offsets: Iterable[int], value: bytes = b"v") -> list[FakeMessage]:
    """Messages at offsets."""
    return [FakeMessage(offset, value) for offset in offsets]


def run_of(offsets: Iterable[int], mine: Assignment | None = None) -> Run:
    """A run with records at `offsets`."""
    return Run(mine or assignment(), messages(offsets))


class Answers:
    """Takes what a group says, as the service does."""

    def __init__(self) -> None:
        self.done_runs: list[Run] = []
        self.taken_runs: list[Run] = []
        self.metadata: dict[Run, str] = {}

    def done(self, runs: Iterable[Run], metadata: Mapping[Run, str] | None = None) -> None:
        for run in list(runs):
            run.answer()
            self.done_runs.append(run)
        self.metadata.update(metadata or {})

    def taken(self, runs: Iterable[Run]) -> None:
        for run in list(runs):
            run.answer()
            self.taken_runs.append(run)

    def offsets(self) -> list[int]:
        return [offset for run in self.done_runs for offset in run.offsets()]


class Events:
    """Remembers what was reported."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, fields: Mapping[str, object]) -> None:
        self.said.append((event, dict(fields)))

    def names(self) -> Sequence[str]:
        return [name for name, _ in self.said]
