"""Runs, answers and events without a broker."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import Message as KafkaMessage
from confluent_kafka import TopicPartition

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


class Client:
    """A client of Kafka that remembers what was asked of it, and stores what is committed."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.committed: dict[tuple[str, int], TopicPartition] = {}
        self.log: tuple[int, int] | None = None
        self._polled: KafkaMessage | None = None
        self._consumed: Callable[[], list[KafkaMessage]] = list

    def brings(self, first: KafkaMessage, rest: Callable[[], list[KafkaMessage]]) -> None:
        """Bring `first` with the next poll, and what `rest` returns with the `consume` behind it."""
        self._polled, self._consumed = first, rest

    def poll(self, seconds: float) -> KafkaMessage | None:
        assert seconds > 0
        return self._polled

    def consume(self, count: int, seconds: float) -> list[KafkaMessage]:
        assert count > 0
        assert seconds >= 0
        return self._consumed()

    def consumer_group_metadata(self) -> None:
        """A group of one that nobody asks for."""

    def get_watermark_offsets(
        self, place: TopicPartition, timeout: float = 0, *, cached: bool = False
    ) -> tuple[int, int] | None:
        assert cached or timeout > 0
        assert place.partition >= 0
        return self.log

    def assign(self, places: list[TopicPartition]) -> None:
        self.asked.append(("assign", len(places)))

    def pause(self, places: list[TopicPartition]) -> None:
        self.asked.append(("pause", len(places)))

    def resume(self, places: list[TopicPartition]) -> None:
        self.asked.append(("resume", len(places)))

    def seek(self, place: TopicPartition) -> None:
        self.asked.append(("seek", place.offset))

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        assert isinstance(asynchronous, bool)
        self.committed.update({(each.topic, each.partition): each for each in offsets})
        return offsets
