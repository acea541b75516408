"""The owning thread's commands and troubles, without a thread and without a broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message

from connectors.transport.chunk import Assignment, Chunk, Run
from connectors.transport.history import out_of_range, topic_made_anew
from connectors.transport.partition import Partition, Status
from connectors.transport.partitions import Partitions
from connectors.transport.poll import PollThread
from connectors.transport.routes import Routes
from connectors.transport.settings import ConsumerSettings
from schemas.errors import SourceMoved, TransportFatal
from tests.unit.transport.fakes import Client, Events

GONE = SourceMoved("offset_below_log", "records were deleted before they were read")


class Heard:
    """Remembers what the thread tells."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.report = Events()

    def delivered(self, chunks: list[Chunk]) -> None:
        self.runs += [run for chunk in chunks for run in chunk.runs]

    def suspected(self, topics: set[str]) -> None:
        assert topics

    def leaving(self, assignments: list[Assignment]) -> None:
        assert not assignments


class Bench:
    """A thread that is never started, with partitions of one topic that is read from 0."""

    def __init__(
        self, count: int = 2, *, commits: bool = True, transactional: bool = False, goes_on: bool = False
    ) -> None:
        routes = Routes()
        routes.add("main", ["t"])
        self.partitions = Partitions(routes, incremental=False)
        self.partitions.add_lane("main", 1 << 20, commits=commits, transactional=transactional, goes_on=goes_on)
        self.client, self.heard = Client(), Heard()
        client: Any = self.client
        heard: Any = self.heard
        self.thread = PollThread(ConsumerSettings(bootstrap="b", group="g"), routes, self.partitions, heard)
        self.thread.consumer = client
        self.assignments = self.partitions.assign(client, [("t", number) for number in range(count)])
        for each in self.assignments:
            each.committed, each.topic_id = 0, "id"

    def begin(self) -> None:
        """Read every partition from 0."""
        self.thread.begin_at(dict.fromkeys(self.assignments, 0))

    def partition(self, number: int) -> Partition:
        """The books of one."""
        found = self.partitions.get(("t", number))
        assert found is not None
        return found

    def deliver(self, number: int, offsets: list[int]) -> list[Run]:
        """Bring records of a partition; return what is handed on."""
        messages = [Message(topic="t", partition=number, offset=at, value=b"v") for at in offsets]
        before = len(self.heard.runs)
        self.thread._deliver(messages)  # noqa: SLF001 - what a round does with what came
        return self.heard.runs[before:]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_partition_that_cannot_be_read_on_holds_its_whole_topic(order: tuple[int, int]) -> None:
    """Whichever is looked at first: what a held one brought would never be begun, and fill its lane for ever."""
    bench = Bench()
    found: Mapping[int, int | SourceMoved] = {0: GONE, 1: 0}
    bench.thread.begin_at({bench.assignments[number]: found[number] for number in order})

    assert [Status.HELD, Status.HELD] == [bench.partition(number).status for number in (0, 1)]
    assert [] == bench.deliver(1, [0, 1])
    assert 0 == bench.partitions.budgets["main"].used


def test_a_start_that_is_found_after_its_topic_was_held_changes_nothing() -> None:
    """The answer was under way when another partition's offset turned out to be gone."""
    bench = Bench()
    late = bench.assignments[1]
    bench.thread.begin_at({bench.assignments[0]: GONE})
    bench.thread.begin_at({late: 0})

    assert Status.HELD is bench.partition(1).status
    assert [] == bench.deliver(1, [0, 1])


def test_what_was_done_before_a_command_was_given_is_settled_before_it_is_run() -> None:
    """Also where both come while an earlier command is run: else a rewind would read again what is durable."""
    bench = Bench(1)
    bench.begin()
    run = bench.deliver(0, [0, 1])[0]
    run.begun_at = 1.0
    thread, mine = bench.thread, bench.assignments[0]

    def meanwhile(_: PollThread) -> None:
        thread.finished.append(([run], None, True))
        thread.call(lambda on: on.rewind({mine: None}))

    thread.call(meanwhile)
    thread.settle()

    assert (2, 2, False) == (bench.partition(0).head, bench.partition(0).position, run.lost)


@pytest.mark.parametrize(("commits", "stored"), [(True, {("t", 0): 2, ("t", 1): 0}), (False, {})])
def test_a_held_topic_sets_no_transaction_s_offsets_back(*, commits: bool, stored: dict[tuple[str, int], int]) -> None:
    """Where offsets go with a transaction, one may be under way, and the finished head lies below what it commits."""
    bench = Bench(commits=commits)
    bench.begin()
    run = bench.deliver(0, [0, 1])[0]
    bench.thread.finished.append(([run], None, True))
    bench.thread.settle()
    bench.thread.hold(["t"], out_of_range(bench.assignments[1], 0))
    bench.thread.committer.send(bench.thread.consumer, 1.0)

    assert stored == {key: place.offset for key, place in bench.client.committed.items()}


@pytest.mark.parametrize("commits", [True, False])
def test_a_topic_made_anew_leaves_the_old_id_beside_the_committed_offset(*, commits: bool) -> None:
    """The broker has dropped its offsets: without a mark the next worker would take the new topic for the old one."""
    bench = Bench(1, commits=commits)
    bench.begin()
    bench.thread.hold(["t"], topic_made_anew("t", "id", "new"))
    bench.thread.committer.send(bench.thread.consumer, 1.0)

    assert "v1 id 0" == bench.client.committed["t", 0].metadata


@pytest.mark.parametrize(
    ("offset", "status"), [(1, Status.RUNNING), (2, Status.HELD), (3, Status.HELD), (None, Status.RUNNING)]
)
def test_an_offset_out_of_range_holds_the_topic_also_behind_markers(offset: int | None, status: Status) -> None:
    """The client stands behind a transaction's marker, the books behind its last record; what is older is of before."""
    bench = Bench(1)
    bench.begin()
    bench.deliver(0, [0, 1])
    error = KafkaError(KafkaError._AUTO_OFFSET_RESET)  # noqa: SLF001 - confluent-kafka's public name
    at: dict[str, Any] = {} if offset is None else {"offset": offset}
    bench.thread._deliver([Message(topic="t", partition=0, error=error, **at)])  # noqa: SLF001 - as a round does

    assert status is bench.partition(0).status


def test_a_record_that_came_before_its_partition_was_sought_is_not_handed_on() -> None:
    """A rebalance within `consume` runs commands: what `poll` had returned by then comes again, behind what is sought.

    Handed on, it would stand for all between, and its `done` would move the offset over them.
    """
    bench = Bench(1)
    bench.begin()
    run = bench.deliver(0, [0, 1, 2, 3])[0]
    run.begun_at = 1.0
    mine = bench.assignments[0]

    def rebalance() -> list[Message]:
        bench.thread.call(lambda on: on.rewind({mine: 2}))
        bench.thread.give_up([])
        return []

    bench.client.brings(Message(topic="t", partition=0, offset=4, value=b"v"), rebalance)
    bench.thread._round()  # noqa: SLF001 - one of the thread's

    assert (2, 2) == (bench.partition(0).head, bench.partition(0).position)
    assert [2] == [again.first for again in bench.deliver(0, [2, 3])]


def _out_of_range_at_2(bench: Bench) -> None:
    """Two records were delivered; the client says that the next offset is not in the log."""
    bench.begin()
    bench.deliver(0, [0, 1])
    error = KafkaError(KafkaError._AUTO_OFFSET_RESET)  # noqa: SLF001 - confluent-kafka's public name
    bench.thread._deliver([Message(topic="t", partition=0, error=error, offset=2)])  # noqa: SLF001 - as a round does


def test_where_retention_took_only_a_marker_the_worker_starts_again() -> None:
    """Nothing is lost, and the client that gave the partition up seeks it no more."""
    bench = Bench(1, transactional=True)
    bench.client.log = (3, 3)

    with pytest.raises(TransportFatal, match="marker"):
        _out_of_range_at_2(bench)


@pytest.mark.parametrize(("transactional", "log"), [(True, (3, 5)), (True, (4, 4)), (True, None), (False, (3, 3))])
def test_where_a_record_may_be_missing_the_topic_is_held(*, transactional: bool, log: tuple[int, int] | None) -> None:
    """One offset that is missing may be a record's if others follow, or if no transactions write there."""
    bench = Bench(1, transactional=transactional)
    bench.client.log = log

    _out_of_range_at_2(bench)

    assert (Status.HELD, 2) == (bench.partition(0).status, bench.partition(0).position)


def test_a_topic_that_moved_under_a_lane_that_goes_on_ends_the_worker() -> None:
    """The next one begins where the log does; nothing is held, for nobody would let it go."""
    bench = Bench(goes_on=True)
    bench.begin()
    bench.thread.hold(["t"], GONE)

    with pytest.raises(TransportFatal, match="deleted before they were read"):
        bench.thread._raise_failure()  # noqa: SLF001 - what a round does behind its poll()
    assert {Status.RUNNING} == {each.status for each in bench.partitions.all()}


def test_what_a_log_lacks_is_said_by_its_numbers() -> None:
    """How many records are gone, and where the log begins now."""
    bench = Bench()
    bench.begin()
    bench.client.log = (7, 20)
    trouble = bench.partitions.trouble_of(bench.thread.consumer, bench.partition(0))

    assert ("offset_below_log", True) == (trouble.reason, "begins at 7: 7 records are gone" in trouble.message)


def test_what_showed_first_as_an_offset_beyond_the_log_is_said_to_be_another_topic_once_that_is_known() -> None:
    """The id is asked for later; what status says is the cause."""
    bench = Bench()
    bench.begin()
    bench.thread.hold(["t"], out_of_range(bench.assignments[0], 5))
    bench.thread.hold(["t"], topic_made_anew("t", "id", "other"))

    said = {each.trouble.message for each in bench.partitions.all() if each.trouble is not None}
    assert {"t: deleted and made anew (id id became other)"} == said


@pytest.mark.parametrize("came", [[0, 1], [1, 2, 3, 4], [5, 6, 0, 1], [5, 6, 1, 2, 8, 9, 60]])
def test_what_the_client_brings_again_is_left_out_and_the_partition_is_sought(came: list[int]) -> None:
    """The client goes to the log's beginning where a seek overtook its question; also in the middle of a round."""
    bench = Bench()
    bench.begin()
    bench.deliver(0, [3, 4])
    bench.client.asked.clear()

    assert bench.deliver(0, came) == []
    assert bench.client.asked == [("resume", 1), ("seek", 5)]
    assert bench.heard.report.said[-1] == ("consumer_went_back", {"topic": "t", "partition": 0, "position": 5})
    assert [run.offsets() for run in bench.deliver(0, [5, 9])] == [[5, 9]]


def test_a_neighbour_of_a_partition_that_went_back_is_handed_on() -> None:
    """Only what came again is left out."""
    bench = Bench()
    bench.begin()
    bench.deliver(0, [3])

    messages = [Message(topic="t", partition=number, offset=1, value=b"v") for number in (0, 1)]
    bench.thread._deliver(messages)  # noqa: SLF001 - what a round does with what came

    assert [run.partition for run in bench.heard.runs] == [0, 1]
    assert [run.offsets() for run in bench.heard.runs] == [[3], [1]]


def test_a_client_that_goes_back_again_and_again_ends_the_worker() -> None:
    """Its successor has another client."""
    bench = Bench()
    bench.begin()
    bench.deliver(0, [3])
    for _ in range(5):
        assert bench.deliver(0, [0]) == []

    with pytest.raises(TransportFatal, match=r"t\[0\]: the client goes back from 4 again and again"):
        bench.deliver(0, [0])
