"""What every format of changes in envelopes holds: whatever comes late, twice or again, the rows are the same."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.unit.formats.event_cases import Case, Record, cases

CASES = cases()
EXACT = [name for name, case in CASES.items() if case.exact]


def in_order(case: Case) -> list[dict[str, object]]:
    """Return the rows of all records, once and as they came."""
    return case.final(case.changes())


def sent_again(records: tuple[Record, ...], after: int) -> list[Record]:
    """Return the records as a tool sends them once more: behind `after` others."""
    return [replace(record, offset=record.offset + after) for record in records]


@pytest.mark.parametrize("name", CASES)
def test_the_rows_are_those_of_the_source(name: str) -> None:
    """But for what the tool itself does not say, which the case names."""
    case = CASES[name]

    assert case.lossy.keys() == case.unlike(in_order(case)).keys()


@pytest.mark.parametrize("name", CASES)
def test_each_record_is_in_exactly_one_place(name: str) -> None:
    """Changes of one record share its offset."""
    case = CASES[name]
    decoded = case.decode()

    assert [] == decoded.rejected
    assert len(case.records) == len(set(decoded.batch.offsets)) + sum(decoded.skipped.values())
    assert sorted(decoded.batch.offsets) == decoded.batch.offsets


@pytest.mark.parametrize("name", CASES)
def test_records_in_any_order_come_to_the_same_rows(name: str) -> None:
    """Keys on different partitions come in any order, and a redriven record comes late."""
    case = CASES[name]
    for seed in range(20):
        records = list(case.records)
        random.Random(seed).shuffle(records)
        changes = [change for record in records for change in case.changes([record])]

        assert in_order(case) == case.final(changes)


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_again_changes_nothing(name: str) -> None:
    """All of it, each record twice, and any beginning of it behind the rest."""
    case = CASES[name]
    changes = case.changes()
    each = [case.changes([record]) for record in case.records]

    assert in_order(case) == case.final(changes + changes)
    assert in_order(case) == case.final(change for some in each for change in some + some)
    for end in range(len(changes)):
        assert in_order(case) == case.final(changes + changes[:end])


@pytest.mark.parametrize("name", EXACT)
def test_what_is_sent_again_has_the_position_it_had(name: str) -> None:
    """A tool that was killed repeats records at new offsets: any beginning of them changes nothing."""
    case = CASES[name]
    again = sent_again(case.records, 1_000)
    first, second = case.decode().batch, case.decode(again).batch
    streamed = [place for place, snapshot in enumerate(first.snapshots) if not snapshot]

    assert [first.positions[place] for place in streamed] == [second.positions[place] for place in streamed]
    for end in range(len(again)):
        assert in_order(case) == case.final(case.changes() + case.changes(again[:end]))


@pytest.mark.parametrize("name", CASES)
def test_positions_of_a_key_rise_in_the_order_of_its_records(name: str) -> None:
    """No two changes of a key share one, and all are digits of one width."""
    case = CASES[name]
    batch = case.decode().batch
    last: dict[str, str] = {}
    for key, position, snapshot in zip(map(str, batch.keys), batch.positions, batch.snapshots, strict=True):
        assert position.isdecimal()
        if snapshot:
            continue
        assert last.get(key, "") < position
        last[key] = position

    assert 1 == len(set(map(len, batch.positions)))
