"""The client's rule over any history: each change once, and a gap told wherever something is missing."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from headgate.client.events import Gap, Origin
from headgate.client.rule import Place, Told, read_place

Step = tuple[Origin, int | None, int]


def steps_of(counts: Sequence[int]) -> list[Step]:
    """Return the changes of records that made so many each, at every second offset."""
    steps: list[Step] = []
    before: int | None = None
    for number, rows in enumerate(counts):
        offset = 2 * number
        steps += [(Origin("s", 0, 0, offset, row), offset if row else before, rows) for row in range(rows)]
        before = offset
    return steps


@given(st.lists(st.integers(1, 3), min_size=1, max_size=8), st.data())
def test_each_change_is_given_once_and_gaps_are_told(counts: list[int], data: st.DataObject) -> None:
    """With changes left out, and any stretch sent again, also over a restart by the text that is kept."""
    steps = steps_of(counts)
    left_out = data.draw(st.sets(st.integers(1, len(steps) - 1))) if len(steps) > 1 else set()
    sent = [at for at in range(len(steps)) if at not in left_out]
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(sent) - 1))
        end = data.draw(st.integers(start, len(sent)))
        sent = sent[:end] + sent[start:]
    place, given_, gaps = Place(0), list[int](), set[int]()
    for at in sent:
        if data.draw(st.booleans()):
            place = read_place(place.text(), 0)
        origin, previous, rows = steps[at]
        told = place.judge(origin, previous, rows)
        if told is Told.REPEAT:
            continue
        gaps |= {at} if isinstance(told, Gap) else set()
        place.take(origin, rows)
        given_.append(at)

    assert [at for at in range(len(steps)) if at not in left_out] == given_
    assert {at for at in given_ if at - 1 in left_out} == gaps
