"""Where a replay goes on, by what its group has committed."""

from __future__ import annotations

import json

import pytest

from connectors.transport.commit_metadata import CommitMetadata
from connectors.transport.resolve import Committed
from schemas.errors import TableStopped
from schemas.replay import Replay, ReplayedTopic
from streams.replay_ranges import what_is_left

TOPIC = "clinic.public.patients"
REPLAY = Replay(
    generation=7, asked="all", at="then", topics={TOPIC: ReplayedTopic(id="id", generation=2, ranges={3: (10, 20)})}
)
BEGUN = REPLAY.model_copy(update={"begun": True})
NOTHING = Committed(None, "")


def stands_at(offset: int, *, generation: int = 7) -> Committed:
    """Return what a replay of this generation committed."""
    return Committed(offset, CommitMetadata("id", generation, "own").text())


def left(replay: Replay, committed: Committed, *, low: int = 0) -> tuple[int, int, int | None, str]:
    """Return what is left of the partition, what was committed of it, and what is remembered."""
    found = what_is_left(replay, "patients", (TOPIC, 3), committed, low)
    assert ("id", 7) == (found.assignment.topic_id, found.assignment.generation)
    return found.next, found.end, found.assignment.committed, found.assignment.metadata


@pytest.mark.parametrize("committed", [NOTHING, stands_at(15, generation=6), Committed(15, "somebody else's")])
@pytest.mark.parametrize(("low", "first"), [(0, 10), (12, 12), (99, 20)])
def test_one_that_was_not_begun_begins_where_it_was_planned(committed: Committed, low: int, first: int) -> None:
    """Also where an older one of its group stood; what retention took since then is its past."""
    assert (first, 20, None, "") == left(REPLAY, committed, low=low)


@pytest.mark.parametrize("replay", [REPLAY, BEGUN])
@pytest.mark.parametrize(("at", "first"), [(15, 15), (20, 20), (5, 10)])
def test_it_goes_on_where_it_stood(replay: Replay, at: int, first: int) -> None:
    """Whether its entry says that it was begun, or an older release began it."""
    assert (first, 20, at, "own") == left(replay, stands_at(at))


@pytest.mark.parametrize("committed", [NOTHING, stands_at(15, generation=6)])
def test_one_that_was_begun_does_not_begin_again_where_its_offsets_are_gone(committed: Committed) -> None:
    """It would emit again, in the same generation, what it has emitted: nobody could tell those changes apart."""
    with pytest.raises(TableStopped) as stopped:
        left(BEGUN, committed)

    assert "offsets_lost" == stopped.value.reason
    assert "replay patients --cancel" in stopped.value.hint


def test_what_retention_took_before_it_was_read_is_told() -> None:
    """Unless all of it was read."""
    with pytest.raises(TableStopped, match="retention took 3 records"):
        left(BEGUN, stands_at(15), low=18)
    assert (20, 20, 20, "own") == left(BEGUN, stands_at(20), low=99)


def test_only_one_that_was_begun_says_so() -> None:
    """An older release refuses a key that it does not know, and what it wrote is read."""
    older = json.loads(REPLAY.model_dump_json())

    assert "begun" not in older
    assert REPLAY == Replay.model_validate(older)
    assert BEGUN == Replay.model_validate_json(BEGUN.model_dump_json())
