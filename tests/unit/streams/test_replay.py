"""What a replay reads, decided before it begins."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import pytest

from connectors.transport.chunk import Assignment
from connectors.transport.history import moved
from schemas.change import is_for, is_replay, is_silent
from schemas.errors import ConfigurationError, SourceMoved, TableStopped
from schemas.replay import Replay
from schemas.table import TableEntry
from streams.decide import Found
from streams.replay import Asked, Place, plan, read_place
from streams.replaying import _marks

ENTRY = TableEntry.model_validate({"spec": {"table": "patients", "topics": ["a", "b"], "columns": {"id": "long"}}})
POSITION = "0001" + "0" * 41
NOON_MS = 1_795_262_400_000  # 2026-11-21T12:00Z


def _found(topic: str, *partitions: tuple[int | None, int, int], generation: int = 0) -> Found:
    """Return a topic with the committed offset and the bounds of each partition's log."""
    made = {}
    for number, (committed, low, high) in enumerate(partitions):
        mine = made[number] = Assignment("", topic, number)
        mine.committed, mine.low, mine.high, mine.generation = committed, low, high, generation
    return Found(topic, f"id-{topic}", made)


def _plan(*found: Found, entry: TableEntry = ENTRY, topics: Collection[str] = (), **places: str) -> Replay:
    until = places.get("until")
    start = read_place(places.get("start", "earliest"))
    asked = Asked(start, None if until is None else read_place(until), ["features", "lake"], topics, "text")

    def offsets_at(keys: Collection[Any], at_ms: int) -> Mapping[Any, int]:
        """Every tenth offset is a second later than noon; partition 1 has nothing then."""
        return {key: (at_ms - NOON_MS) // 100 for key in keys if key[1] != 1}

    return plan(entry, found, asked, offsets_at, at="2026-11-21T12:00:00Z")


def _ranges(replay: Replay) -> dict[str, dict[int, tuple[int, int]]]:
    return {topic: what.ranges for topic, what in replay.topics.items()}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("earliest", Place()),
        ("4711", Place(offset=4711)),
        ("0=4711, 12=5", Place(offsets={0: 4711, 12: 5})),
        (POSITION, Place(position=POSITION)),
        ("2026-11-21T12:00Z", Place(at_ms=NOON_MS)),
        ("2026-11-21 12:00", Place(at_ms=NOON_MS)),
        ("2026-11-21T13:00+01:00", Place(at_ms=NOON_MS)),
        ("2026-11-21", Place(at_ms=NOON_MS - 12 * 3_600_000)),
    ],
)
def test_a_place_is_a_time_a_position_or_offsets(text: str, place: Place) -> None:
    """By its form; a time without a zone is UTC."""
    assert place == read_place(text)


@pytest.mark.parametrize(
    "text", ["", "latest", "now", "-1", "1.5", "0=", "0=1,0=2", "1900-01-01", "٣", "9" * 201, "a" * 500]
)
def test_what_is_no_place_is_refused_with_those_that_are(text: str) -> None:
    """And not repeated at any length."""
    with pytest.raises(ConfigurationError) as refused:
        read_place(text)

    assert len(refused.value.message) < 150
    assert "earliest" in refused.value.hint


def test_all_that_was_read_is_replayed_as_a_generation_that_nobody_had() -> None:
    """Up to where NORMALIZE stands; what it never read is none of it."""
    replay = _plan(_found("a", (30, 10, 40), (None, 0, 5), (7, 7, 7), generation=2), _found("b", (5, 0, 5)))

    assert {"a": {0: (10, 30)}, "b": {0: (0, 5)}} == _ranges(replay)
    assert (3, 25) == (replay.generation, replay.total)
    assert ("id-a", 2) == (replay.topics["a"].id, replay.topics["a"].generation)
    assert 6 == _plan(_found("a", (3, 0, 3)), entry=ENTRY.model_copy(update={"generation": 5})).generation


def test_a_replay_has_origins_that_no_table_of_its_topics_has_had_or_will_have() -> None:
    """Workers may still have to reach what was decided for a table beside it, in whichever of the topics."""
    found = [_found("a", (30, 10, 40), generation=2), replace(_found("b", (5, 0, 5)), generation=4)]

    assert 5 == _plan(*found).generation
    assert 5 == _plan(*found, topics=["a"]).generation


@pytest.mark.parametrize(
    ("places", "ranges"),
    [
        ({"start": "12"}, {0: (12, 30), 1: (12, 20)}),
        ({"start": "0=12"}, {0: (12, 30)}),
        ({"start": "0=12,1=19", "until": "0=15"}, {0: (12, 15), 1: (19, 20)}),
        ({"start": "earliest", "until": "12"}, {0: (10, 12), 1: (0, 12)}),
        ({"start": "earliest", "until": "99"}, {0: (10, 30), 1: (0, 20)}),
        ({"start": "2026-11-21T12:00:02Z"}, {0: (20, 30)}),
        ({"start": "2026-11-21T12:00:00Z", "until": "2026-11-21T12:00:01.5Z"}, {0: (10, 15)}),
        ({"start": "earliest", "until": "2026-11-21T12:00:01.2Z"}, {0: (10, 12), 1: (0, 20)}),
        ({"start": POSITION, "until": POSITION + "1"}, {0: (10, 30), 1: (0, 20)}),
    ],
)
def test_places_become_ranges_of_partitions(places: dict[str, Any], ranges: dict[int, tuple[int, int]]) -> None:
    """Those that are not named are not meant; a position is looked for in all of them."""
    assert {"a": ranges} == _ranges(_plan(_found("a", (30, 10, 40), (20, 0, 20)), **places))


def test_positions_are_kept_for_whoever_reads() -> None:
    """They are not in Kafka's index."""
    replay = _plan(_found("a", (30, 10, 40)), start=POSITION, until=POSITION + "1")

    assert (POSITION, POSITION + "1") == (replay.first_position, replay.end_position)


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ({"start": "9"}, "below_log"),
        ({"start": "30"}, "nothing_to_replay"),
        ({"start": "2026-11-22"}, "nothing_to_replay"),
        ({"start": "5=1"}, "nothing_to_replay"),
        ({"topics": ["c"]}, "no_such_topic"),
    ],
)
def test_what_cannot_be_replayed_is_said_before_anything_is_written(places: dict[str, Any], reason: str) -> None:
    """With what can be done instead."""
    with pytest.raises(TableStopped) as refused:
        _plan(_found("a", (30, 10, 40)), **places)

    assert reason == refused.value.reason
    assert refused.value.hint


def test_a_topic_in_trouble_is_decided_about_first() -> None:
    """A replay would not know which life of it is meant."""
    found = _found("a", (7, 10, 30))
    trouble = moved(found.partitions[0], "", 7)
    assert trouble is not None

    with pytest.raises(SourceMoved, match="deleted before it was read"):
        _plan(Found("a", "id-a", found.partitions, {0: trouble}))


def test_one_of_several_topics_may_be_meant() -> None:
    """By its name."""
    assert {"b": {0: (0, 5)}} == _ranges(_plan(_found("a", (30, 10, 40)), _found("b", (5, 0, 5)), topics=["b"]))


@pytest.mark.parametrize(
    ("into", "silent", "takers"),
    [
        (["features", "lake"], True, ["features", "lake"]),
        (["features", "lake", "alerts"], False, ["features", "lake"]),
        (["features"], True, ["features"]),
        (["lake", "alerts"], False, ["lake"]),
        ([], True, []),
    ],
)
def test_the_headers_of_a_replayed_change_say_who_takes_it(into: list[Any], silent: bool, takers: list[str]) -> None:
    """Rules fire only where that was asked for."""
    replay = _plan(_found("a", (30, 10, 40))).model_copy(update={"into": into})
    headers = _marks(replay)

    assert (True, silent) == (is_replay(headers), is_silent(headers))
    assert takers == [stage for stage in ("features", "lake") if is_for(stage, headers)]


def test_a_live_change_is_for_everybody() -> None:
    """It has none of these headers."""
    assert (False, False, True) == (is_replay([]), is_silent([]), is_for("lake", [("headgate.table", b"x")]))


def test_an_entry_without_a_replay_is_as_older_releases_know_it() -> None:
    """They refuse a key that they do not know."""
    entry = ENTRY.model_copy(update={"replay": _plan(_found("a", (30, 10, 40)))})

    assert {"replay", "replayed_apart"}.isdisjoint(ENTRY.model_dump(mode="json"))
    assert entry == TableEntry.model_validate_json(entry.model_dump_json())
