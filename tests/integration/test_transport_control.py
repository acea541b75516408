"""What a stage can ask of the transport, in one process with a real Kafka."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connectors.transport.chunk import Assignment, Group, Run
from connectors.transport.service import ConsumerService, StageApp
from connectors.transport.settings import AssignmentStrategy, ConsumerSettings
from connectors.transport.snapshot import PartitionView
from connectors.transport.topics import TopicSettings
from schemas.errors import SinkUnavailable
from tests.integration.transport_processes import PARTITIONS, Bench

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]


class Collector:
    """A step that keeps the offsets it was given, and says done."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []
        self.groups: list[Group] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.answer: Callable[[Group], None] = Group.done

    async def __call__(self, group: Group) -> None:
        self.groups.append(group)
        await self.hold.wait()
        for run in group.live():
            self.seen.extend((run.topic, run.partition, offset) for offset in run.offsets())
        self.answer(group)


class Running:
    """A service that runs in this process."""

    def __init__(self, bench: Bench, **settings: Any) -> None:
        self.app = StageApp(bench.group, datadir=str(bench.folder / "faust"))
        self.events: list[tuple[str, dict[str, Any]]] = []
        asked = ConsumerSettings(bootstrap=bench.bootstrap, group=bench.group, commit_interval_seconds=0.2, **settings)
        self.service = ConsumerService(
            self.app,
            asked,
            topic_admin=bench.admin,
            on_event=lambda name, fields: self.events.append((name, dict(fields))),
        )

    @asynccontextmanager
    async def live(self) -> AsyncIterator[ConsumerService]:
        """Run it for as long as the block lasts."""
        await self.app.start()
        try:
            yield self.service
        finally:
            await self.app.stop()


async def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> None:
    """Wait until something is true."""
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.02)


def view_of(service: ConsumerService, topic: str, partition: int) -> PartitionView:
    """One partition's view."""
    return next(v for v in service.snapshot().partitions if (v.topic, v.partition) == (topic, partition))


async def test_a_seek_reads_again_and_the_commit_goes_back(bench: Bench) -> None:
    """Late dones of what was lost change nothing."""
    topic, step = bench.topic(), Collector()
    bench.fill(topic, 4_000)
    running = Running(bench)
    running.service.lane("main", [topic], step)
    async with running.live() as service:
        await until(lambda: len(step.seen) == 4_000, "all is read")
        mine = next(each for each in service.assignments() if each.partition == 1)
        old = [run for group in step.groups for run in group.runs if run.assignment is mine]
        step.hold.clear()
        assert await service.seek(mine, 400)
        await until(lambda: bench.committed(topic)[1] == 400, "the commit went back")
        service.done(old)
        step.hold.set()
        await until(lambda: len(step.seen) == 4_600, "600 records came again")
        await until(lambda: bench.committed(topic)[1] == 1_000, "they are committed")

    assert [(topic, 1, offset) for offset in range(400, 1_000)] == step.seen[4_000:]


async def test_a_paused_topic_is_silent_and_the_others_are_not(bench: Bench) -> None:
    """What was begun is given up, and comes again at resume."""
    trouble, other, step = bench.topic("trouble"), bench.topic("other"), Collector()
    running = Running(bench)
    running.service.lane("main", [trouble, other], step)
    async with running.live() as service:
        await until(lambda: len([v for v in service.snapshot().partitions if v.status == "running"]) == 8, "it reads")
        await service.pause(trouble, "a decision is needed")
        bench.fill(trouble, 400)
        bench.fill(other, 400)
        await until(lambda: len(step.seen) == 400, "the other topic is read")
        view = view_of(service, trouble, 0)
        assert ("a decision is needed", 0) == (view.paused, view.position)
        await service.resume(trouble)
        await until(lambda: len(step.seen) == 800, "it is read")

    assert {other} == {topic for topic, _, _ in step.seen[:400]}
    assert 400 == len({each for each in step.seen if each[0] == trouble})


async def test_a_pause_in_the_middle_of_a_step_loses_its_runs_and_gives_them_again(bench: Bench) -> None:
    """After `pause` returns, the step sees them as lost, and need not answer for them."""
    topic, seen = bench.topic(), list[int]()
    bench.fill(topic, 400)
    running = Running(bench)

    async def step(group: Group) -> None:
        if not seen:
            seen.append(len(group))
            await running.service.pause(topic, "in trouble")
            assert [] == group.live()
            return
        seen.append(len(group))
        group.done()

    running.service.lane("main", [topic], step)
    async with running.live() as service:
        await until(lambda: seen and view_of(service, topic, 0).paused == "in trouble", "the step paused it")
        await service.resume(topic)
        await until(lambda: sum(seen[1:]) == 400, "all came again")
        await until(lambda: not any(lane.bytes_used for lane in service.snapshot().lanes), "all bytes are given back")


async def test_the_stage_says_where_to_begin_and_is_waited_for(bench: Bench) -> None:
    """No record of a partition comes before its start is known; a sink that is away is asked again."""
    topic, step, asked = bench.topic(), Collector(), list[int]()
    bench.fill(topic, 4_000)

    async def starts(assignments: list[Assignment]) -> Mapping[Assignment, int]:
        asked.append(len(assignments))
        if len(asked) < 3:
            raise SinkUnavailable("the lake is away")
        return {each: 990 for each in assignments if each.partition != 3}

    running = Running(bench)
    running.service.lane("main", [topic], step, starts=starts, start="latest")
    async with running.live() as service:
        await until(lambda: asked, "the stage is asked")
        assert "resolving" == view_of(service, topic, 0).status
        await until(lambda: len(step.seen) >= 30, "three partitions begin at 990")
        await until(lambda: bench.committed(topic) == dict.fromkeys(range(PARTITIONS), 1_000), "all are committed")

    assert [(topic, number, offset) for number in range(3) for offset in range(990, 1_000)] == sorted(step.seen)
    assert "resolving_waits" in [name for name, _ in running.events]


async def test_metadata_is_committed_with_the_offset_and_given_to_the_next_life(bench: Bench) -> None:
    """It moves with the head, as the stage's own text."""
    topic, step = bench.topic(), Collector()
    bench.fill(topic, 400)
    step.answer = lambda group: group.done(metadata={run: f"previous {run.next - 1}" for run in group.runs})
    first = Running(bench)
    first.service.lane("main", [topic], step)
    async with first.live():
        await until(lambda: len(step.seen) == 400, "all is read")
    second, again = Running(bench), Collector()
    second.service.lane("main", [topic], again)
    async with second.live() as service:
        await until(lambda: service.assignments() and all(a.start >= 0 for a in service.assignments()), "it starts")
        found = {(each.partition, each.start, each.metadata) for each in service.assignments()}

    assert {(number, 100, "previous 99") for number in range(PARTITIONS)} == found
    assert [] == again.seen


async def test_an_offset_below_the_log_holds_the_topic(bench: Bench) -> None:
    """Never a silent jump to what is left."""
    topic, step = bench.topic(), Collector()
    bench.fill(topic, 400)
    running = Running(bench)

    async def starts(assignments: list[Assignment]) -> Mapping[Assignment, int]:
        return {each: each.high + 1 for each in assignments if each.partition == 0}

    running.service.lane("main", [topic], step, starts=starts)
    async with running.live() as service:
        await until(lambda: "source_moved" in [name for name, _ in running.events], "it is held")
        await until(lambda: view_of(service, topic, 0).status == "held", "the snapshot says so")
        view = view_of(service, topic, 0)

    assert "beyond the log's end" in view.paused
    assert "resync" in view.hint


async def test_topics_come_and_go_at_run_time(bench: Bench) -> None:
    """What is taken away is finished and committed first."""
    first, second, step = bench.topic("first"), bench.topic("second"), Collector()
    bench.fill(first, 400)
    bench.fill(second, 400)
    running = Running(bench)
    lane = running.service.lane("main", [], step)
    async with running.live() as service:
        await service.add_topics(lane, [first])
        await until(lambda: len(step.seen) == 400, "the first is read")
        await service.add_topics(lane, [second])
        await until(lambda: len(step.seen) == 800, "the second is read")
        await service.remove_topics([first])
        await until(lambda: {each.topic for each in service.assignments()} == {second}, "the first is gone")

    assert bench.ends(first) == bench.committed(first)


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
async def test_a_topic_made_anew_while_the_group_divides_is_read(bench: Bench, strategy: AssignmentStrategy) -> None:
    """The leader saw it in between, with no partitions; the client remembers it, so it would never divide again."""
    stays, anew, step = bench.topic("stays"), bench.topic("anew"), Collector()
    bench.fill(stays, 400)
    bench.fill(anew, 400)
    running = Running(bench, assignment_strategy=strategy)
    lane = running.service.lane("main", [stays, anew], step, goes_on=True)
    async with running.live() as service:
        await until(lambda: len(step.seen) == 800, "both are read")
        await service.remove_topics([anew])
        await until(lambda: {each.topic for each in service.assignments()} == {stays}, "one is read no more")
        bench.admin.delete([anew])
        await until(lambda: not bench.admin.ids_now([anew]), "it is gone")
        await service.add_topics(lane, [anew])
        bench.admin.ensure(anew, TopicSettings(partitions=PARTITIONS))
        bench.fill(anew, 40)
        await until(lambda: len(step.seen) == 840, "it is read")


async def test_runs_taken_give_their_bytes_back_and_are_done_later(bench: Bench) -> None:
    """A stage with a buffer of its own takes more than its lane holds; offsets move at done."""
    topic, step, taken = bench.topic(), Collector(), list[Run]()
    bench.fill(topic, 8_000, value=lambda _: b"x" * 500)

    def take(group: Group) -> None:
        for run in group.runs:
            run.values()
        taken.extend(group.runs)
        group.taken()

    step.answer = take
    running = Running(bench)
    running.service.lane("main", [topic], step, bytes_max=512 * 1024)
    async with running.live() as service:
        await until(lambda: len(step.seen) == 8_000, "4 MB came through a lane of 512 KB")
        assert dict.fromkeys(range(PARTITIONS), 0) == bench.committed(topic)
        service.done(reversed(taken))
        await until(lambda: bench.committed(topic) == bench.ends(topic), "all is committed")

    assert 8_000 == len(set(step.seen))


async def test_given_up_runs_come_again(bench: Bench) -> None:
    """From the first unfinished offset of their partition."""
    topic, step, taken = bench.topic(), Collector(), list[Run]()
    bench.fill(topic, 400)

    def take(group: Group) -> None:
        taken.extend(group.runs)
        group.taken()

    step.answer = take
    running = Running(bench)
    running.service.lane("main", [topic], step)
    async with running.live() as service:
        await until(lambda: len(step.seen) == 400, "all is taken")
        step.answer = Group.done
        await service.give_up(taken)
        assert all(run.lost for run in taken)
        await until(lambda: len(step.seen) == 800, "all came again")
        await until(lambda: bench.committed(topic) == bench.ends(topic), "and is done")


async def test_a_marker_that_retention_took_is_no_loss(bench: Bench) -> None:
    """Nobody holds an offset behind the last transaction's marker: where only that is gone, the topic is read on."""
    topic, first, second = bench.topic(partitions=1), Collector(), Collector()
    before, after = Running(bench), Running(bench)
    before.service.lane("main", [topic], first, transactional=True)
    after.service.lane("main", [topic], second, transactional=True)
    bench.transact(topic, 3)  # and a marker at offset 3
    async with before.live():
        await until(lambda: len(first.seen) == 3, "all is read")
        await until(lambda: bench.committed(topic, partitions=1)[0] == 3, "and committed")
    bench.forget(topic, {0: 4})
    async with after.live() as service:
        await until(lambda: [v.status for v in service.snapshot().partitions] == ["running"], "it reads")
        bench.transact(topic, 2)
        await until(lambda: len(second.seen) == 2, "what comes is read")

    assert [(topic, 0, offset) for offset in (0, 1, 2, 4, 5)] == first.seen + second.seen
    assert [] == [name for name, _ in before.events + after.events if name == "source_moved"]


async def test_a_log_that_begins_above_0_is_read_from_its_beginning(bench: Bench) -> None:
    """Retention has taken what was before, as it has in every topic that is older than it."""
    topic, step = bench.topic(), Collector()
    bench.fill(topic, 4_000)
    bench.forget(topic, dict.fromkeys(range(PARTITIONS), 900))
    running = Running(bench)
    running.service.lane("main", [topic], step)
    async with running.live():
        await until(lambda: len(step.seen) == 400, "what is left is read")

    assert {(topic, number, offset) for number in range(PARTITIONS) for offset in range(900, 1_000)} == set(step.seen)
