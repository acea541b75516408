"""A client that has lost its brokers for good is known from one whose brokers are away."""

import asyncio
import json
from typing import Any

import pytest

from connectors.transport import watch as watch_module
from connectors.transport.lifeline import AGAIN_SECONDS, ALONE_SECONDS, Brokers, Lifeline, answers_anew
from connectors.transport.partitions import Partitions
from connectors.transport.routes import Routes
from connectors.transport.settings import ClientSettings, ConsumerSettings
from connectors.transport.watch import Watch
from schemas.errors import TransportFatal
from tests.unit.transport.fakes import Events

UP = json.dumps({"brokers": {"b": {"state": "UP", "source": "learned"}}})
ONLY_COORDINATOR = json.dumps({"brokers": {"GroupCoordinator": {"state": "UP", "source": "logical"}}})
LOST = json.dumps({"brokers": {"b": {"state": "INIT", "source": "learned"}}})


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_client_is_alone_from_when_no_broker_is_connected() -> None:
    """The coordinator's connection alone brings no records."""
    clock = Clock()
    brokers = Brokers(clock)
    found = []

    for at, said in enumerate([UP, ONLY_COORDINATOR, LOST, UP, LOST]):
        clock.now = float(at)
        brokers.hear(said)
        found.append(brokers.alone_since)

    assert [None, 1.0, 1.0, None, 4.0] == found


def test_a_client_is_cut_once_its_brokers_answered_another_one_twice() -> None:
    """And with time in between, in which it would have connected anew."""
    clock, asked = Clock(), list[float]()

    def answers() -> bool:
        asked.append(clock.now)
        return True

    lifeline, found = Lifeline(answers, clock), []
    for seconds in (0.0, ALONE_SECONDS - 0.1, ALONE_SECONDS, ALONE_SECONDS + AGAIN_SECONDS - 0.1):
        clock.now = 100.0 + seconds
        found.append(lifeline.is_cut(100.0))
    clock.now = 100.0 + ALONE_SECONDS + AGAIN_SECONDS
    found.append(lifeline.is_cut(100.0))

    assert [False, False, False, False, True] == found
    assert [100.0 + ALONE_SECONDS, 100.0 + ALONE_SECONDS + AGAIN_SECONDS] == asked


@pytest.mark.parametrize("answers", [[False] * 9, [True, False, True, False, True]])
def test_a_client_whose_brokers_are_away_waits_for_them(answers: list[bool]) -> None:
    """However long it takes; one that answers now and then is coming back."""
    clock, left = Clock(), list(answers)
    lifeline = Lifeline(lambda: left.pop(0), clock)

    found = []
    while left:
        clock.now += AGAIN_SECONDS
        found.append(lifeline.is_cut(0.0))

    assert not any(found)


def test_a_client_that_found_its_brokers_is_no_longer_doubted() -> None:
    """What was answered before counts no more."""
    clock = Clock()
    lifeline = Lifeline(lambda: True, clock)

    assert not lifeline.is_cut(0.0)
    assert not lifeline.is_cut(None)
    clock.now += AGAIN_SECONDS
    assert not lifeline.is_cut(0.0)
    clock.now += AGAIN_SECONDS
    assert lifeline.is_cut(0.0)


class Poller:
    """A poll thread, as far as the watch speaks to it: it ends the worker."""

    def __init__(self) -> None:
        self.listener = self
        self.errors: list[BaseException | None] = []

    def ended(self, error: BaseException | None) -> None:
        """Take why the worker ends."""
        self.errors.append(error)


async def test_a_worker_whose_consumer_is_cut_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its supervisor starts it again; it would wait for ever."""
    monkeypatch.setattr(watch_module, "_LOOK_SECONDS", 0.0)
    clock, poller, partitions = Clock(), Poller(), Partitions(Routes(), incremental=False)
    settings = ConsumerSettings(bootstrap="b", group="g")
    watch = Watch(settings, Events(), lifeline=Lifeline(lambda: True, clock))
    partitions.brokers = Brokers(Clock())
    partitions.hear_statistics(LOST)

    def should_stop() -> bool:
        clock.now += 1.0
        return False

    ending: Any = poller
    await asyncio.wait_for(watch.live(partitions, ending, should_stop), 30)

    (error,) = poller.errors
    assert isinstance(error, TransportFatal)
    assert "the consumer has lost its brokers, though they answer others" == error.message


def test_nobody_answers_where_nobody_is() -> None:
    """The probe waits a few seconds, then says so."""
    assert not answers_anew(ClientSettings(bootstrap="127.0.0.1:1"))
