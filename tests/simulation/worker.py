"""One worker process of a stage: the product's stage, consumer thread, lane and ladder; without Faust around them.

`Service` is the product's ConsumerService less what Faust gives it: its life cycle, its channel, its agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from connectors.transport import lane as lane_module
from connectors.transport import loads as loads_module
from connectors.transport import partition as partition_module
from connectors.transport import partitions as partitions_module
from connectors.transport import poll as poll_module
from connectors.transport import service as service_module
from connectors.transport import transaction as transaction_module
from connectors.transport import watch as watch_module
from connectors.transport.chunk import Assignment
from connectors.transport.ladder import Ladder, Step
from connectors.transport.lane import Lane, LaneSettings
from connectors.transport.partitions import Partitions
from connectors.transport.poll import PollThread
from connectors.transport.resolve import Resolver
from connectors.transport.routes import Routes
from connectors.transport.service import ConsumerService
from connectors.transport.settings import ConsumerSettings
from connectors.transport.watch import Watch
from schemas.errors import ErrorKind, TransportFatal, Unavailable, kind_of
from sinks.lake import commit as commit_module
from sinks.lake import sink as sink_module
from sinks.redis import ledger as ledger_module
from streams import features as features_module
from streams import lake as lake_stage_module
from streams.lake import LakeStage
from streams.loads import add_lanes
from streams.stage import MAIN_LANE
from tests.simulation import iceberg
from tests.simulation.broker import Broker
from tests.simulation.kafka import Consumer, Lookups, Message, Producer
from tests.simulation.loop import PROCESS, Event, Pool, Process, block, in_thread, now, the_loop
from tests.simulation.network import Network
from tests.simulation.redis import Redis

LANE_BYTES_MAX = 16 * 1024 * 1024
_LEAVE_SECONDS = 5.0
# When a partition changes its lane: here a dozen records are many.
LOADS = {"FAR_BEHIND_RECORDS": 8, "NEAR_RECORDS": 2, "STAY_SECONDS": 0.5}


@dataclass(slots=True)
class Surroundings:
    """The services that a worker speaks to."""

    network: Network
    broker: Broker
    redis: Redis = field(init=False)
    catalogue: iceberg.Catalogue = field(init=False)


class Thread(PollThread):
    """The product's owning thread, run as a thread of the simulation."""

    task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = the_loop().create_task(in_thread(self.run))

    def is_alive(self) -> bool:
        return self.task is not None and not self.task.done()


class Service(ConsumerService):
    """The consumer service without Faust."""

    def __init__(self, worker: Worker, settings: ConsumerSettings) -> None:
        self.settings = settings
        self.lanes: dict[str, Lane] = {}
        self.failure: BaseException | None = None
        self.ending = Event()
        self._on_event = worker.note
        self._routes = Routes()
        self._partitions = Partitions(self._routes, incremental=settings.incremental)
        lookups = Lookups(worker, worker.around.network, worker.around.broker)
        steps = (partial(self._take, PollThread.commit_first_starts), partial(self._take, PollThread.begin_at))
        self._resolver = Resolver(settings, lookups, *steps, self._tell)
        self._watch = Watch(settings, self._tell)
        self._thread = self._poller = Thread(settings, self._routes, self._partitions, self)
        self._suspected = asyncio.Event()
        self._events = the_loop()
        self._random = worker.random
        worker.waking = self._poller.waking  # type: ignore[assignment]

    @property
    def should_stop(self) -> bool:
        return self.ending.is_set()

    def add_future(self, coro: Any) -> Any:
        return the_loop().create_task(coro)

    def lane(self, name: str, topics: Any, step: Step, **options: Any) -> Lane:
        settings = LaneSettings(**options)
        self._routes.add(name, list(topics))
        ladder = Ladder(name, step, self, on_poison=settings.on_poison, report=self._tell, jitter=self._random.random)
        lane = self.lanes[name] = Lane(name, settings, ladder, self._partitions.lock)
        kinds: dict[str, Any] = {each: getattr(settings, each) for each in ("commits", "transactional", "loads")}
        self._partitions.add_lane(name, settings.bytes_max, **kinds)
        return lane

    async def on_start(self) -> None:
        for lane in self.lanes.values():
            self.add_future(self._agent(lane))
        self.add_future(self._watch_topics())
        self.add_future(self._watch.live(self._partitions, self._poller, lambda: self.should_stop))
        self._poller.start()

    async def _agent(self, lane: Lane) -> None:
        while True:
            await lane.something.wait()
            lane.something.clear()
            await self._work(lane)

    async def on_stop(self) -> None:
        self._poller.crashed = self._poller.crashed or self.failure is not None
        self._poller.stop()
        assert self._thread.task is not None, "it was started"
        await asyncio.wait([self._thread.task], timeout=self.settings.drain_seconds + _LEAVE_SECONDS)
        if self._poller.is_alive():
            await self.fail(TransportFatal("the consumer does not end"))

    async def fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error
            if kind_of(error) is ErrorKind.BUG:  # of the product, or of a model
                the_loop().failure = error
            self._poller.crashed = True
            self.ending.set()

    def group_metadata_now(self, *, fresh: bool = False) -> Any:
        known = self._poller.group_metadata
        if known is not None and not fresh:
            return known
        return block(asyncio.wrap_future(self._poller.call(PollThread.refresh_group_metadata)))


MakeStage = Callable[["Worker", Service], tuple[Any, Mapping[str, Any]]]


class Worker(Process):
    """One life of one slot."""

    waking: Event

    def __init__(
        self, slot: str, life: int, around: Surroundings, random: Random, trace: Callable[[str], None]
    ) -> None:
        super().__init__(f"{slot}.{life}")
        self.slot, self.around, self.random = slot, around, random
        self.stopping = False
        self.clean: bool | None = None  # how it ended, if it did so by itself
        self.trace = trace
        self._service: Service | None = None

    def note(self, event: str, fields: Mapping[str, object]) -> None:
        """Take what the transport tells."""
        self.trace(f"{self.name} {event} {dict(fields)}")

    def stop(self) -> None:
        """Ask for the orderly end, as SIGTERM does."""
        self.stopping = True
        if self._service is not None:
            self._service.ending.set()

    def failure(self) -> BaseException | None:
        """Return what ended it."""
        return self._service.failure if self._service is not None else None

    def start(self, settings: ConsumerSettings, make: MakeStage, topics: list[str]) -> None:
        """Begin to live."""
        context = self.around.network.context.copy()
        context.run(PROCESS.set, self)
        the_loop().create_task(self._ending(settings, make, topics), context=context)

    async def _ending(self, settings: ConsumerSettings, make: MakeStage, topics: list[str]) -> None:
        """Live, and end as a process does: with all that is left of it."""
        try:
            await self._live(settings, make, topics)
        except Exception as error:  # noqa: BLE001 - the process ends with an exit code, whatever it was
            the_loop().failure = error
        finally:
            self.kill()

    async def _live(self, settings: ConsumerSettings, make: MakeStage, topics: list[str]) -> None:
        service = Service(self, settings)
        stage, options = make(self, service)
        if isinstance(stage, LakeStage):
            service.lane(MAIN_LANE, topics, stage.step, **options)
        else:
            add_lanes(service, topics, stage.step, {"bytes_max": LANE_BYTES_MAX, **options}, clock=now)
        await _opened(stage)
        self._service = service
        if not self.stopping:
            await service.on_start()
            await service.ending.wait_until_set(None)
            await service.on_stop()
        await stage.stop()
        self.clean = service.failure is None
        self.trace(f"{self.name} ended {service.failure!r}")


async def _opened(stage: Any) -> None:
    while True:
        try:
            await stage.start()
        except Unavailable:
            await asyncio.sleep(0.2)
        else:
            return


class _Silent:
    """Stands in for a logger."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def _of_worker(make: Callable[[Worker], Any]) -> Any:
    def made() -> Any:
        worker = PROCESS.get()
        assert isinstance(worker, Worker), "a client belongs to a worker"
        return make(worker)

    return made()


def installed() -> ExitStack:
    """Let the product's modules meet the models instead of the clients of real services."""
    stack = ExitStack()
    threading = SimpleNamespace(Event=Event)

    def put(module: Any, **names: Any) -> None:
        for name, value in names.items():
            stack.enter_context(patch.object(module, name, value))

    def consumer(settings: Any) -> Any:
        return _of_worker(
            lambda w: Consumer(settings, network=w.around.network, broker=w.around.broker, waking=w.waking)
        )

    def producer(settings: Any) -> Any:
        return _of_worker(lambda w: Producer(settings, network=w.around.network, broker=w.around.broker))

    def wire(_: Any) -> Any:
        return _of_worker(lambda w: w.around.redis.connection(w.around.network))

    def table(catalogue: Any, _: str, spec: Any, **__: Any) -> Any:
        catalogue.request()
        return iceberg.Table(catalogue, spec)

    put(poll_module, Consumer=consumer, Message=Message, monotonic=now, threading=threading)
    put(partitions_module, monotonic=now)
    put(partition_module, Fetched=Message)
    put(loads_module, **LOADS)
    put(lane_module, monotonic=now)
    put(watch_module, monotonic=now)
    put(service_module, monotonic=now)
    put(transaction_module, Producer=producer, ThreadPoolExecutor=Pool, monotonic=now, threading=threading)
    put(ledger_module, Wire=wire)
    put(features_module, LOG=_Silent())
    put(sink_module, ThreadPoolExecutor=Pool, open_table=table, log=_Silent())
    put(sink_module, open_catalog=lambda _: _of_worker(lambda w: w.around.catalogue))
    put(commit_module, write_files=iceberg.write_files, ManifestWriter=iceberg.ManifestWriter, Sweeper=iceberg.Sweeper)
    jitter = SimpleNamespace(random=lambda: the_loop().random.random())  # noqa: PLW0108 - there is no loop yet
    put(lake_stage_module, random=jitter, monotonic=now, log=_Silent())
    # Sets of assignments are walked: in the same order in each run of a seed.
    stack.enter_context(patch.object(Assignment, "__hash__", lambda self: hash(self.partition)))
    return stack
