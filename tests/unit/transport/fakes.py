"""Runs, answers and events without a broker."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from connectors.transport.chunk import Assignment, Run
from tests.unit.fakes import Consumer, Message


def assignment(topic: str = "t", partition: int = 0) -> Assignment:
    """An assignment of lane `main`."""
    return Assignment("main", topic, partition)


def messages(offsets: Iterable[int], value: bytes = b"v") -> list[Message]:
    """Messages at offsets, which a header repeats."""
    return [Message(offset, b"k", value, [("offset", b"%d" % offset)], at_ms=5) for offset in offsets]


def run_of(offsets: Iterable[int], mine: Assignment | None = None) -> Run:
    """A run with records at `offsets`."""
    return Run(mine or assignment(), messages(offsets))


class Answers(Consumer):
    """Takes what a group says, as the service does."""

    def __init__(self) -> None:
        super().__init__(buffers=True)

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
