"""Epochs are a function of where a record stands: whoever reads it, and whenever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.epoch import EpochStart, bounds, epoch_at, epoch_of_origin
from schemas.table import TableEntry


def _start(epoch: int, topic_id: str, generation: int, **offsets: int) -> EpochStart:
    numbered = {int(name[1:]): offset for name, offset in offsets.items()}
    return EpochStart(epoch=epoch, topic_id=topic_id, generation=generation, offsets=numbered)


FIRST, SECOND = _start(1, "a", 0, p0=14, p1=9), _start(2, "a", 0, p0=30, p1=9)
REMADE = _start(3, "b", 2, p0=0, p1=0)


@pytest.mark.parametrize(
    ("partition", "offset", "epoch"), [(0, 13, 0), (0, 14, 1), (0, 29, 1), (0, 30, 2), (1, 8, 0), (1, 9, 2), (2, 0, 2)]
)
def test_an_epoch_begins_at_its_record_in_each_partition(partition: int, offset: int, epoch: int) -> None:
    """A partition that was added later has no record of before."""
    assert epoch == epoch_at([FIRST, SECOND], 2, "a", partition, offset)


def test_a_topic_without_starts_and_a_life_that_none_tells_of_are_of_the_tables_epoch() -> None:
    """The one is new to the table; the other was made anew since, and `resume --anew` began no epoch."""
    assert 5 == epoch_at([], 5, "a", 0, 0)
    assert 2 == epoch_at([FIRST, SECOND], 2, "c", 0, 0)


def test_each_life_of_a_topic_has_the_epochs_that_began_in_it() -> None:
    """The earlier one ends where the later one begins, whatever the offsets."""
    starts = [FIRST, REMADE]

    assert [0, 1, 1] == [epoch_at(starts, 3, "a", 0, offset) for offset in (13, 14, 99)]
    assert [3, 3] == [epoch_at(starts, 3, "b", 0, offset) for offset in (0, 99)]


def test_a_record_of_long_ago_has_the_epoch_of_the_generation_it_was_read_in() -> None:
    """Quarantine keeps no topic's id: generation and decisions tell which life it was."""
    starts, lives = [_start(1, "a", 1, p0=14)], [(3, "b")]

    assert 0 == epoch_of_origin(starts, 1, lives, (0, 0, 99))
    assert [0, 1] == [epoch_of_origin(starts, 1, lives, (1, 0, offset)) for offset in (13, 14)]
    assert 1 == epoch_of_origin(starts, 1, lives, (3, 0, 2))
    assert 4 == epoch_of_origin([], 4, lives, (0, 0, 0))


@given(st.lists(st.integers(0, 50), max_size=6), st.integers(0, 60))
def test_within_a_partition_epochs_only_rise_and_change_at_their_bounds(begins: list[int], offset: int) -> None:
    """What is read again, or parted elsewhere, is of the same epoch."""
    starts = [_start(number + 1, "a", 0, p0=at) for number, at in enumerate(sorted(begins))]
    here, behind = (epoch_at(starts, len(starts), "a", 0, at) for at in (offset, offset + 1))

    assert here <= behind
    assert (here == behind) or offset + 1 in bounds(starts, "a", 0)


def test_an_entry_without_a_resync_is_written_as_older_releases_read_it() -> None:
    """They refuse a key that they do not know."""
    spec = {"table": "patients", "topics": ["a"], "columns": {"id": "long"}}
    plain = TableEntry.model_validate({"spec": spec})
    resynced = plain.model_copy(update={"epoch": 1, "epochs": {"a": [FIRST]}, "resynced": 1})

    assert {"epochs", "resynced"}.isdisjoint(plain.model_dump(mode="json"))
    assert resynced == TableEntry.model_validate_json(resynced.model_dump_json())
