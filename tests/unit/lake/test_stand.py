"""Where the lake stands in a partition, as a text that outlives this version."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.change import Height
from schemas.errors import BugError, SourceMoved, TableStopped
from sinks.lake.stand import Stand, check_topic, read_stand, read_stands, written

STREAMS = st.tuples(st.text(), st.integers(0), st.integers(0))
HEIGHTS = st.builds(Height, st.integers(0, 2**63), st.just(0) | st.integers(0, 10_000))
OFFSETS = st.integers(0, 2**63)
STANDS = st.builds(Stand, st.text(), st.text(), OFFSETS, st.dictionaries(STREAMS, HEIGHTS), st.none() | OFFSETS)


@given(st.dictionaries(st.integers(0, 1_000), STANDS))
def test_what_is_written_is_read(stands: dict[int, Stand]) -> None:
    """One property per partition, beside properties that are not ours."""
    assert stands == read_stands({**written(stands), "owner": "somebody", "headgate.layout-version": "1"})


def test_the_text_is_frozen() -> None:
    """Tables hold it: a change of it needs a new version."""
    first = Stand("headgate.changes.t", "abc", 12, {("t", 0, 1): Height(11)})
    third = Stand("headgate.changes.t", "abc", 12, {("t", 0, 1): Height(11, 2)})

    assert '{"v":1,"topic":"headgate.changes.t","id":"abc","next":12,"highest":[["t",0,1,11]]}' == first.to_text()
    assert '{"v":1,"topic":"t","id":"abc","next":12,"first":0,"highest":[]}' == Stand("t", "abc", 12, {}, 0).to_text()
    assert '{"v":2,"topic":"headgate.changes.t","id":"abc","next":12,"highest":[["t",0,1,11,2]]}' == third.to_text()


def test_a_newer_version_stops_the_table() -> None:
    """With what to do; the other tables go on."""
    with pytest.raises(TableStopped, match=r"version 3, this release reads 1 and 2 .*upgrade this one"):
        read_stand(json.dumps({"v": 3, "topic": "t", "id": "", "next": 1, "highest": []}))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"v":1}'])
def test_another_text_is_refused(text: str) -> None:
    """Guessing at an offset would lose or double rows."""
    with pytest.raises(BugError):
        read_stand(text)


@pytest.mark.parametrize(
    ("topic", "topic_id", "moved"),
    [("t", "a", False), ("t", "", False), ("t", "b", True), ("other", "a", True), ("other", "", True)],
)
def test_a_topic_made_anew_is_noticed(topic: str, topic_id: str, moved: bool) -> None:
    """Another id or another name; no id means that ids are off."""
    stand = Stand("t", "a", 5)
    if not moved:
        check_topic(stand, topic=topic, topic_id=topic_id, partition=0)
        return

    with pytest.raises(SourceMoved):
        check_topic(stand, topic=topic, topic_id=topic_id, partition=0)
