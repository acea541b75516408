"""Topics that a group gave to nobody: asked once after each assignment, and divided again, with patience."""

from typing import Any

import pytest

from connectors.transport.left_out import LeftOut
from connectors.transport.partitions import Partitions
from connectors.transport.routes import Routes
from connectors.transport.settings import ConsumerSettings
from schemas.errors import SourceUnavailable
from tests.unit.transport.fakes import Client, Events


class Group:
    """A broker that says who has what; `there` are the topics that exist."""

    def __init__(self) -> None:
        self.theirs: frozenset[str] | None = frozenset()
        self.there = {"mine", "other"}
        self.away = False
        self.asked = 0

    async def divided(self, group: str) -> frozenset[str] | None:
        """The topics of its members."""
        self.asked += 1
        if self.away:
            raise SourceUnavailable("away", hint="wait")
        return self.theirs

    async def ids(self, topics: Any) -> dict[str, str]:
        """The ids of those that exist."""
        return {each: "id" for each in topics if each in self.there}


class Poller:
    """Counts what is asked of the owning thread."""

    def __init__(self, routes: Routes) -> None:
        self.routes = routes
        self.asked: list[Any] = []

    def call(self, command: Any) -> None:
        """Take a command."""
        self.asked.append(command)


class Member:
    """A member of the group that reads two topics and a pattern, and has a partition of the first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.now = 100.0
        monkeypatch.setattr("connectors.transport.partitions.monotonic", lambda: self.now)
        self.group, self.events, self.routes = Group(), Events(), Routes()
        self.poller: Any = Poller(self.routes)
        self.routes.add("main", ["mine", "other", "^others-.*"])
        self.partitions = Partitions(self.routes, incremental=False)
        self.partitions.add_lane("main", 1 << 20, commits=True)
        group: Any = self.group
        asked = ConsumerSettings(bootstrap="b", group="g", **settings)
        self.left_out = LeftOut(asked, group, self.events, lambda: self.now)
        self.assign()

    def assign(self) -> None:
        """Get what the group gives, again."""
        client: Any = Client()
        self.partitions.forget(self.partitions.keys())
        self.partitions.assign(client, [("mine", 0)])

    async def look(self, after_seconds: float) -> int:
        """Look after a while; return how often the group was to divide again, in all."""
        self.now += after_seconds
        await self.left_out.look(self.partitions, self.poller)
        return len(self.poller.asked)


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> Member:
    """One to whom the group just gave a partition."""
    return Member(monkeypatch)


async def test_a_topic_that_is_nobodys_is_divided_again_once_it_has_settled(member: Member) -> None:
    """Once for an assignment, and said; what another member has is left alone."""
    assert 0 == await member.look(1)
    assert 1 == await member.look(3)
    assert 1 == await member.look(300)
    assert [["other"]] == [fields["topics"] for name, fields in member.events.said if name == "topics_left_out"]


async def test_a_topic_of_another_member_or_that_is_not_there_is_not_left_out(member: Member) -> None:
    """The broker is asked once about each assignment, not every second."""
    member.group.theirs = frozenset({"other"})
    assert 0 == await member.look(3)
    member.group.theirs, member.group.there = frozenset(), {"mine"}
    member.assign()
    assert 0 == await member.look(3)
    assert 0 == await member.look(3)
    assert 2 == member.group.asked


async def test_a_group_that_divides_just_now_or_a_broker_that_is_away_is_asked_again(member: Member) -> None:
    """It says what is so only later."""
    member.group.theirs = None
    assert 0 == await member.look(3)
    member.group.theirs, member.group.away = frozenset(), True
    assert 0 == await member.look(1)
    member.group.away = False
    assert 1 == await member.look(1)


async def test_dividing_again_without_avail_is_done_ever_more_rarely(member: Member) -> None:
    """3, 6, 12, … 60 seconds after the assignment before; from 3 on again once nothing is left out."""
    due = []
    for divided in range(1, 8):
        seconds = 0
        while await member.look(1) < divided:
            seconds += 1
        due.append(seconds + 1)
        member.assign()
    assert [3, 6, 12, 24, 48, 60, 60] == due

    member.group.theirs = frozenset({"other"})
    await member.look(60)
    member.group.theirs = frozenset()
    member.assign()
    assert 8 == await member.look(3)


@pytest.mark.parametrize("settings", [{"group_protocol": "consumer"}, {"topic_ids": False}])
async def test_where_the_broker_divides_or_knows_no_groups_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """Nor where a worker has all that it reads."""
    member = Member(monkeypatch, **settings)
    assert 0 == await member.look(60)
    whole = Member(monkeypatch)
    whole.routes.remove(["other"])
    assert 0 == await whole.look(60)
    assert 0 == member.group.asked == whole.group.asked
