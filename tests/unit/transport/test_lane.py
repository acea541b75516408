"""How chunks become groups where a group may be of some partitions only."""

import threading

import pytest

from connectors.transport.chunk import Assignment, Chunk, Group, Run
from connectors.transport.ladder import Ladder
from connectors.transport.lane import Lane, LaneSettings
from tests.unit.transport.fakes import Answers, Events, assignment, run_of

MOST = 3


class Bench:
    """A lane whose step says what it was given; `most` is how many partitions a group may be of."""

    def __init__(self, most: int | None = MOST, *, records_max: int = 2_000) -> None:
        self.groups: list[list[tuple[int, int]]] = []  # partition and first offset of each run
        self.lose: list[Assignment] = []  # with the first group
        ladder = Ladder("main", self.step, Answers(), report=Events())
        settings = LaneSettings(group_records_max=records_max, group_partitions_max=lambda: most)
        self.lane = Lane("main", settings, ladder, threading.Lock())

    async def step(self, group: Group) -> None:
        """Say done."""
        self.groups.append([(run.partition, run.first) for run in group.runs])
        group.done()
        for mine in self.lose:
            mine.lost = True

    async def work(self, *chunks: list[Run]) -> list[list[tuple[int, int]]]:
        """Return the groups that chunks became."""
        for runs in chunks:
            self.lane.receive(Chunk("main", runs))
        await self.lane.work()
        return self.groups


def assignments(count: int) -> list[Assignment]:
    """Return partitions 0 up to `count`."""
    return [assignment(partition=number) for number in range(count)]


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(0, []), (1, [1]), (MOST, [3]), (MOST + 1, [3, 1]), (2 * MOST, [3, 3]), (2 * MOST + 1, [3, 3, 1])],
)
async def test_a_group_is_of_no_more_partitions_than_allowed(count: int, sizes: list[int]) -> None:
    """What is left is the next group, in the order in which it came, and nothing is left out."""
    bench = Bench()

    groups = await bench.work(*([[run_of([5], mine) for mine in assignments(count)]] if count else []))

    assert sizes == list(map(len, groups))
    assert [(number, 5) for number in range(count)] == [run for group in groups for run in group]
    assert 0 == bench.lane._waiting_records == bench.lane._waiting_bytes  # noqa: SLF001 - the lane's own account


async def test_without_a_bound_a_group_is_of_all_partitions() -> None:
    """As where there is no transaction."""
    groups = await Bench(None).work([run_of([5], mine) for mine in assignments(50)])

    assert [50] == list(map(len, groups))


async def test_all_runs_of_a_partition_go_with_its_first_one() -> None:
    """Also those that came in later chunks: each partition keeps its order, and is written to once."""
    mine = assignments(5)
    first, second = ([run_of([offset], each) for each in mine] for offset in (5, 6))

    groups = await Bench().work(first, second)

    assert [[(0, 5), (1, 5), (2, 5), (0, 6), (1, 6), (2, 6)], [(3, 5), (4, 5), (3, 6), (4, 6)]] == groups


async def test_one_run_of_many_records_is_whole_whatever_the_bound() -> None:
    """A bound on partitions cuts no run."""
    groups = await Bench(1).work([run_of(range(100), each) for each in assignments(2)])

    assert [[(0, 0)], [(1, 0)]] == groups


async def test_what_was_put_back_is_not_begun_where_its_partition_has_left() -> None:
    """Its next owner does it."""
    bench, mine = Bench(), assignments(5)
    bench.lose = [mine[3]]

    groups = await bench.work([run_of([5], each) for each in mine])

    assert [[(0, 5), (1, 5), (2, 5)], [(4, 5)]] == groups


async def test_what_was_put_back_counts_for_the_records_of_the_next_group() -> None:
    """A chunk that came meanwhile waits where the two would be too many."""
    mine = assignments(4)

    groups = await Bench(records_max=8).work([run_of([5, 6], each) for each in mine], [run_of(range(10, 17), mine[0])])

    assert [[(0, 5), (1, 5), (2, 5)], [(3, 5)], [(0, 10)]] == groups
