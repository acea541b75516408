"""Runs, their slices, and groups."""

import gc
import weakref

import pytest

from connectors.transport.chunk import RECORD_OVERHEAD_BYTES, Chunk, Group, Run
from tests.unit.fakes import Message
from tests.unit.transport.fakes import Answers, assignment, messages, run_of


def test_a_run_gives_its_records_column_by_column() -> None:
    """Null values, missing keys and missing timestamps stay what they are."""
    run = Run(assignment(), [Message(3, b"a", None, at_ms=7), Message(5, None, b"xy", [("offset", b"5")], at_ms=-1)])

    assert [None, b"xy"] == run.values()
    assert [b"a", None] == run.keys()
    assert [3, 5] == run.offsets()
    assert [7, -1] == [run.time_ms(0), run.time_ms(1)]
    assert [("offset", b"5")] == run.headers(1)
    assert (3, 6, 2) == (run.first, run.next, len(run))
    assert 3 + 2 * RECORD_OVERHEAD_BYTES == run.nbytes


def test_slices_side_by_side_leave_no_offset_out() -> None:
    """Gaps belong to the slice before them, so that the window closes."""
    run = run_of([3, 4, 9, 12])
    left, right = run.slice(0, 2), run.slice(2, 4)

    assert (3, 9, [3, 4]) == (left.first, left.next, left.offsets())
    assert (9, 13, [9, 12]) == (right.first, right.next, right.offsets())
    assert run is right.slice(1, 2).root


def test_a_slice_is_lost_with_its_run_and_with_its_assignment() -> None:
    """The flag sits on the run that was delivered."""
    mine = assignment()
    one, two = run_of([1, 2], mine), run_of([3, 4], mine)
    part, other = one.slice(0, 1), two.slice(0, 1)
    one.lose()

    assert (True, True, False) == (one.lost, part.lost, other.lost)
    mine.lost = True

    assert other.lost


def test_a_run_is_answered_when_its_slices_are() -> None:
    """Saying it twice counts once."""
    run = run_of(range(4))
    left, right = run.slice(0, 1), run.slice(1, 4)
    left.answer()
    left.answer()

    assert not run.answered
    right.slice(0, 2).answer()
    right.answer()

    assert run.answered


def test_slices_that_overlap_count_once() -> None:
    """An attempt that is made again cuts a run anew: what was answered twice does not stand for what never was."""
    run = run_of([0, 1, 2, 5, 7, 8])
    run.slice(0, 4).answer()
    again = run.slice(0, 5).slice(0, 4)
    again.answer()
    run.slice(1, 3).answer()

    assert (True, False, [7, 8]) == (
        again.answered,
        run.answered,
        [at for part in run.unanswered() for at in part.offsets()],
    )


def test_what_is_left_of_a_run_are_slices_of_it() -> None:
    """Untouched it is itself. They leave no open offset out, and lie within the slice that is asked."""
    run = run_of([0, 1, 2, 5, 7, 8])
    assert [run] == run.unanswered()

    run.slice(1, 2).answer()
    run.slice(4, 5).answer()
    bounds = [[(part.first, part.next) for part in each.unanswered()] for each in (run, run.slice(0, 4))]
    for part in run.unanswered():
        part.answer()

    assert [[(0, 1), (2, 7), (8, 9)], [(0, 1), (2, 7)]] == bounds
    assert (True, []) == (run.answered, run.unanswered())


class Watched(Run):
    """A run that can be asked whether it is still there."""

    __slots__ = ("__weakref__",)


def test_a_run_is_gone_with_the_last_that_holds_it() -> None:
    """Without the garbage collector, which looks seldom: a worker makes a dozen runs a second, for months."""
    gc.disable()
    try:
        run = Watched(assignment(), messages(range(4)))
        seen, part = weakref.ref(run), run.slice(0, 2)
        del run
        assert seen() is part.root
        del part
    finally:
        gc.enable()

    assert seen() is None


def test_a_run_that_is_done_can_not_be_read() -> None:
    """Its records went; reading on is a bug, not an empty answer."""
    run = run_of([1])
    run.release()

    with pytest.raises(AssertionError, match="read after it was done"):
        run.values()


def test_a_run_refuses_offsets_that_go_back() -> None:
    """Order within a run is asserted where it is made."""
    with pytest.raises(AssertionError, match="rise"):
        run_of([5, 4])


def test_a_group_knows_what_it_was_not_told() -> None:
    """Lost runs need no answer."""
    runs = [run_of([1]), run_of([2]), run_of([3]), run_of([4])]
    answers = Answers()
    group = Group(runs, answers)
    group.done([runs[0]])
    group.taken([runs[1]])
    runs[2].lose()

    assert [runs[3]] == group.unanswered()
    assert [runs[0], runs[1], runs[3]] == group.live()
    assert [runs[0]] == answers.done_runs
    assert [runs[1]] == answers.taken_runs


def test_a_chunk_leaves_out_what_is_lost() -> None:
    """What was not begun before its partition left is never begun."""
    kept, gone = run_of([1]), run_of([2])
    chunk = Chunk("main", [kept, gone])
    gone.lose()

    assert [kept] == chunk.live()
    assert 2 == chunk.records
