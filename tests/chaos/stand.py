"""The stand of one run: an installation under load, with what a case needs to plant faults in it and to look at it."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from kafka import TopicPartition

from tests.chaos.feeder import Feeder
from tests.chaos.plan import Plan
from tests.chaos.source import Source
from tests.chaos.tables import TABLES
from tests.chaos.watch import Watch
from tests.chaos.wire import Wire
from tests.chaos.workers import Workers
from tests.oracles import ViewShape
from tests.oracles.alerts import identity_of
from tests.oracles.clients import independent_admin, independent_consumer
from tests.oracles.durable import Sample, read_positions
from tests.oracles.features import entity_of
from tests.oracles.whole_lake import origins_of
from tests.services import Kafka, RedisServer, wait_until
from tests.workloads.ends import NOTIFY_STAGE, not_through
from tests.workloads.installation import BUCKETS, NAMESPACE, SECRET, STAGES, Installation
from tests.workloads.webhook import Webhook

ALERTS_PARTITIONS = 4
SPEED_SECONDS = 5.0  # over which the speed before a fault is taken
SNAPSHOT_ROWS = 300
ROWS = 2_000  # of each table that a sample looks at in Redis
QUIET_POLL_SECONDS = 0.3
Say = Callable[[str], None]


@dataclass(slots=True)
class Kill:
    """One stage that was taken away: when, and how fast it was before."""

    stage: str
    at: float
    speed: float


@dataclass(slots=True)
class Stand:
    """Everything of one run. `faults` counts what was planted, `troubles` is what went wrong on the way."""

    plan: Plan
    seed: int
    folder: Path
    kafka: Kafka
    redis: RedisServer
    say: Say
    wire: Wire | None = None
    source_type: type[Source] = Source
    webhook_type: type[Webhook] = Webhook
    chance: random.Random = field(init=False)
    source: Source = field(init=False)
    webhook: Webhook = field(init=False)
    installation: Installation = field(init=False)
    workers: Workers = field(init=False)
    closing: ExitStack = field(init=False)  # what a case has done at the end, when every worker has ended
    watch: Watch = field(init=False)
    feeder: Feeder = field(init=False)
    faults: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    kills: list[Kill] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    drained_after: float = 0.0

    # ── the run ──

    @contextmanager
    def running(self) -> Iterator[Stand]:
        """Have it run, with the load on; the body plants faults. On leaving, all is drained and every worker ended."""
        self.chance = random.Random(self.seed)
        prefix = f"chaos{uuid.uuid4().hex[:10]}"  # no part of what a seed decides
        self.source = self.source_type(self.kafka.address, prefix, self.seed, keys_max=self.plan.keys_max)
        self.source.snapshot(SNAPSHOT_ROWS)
        with ExitStack() as stack:
            self.webhook = stack.enter_context(self.webhook_type(SECRET))
            self.installation = stack.enter_context(self._installed(stack))
            self.closing = stack.enter_context(ExitStack())
            self.workers = stack.enter_context(Workers(self.installation))
            if self.plan.before is not None:
                self.plan.before(self)
            if self.plan.supervised:
                self.installation.start()
            else:
                self.workers.start_all(self.plan.slots)
            self.watch = stack.enter_context(Watch(self.kafka.address, self.groups(), self.pids))
            self.feeder = Feeder(
                self.source, changes=self.plan.changes, per_second=self.plan.per_second, slower=self.plan.slower,
                behind=self._behind,
            )  # fmt: skip
            with self.feeder:
                self.wait(self.plan.warm_seconds)
                yield self
            self.drain()
            if self.plan.afterwards is not None:
                self.plan.afterwards(self)
            self.stop()

    def _installed(self, stack: ExitStack) -> Installation:
        """Return the installation, behind the wire if the plan has one."""
        shapes, overrides = self.source.history.shapes, self.plan.overrides
        if self.wire is None:
            return Installation(
                self.folder, self.kafka.address, self.redis.address, self.webhook.url, shapes, overrides=overrides
            )
        wire = stack.enter_context(self.wire)
        wire.listen(self.webhook.url)
        lake = wire.lake(f"sqlite:///{self.folder / 'lake' / 'catalog.db'}")
        return Installation(
            self.folder, wire.bootstrap, wire.redis_url, wire.webhook_url(self.webhook.url), shapes,
            overrides={**overrides, "lake": {**lake, **overrides.get("lake", {})}},
        )  # fmt: skip

    @property
    def wired(self) -> Wire:
        """The wire of a plan that has one."""
        assert self.wire is not None, "the plan is wired"
        return self.wire

    def lake_files(self) -> list[str]:
        """Return the data files of the lake."""
        if self.wire is None:
            return [str(path) for path in self.installation.warehouse.rglob("*.parquet")]
        return [path for path in self.wire.files().find(self.wire.bucket) if path.endswith(".parquet")]

    def lake_storage(self) -> Mapping[str, str]:
        """Return what an oracle reads the lake's files with."""
        return {} if self.wire is None else self.wire.storage()

    def wait(self, seconds: float) -> None:
        """Let the load go on for a while."""
        ends_at = time.monotonic() + seconds
        while (left := ends_at - time.monotonic()) > 0:
            self.feeder.check()
            time.sleep(min(left, 0.2))

    def wait_for(self, what: Callable[[], object], *, seconds: float) -> bool:
        """Let the load go on until something is so, or so long; return whether it is."""
        ends_at = time.monotonic() + seconds
        while not what() and time.monotonic() < ends_at:
            self.wait(0.2)
        return bool(what())

    def drain(self, *, seconds: float | None = None) -> None:
        """Return once every group has read its topics to their ends.

        Raises:
            TimeoutError: it says who lags, and by how much.
        """
        began, behind = time.monotonic(), dict[str, int]()

        def quiet() -> bool:
            behind.clear()
            behind.update(not_through(self.installation, consumer, admin))
            return not behind

        with independent_consumer(self.kafka.address) as consumer, independent_admin(self.kafka.address) as admin:
            limit = seconds or self.plan.drain_seconds
            try:
                wait_until(quiet, "all groups at their ends", deadline_seconds=limit, poll_seconds=QUIET_POLL_SECONDS)
            except TimeoutError:
                raise TimeoutError(f"lag not drained within {limit:g} s: {behind}") from None
        self.drained_after = max(self.drained_after, time.monotonic() - began)

    def stop(self) -> None:
        """End every worker in good order; what does not end well is a trouble."""
        if self.plan.supervised:
            self.installation.stop()
        else:
            self.troubles += self.workers.stop()

    @property
    def made(self) -> int:
        """How many changes were made; of a run of its own, what it was asked for."""
        return self.source.made if hasattr(self, "source") else self.plan.changes

    # ── what cases do ──

    def fault(self, what: str) -> None:
        """Count a fault that is planted now, while changes are being made."""
        assert self.feeder.feeds(), "a fault is planted under load"
        with self.lock:
            self.faults += 1
        self.say(f"{what} ({self.faults}/{self.plan.faults}; {self.source.made:,} changes made)")

    def fault_calmly(self, what: str) -> None:
        """Count a fault that is planted when the load is over."""
        self.faults += 1
        self.say(f"{what} ({self.faults}/{self.plan.faults})")

    def speed(self, stage: str) -> float:
        """Return how fast a stage is: over the last seconds, but no faster than what it was offered in the mean.

        While it catches up after another fault it is faster than it can be without a backlog.
        """
        now = time.monotonic()
        return min(self.watch.speed(stage, now - SPEED_SECONDS, now), self.watch.speed(stage, self.watch.times[0], now))

    def note_kill(self, stage: str, *, speed: float | None = None) -> None:
        """Remember that a stage is taken away now, and its speed until now."""
        self.kills.append(Kill(stage, time.monotonic(), self.speed(stage) if speed is None else speed))

    def back(self, kill: Kill) -> float | None:
        """Return after how many seconds a stage was back at its speed; None while it is not."""
        return self.watch.back_after(kill.stage, kill.at, speed=kill.speed)

    def wait_back(self, kills: Sequence[Kill], *, seconds: float) -> None:
        """Return once all of these stages are back at their speed, or when the time is up: checks say who is not."""
        self.wait_for(lambda: all(self.back(kill) is not None for kill in kills), seconds=seconds)

    def sample(self) -> None:
        """Look at what is committed, then at what is durable."""
        began = time.monotonic()
        self.samples.append(take_sample(self))
        self.say(f"looked at what is durable, in {time.monotonic() - began:.1f} s")

    # ── names ──

    def groups(self) -> dict[str, tuple[str, list[tuple[str, int]]]]:
        """Return group and partitions of each stage."""
        prefix, outputs = self.installation.topic_prefix, []
        sources = [(self.source.topic(name), p) for name, table in TABLES.items() for p in range(table.partitions)]
        outputs = [(self.output(name), p) for name, table in TABLES.items() for p in range(table.partitions)]
        alerts = [(self.alerts_topic, p) for p in range(ALERTS_PARTITIONS)]
        reads = {"normalize": sources, NOTIFY_STAGE: alerts}
        return {stage: (f"{prefix}-{stage}", reads.get(stage, outputs)) for stage in STAGES}

    def output(self, table: str) -> str:
        """Return the output topic of a table."""
        return self.installation.changes_topic(table)

    @property
    def alerts_topic(self) -> str:
        """The topic of alerts."""
        return f"{self.installation.topic_prefix}.alerts"

    def pids(self) -> list[int]:
        """Return the workers that run now."""
        if not self.plan.supervised:
            return [worker.pid for worker in self.workers.running()]
        process = self.installation.process
        if process is None or process.poll() is not None:
            return []
        return [child.pid for child in psutil.Process(process.pid).children()]

    def _behind(self) -> int:
        return self.source.history.records() - self.watch.committed["normalize"]


def take_sample(stand: Stand) -> Sample:
    """Return committed offsets, and what was durable after they were read."""
    installation, prefix = stand.installation, stand.installation.topic_prefix
    names = {stage: ("notify" if stage == NOTIFY_STAGE else stage) for stage in STAGES}
    committed: dict[str, dict[tuple[str, int], int]] = {}
    with independent_admin(stand.kafka.address) as admin:
        for stage, name in names.items():
            group = f"{prefix}-{stage}"
            found: dict[Any, Any] = admin.list_group_offsets(group)[group]
            committed[name] = {(place.topic, place.partition): at.offset for place, at in found.items()}
    sample = Sample(committed, ends=ends_of(stand))
    sample.delivered = frozenset(str(identity_of(delivery.body["data"])) for delivery in stand.webhook.deliveries)
    for table in TABLES:
        sample.in_lake[table] = origins_of(installation.warehouse, NAMESPACE, table, stand.lake_storage())
    with stand.redis.client() as client:
        for table, shape in installation.shapes.items():
            rows = [entity_of(tuple(TABLES[table].key(key).values())) for key in stand.source.some_keys(table, ROWS)]
            views = {view.id: "r" if view.shares else "f" for view in ViewShape.all_of(shape)}
            sample.positions |= read_positions(client, prefix, rows, views=views, buckets=BUCKETS)
    return sample


def ends_of(stand: Stand) -> dict[tuple[str, int], int]:
    """Return the ends of the topics that Headgate writes, aborted records and open transactions included."""
    places = [(stand.output(name), p) for name, table in TABLES.items() for p in range(table.partitions)]
    places += [(stand.alerts_topic, p) for p in range(ALERTS_PARTITIONS)]
    with independent_consumer(stand.kafka.address, isolation_level="read_uncommitted") as consumer:
        ends = consumer.end_offsets([TopicPartition(*place) for place in places])
    return {(place.topic, place.partition): end for place, end in ends.items()}
