"""Records of a topic that may have been made anew: kept back, handed on or lost, and never doubted for ever."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, Message

from connectors.transport.chunk import Assignment, Run
from connectors.transport.history import topic_made_anew
from connectors.transport.partition import Partition, Status
from connectors.transport.partitions import Partitions
from connectors.transport.routes import Routes
from connectors.transport.settings import ConsumerSettings
from connectors.transport.watch import Watch
from tests.unit.transport.fakes import Client, Events

QUIET_SECONDS = 1.0


class Reader:
    """One running partition that begins at 0, with a clock in the test's hands."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("connectors.transport.partitions.monotonic", lambda: self.now)
        consumer: Any = Client()
        self.consumer = consumer
        routes = Routes()
        routes.add("main", ["t"])
        self.partitions = Partitions(routes, incremental=False)
        self.partitions.add_lane("main", 1 << 20, commits=True)
        self.assignment: Assignment = self.partitions.assign(self.consumer, [("t", 0)])[0]
        self.partitions.start(self.consumer, self.assignment, 0)
        self.consumer.asked.clear()

    @property
    def partition(self) -> Partition:
        """The books of it."""
        found = self.partitions.get(("t", 0))
        assert found is not None
        return found

    def deliver(self, first: int, after_seconds: float) -> tuple[list[Run], set[str]]:
        """Bring two records, some time after what happened last."""
        self.now += after_seconds
        records = [Message(topic="t", partition=0, offset=at, value=b"v") for at in (first, first + 1)]
        return self.partitions.deliver(records, now=self.now, quiet_seconds=QUIET_SECONDS)

    def clear(self, asked_at: float) -> list[tuple[int, int]]:
        """Say that the id is what it was; return the offsets handed on."""
        rounds = self.partitions.clear(self.consumer, ["t"], asked_at)
        return [(run.first, run.next) for runs in rounds for run in runs]


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    """A partition that was just begun."""
    return Reader(monkeypatch)


def test_records_that_come_soon_are_handed_on_at_once(reader: Reader) -> None:
    """Nothing is asked of the broker for them."""
    runs, doubted = reader.deliver(0, QUIET_SECONDS / 2)

    assert [(0, 2)] == [(run.first, run.next) for run in runs]
    assert set() == doubted


def test_records_after_a_quiet_time_wait_for_the_topic_s_id(reader: Reader) -> None:
    """They, and those behind them, are handed on in order, without being read again."""
    assert ([], {"t"}) == reader.deliver(0, 2.0)
    assert ([], set()) == reader.deliver(2, 0.1)
    handed_on = reader.clear(asked_at=reader.now + 0.1)

    assert [(0, 2), (2, 4)] == handed_on
    assert [] == reader.consumer.asked, "neither paused nor sought"
    assert [] == reader.clear(asked_at=reader.now + 0.2), "once"
    assert [(4, 6)] == [(run.first, run.next) for run in reader.deliver(4, 0.1)[0]]


def test_a_partition_that_is_always_late_moves_on(reader: Reader) -> None:
    """Every delivery is doubted and every doubt ends with its records handed on: the same ones never come twice."""
    handed_on = []
    for first in range(0, 20, 2):
        reader.deliver(first, 5.0)
        handed_on += reader.clear(asked_at=reader.now + 0.01)

    assert [(first, first + 2) for first in range(0, 20, 2)] == handed_on


def test_a_slow_trickle_moves_on_while_the_broker_answers_slowly(reader: Reader) -> None:
    """Whenever an answer comes, the next records are in doubt already: what it speaks of is handed on all the same."""
    handed_on, kept = [], []
    for first in range(0, 20, 2):
        asked_at = reader.now + 0.1
        reader.deliver(first, 2.0)
        handed_on += reader.clear(asked_at)
        kept.append(len(reader.partition.withheld))

    assert [(first, first + 2) for first in range(0, 18, 2)] == handed_on
    assert [1] * 10 == kept, "nothing piles up"
    assert [(18, 20)] == reader.clear(reader.now + 0.1)


def test_what_follows_soon_upon_a_doubt_is_handed_on_with_it(reader: Reader) -> None:
    """Nothing is doubtful of it: a busy partition is asked about once, however many records come meanwhile."""
    reader.deliver(0, 2.0)
    asked_at = reader.now + 0.1
    for first in (2, 4):
        reader.deliver(first, 0.2)
    reader.deliver(6, 2.0)
    handed_on = reader.clear(asked_at)

    assert [(0, 2), (2, 4), (4, 6)] == handed_on
    assert [(6, 8)] == reader.clear(reader.now + 0.1)


def test_an_id_asked_for_before_the_records_came_says_nothing_of_them(reader: Reader) -> None:
    """The answer may be older than the new topic."""
    asked_at = reader.now + 1.0
    reader.deliver(0, 2.0)

    assert [] == reader.clear(asked_at)
    assert [(0, 2)] == reader.clear(reader.now + 0.1)


def test_a_topic_made_anew_takes_what_was_kept_back_with_it(reader: Reader) -> None:
    """No step ever sees it, and the lane has its bytes again."""
    reader.deliver(0, 2.0)
    held = reader.partition
    reader.partitions.hold(reader.consumer, held, topic_made_anew("t", "old", "new"))

    assert [] == reader.clear(reader.now + 1.0)
    assert (Status.HELD, 0, 0) == (held.status, held.budget.used, held.head)
    assert [("pause", 1)] == reader.consumer.asked


def test_without_an_answer_what_was_kept_back_is_lost_and_comes_again(reader: Reader) -> None:
    """It does not fill the lane of other topics while the broker does not know its own."""
    run = reader.deliver(0, 0.1)[0][0]
    run.begun_at = reader.now
    reader.deliver(2, 2.0)
    reader.partitions.suspect(reader.consumer, [reader.partition])

    assert (False, 2, run.nbytes) == (run.lost, reader.partition.position, reader.partition.budget.used)
    assert ([], set()) == reader.deliver(4, 0.1), "what the client had already is passed over"
    assert [] == reader.clear(reader.now + 0.1)
    assert [("pause", 1), ("resume", 1), ("seek", 2)] == reader.consumer.asked
    assert [(2, 4)] == [(again.first, again.next) for again in reader.deliver(2, 0.1)[0]]


def test_a_rewind_loses_what_was_kept_back(reader: Reader) -> None:
    """It is read again from where the stage wants it."""
    reader.deliver(0, 2.0)
    reader.partitions.rewind(reader.consumer, reader.partition, 0)

    assert [] == reader.clear(reader.now + 0.1)
    assert [(0, 2)] == [(run.first, run.next) for run in reader.deliver(0, 0.1)[0]]


def test_after_trouble_less_patience_is_had_with_a_silent_partition(reader: Reader) -> None:
    """For a while, and not as long as no broker answers."""
    settings = ConsumerSettings(bootstrap="b", group="g")
    watch = Watch(settings, Events())
    waits = [watch.patience(reader.partitions, reader.now)]
    reader.partitions.suspect(reader.consumer, [reader.partition])
    waits += [watch.patience(reader.partitions, reader.now + after) for after in (1.0, 100.0)]
    reader.partitions.hear_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))  # noqa: SLF001 - confluent-kafka's public name
    waits.append(watch.patience(reader.partitions, reader.now + 1.0))

    assert [settings.silent_seconds, settings.silent_seconds_in_trouble, settings.silent_seconds, float("inf")] == waits
