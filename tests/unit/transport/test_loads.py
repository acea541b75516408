"""Partitions that are far behind change to the lane of loads and back: in order, whole, and never in two lanes."""

from __future__ import annotations

from typing import Any

from confluent_kafka import TopicPartition
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from connectors.transport.chunk import Assignment, Run
from connectors.transport.loads import FAR_BEHIND_RECORDS, NEAR_RECORDS, STAY_SECONDS
from connectors.transport.partition import Partition
from connectors.transport.partitions import Partitions
from connectors.transport.rates import LimitOf
from connectors.transport.routes import Routes
from connectors.transport.turns import TURN_SECONDS
from tests.unit.transport.fakes import Client, messages, run_of

COUNT = 3
FAR = FAR_BEHIND_RECORDS + 1
RECORD_BYTES = run_of([0]).nbytes


class Fetching(Client):
    """A client that says where it reads on, of each partition that is not paused."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[tuple[str, int], int] = {}
        self.fetching: set[tuple[str, int]] = set()

    def pause(self, places: list[TopicPartition]) -> None:
        self.fetching -= {(place.topic, place.partition) for place in places}

    def resume(self, places: list[TopicPartition]) -> None:
        self.fetching |= {(place.topic, place.partition) for place in places}

    def seek(self, place: TopicPartition) -> None:
        self.at[place.topic, place.partition] = max(place.offset, 0)


class Bench:
    """Partitions of one topic with a lane, one for its loads, and what the steps of both have in work."""

    def __init__(self, *, loads: str = "loads", limit_of: LimitOf | None = None, lane_bytes: int = 1 << 20) -> None:
        self.routes = Routes()
        self.routes.add("main", ["t"])
        self.client, self.partitions = Fetching(), Partitions(self.routes, incremental=False)
        self.partitions.add_lane("main", lane_bytes, commits=True, loads=loads, limit_of=limit_of)
        self.partitions.add_lane("loads", lane_bytes, commits=True)
        self.now = 0.0

    def topics(self, *names: str) -> None:
        """Read other topics, too."""
        self.routes.add("main", list(names))

    def assign(self, number: int, *, end: int = 0, topic: str = "t") -> Partition:
        """Read a partition from 0 whose log has so many records."""
        client: Any = self.client
        (assignment,) = self.partitions.assign(client, [(topic, number)])
        assignment.committed, assignment.high = 0, end
        partition = self.partitions.start(client, assignment, 0)
        assert partition is not None
        partition.end = end
        return partition

    def bring(self, partition: Partition, count: int) -> Run | None:
        """Bring the next records of a partition, if the client fetches it."""
        if partition.key not in self.client.fetching:
            return None
        at = self.client.at[partition.key]
        self.client.at[partition.key] += count
        run = partition.deliver(messages(range(at, at + count)), now=self.now)
        partition.end = max(partition.end or 0, run.next)
        return run

    def done(self, run: Run) -> None:
        """Say that a run is durable."""
        run.answer()
        self.partitions.settle([run], None, durable=True)

    def look(self, seconds: float = STAY_SECONDS) -> None:
        """Do what the owning thread does once a second, and before each round."""
        client: Any = self.client
        self.now += seconds
        self.partitions.begin_moves(client, self.now)
        self.partitions.withhold(client, self.now)


def lane_of(partition: Partition) -> str:
    """Return the lane that a partition fills."""
    assert partition.budget.lane == partition.assignment.lane
    return partition.assignment.lane


def test_who_begins_far_behind_begins_in_the_lane_of_loads() -> None:
    """A backlog is never in front of what is live, also not for the moment in which it is noticed."""
    bench = Bench()

    assert "loads" == lane_of(bench.assign(0, end=FAR))
    assert "main" == lane_of(bench.assign(1, end=FAR_BEHIND_RECORDS))


def test_who_falls_far_behind_changes_once_what_was_begun_is_done() -> None:
    """What no step has begun is read again, in the other lane; nothing is read meanwhile."""
    bench = Bench()
    mine = bench.assign(0)
    begun, waiting = bench.bring(mine, 10), bench.bring(mine, 5)
    assert begun is not None
    assert waiting is not None
    begun.begun_at = 1.0
    mine.end = FAR + 10
    bench.look()

    assert ("main", True, False) == (lane_of(mine), waiting.lost, begun.lost)
    assert bench.bring(mine, 1) is None

    bench.done(begun)
    bench.look(0.01)
    again = bench.bring(mine, 5)

    assert again is not None
    assert ("loads", 10, 10) == (lane_of(mine), mine.head, again.first)
    assert (0, again.nbytes) == tuple(bench.partitions.budgets[lane].used for lane in ("main", "loads"))


def test_who_has_caught_up_is_live_again() -> None:
    """Not before it is near the end, and has stayed for a while: each change fetches some records again."""
    bench = Bench()
    mine = bench.assign(0, end=FAR)
    bench.look()
    mine.end = NEAR_RECORDS + 1
    bench.look()
    still = lane_of(mine)
    mine.end = NEAR_RECORDS
    bench.look()
    back = lane_of(mine)
    mine.end = FAR
    bench.look(STAY_SECONDS / 2)

    assert ("loads", "main", "main") == (still, back, lane_of(mine))

    bench.look(STAY_SECONDS / 2)

    assert "loads" == lane_of(mine)


def test_what_was_copied_by_a_stage_does_not_hold_a_change_up() -> None:
    """It fills no lane any more, and is durable only with the next commit of the lake."""
    bench = Bench()
    mine = bench.assign(0)
    run = bench.bring(mine, 10)
    assert run is not None
    run.begun_at = 1.0
    run.answer()
    bench.partitions.settle([run], None, durable=False)
    mine.end = FAR + 10
    bench.look()

    assert "loads" == lane_of(mine)

    bench.partitions.settle([run], None, durable=True)

    assert (10, 0) == (mine.head, bench.partitions.budgets["main"].used)


def test_a_partition_that_leaves_while_it_changes_is_forgotten() -> None:
    """Its next life begins where it belongs."""
    bench = Bench()
    mine = bench.assign(0)
    run = bench.bring(mine, 10)
    assert run is not None
    run.begun_at = 1.0
    mine.end = FAR + 10
    bench.look()
    bench.partitions.forget([("t", 0)])
    again = bench.assign(0, end=1)
    bench.look()

    assert ("main", [1]) == (lane_of(again), [1 for run in [bench.bring(again, 1)] if run is not None])


def test_a_lane_without_one_for_loads_keeps_its_partitions() -> None:
    """However far behind they are."""
    bench = Bench(loads="")
    mine = bench.assign(0, end=FAR)
    bench.look()

    assert "main" == lane_of(mine)


def test_those_who_share_a_limit_and_are_over_it_are_read_as_loads() -> None:
    """Together, and until they have come down to half of it; a partition without a limit is not looked at."""
    lanes: list[tuple[str, ...]] = []
    shares = {0: "acme", 1: "acme", 2: "zeta"}
    bench = Bench(limit_of=lambda topic: (shares[int(topic)], 10 * RECORD_BYTES) if int(topic) in shares else None)
    bench.topics("0", "1", "2", "3")
    mine = [bench.assign(0, topic=topic) for topic in "0123"]
    bench.look(STAY_SECONDS)
    for brought in ((6, 5, 10, 99), (3, 3, 10, 99), (3, 2, 10, 0)):
        for partition, count in zip(mine, brought, strict=True):
            for _ in range(int(STAY_SECONDS)):
                if count and (run := bench.bring(partition, count)) is not None:
                    bench.done(run)
        bench.look(STAY_SECONDS)
        lanes.append(tuple(map(lane_of, mine)))

    assert [("loads", "loads", "main", "main")] * 2 + [("main",) * 4] == lanes


class Moves(RuleBasedStateMachine):
    """Records come, are begun and done, ends move, lanes fill, partitions change lanes: each offset is done once.

    The model is a list for each partition of what steps were handed: it must be all offsets in their order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(lane_bytes=4 * RECORD_BYTES)
        self.worked: dict[int, list[int]] = {}
        self.begun: dict[str, list[Run]] = {"main": [], "loads": []}
        self.waiting: dict[str, list[Run]] = {"main": [], "loads": []}

    @initialize(ends=st.lists(st.sampled_from([0, 5, FAR]), min_size=COUNT, max_size=COUNT))
    def begin(self, ends: list[int]) -> None:
        for number, end in enumerate(ends):
            self.bench.assign(number, end=end)
            self.worked[number] = []

    @rule(number=st.integers(0, COUNT - 1), count=st.integers(1, 4))
    def bring(self, number: int, count: int) -> None:
        partition = self.of(number)
        run = self.bench.bring(partition, count)
        if run is not None:
            self.waiting[lane_of(partition)].append(run)

    @rule(lane=st.sampled_from(["main", "loads"]))
    def fill(self, lane: str) -> None:
        """Bring so much of a lane's first partition that the lane is paused, and have it take records again."""
        for partition in self.bench.partitions.all():
            if lane_of(partition) == lane and (run := self.bench.bring(partition, 4)) is not None:
                self.waiting[lane].append(run)
                self.bench.look(0.001)
                self.bench.look(0.021)
                break
        for _ in range(2):  # what was begun before, then this
            self.begin_group(lane)
            self.end_group(lane)
        self.bench.look(0.001)

    @rule(lane=st.sampled_from(["main", "loads"]))
    def begin_group(self, lane: str) -> None:
        """Begin all that waits in a lane, as its agent does when its last group is done."""
        if not self.begun[lane]:
            self.begun[lane] = [run for run in self.waiting[lane] if not run.lost]
            self.waiting[lane] = []
            for run in self.begun[lane]:
                run.begun_at = 1.0

    @rule(lane=st.sampled_from(["main", "loads"]))
    def end_group(self, lane: str) -> None:
        for run in self.begun[lane]:
            if not run.lost:
                self.worked[run.partition] += run.offsets()
                self.bench.done(run)
        self.begun[lane] = []

    @rule(number=st.integers(0, COUNT - 1), behind=st.sampled_from([0, NEAR_RECORDS, 5_000, FAR]))
    def move_end(self, number: int, behind: int) -> None:
        partition = self.of(number)
        partition.end = partition.position + behind

    @rule(seconds=st.sampled_from([0.01, TURN_SECONDS, 1.0, STAY_SECONDS]))
    def look(self, seconds: float) -> None:
        self.bench.look(seconds)

    @rule()
    def let_in(self) -> None:
        """Let some turns pass, in which nothing comes."""
        for _ in range(COUNT):
            self.bench.look(TURN_SECONDS)
        assert not any(partition.waits for partition in self.bench.partitions.all()), "nobody waits for ever"

    @rule(number=st.integers(0, COUNT - 1))
    def rewind(self, number: int) -> None:
        """Read a partition again from its first offset that is not done."""
        client: Any = self.bench.client
        partition = self.of(number)
        assert partition.head is not None
        self.bench.partitions.rewind(client, partition, partition.head)

    @invariant()
    def each_offset_is_worked_on_once_and_in_order(self) -> None:
        for number, offsets in self.worked.items():
            assert list(range(len(offsets))) == offsets, f"partition {number}"

    @invariant()
    def a_lane_holds_what_is_charged_to_it(self) -> None:
        for lane in ("main", "loads"):
            held = [run for run in (*self.waiting[lane], *self.begun[lane]) if not run.lost]
            assert sum(run.nbytes for run in held) == self.bench.partitions.budgets[lane].used

    @invariant()
    def each_is_fetched_unless_there_is_a_reason(self) -> None:
        for partition in self.bench.partitions.all():
            reason = partition.budget.paused or partition.waits or partition.moving_to is not None
            assert reason or partition.key in self.bench.client.fetching, f"{partition.key} is paused for nothing"

    @invariant()
    def no_partition_is_in_two_lanes(self) -> None:
        open_in: dict[Assignment, set[str]] = {}
        for lane in ("main", "loads"):
            for run in (*self.waiting[lane], *self.begun[lane]):
                if not run.lost:
                    open_in.setdefault(run.assignment, set()).add(lane)
        assert all(len(lanes) == 1 for lanes in open_in.values())

    def of(self, number: int) -> Partition:
        found = self.bench.partitions.get(("t", number))
        assert found is not None
        return found


TestMoves = Moves.TestCase
