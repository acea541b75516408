"""The owning thread's books: credit, order, heads, losses."""

import pytest

from connectors.transport.partition import Budget, Partition, Status
from connectors.transport.partitions import Partitions
from connectors.transport.routes import Routes
from connectors.transport.settings import ConsumerSettings
from connectors.transport.snapshot import view_partition
from connectors.transport.watch import Watch, is_silent
from schemas.errors import TransportFatal
from tests.unit.transport.fakes import Events, assignment, messages


def partition(start: int = 0, bytes_max: int = 10_000) -> Partition:
    """A partition that reads from `start`."""
    made = Partition(assignment(), Budget("main", bytes_max), commits=True, now=0.0)
    made.start(start)
    made.status, made.paused = Status.RUNNING, False
    return made


def test_credit_comes_back_with_done_once() -> None:
    """A repeated or late answer returns nothing more."""
    mine = partition()
    run = mine.deliver(messages(range(3)), now=1.0)
    assert run.nbytes == mine.budget.used

    mine.finish(run, None)
    mine.finish(run, None)

    assert 0 == mine.budget.used
    assert 3 == mine.head


def test_taken_returns_bytes_and_leaves_the_window() -> None:
    """The stage's buffer has a limit of its own; offsets move at done."""
    mine = partition()
    run = mine.deliver(messages(range(3)), now=1.0)
    mine.budget.give_back(run, run.nbytes)

    assert (0, 0) == (mine.budget.used, mine.head)
    mine.finish(run, "note")

    assert (0, 3) == (mine.budget.used, mine.head)
    assert "note" == mine.metadata().stage


def test_slices_return_their_part_of_the_credit_at_the_run_s_end() -> None:
    """Taken slices give their bytes, the rest comes when the window has passed the run."""
    mine = partition()
    run = mine.deliver(messages(range(4)), now=1.0)
    half = run.slice(0, 2)
    mine.budget.give_back(half, half.nbytes)

    assert run.nbytes // 2 == mine.budget.used
    mine.finish(half, None)
    mine.finish(run.slice(2, 4), None)

    assert (0, 4) == (mine.budget.used, mine.head)


def test_an_offset_that_goes_back_ends_the_worker() -> None:
    """The assertion on each delivery."""
    mine = partition()
    mine.deliver(messages([4, 5]), now=1.0)

    with pytest.raises(TransportFatal, match="offset 5 came after 5"):
        mine.deliver(messages([5, 6]), now=1.0)


def test_what_no_step_began_is_dropped_and_read_again() -> None:
    """The position goes back to the first of it; what was begun stays."""
    mine = partition()
    begun, waiting = (mine.deliver(messages(offsets), now=1.0) for offsets in ([0, 1], [4, 5]))
    begun.begun_at = 2.0
    mine.drop_unbegun()

    assert (False, True) == (begun.lost, waiting.lost)
    assert 4 == mine.position
    assert begun.nbytes == mine.budget.used
    mine.finish(begun, None)

    assert 4 == mine.deliver(messages([4, 5]), now=3.0).first


def test_after_a_rewind_a_late_done_is_ignored_and_the_head_may_go_back() -> None:
    """The order check starts anew at the offset that was asked for."""
    mine = partition()
    first = mine.deliver(messages(range(5)), now=1.0)
    second = mine.deliver(messages(range(5, 9)), now=1.0)
    mine.finish(first, "five")
    mine.start(2)

    assert not mine.finish(second, "nine")
    assert (2, 2, 0) == (mine.head, mine.position, mine.budget.used)
    assert "five" == mine.metadata().stage, "the stage's text stays until it says another"
    assert 2 == mine.deliver(messages([2, 3]), now=2.0).first


def test_dones_out_of_order_move_the_head_only_over_what_is_done() -> None:
    """A stage may finish table by table."""
    mine = partition()
    runs = [mine.deliver(messages([at]), now=1.0) for at in (0, 1, 2)]

    assert not mine.finish(runs[2], None)
    assert not mine.finish(runs[1], None)
    assert mine.finish(runs[0], None)
    assert 3 == mine.head
    assert 0 == mine.budget.used


def test_giving_back_more_than_was_charged_is_impossible() -> None:
    """However often and in whatever mixture it is said."""
    mine = partition()
    run = mine.deliver(messages(range(2)), now=1.0)
    for _ in range(3):
        mine.budget.give_back(run, run.nbytes)
        mine.budget.give_back(run)

    assert 0 == mine.budget.used


def test_lag_is_nothing_when_only_markers_are_left() -> None:
    """The log's end of a transactional topic lies behind its last record."""
    mine = partition()
    run = mine.deliver(messages(range(9)), now=1.0)
    mine.end, mine.fetch_end, mine.fetch_position = 10, 10, 10

    assert 10 == mine.lag()
    mine.finish(run, None)

    assert 0 == mine.lag()


def test_a_partition_below_its_end_that_brings_nothing_is_silent() -> None:
    """Not while it is paused, and not when its fetcher is at the end."""
    mine = partition()
    mine.fetch_position, mine.fetch_end, mine.last_arrival = 0, 5, 100.0

    assert not is_silent(mine, 110.0, 30)
    assert is_silent(mine, 140.0, 30)
    mine.fetch_position = 5

    assert not is_silent(mine, 140.0, 30)


def test_a_run_begun_and_not_done_for_long_is_reported_once() -> None:
    """Until it is done and another one hangs."""
    events = Events()
    watch = Watch(ConsumerSettings(bootstrap="b", group="g", stuck_seconds=60), events)
    mine = partition()
    run = mine.deliver(messages([0]), now=0.0)
    run.begun_at = 10.0
    for now in (60.0, 71.0, 72.0):
        watch.look([mine], now, 30.0)

    assert ["run_stuck"] == events.names()


@pytest.mark.parametrize("keeps", ["", "the lake cannot be reached"])
def test_a_partition_that_begins_is_paused_only_by_what_keeps_it_from_that(keeps: str) -> None:
    """Each rebalance begins partitions: no table may be told paused for that."""
    mine = Partition(assignment(), Budget("main", 10_000), commits=True, now=0.0)
    view = view_partition(mine, Partitions(Routes(), incremental=False), keeps, 1.0)
    assert ("resolving", keeps, False) == (view.status, view.paused, view.stopped)
