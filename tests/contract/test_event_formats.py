"""What every format of changes in envelopes holds: whatever comes late, twice or again, the rows are the same."""

from __future__ import annotations

import functools
import random
from dataclasses import replace
from itertools import chain

import pytest

from tests.unit.formats.event_cases import Case, Record, cases

CASES = cases()
EXACT = [name for name, case in CASES.items() if case.exact]


@functools.cache
def one_by_one(name: str, later: int = 0) -> list[list[bytes]]:
    """Return the changes of each record of a case, decoded alone, at an offset so much later."""
    case = CASES[name]
    return [case.changes([record]) for record in sent_again(case.records, later)]


def in_order(case: Case) -> list[dict[str, object]]:
    """Return the rows of all records, once and as they came."""
    return case.final(case.changes())


def sent_again(records: tuple[Record, ...], later: int) -> list[Record]:
    """Return the records as a tool sends them once more: at later offsets."""
    return [replace(record, offset=record.offset + later) for record in records]


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
    expected = in_order(case)
    for seed in range(20):
        records = list(one_by_one(name))
        random.Random(seed).shuffle(records)

        assert expected == case.final(chain.from_iterable(records))


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_again_changes_nothing(name: str) -> None:
    """All of it, each record twice, and any beginning of it behind the rest."""
    case = CASES[name]
    changes, expected = case.changes(), in_order(case)

    assert expected == case.final(changes + changes)
    assert expected == case.final(change for some in one_by_one(name) for change in some + some)
    for end in range(len(changes)):
        assert expected == case.final(changes + changes[:end])


@pytest.mark.parametrize("name", EXACT)
def test_what_is_sent_again_has_the_position_it_had(name: str) -> None:
    """A tool that was killed repeats records at new offsets: any beginning of them changes nothing."""
    case = CASES[name]
    first, second = case.decode().batch, case.decode(sent_again(case.records, 1_000)).batch
    streamed = [place for place, snapshot in enumerate(first.snapshots) if not snapshot]

    assert [first.positions[place] for place in streamed] == [second.positions[place] for place in streamed]
    changes, again, expected = case.changes(), one_by_one(name, 1_000), in_order(case)
    for end in range(len(again)):
        assert expected == case.final(changes + list(chain.from_iterable(again[:end])))


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
