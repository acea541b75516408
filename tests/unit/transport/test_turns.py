"""A lane that was full takes records again: who may fetch first."""

from __future__ import annotations

from typing import Any

from confluent_kafka import TopicPartition

from connectors.transport.loads import FAR_BEHIND_RECORDS
from connectors.transport.partition import Partition
from connectors.transport.partitions import Partitions
from connectors.transport.routes import Routes
from connectors.transport.settings import ConsumerSettings
from connectors.transport.turns import TURN_SECONDS
from connectors.transport.watch import Watch
from tests.unit.transport.fakes import Client, Events, messages

COUNT = 12
PER_FETCH = 10
LANE_BYTES = 8_000  # some four fetches


class Greedy(Client):
    """A client that always fetches the lowest partition that is not paused, as librdkafka does behind a pause."""

    def __init__(self) -> None:
        super().__init__()
        self.fetching: set[int] = set()

    def pause(self, places: list[TopicPartition]) -> None:
        self.fetching -= {place.partition for place in places}

    def resume(self, places: list[TopicPartition]) -> None:
        self.fetching |= {place.partition for place in places}


class Bench:
    """A lane over many partitions that are far behind, and a stage slower than the fetches."""

    def __init__(self, ends: dict[int, int], *, loads: str = "") -> None:
        routes = Routes()
        routes.add("main", ["t"])
        self.client, self.partitions = Greedy(), Partitions(routes, incremental=False)
        self.partitions.add_lane("main", LANE_BYTES, commits=True, loads=loads)
        if loads:
            self.partitions.add_lane(loads, LANE_BYTES, commits=True)
        client: Any = self.client
        made = self.partitions.assign(client, [("t", number) for number in range(COUNT)])
        for assignment in made:
            assignment.committed = 0
            partition = self.partitions.start(client, assignment, 0)
            assert partition is not None
            partition.end = ends[assignment.partition]
        self.now = 0.0

    def of(self, number: int) -> Partition:
        found = self.partitions.get(("t", number))
        assert found is not None
        return found

    def turn(self) -> None:
        """Fetch until the lane is paused, work through all that it holds, and let it take records again."""
        client: Any = self.client
        for _ in range(2_000):
            self.now += TURN_SECONDS
            waiting = self.partitions.withhold(client, self.now)
            self.check()
            if not self.client.fetching:
                break
            ready = [number for number in sorted(self.client.fetching) if self.of(number).behind]
            if ready and not waiting:
                mine = self.of(ready[0])
                mine.deliver(messages(range(mine.position, mine.position + PER_FETCH)), now=self.now)
        for number in range(COUNT):
            for run in list(self.of(number).runs):
                self.of(number).finish(run, None)

    def check(self) -> None:
        """Each is fetched unless its lane is full or its turn is still to come."""
        for partition in self.partitions.all():
            reason = partition.budget.paused or partition.waits or partition.moving_to is not None
            assert reason or partition.key[1] in self.client.fetching, f"{partition.key} is paused for nothing"


def test_every_partition_that_is_behind_gets_its_turn() -> None:
    """However the client fills its fetches: else the first ones would keep the others from their records for hours."""
    bench = Bench(dict.fromkeys(range(COUNT), 1_000_000))
    for _ in range(2 * COUNT):
        bench.turn()

    assert min(bench.of(number).position for number in range(COUNT)) >= 2 * PER_FETCH


def test_who_has_nothing_to_read_waits_for_no_turn() -> None:
    """A record that comes to a quiet table while others catch up is fetched at once."""
    ends = dict.fromkeys(range(COUNT), 1_000_000) | {COUNT - 1: 0}
    bench = Bench(ends)
    for _ in range(3):
        bench.turn()
    client: Any = bench.client
    bench.partitions.withhold(client, bench.now + TURN_SECONDS)

    assert COUNT - 1 in bench.client.fetching
    assert len(bench.client.fetching) == 2  # and the one whose turn it is


def test_who_changes_its_lane_while_it_waits_is_let_in_there() -> None:
    """Its turn would have come in the lane that it left: when that is full again, nobody would let it in any more."""
    bench = Bench(dict.fromkeys(range(COUNT), FAR_BEHIND_RECORDS // 2), loads="loads")
    bench.turn()
    client: Any = bench.client
    bench.now += TURN_SECONDS
    bench.partitions.withhold(client, bench.now)  # the lane takes records again, most wait for their turn
    far = bench.of(COUNT - 1)
    assert far.waits, "else this shows nothing"
    far.end = far.position + FAR_BEHIND_RECORDS + 1
    bench.partitions.begin_moves(client, bench.now)
    bench.turn()  # both lanes fill, and all of it is done
    bench.partitions.withhold(client, bench.now + TURN_SECONDS)

    assert ("loads", False, False) == (far.assignment.lane, far.waits, far.paused)


def test_what_is_paused_for_nothing_is_said_once_and_fetched_again() -> None:
    """Not at the first look: a lane may just have been let in again."""
    bench, events = Bench(dict.fromkeys(range(COUNT), 1_000_000)), Events()
    watch = Watch(ConsumerSettings(bootstrap="b", group="g"), events)
    bench.of(3).paused = True
    found = [watch.look_for_pauses(bench.partitions) for _ in range(3)]

    assert [[], [bench.of(3)], [bench.of(3)]] == found
    assert [("partition_left_paused", 3)] == [(name, fields["partition"]) for name, fields in events.said]

    bench.partitions.budgets["main"].paused = True

    assert [] == watch.look_for_pauses(bench.partitions), "there is a reason"


def test_all_are_let_in_while_the_lane_has_room() -> None:
    """Twice as many with each turn: hundreds of partitions do not wait for one of them that brings little."""
    bench = Bench(dict.fromkeys(range(COUNT), 1_000_000))
    bench.turn()
    client: Any = bench.client
    counts = []
    for _ in range(6):
        bench.now += TURN_SECONDS
        bench.partitions.withhold(client, bench.now)
        counts.append(len(bench.client.fetching))

    assert counts == [1, 3, 7, 12, 12, 12]
