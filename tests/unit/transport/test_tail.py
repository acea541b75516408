"""A compacted topic read whole: as long as it is, and what is said of one that stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from confluent_kafka import KafkaError, Message, TopicPartition

from connectors.transport import tail
from connectors.transport.history import Key
from connectors.transport.settings import ClientSettings
from connectors.transport.tail import CompactedReader
from connectors.transport.topics import TopicAdmin
from schemas.errors import SourceUnavailable

TOPIC = "state"
SECONDS_MAX = 60.0


class Clock:
    """A clock that goes on when something is read."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Ends(TopicAdmin):
    """Knows the ends of some logs."""

    def __init__(self, *ends: int) -> None:
        self._ends = ends

    def watermarks_now(self, keys: Iterable[Key]) -> dict[Key, tuple[int, int]]:
        return {key: (0, self._ends[key[1]]) for key in keys}


class Slow:
    """A consumer that brings one record of a partition at a time, each after some seconds, up to where it may read."""

    def __init__(self, clock: Clock, seconds: float, may_read: dict[int, int], *, says_so: bool = True) -> None:
        self._clock, self._seconds, self._may_read, self._says_so = clock, seconds, may_read, says_so
        self._at: dict[int, int] = {}

    def assign(self, places: list[TopicPartition]) -> None:
        self._at = {each.partition: each.offset for each in places}

    def consume(self, count: int, seconds: float) -> list[Message]:
        assert count > 0
        assert seconds > 0
        self._clock.now += self._seconds
        found: list[Message] = []
        for number, at in self._at.items():
            if at < self._may_read[number]:
                key = b"%d" % (at % 2)
                found.append(Message(topic=TOPIC, partition=number, offset=at, key=key, value=b"%d" % at))
                self._at[number] += 1
            elif self._says_so:
                error = KafkaError(KafkaError._PARTITION_EOF)  # noqa: SLF001 - confluent-kafka's public name
                found.append(Message(topic=TOPIC, partition=number, offset=at, error=error))
        return found

    def close(self) -> None:
        """Nothing is open."""


Made = Callable[..., CompactedReader]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """Makes readers of a slow consumer's topic, whose partitions end where it is said."""
    clock = Clock()
    monkeypatch.setattr(tail, "monotonic", clock)

    def make(ends: list[int], seconds: float, may_read: dict[int, int], *, says_so: bool = True) -> CompactedReader:
        slow = Slow(clock, seconds, may_read, says_so=says_so)
        monkeypatch.setattr(tail, "Consumer", lambda _: slow)
        client = ClientSettings(bootstrap="127.0.0.1:9")
        return CompactedReader(TOPIC, client, partitions=range(len(ends)), admin=Ends(*ends))

    return make


def test_a_long_topic_is_read_for_as_long_as_records_come(made: Made) -> None:
    """Whoever gave up in the middle would begin anew, and never come to its end."""
    reader = made([20], SECONDS_MAX / 2, {0: 20})

    assert {b"0": b"18", b"1": b"19"} == reader.load(idle_seconds_max=SECONDS_MAX)


def test_an_open_transaction_is_told_apart_from_a_broker_that_sends_nothing(made: Made) -> None:
    """The broker says where committed records end, or it says nothing at all."""
    said = []
    for says_so in (True, False):
        with pytest.raises(SourceUnavailable) as caught:
            made([20], SECONDS_MAX / 2, {0: 7}, says_so=says_so).load(idle_seconds_max=SECONDS_MAX)
        assert "state[0] was read to 7 of 20, and nothing more came for 60 s" == caught.value.message
        said.append("a transaction is open" in caught.value.hint)

    assert [True, False] == said


def test_what_is_written_beyond_the_end_of_another_partition_is_no_progress(made: Made) -> None:
    """Or a reader would wait for ever while others write."""
    with pytest.raises(SourceUnavailable) as caught:
        made([2, 20], SECONDS_MAX / 2, {0: 1_000, 1: 7}).load(idle_seconds_max=SECONDS_MAX)

    assert caught.value.message.startswith("state[1] was read to 7 of 20")
