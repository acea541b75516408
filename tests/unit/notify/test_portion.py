"""Portions of a group: nothing left out, nothing twice, none too large."""

from __future__ import annotations

import pytest

from connectors.transport.chunk import Assignment, Run
from streams.portion import PORTION_RECORDS_MAX, Item, portions
from tests.unit.fakes import Message
from tests.unit.notify.receiver import alert


@pytest.mark.parametrize("lengths", [[1], [PORTION_RECORDS_MAX], [PORTION_RECORDS_MAX + 1], [100, 100, 100, 700, 1]])
def test_portions_leave_nothing_out(lengths: list[int]) -> None:
    """Each record is in exactly one, and none is too large."""
    runs = [
        Run(Assignment("x", "t", at), [Message(n, None, b"") for n in range(length)])
        for at, length in enumerate(lengths)
    ]
    sizes, found = [], []
    for portion in portions(runs):
        sizes.append(sum(map(len, portion.runs)))
        found += [(run.partition, run.offsets()[index]) for run, index, _, _ in portion.records()]

    assert [(at, n) for at, length in enumerate(lengths) for n in range(length)] == found
    assert max(sizes) <= PORTION_RECORDS_MAX


def test_only_what_is_settled_is_said_and_only_once() -> None:
    """An alert that is still being sent holds back its own record, not its neighbours."""
    run = Run(Assignment("x", "t", 0), [Message(n, None, b"") for n in range(6)])
    portion = next(portions([run]))
    items = [Item(portion.runs[0], index, None, alert(index), None) for index in (1, 3)]
    for item in items:
        portion.add(item)

    first = [each.offsets() for each in portion.take_settled()]
    portion.finish(items[1], None)
    second = [each.offsets() for each in portion.take_settled()]
    portion.finish(items[0], None)
    third = [each.offsets() for each in portion.take_settled()]

    assert ([[0], [2], [4, 5]], [[3]], [[1]], []) == (first, second, third, portion.take_settled())
