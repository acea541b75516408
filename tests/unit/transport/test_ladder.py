"""What a failed step means."""

import pytest

from connectors.transport.chunk import Assignment, Group, Run
from connectors.transport.ladder import BUGS_IN_A_ROW_MAX, Ladder, Unanswered
from connectors.transport.width import TransactionTooWide
from schemas.errors import BugError, ConfigurationError, SinkUnavailable, TransactionAborted, TransportFatal
from tests.unit.transport.fakes import Answers, Events, assignment, run_of


class Bench:
    """A ladder whose step raises what it is told."""

    def __init__(self, *, poison: bool = True) -> None:
        self.answers, self.events = Answers(), Events()
        self.slept: list[float] = []
        self.steps: list[list[int]] = []
        self.errors: list[BaseException] = []
        self.broken: set[int] = set()
        self.quarantined: list[tuple[int, str]] = []
        self.poison_errors: list[BaseException] = []
        self.ladder = Ladder(
            "main",
            self.step,
            self.answers,
            on_poison=self.on_poison if poison else None,
            report=self.events,
            sleep=self.sleep,
            jitter=lambda: 1.0,
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def step(self, group: Group) -> None:
        offsets = [offset for run in group.runs for offset in run.offsets()]
        self.steps.append(offsets)
        if self.errors:
            raise self.errors.pop(0)
        if self.broken & set(offsets):
            raise ValueError("a value of a row")
        group.done()

    async def on_poison(self, run: Run, error: BaseException) -> None:
        if self.poison_errors:
            raise self.poison_errors.pop(0)
        self.quarantined.append((run.first, type(error).__name__))


async def test_what_is_away_is_waited_for_with_growing_pauses_up_to_ten_seconds() -> None:
    """The same group, for ever; the trouble shows meanwhile and is gone afterwards."""
    bench = Bench()
    bench.errors = [SinkUnavailable("Redis does not answer") for _ in range(20)]
    await bench.ladder.climb([run_of([1, 2])])

    assert [[1, 2]] * 21 == bench.steps
    assert [0.1, 0.2, 0.4] == bench.slept[:3]
    assert 10.0 == max(bench.slept)
    assert [] == bench.quarantined
    assert bench.ladder.trouble is None


async def test_an_aborted_transaction_is_no_failed_attempt() -> None:
    """However often, it never leads to quarantine."""
    bench = Bench()
    bench.errors = [TransactionAborted("fenced generation") for _ in range(9)]
    await bench.ladder.climb([run_of([1])])

    assert [] == bench.quarantined
    assert [1] == bench.answers.offsets()


async def test_an_error_that_passes_is_tried_twice_more() -> None:
    """Then nothing is bisected."""
    bench = Bench()
    bench.errors = [ValueError("once"), ValueError("twice")]
    await bench.ladder.climb([run_of([1, 2])])

    assert [[1, 2]] * 3 == bench.steps
    assert "bisecting" not in bench.events.names()


@pytest.mark.parametrize("broken", [{0}, {7}, {3, 4}, {0, 1, 2, 3, 4, 5, 6, 7}])
async def test_bisection_finds_exactly_the_broken_records(broken: set[int]) -> None:
    """Their neighbours are done, in order within each partition."""
    bench = Bench()
    bench.broken = broken
    one, two = assignment(partition=0), assignment(partition=1)
    await bench.ladder.climb([run_of(range(8), one), run_of([100, 101], two), run_of([20, 21], one)])

    assert sorted(broken) == [offset for offset, _ in bench.quarantined]
    assert sorted([*range(8), 20, 21, 100, 101]) == sorted(bench.answers.offsets()), "the quarantined are done too"
    of_one = [offset for run in bench.answers.done_runs if run.assignment is one for offset in run.offsets()]
    assert [*range(8), 20, 21] == of_one


async def test_a_fault_of_ours_in_every_record_ends_the_worker() -> None:
    """Records that are well would fill the quarantine; some good ones in between show that it is the records."""
    bench = Bench()
    bench.broken = set(range(200))

    with pytest.raises(BugError, match="50 records in a row"):
        await bench.ladder.climb([run_of(list(range(200)))])

    assert BUGS_IN_A_ROW_MAX == len(bench.quarantined)


async def test_without_a_quarantine_the_error_ends_the_worker() -> None:
    """What was fine before it is done."""
    bench = Bench(poison=False)
    bench.broken = {2}

    with pytest.raises(ValueError, match="a value"):
        await bench.ladder.climb([run_of(range(4))])
    assert [0, 1] == bench.answers.offsets()


async def test_a_quarantine_that_is_away_is_waited_for() -> None:
    """The record is not passed over, nor does the worker end."""
    bench = Bench()
    bench.broken = {1}
    bench.poison_errors = [SinkUnavailable("Kafka is away"), TransactionAborted("fenced")]
    await bench.ladder.climb([run_of([0, 1, 2])])

    assert [(1, "ValueError")] == bench.quarantined
    assert [0, 1, 2] == bench.answers.offsets()


async def test_a_quarantine_that_fails_ends_the_worker() -> None:
    """There is nowhere left to put the record."""
    bench = Bench()
    bench.broken = {1}
    bench.poison_errors = [RuntimeError("no")]

    with pytest.raises(RuntimeError):
        await bench.ladder.climb([run_of([0, 1])])


@pytest.mark.parametrize("error", [ConfigurationError("wrong"), TransportFatal("fenced")])
async def test_what_is_fatal_ends_the_worker_at_once(error: Exception) -> None:
    """No second attempt."""
    bench = Bench()
    bench.errors = [error]

    with pytest.raises(type(error)):
        await bench.ladder.climb([run_of([1])])
    assert [[1]] == bench.steps


async def test_a_step_that_answers_for_nothing_ends_the_worker() -> None:
    """Or its window would stand still for ever."""
    answers = Answers()

    async def step(group: Group) -> None:
        group.done(group.runs[:1])

    ladder = Ladder("main", step, answers, report=Events())

    with pytest.raises(Unanswered, match="neither done nor taken"):
        await ladder.climb([run_of([1]), run_of([2])])


async def test_what_was_answered_or_lost_is_not_given_again() -> None:
    """A retry takes what is left of the group."""
    seen: list[list[int]] = []
    answers = Answers()
    runs = [run_of([1]), run_of([2]), run_of([3]), run_of([4])]

    async def step(group: Group) -> None:
        seen.append([run.first for run in group.runs])
        if len(seen) == 1:
            group.done([runs[0]])
            group.taken([runs[1]])
            runs[2].lose()
            raise SinkUnavailable("half way")
        group.done()

    async def no_sleep(seconds: float) -> None:
        assert seconds > 0

    await Ladder("main", step, answers, report=Events(), sleep=no_sleep).climb(runs)

    assert [[1, 2, 3, 4], [4]] == seen


@pytest.mark.parametrize("broken", [set(), {5}, {5, 7}, {2, 7}])
async def test_what_was_answered_in_part_is_tried_again_from_there(broken: set[int]) -> None:
    """A step that answers portion by portion and fails behind some: each record is worked on once, or in quarantine."""
    worked: list[int] = []
    quarantined: list[int] = []
    answers = Answers()
    errors = [] if broken else [SinkUnavailable("half way"), ValueError("half way")]

    async def step(group: Group) -> None:
        for run in group.runs:
            for at in range(0, len(run), 3):
                part = run.slice(at, min(at + 3, len(run)))
                if broken & set(part.offsets()):
                    raise ValueError("broken")
                worked.extend(part.offsets())
                group.done([part])
                if errors:
                    raise errors.pop()

    async def on_poison(run: Run, error: BaseException) -> None:
        assert str(error) == "broken"
        quarantined.extend(run.offsets())

    async def no_sleep(seconds: float) -> None:
        assert seconds > 0

    run = run_of(range(9))
    await Ladder("main", step, answers, on_poison=on_poison, report=Events(), sleep=no_sleep).climb([run])

    assert (sorted(set(range(9)) - broken), sorted(broken)) == (sorted(worked), quarantined)
    assert run.answered


async def test_reports_hold_no_value_of_a_row() -> None:
    """The message of somebody else's exception may hold one; its type and place do not."""
    bench = Bench()
    bench.broken = {0}
    await bench.ladder.climb([run_of([0])])

    assert "a value of a row" not in repr(bench.events.said)
    assert any("ValueError at test_ladder.py" in str(fields.get("error")) for _, fields in bench.events.said)


class Wide(Bench):
    """A step whose every record goes to one output partition, in transactions of at most `most` of them."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.lose, self.groups = most, False, list[list[tuple[int, int]]]()
        self.lost_as_refused: Assignment | None = None

    async def step(self, group: Group) -> None:
        if self.most < len(group) and len(group) > 1:
            if self.lost_as_refused is not None:
                self.lost_as_refused.lost = True
            raise TransactionTooWide(self.most)
        await super().step(group)
        self.groups.append([(run.partition, run.first) for run in group.runs])
        if self.lose:
            group.runs[0].assignment.lost = True


@pytest.mark.parametrize(
    ("records", "steps"),
    [
        (1, [[0]]),
        (2, [[0, 1]]),
        (3, [[0], [1, 2]]),
        (7, [[0], [1, 2], [3, 4], [5, 6]]),
    ],
)
async def test_a_run_that_is_too_wide_for_a_transaction_is_written_in_parts(
    records: int, steps: list[list[int]]
) -> None:
    """In its order, each record once; nothing of it failed, so nothing is waited for, said or put in quarantine."""
    bench, run = Wide(2), run_of(range(records))
    await bench.ladder.climb([run])

    assert steps == bench.steps
    assert run.answered
    assert ([], [], []) == (bench.slept, bench.events.said, bench.quarantined)


@pytest.mark.parametrize(
    ("most", "groups"), [(4, [[(0, 0), (1, 0), (0, 1), (1, 1)]]), (3, [[(0, 0), (1, 0)], [(0, 1), (1, 1)]])]
)
async def test_a_group_that_is_too_wide_is_parted_between_its_runs_first(
    most: int, groups: list[list[tuple[int, int]]]
) -> None:
    """Each partition keeps its order."""
    bench, one, two = Wide(most), assignment(partition=0), assignment(partition=1)
    await bench.ladder.climb([run_of([0], one), run_of([0], two), run_of([1], one), run_of([1], two)])

    assert groups == bench.groups


async def test_one_record_that_alone_is_too_wide_is_written_all_the_same() -> None:
    """A floor stands in all partitions of its output, or in none."""
    bench = Wide(0)
    await bench.ladder.climb([run_of([0, 1])])

    assert [[0], [1]] == bench.steps


async def test_a_part_whose_partition_has_left_is_not_begun() -> None:
    """Its records may be gone."""
    bench = Wide(2)
    bench.lose = True
    await bench.ladder.climb([run_of(range(4))])

    assert [[0, 1]] == bench.steps


async def test_one_record_that_is_left_of_a_group_that_was_too_wide_is_written() -> None:
    """The other partition has left while the group was tried."""
    bench, one, two = Wide(1), assignment(partition=0), assignment(partition=1)
    bench.lost_as_refused = two
    await bench.ladder.climb([run_of([0], one), run_of([0], two)])

    assert [[(0, 0)]] == bench.groups


async def test_a_broken_record_in_a_part_is_found_all_the_same() -> None:
    """Its neighbours are written."""
    bench = Wide(2)
    bench.broken = {3}
    await bench.ladder.climb([run_of(range(6))])

    assert [(3, "ValueError")] == bench.quarantined
    assert [0, 1, 2, 4, 5] == sorted(
        offset for run in bench.answers.done_runs for offset in run.offsets() if offset != 3
    )
