"""Topics to which the client takes no record: when that is their fault."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from connectors.transport.refusals import Refusals

PATIENCE_SECONDS = 10.0


class Clock:
    """A clock in the test's hands, and one producer's refusals."""

    def __init__(self) -> None:
        self.now = 100.0
        self.refusals = Refusals(PATIENCE_SECONDS, clock=lambda: self.now)

    def refuse(self, topic: str = "out", after: float = 0.0, code: int = KafkaError._UNKNOWN_TOPIC) -> str | None:  # noqa: SLF001 - confluent-kafka's public name
        """Refuse a record some time after what happened last; return who is at fault."""
        self.now += after
        error = KafkaError(code)
        self.refusals.note(topic, error)
        return self.refusals.lasting(error)


def test_what_lasts_is_the_topic_s_fault() -> None:
    """What was enlarged or made a moment ago is not: the client hears of it within seconds."""
    clock = Clock()

    assert [None, None, "out"] == [clock.refuse(), clock.refuse(after=9.0), clock.refuse(after=1.0)]


def test_what_was_written_to_or_was_refused_long_ago_begins_anew() -> None:
    """Two short troubles are none that lasts, however far apart."""
    clock = Clock()
    clock.refuse()
    clock.now += PATIENCE_SECONDS
    clock.refusals.written(["out"])
    found = [clock.refuse(), clock.refuse(after=1_000.0), clock.refuse(after=PATIENCE_SECONDS)]

    assert [None, None, "out"] == found


def test_each_topic_answers_for_itself() -> None:
    """An error names the one that it was said of."""
    clock = Clock()
    clock.refuse("a")

    assert (None, "a") == (clock.refuse("b", after=PATIENCE_SECONDS), clock.refuse("a"))
    assert clock.refusals.lasting(KafkaError(KafkaError._UNKNOWN_TOPIC)) is None  # noqa: SLF001 - the same


@pytest.mark.parametrize("code", [KafkaError._STATE, KafkaError._TRANSPORT])  # noqa: SLF001 - the same
def test_an_error_of_the_client_itself_is_no_topic_s(code: int) -> None:
    """However long it lasts."""
    clock = Clock()
    clock.refuse(code=code)

    assert clock.refuse(after=PATIENCE_SECONDS, code=code) is None
