"""What a resync decides: where the epoch begins, what is read again for it, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.transport.chunk import Assignment
from connectors.transport.history import ABOVE_LOG, Key, moved, topic_made_anew
from schemas.errors import ConfigurationError, SourceMoved
from schemas.table import Decision, TableEntry
from streams.decide import Found
from streams.epochs import epoch_at_origin
from streams.resync import STARTS_MAX, begin_at, declared, planned
from streams.resync_search import Begin

ENTRY = TableEntry.model_validate(
    {"spec": {"table": "patients", "topics": ["a"], "columns": {"id": "long"}}, "generation": 2, "resumed": 3}
)


def _at(number: int, committed: int | None, low: int = 0, high: int = 50) -> Assignment:
    mine = Assignment("", "a", number)
    mine.committed, mine.low, mine.high, mine.generation = committed, low, high, 1
    return mine


def _found(*partitions: Assignment, troubles: dict[int, SourceMoved] | None = None, topic_id: str = "id") -> Found:
    return Found("a", topic_id, {each.partition: each for each in partitions}, troubles or {})


def _begin(*offsets: int, stops: Iterable[int] = (), empty: bool = False) -> Begin:
    numbered = dict(enumerate(offsets))
    return Begin(numbered, dict.fromkeys(numbered, "so"), empty=empty, stops=frozenset(stops))


def test_a_table_that_stands_where_the_epoch_begins_goes_on_as_it_is() -> None:
    """Each partition stops by itself at its row of the new snapshot, or before it: nobody reads beyond."""
    plan = planned(ENTRY, [_found(_at(0, 14), _at(1, 7))], {"a": _begin(14, 9, stops=[0, 1])}, complete=False)

    (start,) = plan.entry.epochs["a"]
    assert (1, "id", 1, {0: 14, 1: 9}) == (start.epoch, start.topic_id, start.generation, start.offsets)
    assert (1, 2, 4, None, {}) == (
        plan.entry.epoch, plan.entry.generation, plan.entry.resumed, plan.entry.paused, plan.entry.decisions
    )  # fmt: skip
    assert (0, False, 0) == (plan.entry.resynced, plan.complete, plan.beginnings[0].again)


def test_what_was_read_beyond_is_read_again_in_a_new_generation() -> None:
    """It had positions of the old life; nothing before where it stood is left out."""
    plan = planned(ENTRY, [_found(_at(0, 30), _at(1, 7))], {"a": _begin(14, 9, stops=[0])}, complete=False)

    assert {"a": Decision(topic_id="id", generation=3, start={0: 14, 1: 7})} == plan.entry.decisions
    assert (3, 16) == (plan.entry.generation, plan.beginnings[0].again)
    assert 1 == plan.entry.epochs["a"][0].generation


def test_what_is_read_again_has_origins_that_no_table_of_the_topic_has_had() -> None:
    """A table beside it was replayed as generation 5, with the origins of the topic's records."""
    found = replace(_found(_at(0, 30)), generation=5)

    plan = planned(ENTRY, [found], {"a": _begin(14, stops=[0])}, complete=False)

    assert {"a": Decision(topic_id="id", generation=6, start={0: 14})} == plan.entry.decisions
    assert 6 == plan.entry.generation


def test_an_epoch_begins_in_the_life_of_a_topic_however_often_that_was_read() -> None:
    """What was parked before the topic was read again for another table finds its epoch by where it stood."""
    plan = planned(ENTRY, [_found(_at(0, 30))], {"a": _begin(14, stops=[0])}, complete=False, since={"a": 0})

    (start,) = plan.entry.epochs["a"]
    assert (0, 0) == (start.generation, plan.beginnings[0].generation)
    assert [0, 1, 1] == [epoch_at_origin(plan.entry, ("a", of, 0, at)) for of, at in ((0, 13), (0, 14), (3, 14))]


def test_a_partition_that_nothing_stops_may_be_read_on_and_so_begins_a_generation() -> None:
    """A worker could pass the place before it hears of it."""
    plan = planned(ENTRY, [_found(_at(0, 14), _at(1, 9))], {"a": _begin(14, 9, stops=[0])}, complete=False)

    assert {0: 14, 1: 9} == plan.entry.decisions["a"].start
    assert 0 == plan.beginnings[0].again


def test_a_topic_that_was_made_anew_is_read_as_its_new_generation() -> None:
    """The epoch begins with its log, and in that life alone."""
    trouble = topic_made_anew("a", "old", "new")
    found = _found(_at(0, None), topic_id="new", troubles={0: trouble})

    plan = planned(ENTRY, [found], {"a": _begin(0)}, complete=False)

    assert Decision(topic_id="new", generation=3, start={0: 0}) == plan.entry.decisions["a"]
    assert ("new", 3) == ((start := plan.entry.epochs["a"][0]).topic_id, start.generation)


def test_records_that_retention_took_are_gone_on_without() -> None:
    """What is left of the old life keeps its epoch."""
    gone = _at(0, 7, low=10)
    trouble = moved(gone, "", 7)
    assert trouble is not None

    plan = planned(ENTRY, [_found(gone, troubles={0: trouble})], {"a": _begin(20, stops=[0])}, complete=False)

    assert ({0: 7}, "earliest") == ((made := plan.entry.decisions["a"]).gaps, made.start)
    assert {0: 20} == plan.entry.epochs["a"][0].offsets


def test_a_log_that_is_shorter_than_it_was_begins_where_somebody_says() -> None:
    """As a new generation, for its offsets are not those of before."""
    short = _at(0, 90)
    trouble = SourceMoved(ABOVE_LOG, "short")

    plan = planned(ENTRY, [_found(short, troubles={0: trouble})], {"a": _begin(4)}, complete=False)

    assert Decision(topic_id="id", generation=3, start={0: 4}) == plan.entry.decisions["a"]


@pytest.mark.parametrize(("complete", "empty", "resynced"), [(True, False, 1), (False, True, 1), (False, False, 0)])
def test_it_is_complete_by_word_or_where_the_new_life_began_without_rows(
    complete: bool, empty: bool, resynced: int
) -> None:
    """Behind a truncate all rows of the table are changes."""
    plan = planned(ENTRY, [_found(_at(0, 14))], {"a": _begin(15, stops=[0], empty=empty)}, complete=complete)

    assert (resynced, bool(resynced)) == (plan.entry.resynced, plan.complete)
    assert 1 == declared(plan.entry).resynced


def test_epochs_are_kept_in_their_order_and_not_for_ever() -> None:
    """What stood before the oldest has long left the log."""
    entry, found = ENTRY, _found(_at(0, 14))

    for _ in range(STARTS_MAX + 5):
        entry = planned(entry, [found], {"a": _begin(14, stops=[0])}, complete=False).entry

    epochs = [start.epoch for start in entry.epochs["a"]]
    assert (STARTS_MAX + 5, list(range(6, STARTS_MAX + 6))) == (entry.epoch, epochs)


class Clock:
    """An administration that knows when records were written."""

    def offsets_at(self, keys: Iterable[Key], timestamp_ms: int) -> dict[Key, int]:
        """Return offset 20 of the first partition; nothing was written to others since."""
        return {key: 20 for key in keys if key[1] == 0 and timestamp_ms == 1_795_219_394_000}


@pytest.mark.parametrize(
    ("where", "offsets"),
    [
        ("earliest", {0: 3, 1: 0}),
        ("latest", {0: 50, 1: 40}),
        ({0: 4, 1: 40}, {0: 4, 1: 40}),
        (datetime.fromtimestamp(1_795_219_394, UTC), {0: 20, 1: 40}),
    ],
)
def test_somebody_says_where_in_four_ways(where: Any, offsets: dict[int, int]) -> None:
    """By time, partitions to which nothing was written since begin at their ends."""
    assert offsets == begin_at(_found(_at(0, 7, low=3), _at(1, 7, high=40)), where, Clock()).offsets  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("where", "said"),
    [({0: 4}, "names no place in a\\[1\\]"), ({0: 4, 1: 4, 2: 4}, "a\\[2\\]"), ({0: 51, 1: 0}, "ends at 50")],
)
def test_a_place_that_is_none_is_refused(where: Any, said: str) -> None:
    """A partition that is not named, one that is not there, one beyond its end."""
    with pytest.raises(ConfigurationError, match=said):
        begin_at(_found(_at(0, 7), _at(1, 7)), where, Clock())  # type: ignore[arg-type]
