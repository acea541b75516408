"""What ALERTS remembers, as records: written and read back, old numbers dropped, broken entries refused."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigurationError
from streams.alert_state import INCARNATIONS_KEPT, PartitionState, StateChange, read_states, unseen

ENTITIES = st.text(max_size=3).filter(lambda text: text.isprintable()).map(str.encode)
CHANGES = st.builds(
    StateChange,
    heights=st.dictionaries(st.integers(0, 3), st.dictionaries(st.sampled_from("ab"), st.integers(0, 9), min_size=1)),
    slots=st.dictionaries(
        st.tuples(st.sampled_from(["r", "q"]), ENTITIES), st.none() | st.sampled_from(["x", "y"]), max_size=4
    ),
)


@given(st.lists(CHANGES, max_size=6))
def test_what_was_written_is_read_back(changes: list[StateChange]) -> None:
    """Whatever the order of takings and givings back: the compacted topic holds the state, no more and no less."""
    state, topic = PartitionState(), dict[bytes, bytes]()
    for change in changes:
        state.apply(change)
        for key, value in change.records(3):
            topic.pop(key, None)
            if value is not None:
                topic[key] = value

    found = read_states(topic, [3])[3]

    assert state.heights == found.heights
    assert {rule: slots for rule, slots in state.slots.items() if slots} == found.slots
    assert state.nbytes == found.nbytes
    taken = {(rule, digest) for rule, slots in state.slots.items() for digest in slots.values()}
    assert taken == set(state.nbytes)
    assert {
        (rule, entity) for rule, slots in state.slots.items() for entity, digest in slots.items() if digest != "x"
    } == {*state.outdated({"r": "x", "q": "x"})}


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.integers(0, 6)), max_size=40), st.integers(1, 9))
def test_a_number_counts_once_however_updates_are_grouped(updates: list[tuple[int, str, int]], size: int) -> None:
    """By bucket and incarnation: what is not above the highest number seen is a repeat."""
    heights: dict[int, dict[str, int]] = {}
    found: list[bool] = []
    for at in range(0, len(updates), size):
        buckets, incarnations, numbers = zip(*updates[at : at + size], strict=True)
        columns = {"bucket": pa.array(buckets, pa.int64()), "incarnation": incarnations, "number": pa.array(numbers)}
        mask, moved = unseen(pa.table(columns), heights)
        heights.update(moved)
        found += mask.to_pylist()

    seen: dict[tuple[int, str], int] = {}
    expected = []
    for bucket, incarnation, number in updates:
        expected.append(number > seen.get((bucket, incarnation), -1))
        seen[bucket, incarnation] = max(number, seen.get((bucket, incarnation), -1))
    assert expected == found


def test_the_last_incarnations_of_a_bucket_are_kept() -> None:
    """So that it stays small, whatever Redis goes through."""
    names = [f"i{at}" for at in range(INCARNATIONS_KEPT + 3)]
    columns = {"bucket": [0] * len(names), "incarnation": names, "number": [1] * len(names)}

    _, moved = unseen(pa.table(columns), {})

    assert names[-INCARNATIONS_KEPT:] == list(moved[0])


BROKEN = {
    b"{}": b"{}",
    b"[": b"{}",
    b'[3,"height",1]': b'{"v":1}',
    b'[3,"height","x"]': b'{"v":1,"heights":[]}',
    b'[3,"slot","r"]': b'{"v":1,"digest":"x"}',
    b'[3,"slot","r","e"]': b'{"v":2,"digest":"x"}',
    b'[3,"floor",1]': b'{"v":1}',
    b'[4,"slot","r","e"]': b'{"v":1,"digest":"x"}',
}


@pytest.mark.parametrize("key", BROKEN, ids=repr)
def test_a_broken_entry_is_refused(key: bytes) -> None:
    """Or one that a newer release wrote: going on without it would fire twice."""
    with pytest.raises(ConfigurationError):
        read_states({key: BROKEN[key]}, [3])
