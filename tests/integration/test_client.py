"""The subscribers' client against a real Kafka: the rule, gaps, commits, members that come and go, lost places."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from headgate.client import (
    Change,
    Changes,
    CommitRefused,
    ConfigurationError,
    Event,
    Floor,
    Gap,
    GapFound,
    NotInGroup,
    PlaceLost,
    RegistryUnavailable,
    SourceUnavailable,
    Tombstone,
    changes,
    reading,
)
from headgate.client import registry as asking
from schemas.contract import KEYWORD
from tests.integration.subscribing import PARTITIONS, as_avro, by_partition, contract, plant, position, records, write
from tests.integration.transport_processes import Bench
from tests.services import wait_until
from tests.services.registry import SchemaRegistry


@pytest.fixture
def topic(bench: Bench) -> str:
    """An empty output topic."""
    return bench.topic("changes.patients", PARTITIONS)


def group() -> str:
    """Return the name of a new group."""
    return f"client-{uuid.uuid4().hex[:8]}"


def take(stream: Changes, count: int) -> list[Event]:
    """Return the next events; tests wait for what was written last, so that nothing comes behind it."""
    return [next(stream) for _ in range(count)]


def positions(events: Iterable[Event]) -> list[str]:
    """Return the positions of changes and floors."""
    return [each.position for each in events if not isinstance(each, Tombstone)]


def fresh(partition: int, count: int, *, first: int = 0) -> list[tuple[int, dict[str, Any] | None]]:
    """Return changes of one record each, for `write`."""
    return [(partition, one) for [one] in records(partition, [1] * count, first=first)]


def test_each_change_is_given_once_and_typed(bench: Bench, topic: str) -> None:
    """All partitions, without a group: repeats are counted, the gap is told, floors are what they are."""
    given, gaps = plant(bench.bootstrap, topic), list[Gap]()
    count = sum(map(len, given.values()))

    with changes(contract(topic), bootstrap=bench.bootstrap, on_gap=gaps.append) as stream:
        events = take(stream, count)
        repeats = stream.repeats

    assert given == by_partition(positions(events))
    ends = [(gap.next.partition, gap.highest.offset, gap.previous, gap.next.offset) for gap in gaps]
    assert [(1, 8, 10, 12)] == ends
    assert repeats > count
    assert PARTITIONS == sum(isinstance(each, Floor) for each in events)
    first = next(each for each in events if isinstance(each, Change))
    row = first.after or {}
    assert ({"id": 0}, Decimal("70.50"), ["a", None]) == (first.key, row["weight"], row["tags"])
    assert 1 == first.schema_version


def test_changes_that_become_avro_are_given_as_those_in_json(bench: Bench, topic: str) -> None:
    """Each once, over both forms, and typed alike: what a topic in JSON alone gives."""
    other, found = bench.topic("changes.other", PARTITIONS), list[list[Event]]()
    with SchemaRegistry() as registry:
        given = plant(bench.bootstrap, topic, as_avro(registry, topic))
        assert given == plant(bench.bootstrap, other)
        for made in (contract(topic, "avro"), contract(other)):
            with changes(made, bootstrap=bench.bootstrap, on_gap=lambda _: None, registry=registry.url) as stream:
                found.append(take(stream, sum(map(len, given.values()))))
        asked = len(registry.asked)

    # The two topics have the same records at the same offsets, but for their form.
    of_avro, of_json = ({(each.partition, each.offset): each for each in events} for events in found)
    assert given == by_partition(positions(found[0]))
    assert of_json == of_avro
    assert 1 == asked, "the schema of all values is one"


def test_a_registry_that_is_away_is_told_and_gone_on_with_where_it_is_back(
    bench: Bench, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change that could not be read is the next one still; what was committed meanwhile is what was given."""
    monkeypatch.setattr(asking, "PAUSES_SECONDS", (0.0,))
    name = group()
    with SchemaRegistry() as registry:
        write(bench.bootstrap, topic, fresh(0, 2))
        write(bench.bootstrap, topic, fresh(0, 2, first=4), written=as_avro(registry, topic))
        registry.kill()
        with changes(contract(topic), bootstrap=bench.bootstrap, group=name, registry=registry.url) as stream:
            events = take(stream, 2)
            for _ in range(2):
                with pytest.raises(RegistryUnavailable, match="does not answer"):
                    next(stream)
            stream.commit()
            registry.start()
            events += take(stream, 1)
        with changes(contract(topic), bootstrap=bench.bootstrap, group=name, registry=registry.url) as stream:
            events += take(stream, 2)

    expected = [position(0, offset) for offset in (0, 2, 4, 4, 6)]
    assert expected == positions(events)


def test_a_gap_is_raised_and_can_be_gone_over(bench: Bench, topic: str) -> None:
    """Whoever iterates on is given the change behind it, and all others."""
    given, raised, events = plant(bench.bootstrap, topic)[1], list[Gap](), list[Event]()

    with changes(contract(topic), bootstrap=bench.bootstrap, partitions=[1]) as stream:
        while len(events) < len(given):
            try:
                events.append(next(stream))
            except GapFound as error:
                raised.append(error.gap)

    assert [10] == [gap.previous for gap in raised]
    assert given == positions(events)


def test_a_restart_goes_on_where_it_was_committed_and_drops_what_it_saw(bench: Bench, topic: str) -> None:
    """The second of a group knows what the first has seen, although the repeats come only now."""
    name, stands = group(), fresh(0, 6)
    write(bench.bootstrap, topic, stands)
    with changes(contract(topic), bootstrap=bench.bootstrap, group=name) as stream:
        first = take(stream, 4)
        stream.commit()
        stream.commit()  # nothing moved
        take(stream, 1)  # given, and not committed
    write(bench.bootstrap, topic, [*stands, *fresh(0, 2, first=12)])

    with changes(contract(topic), bootstrap=bench.bootstrap, group=name) as stream:
        second = take(stream, 4)
        repeats = stream.repeats

    assert [position(0, 2 * number) for number in range(4)] == positions(first)
    assert [position(0, 2 * number) for number in range(4, 8)] == positions(second)
    assert len(stands) == repeats


def test_places_can_be_kept_by_the_subscriber(bench: Bench, topic: str) -> None:
    """Without a group: what was said of a place goes on there, and knows what was seen."""
    stands = fresh(1, 4)
    write(bench.bootstrap, topic, [*stands[:3], *fresh(0, 1)])
    with changes(contract(topic), bootstrap=bench.bootstrap) as stream:
        assert {} == stream.places()
        take(stream, 4)
        places = stream.places()
    write(bench.bootstrap, topic, [*stands, (0, None)])

    with changes(contract(topic), bootstrap=bench.bootstrap, start=places) as stream:
        again = take(stream, 2)
        with pytest.raises(NotInGroup):
            stream.commit()

    assert {0, 1} == places.keys()
    assert [position(1, 6)] == positions(again)
    assert [Tombstone(key=None, partition=0, offset=1)] == [each for each in again if isinstance(each, Tombstone)]


def test_partitions_of_ones_choice_are_kept_in_a_group(bench: Bench, topic: str) -> None:
    """Assigned, not shared: another partition of the same group is somebody else's business."""
    name, found = group(), list[list[str]]()
    write(bench.bootstrap, topic, fresh(0, 2))
    for first in (0, 4):
        write(bench.bootstrap, topic, fresh(1, 2, first=first))
        with changes(contract(topic), bootstrap=bench.bootstrap, group=name, partitions=[1]) as stream:
            found.append(positions(take(stream, 2)))
            stream.commit()

    assert [[position(1, 0), position(1, 2)], [position(1, 4), position(1, 6)]] == found


def test_the_latest_begins_behind_what_is_there(bench: Bench, topic: str) -> None:
    """And says so once it is committed: who takes over begins there too."""
    name, made = group(), contract(topic)
    write(bench.bootstrap, topic, fresh(0, 3))
    with changes(made, bootstrap=bench.bootstrap, group=name, start="latest", idle_seconds=0.5) as stream:
        wait_until(lambda: not list(stream) and len(stream.places()) == PARTITIONS, "its places are known")
        stream.commit()
    write(bench.bootstrap, topic, fresh(0, 1, first=6))

    with changes(made, bootstrap=bench.bootstrap, group=name, start="latest") as stream:
        assert [position(0, 6)] == positions(take(stream, 1))


class Member:
    """One of a group, in a thread of its own, which commits each change that it is given."""

    def __init__(self, bench: Bench, topic: str, group_: str) -> None:
        self.done, self.refused = Counter[str](), set[str]()
        self.gaps, self.errors, self.stop = list[Gap](), list[BaseException](), threading.Event()
        self._topic, self._bootstrap, self._group = topic, bench.bootstrap, group_
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            with changes(
                contract(self._topic),
                bootstrap=self._bootstrap,
                group=self._group,
                on_gap=self.gaps.append,
                idle_seconds=0.2,
            ) as stream:
                self._subscribe(stream)
        except BaseException as error:  # noqa: BLE001 - the test's own thread says it
            self.errors.append(error)

    def _subscribe(self, stream: Changes) -> None:
        pending: dict[int, list[str]] = {}
        while not self.stop.is_set():
            for change in stream:
                pending.setdefault(change.partition, []).extend(positions([change]))
                try:
                    stream.commit()
                except CommitRefused:
                    self.refused.update(positions([change]))
                    continue
                held = stream.places().keys()  # a commit is of these, and of all that was given of them
                for partition, given in pending.items():
                    self.done.update(given if partition in held else [])
                pending = {}


@pytest.mark.timeout(240)
def test_members_come_and_go_and_nothing_is_lost_or_told_twice(bench: Bench) -> None:
    """What was committed is never given again, nothing is left out, and no gap is seen that is none."""
    topic, name, rounds = bench.topic("changes.patients", 4), group(), 40
    members = [Member(bench, topic, name) for _ in range(3)]
    for number in range(rounds):
        write(bench.bootstrap, topic, [each for at in range(4) for each in fresh(at, 5, first=10 * number)])
        if number == 10:
            wait_until(lambda: members[0].done, "the first member has committed", deadline_seconds=60)
        if number in {0, 10, 20}:
            members[number // 10].thread.start()
        if number == 30:  # what comes from here on is for the others
            members[0].stop.set()
            members[0].thread.join(60)
    expected = {position(number, 2 * at) for number in range(4) for at in range(5 * rounds)}

    def done() -> bool:
        errors = [error for member in members for error in member.errors]
        assert [] == errors
        return expected <= {each for member in members for each in member.done}

    try:
        wait_until(done, "every change was committed", deadline_seconds=90)
    finally:
        for member in members:
            member.stop.set()
            member.thread.join(60)

    counted = sum((member.done for member in members), Counter[str]())
    refused = set().union(*(member.refused for member in members))
    assert [] == [gap for member in members for gap in member.gaps]
    assert expected == counted.keys()
    assert [] == [each for each, times in counted.items() if times > 1 and each not in refused]
    assert 1 < sum(bool(member.done) for member in members), "the partitions were shared"


def test_a_place_that_retention_took_is_told(bench: Bench, topic: str) -> None:
    """Never a silent jump: somebody has to decide."""
    name = group()
    write(bench.bootstrap, topic, fresh(0, 6))
    with changes(contract(topic), bootstrap=bench.bootstrap, group=name) as stream:
        take(stream, 1)
        stream.commit()
    bench.forget(topic, {0: 4})

    with (
        changes(contract(topic), bootstrap=bench.bootstrap, group=name) as stream,
        pytest.raises(PlaceLost, match="partition 0 offset 1 is no longer there"),
    ):
        next(stream)


@pytest.mark.parametrize("grouped", [True, False])
def test_a_topic_that_is_not_there_is_told(bench: Bench, grouped: bool) -> None:
    """At once, and with what to look at."""
    with (
        changes(contract("nowhere"), bootstrap=bench.bootstrap, group=group() if grouped else None) as stream,
        pytest.raises(ConfigurationError, match="nowhere"),
    ):
        next(stream)


def test_a_broker_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something is asked of it at the start; a member of a group waits for it."""
    monkeypatch.setattr(reading, "ANSWER_SECONDS", 1.0)
    quiet = {"log_level": 0}

    with (
        changes(contract("t"), bootstrap="127.0.0.1:9", settings=quiet) as stream,
        pytest.raises(SourceUnavailable, match="t: "),
    ):
        next(stream)
    with changes(contract("t"), bootstrap="127.0.0.1:9", group="g", settings=quiet, idle_seconds=1) as stream:
        assert [] == list(stream)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"isolation.level": "read_uncommitted"}, "isolation.level cannot be changed"),
        ({"group.id": "x", "auto.offset.reset": "latest"}, "auto.offset.reset, group.id cannot be changed"),
        ({"no.such.setting": "1"}, "no.such.setting"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "x", "sasl.password": "CANARY"}, "settings: "),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    """Those that the promise depends on, and those that there are not; no secret is repeated."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        changes(contract("t"), bootstrap="127.0.0.1:9", settings=settings)

    assert "CANARY" not in str(caught.value)


def test_what_is_no_contract_and_no_place_is_refused(tmp_path: Path) -> None:
    """Before anything is asked of a broker."""
    with pytest.raises(ConfigurationError, match="cannot be read: FileNotFoundError"):
        changes(tmp_path / "none.json", bootstrap="127.0.0.1:9")
    with pytest.raises(ConfigurationError, match="names no topic"):
        changes(contract(""), bootstrap="127.0.0.1:9")
    with pytest.raises(ConfigurationError, match="of partition 3 is no place"):
        changes(contract("t"), bootstrap="127.0.0.1:9", start={3: "yesterday"})
    (tmp_path / "other.json").write_text(f'{{"{KEYWORD}": 1}}')
    with pytest.raises(ConfigurationError, match=r"other\.json"):
        changes(str(tmp_path / "other.json"), bootstrap="127.0.0.1:9")
