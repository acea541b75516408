"""Offsets of topics that are not read now: committed again by one member, and never those of others."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import count
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from connectors.transport import kept_offsets
from connectors.transport.chunk import Group
from connectors.transport.history import Key, Known
from connectors.transport.kept_offsets import KeptOffsets, commit_again
from connectors.transport.ladder import Ladder
from connectors.transport.lane import Lane, LaneSettings
from connectors.transport.partitions import Partitions
from connectors.transport.routes import Routes
from connectors.transport.settings import ConsumerSettings
from schemas.errors import SourceUnavailable
from tests.unit.transport.fakes import Answers, Client, Events

HOURS = 3_600.0
STANDS = {("paused", 0): (41, "v1 id 0 text"), ("paused", 1): (7, "v1 id 0"), ("removed", 0): (5, "v1 other 2")}


class Standing(Client):
    """A client whose group has committed something; `refused` are partitions that are not answered for."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: KafkaError | None = None
        self.asked_for: list[Key] = []

    def committed_of(self, place: TopicPartition) -> TopicPartition:
        offset, text = STANDS.get((place.topic, place.partition), (-1001, ""))
        return TopicPartition(place.topic, place.partition, offset, text)

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        if self.refuses is not None:
            raise KafkaException(self.refuses)
        return super().commit(offsets=offsets, asynchronous=asynchronous)


class Member:
    """A member that reads one topic; the stage's book names it, and others that were read before."""

    def __init__(self) -> None:
        self.now, self.asked, self.away = 0.0, 0, False
        self.divided_now: frozenset[str] | None = frozenset({"mine"})
        self.events, self.routes, self.client = Events(), Routes(), Standing()
        self.routes.add("main", ["mine"])
        self.partitions = Partitions(self.routes, incremental=False)
        self.partitions.add_lane("main", 1 << 20, commits=True)
        self.commands: list[Any] = []
        client: Any = self.client
        self.partitions.assign(client, [("mine", 0)])
        book: Any = self
        lookups: Any = self
        lanes = {"main": Lane("main", LaneSettings(book=book), _ladder(), threading.Lock())}
        settings = ConsumerSettings(bootstrap="b", group="g")
        self.kept = KeptOffsets(settings, lookups, lanes, clock=lambda: self.now)

    async def divided(self, group: str) -> frozenset[str] | None:
        """What members of the group have."""
        assert group == "g"
        self.asked += 1
        if self.away:
            raise SourceUnavailable("away")
        return self.divided_now

    async def everything(self) -> Mapping[str, Mapping[int, Known]]:
        """The book: what was ever begun."""
        known = {0: Known("id", 0), 1: Known("id", 0)}
        return {"mine": known, "paused": known, "removed": {0: known[0]}, "new": {0: known[0]}}

    async def look(self, after_seconds: float) -> dict[Key, tuple[int, str]]:
        """Look after a while; return what was committed then."""
        self.now += after_seconds
        self.client.committed.clear()
        poller: Any = self
        await self.kept.look(self.partitions, poller)
        for command in self.commands:
            command(self)
        self.commands.clear()
        return {key: (each.offset, each.metadata or "") for key, each in self.client.committed.items()}

    # What a command finds at the owning thread.

    def call(self, command: Any) -> None:
        """Take a command."""
        self.commands.append(command)

    @property
    def consumer(self) -> Any:
        """Its consumer."""
        return _Consumer(self.client)

    @property
    def listener(self) -> Any:
        """Who is told."""
        return self

    def report(self, event: str, fields: Mapping[str, object]) -> None:
        """Note what is told."""
        self.events(event, fields)


class _Consumer:
    """The client, as the owning thread's consumer."""

    def __init__(self, client: Standing) -> None:
        self._client = client
        self.commit = client.commit

    def committed(self, places: Iterable[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert timeout > 0
        places = list(places)
        self._client.asked_for += [(each.topic, each.partition) for each in places]
        return [self._client.committed_of(each) for each in places]


def _ladder() -> Ladder:
    async def step(group: Group) -> None:
        group.done()

    return Ladder("main", step, Answers(), report=Events())


async def test_where_the_group_stands_in_what_it_does_not_read_is_committed_again() -> None:
    """With the text beside it, now and then; nothing of what some member reads, nor of what has no offset."""
    member = Member()
    early, first, soon, later = [await member.look(seconds) for seconds in (1.0, 10 * 60.0, HOURS, 5 * HOURS)]

    assert ({}, STANDS, {}, STANDS) == (early, first, soon, later)
    assert {"paused", "removed", "new"} == {topic for topic, _ in member.client.asked_for}
    assert [("offsets_kept", {"partitions": 3})] * 2 == member.events.said


async def test_what_another_member_reads_is_left_to_it() -> None:
    """Also where this one is to read it, and has not been given it yet."""
    member = Member()
    member.divided_now = frozenset({"mine", "paused"})
    member.routes.add("main", ["removed"])

    assert {} == await member.look(HOURS)
    assert [("new", 0)] == member.client.asked_for


@pytest.mark.parametrize("divided", [frozenset({"mine", "earlier"}), frozenset()])
async def test_one_member_does_it_for_all(divided: frozenset[str]) -> None:
    """The one that has the first partition of what the group reads; it is another one's turn here."""
    member = Member()
    member.divided_now = divided

    assert {} == await member.look(HOURS)
    assert [] == member.client.asked_for


async def test_a_group_that_is_dividing_or_a_broker_that_is_away_is_asked_again_soon() -> None:
    """Not only in six hours."""
    member = Member()
    member.divided_now, divided = None, member.divided_now
    while_dividing = await member.look(HOURS)
    member.divided_now, member.away = divided, True
    while_away = await member.look(60.0)
    member.away = False

    assert ({}, {}, STANDS) == (while_dividing, while_away, await member.look(60.0))


async def test_a_member_that_was_not_given_its_partitions_yet_looks_again_soon_after() -> None:
    """The broker calls a group stable a moment before its members hear what they have."""
    member = Member()
    client: Any = member.client
    member.partitions.forget([("mine", 0)])
    before = await member.look(HOURS)
    member.partitions.assign(client, [("mine", 0)])

    assert ({}, {}, STANDS) == (before, await member.look(1.0), await member.look(60.0))


async def test_a_member_that_does_not_lead_asks_seldom() -> None:
    """Once after it was given something, and then as seldom as the one that leads."""
    member = Member()
    member.divided_now = frozenset({"mine", "earlier"})
    client: Any = member.client
    await member.look(HOURS)
    member.partitions.assign(client, [("mine", 1)])
    for _ in range(5 * 60):
        await member.look(60.0)

    assert 2 == member.asked
    await member.look(2 * HOURS)
    assert 3 == member.asked


async def test_a_slow_answer_is_not_committed_and_asked_for_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may have begun to read there meanwhile: its offset would be set back."""
    member, times = Member(), iter([0.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr(kept_offsets, "monotonic", lambda: next(times))

    assert {} == await member.look(HOURS)
    assert member.client.asked_for
    assert [] == member.events.said
    assert STANDS == await member.look(60.0)


async def test_a_broker_that_is_always_slow_is_asked_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is polled while it is asked."""
    member = Member()
    monkeypatch.setattr(kept_offsets, "monotonic", partial(next, count(0.0)))
    for _ in range(6 * 60):
        assert {} == await member.look(60.0)

    assert 9 == member.asked


def test_a_refusal_is_said_and_ends_nothing() -> None:
    """The group divides its partitions at that moment, or a topic was deleted."""
    member = Member()
    member.client.refuses = KafkaError(KafkaError.REBALANCE_IN_PROGRESS)
    thread: Any = member
    commit_again(thread, [("paused", 0)])

    assert ["offsets_not_kept"] == member.events.names()


@pytest.mark.parametrize(
    ("code", "expected"), [(KafkaError.REBALANCE_IN_PROGRESS, STANDS), (KafkaError.TOPIC_AUTHORIZATION_FAILED, {})]
)
async def test_what_was_refused_is_tried_again_soon_if_that_passes(code: int, expected: dict[Key, Any]) -> None:
    """The group may be through a minute later; a right that is missing is said every six hours."""
    member = Member()
    member.client.refuses = KafkaError(code)
    refused = await member.look(HOURS)
    member.client.refuses = None

    assert ({}, expected) == (refused, await member.look(60.0))
    assert ({}, STANDS) == (await member.look(60.0), await member.look(6 * HOURS))
