"""Ranges of partitions as they are read: what of the messages that come lies within, and when all is through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, Message

from connectors.transport.chunk import Assignment
from connectors.transport.ranges import Range, RangeReader
from connectors.transport.settings import ClientSettings
from schemas.errors import ConfigurationError, SourceUnavailable

TOPIC = "t"


def _record(partition: int, offset: int) -> Message:
    return Message(topic=TOPIC, partition=partition, offset=offset, value=b"v")


def _error(partition: int, offset: int, code: int) -> Message:
    return Message(topic=TOPIC, partition=partition, offset=offset, error=KafkaError(code))


def _end(partition: int, offset: int) -> Message:
    return _error(partition, offset, KafkaError._PARTITION_EOF)  # noqa: SLF001 - confluent-kafka's public name


@pytest.fixture
def reader() -> Iterator[RangeReader]:
    """A reader of two partitions, without a broker."""
    ranges = [Range(Assignment("replay", TOPIC, number), 10 * number, 10 * number + 5) for number in (0, 1)]
    made = RangeReader(ClientSettings(bootstrap="127.0.0.1:9"), "g", ranges)
    yield made
    made.close()


def _places(reader: RangeReader, *messages: Message) -> list[tuple[int, int, int]]:
    return [(run.partition, run.first, run.next) for run in reader.take(list(messages))]


def test_what_lies_within_the_ranges_is_handed_on_by_partition(reader: RangeReader) -> None:
    """What lies beyond is left out, and the partition is through; offsets may have gaps."""
    assert 10 == reader.left

    found = _places(reader, *(_record(0, at) for at in (0, 1, 3)), _record(1, 14), _record(1, 15), _record(1, 16))

    assert ([(0, 0, 4), (1, 14, 15)], 1) == (found, reader.left)
    assert ([], 0) == (_places(reader, _record(0, 5), _record(1, 17)), reader.left)


def test_the_word_of_an_end_loses_no_record_that_came_with_it(reader: RangeReader) -> None:
    """It stands behind them; what is left then are markers of transactions."""
    assert [(0, 0, 2)] == _places(reader, _record(0, 0), _end(0, 5), _record(0, 1))
    assert 5 == reader.left


def test_an_end_before_the_ranges_is_none(reader: RangeReader) -> None:
    """The log is shorter than it was: whoever waits is told after a while."""
    assert ([], 10) == (_places(reader, _end(0, 4)), reader.left)


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, ConfigurationError, "reading t"),
        (KafkaError.OFFSET_OUT_OF_RANGE, SourceUnavailable, "retention has taken"),
        (KafkaError._AUTO_OFFSET_RESET, SourceUnavailable, "retention has taken"),  # noqa: SLF001 - the same
    ],
)
def test_what_the_broker_refuses_is_said(reader: RangeReader, code: int, error: type[Exception], said: str) -> None:
    """With what it is about."""
    with pytest.raises(error, match=said):
        reader.take([_error(0, 0, code)])


def test_what_passes_by_itself_is_no_error(reader: RangeReader) -> None:
    """A broker that is away for a moment."""
    assert [] == reader.take([_error(0, 0, KafkaError._TRANSPORT)])  # noqa: SLF001 - the same
