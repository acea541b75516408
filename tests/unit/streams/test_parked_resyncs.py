"""Resyncs of a table of which something is parked: where its records were read to, and what the floor waits for."""

from __future__ import annotations

import json

import pytest

from connectors.transport.chunk import Assignment
from streams.decide import Found
from streams.resync_parked import read_to
from streams.resync_search import reached
from streams.resyncs import MARKERS_MAX
from tests.unit.streams.test_normalize import SPEC, TOPIC, _event
from tests.unit.streams.test_resyncs import PARKED, Bench, snapshot_row


@pytest.mark.parametrize("named", ["", "source_table: public.patients\n"])
def test_the_floor_waits_for_what_is_parked_of_the_table(named: str) -> None:
    """Rows of the snapshot may be among it; that it has ended may have been seen there alone.

    Also of a table that has its topic alone, now: another one may have stood beside it.
    """
    bench = Bench(spec=f"{SPEC}{named}")
    bench.step(0, 10, _event(1, 1), _event(2, 2), snapshot_row(1))
    bench.step(1, 20, snapshot_row(2))
    seen = {"generation": 0, "previous": 4, "memory": {"epoch": 1, "loaded": 3, "ended": True}, "v": 1}
    bench.parked = {0: (None, 5), 1: (None, 0)}
    assert "open" == bench.look()["snapshot"]
    bench.kept[json.dumps([PARKED, 0, TOPIC]).encode()] = json.dumps(seen).encode()

    waits = [bench.look()]
    bench.parked = {0: (4, 5), 1: (None, 0)}
    waits.append(bench.look())
    bench.parked = {0: (5 - MARKERS_MAX, 6), 1: (None, 0)}
    waits.append(bench.look())
    assert [("read", 1)] * 3 == [(each["snapshot"], each["left"]) for each in waits]
    assert [] == bench.floors()
    bench.parked = {0: (5, 6), 1: (None, 0)}
    bench.holes = {(PARKED, 0)}
    bench.look()

    assert 2 == len(bench.floors())


def test_a_table_was_read_to_the_first_of_its_records_that_is_parked() -> None:
    """However far the group is; what it found is left as it was."""
    parts = {number: Assignment("", TOPIC, number) for number in range(4)}
    for number, committed in ((0, 50), (1, 50), (2, None), (3, 20)):
        parts[number].committed, parts[number].low = committed, 5
    found = Found(TOPIC, "id", parts)

    (before,) = read_to([found], {(TOPIC, 0): 30, (TOPIC, 2): 7, (TOPIC, 3): 30, ("other", 1): 3})

    assert [30, 50, 5, 20] == [reached(before.partitions[number]) for number in range(4)]
    assert [50, 50, 5, 20] == [reached(found.partitions[number]) for number in range(4)]


def test_below_what_is_parked_a_topic_may_be_read_again_for_others() -> None:
    """What was seen of the table is known as of its first parked record, wherever the group is now."""
    parts = {number: Assignment("", TOPIC, number) for number in range(3)}
    for number, committed in ((0, 20), (1, None), (2, 20)):
        parts[number].committed, parts[number].decided_start, parts[number].low = committed, 7, 5
    heads = {(TOPIC, number): 30 for number in range(3)}

    (before,) = read_to([Found(TOPIC, "id", parts)], heads, {(TOPIC, 0), (TOPIC, 1)})

    assert [30, 30, 20] == [reached(before.partitions[number]) for number in range(3)]


def test_what_a_snapshot_has_come_to_is_known_where_the_topic_is_read_again_behind_it() -> None:
    """For another table: the rows of this one do not come again, and its floor is written all the same, and once.

    Also of a partition to which nothing comes any more.
    """
    bench = Bench(spec=f"{SPEC}source_table: public.patients\n")
    bench.step(0, 10, _event(1, 1), _event(2, 2))
    bench.step(1, 19, _event(3, 3), snapshot_row(2, "last"))
    bench.again()
    bench.parts[1].start = 21

    bench.step(0, 12, _event(950, 3))
    bench.look()

    assert 2 == len(bench.floors())
    bench.again()
    bench.step(0, 13, _event(952, 3))
    assert ({}, 2) == (bench.look(), len(bench.floors()))
