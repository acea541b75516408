"""What a stage can ask of the transport, and the writers beside it, in one process with a real Kafka."""

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from connectors.transport.chunk import Assignment, Group, Run
from connectors.transport.producer import Advance, Outbox, PlainWriter, plain_outbox
from connectors.transport.service import ConsumerService, StageApp
from connectors.transport.settings import ClientSettings, ConsumerSettings, ProducerSettings
from connectors.transport.snapshot import PartitionView
from connectors.transport.tail import CompactedReader, Entry
from connectors.transport.topics import TopicSettings
from connectors.transport.transaction import TransactionalWriter
from schemas.errors import ConfigurationError, RecordTooLarge, SinkUnavailable, SourceUnavailable, TransactionAborted
from tests.integration.transport_processes import PARTITIONS, Bench
from tests.services import wait_until

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Topics of one test, on the broker of the environment or else the session's own."""
    address = os.environ.get("HEADGATE_TEST_KAFKA") or request.getfixturevalue("kafka").address
    made = Bench(address, tmp_path)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What Faust leaves open is collected while its warnings are ignored, not in somebody else's test."""
    yield
    gc.collect()


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
        self.app = StageApp(bench.group)
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
        assert 0 == sum(lane.bytes_used for lane in service.snapshot().lanes if not await_done(service))


def await_done(service: ConsumerService) -> bool:
    """Tell whether anything is unfinished."""
    return any(view.unfinished_age_seconds is not None for view in service.snapshot().partitions)


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


async def test_a_transaction_to_an_unknown_topic_names_it(bench: Bench) -> None:
    """Nothing of it is written; the writer goes on without it."""
    out = bench.topic("out")
    writer = TransactionalWriter(
        ProducerSettings(bootstrap=bench.bootstrap, transactional_id=f"{bench.group}-slot"), NoGroup()
    )
    run = fake_run()
    await writer.start()

    def bad(outbox: Outbox, live: Any) -> list[Advance]:
        outbox.produce(out, 0, b"lost", b"x")
        outbox.produce(f"{bench.group}-nowhere", 0, b"lost", b"x")
        return []

    def good(outbox: Outbox, live: Any) -> list[Advance]:
        outbox.produce(out, 0, b"kept", b"x", [("table", b"t")])
        return []

    with pytest.raises(TransactionAborted) as caught:
        await writer.write([run], bad)
    assert f"{bench.group}-nowhere" == caught.value.topic
    report = await writer.write([run], good)
    await writer.close()

    assert (1, 1) == (report.partitions, report.records)
    assert [b"kept"] == list(bench.keys(out))


async def test_what_the_work_raises_aborts_and_is_raised(bench: Bench) -> None:
    """A record that is too large is known before it is produced."""
    out = bench.topic("out")
    writer = TransactionalWriter(
        ProducerSettings(bootstrap=bench.bootstrap, transactional_id=f"{bench.group}-slot", message_bytes_max=10_000),
        NoGroup(),
    )
    await writer.start()

    def work(outbox: Outbox, live: Any) -> list[Advance]:
        outbox.produce(out, 0, b"lost", b"x")
        outbox.produce(out, 0, b"large", b"x" * 9_950)
        return []

    with pytest.raises(RecordTooLarge, match="10000 are allowed"):
        await writer.write([fake_run()], work)
    await writer.close()

    assert [] == list(bench.keys(out))


async def test_the_plain_writer_writes_all_of_a_work_or_nothing(bench: Bench) -> None:
    """What fails half way leaves nothing behind, so that its repetition doubles nothing."""
    out = bench.topic("out")
    writer = PlainWriter(ProducerSettings(bootstrap=bench.bootstrap))
    await writer.start()

    def fails(outbox: Outbox, live: Any) -> list[Advance]:
        outbox.produce(out, 0, b"lost", b"x")
        raise ValueError("half way")

    def works(outbox: Outbox, live: Any) -> list[Advance]:
        outbox.produce(out, 0, b"one", b"x")
        outbox.produce(out, 3, b"two", None)
        return [Advance(live[0].assignment, live[0].next, "text")]

    with pytest.raises(ValueError, match="half way"):
        await writer.write([fake_run()], fails)
    report = await writer.write([fake_run()], works)
    await writer.close()

    assert (2, 2, "text") == (report.partitions, report.records, report.advances[0].metadata)
    assert {b"one": 1, b"two": 1} == dict(bench.keys(out))


async def test_the_second_of_two_writers_of_one_slot_fences_the_first(bench: Bench) -> None:
    """And ends what it left open."""
    out = bench.topic("out")
    settings = ProducerSettings(bootstrap=bench.bootstrap, transactional_id=f"{bench.group}-slot")
    first, second = TransactionalWriter(settings, NoGroup()), TransactionalWriter(settings, NoGroup())

    def work(outbox: Outbox, live: Any) -> list[Advance]:
        outbox.produce(out, 0, b"k", b"x")
        return []

    await first.start()
    await first.write([fake_run()], work)
    await second.start()
    with pytest.raises(Exception, match=r"fenced|Fenced") as caught:
        await first.write([fake_run()], work)
    await second.write([fake_run()], work)
    await asyncio.gather(first.close(), second.close())

    assert "TransportFatal" == type(caught.value).__name__
    assert {b"k": 2} == dict(bench.keys(out))


def test_a_compacted_topic_is_loaded_whole_and_followed(bench: Bench) -> None:
    """The last value of each key; a null takes it away; what comes later is told."""
    topic = f"{bench.group}-state"
    bench.admin.ensure(topic, TopicSettings(partitions=2, compacted=True))
    bench.topics.append(topic)
    client = ClientSettings(bootstrap=bench.bootstrap)
    with plain_outbox(client) as outbox:
        for key, value in ((b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"c", b"1"), (b"b", None)):
            outbox.produce(topic, None, key, value)
    reader = CompactedReader(topic, client)
    loaded = reader.load()
    followed: list[Entry] = []
    reader.follow(followed.append)
    with plain_outbox(client) as outbox:
        outbox.produce(topic, None, b"d", b"1")
        outbox.produce(topic, None, b"a", None)
    wait_until(lambda: len(followed) == 2, "both are followed")
    reader.close()

    assert {b"a": b"2", b"c": b"1"} == loaded
    assert {(b"d", b"1"), (b"a", None)} == {(entry.key, entry.value) for entry in followed}


def test_an_unknown_topic_can_not_be_loaded(bench: Bench) -> None:
    """It says what would create it."""
    reader = CompactedReader(f"{bench.group}-nothing", ClientSettings(bootstrap=bench.bootstrap))

    with pytest.raises(SourceUnavailable, match="no topic"):
        reader.load()
    reader.close()


def test_topics_are_made_as_said_and_enlarged(bench: Bench) -> None:
    """Retention and cleanup are always said; a second time changes nothing."""
    topic = f"{bench.group}-made"
    bench.topics.append(topic)
    settings = TopicSettings(partitions=2, retention_seconds=3_600, message_bytes_max=2_000_000)

    assert 2 == bench.admin.ensure(topic, settings)
    config = bench.admin.config(topic)
    assert ("delete", "3600000", "2000000") == tuple(
        config[name] for name in ("cleanup.policy", "retention.ms", "max.message.bytes")
    )
    assert 3 == bench.admin.ensure(topic, TopicSettings(partitions=3))
    assert 3 == bench.admin.ensure(topic, settings), "never made smaller"
    assert {topic} == set(bench.admin.ids_now([topic, f"{bench.group}-nothing"]))


def test_a_topic_that_can_not_be_is_a_mistake_of_configuration(bench: Bench) -> None:
    """More copies than there are brokers."""
    with pytest.raises(ConfigurationError, match="refuses"):
        bench.admin.ensure(f"{bench.group}-copies", TopicSettings(partitions=1, replication_factor=3))


class NoGroup:
    """A consumer without offsets to send."""

    def group_metadata_now(self, *, fresh: bool = False) -> Any:
        """Give nothing: no advance is sent."""
        return None


def fake_run() -> Run:
    """A run that is ours, for writers that need one."""
    return Run(Assignment("main", "t", 0), [_Record()])


class _Record:
    """A record of nothing."""

    def __len__(self) -> int:
        return 0

    def offset(self) -> int:
        """The first."""
        return 0

    def value(self) -> None:
        """None."""

    def key(self) -> None:
        """None."""

    def headers(self) -> None:
        """None."""

    def timestamp(self) -> tuple[int, int]:
        """None."""
        return (0, 0)
