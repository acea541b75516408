"""The consumer as a Faust service: lanes of chunks for agents, and everything a stage can ask of the transport.

Faust keeps its worker, life cycle, supervision, signals, timers, tasks, channels and agents; its consumer, producer,
conductor and tables are switched off by its own public means. No other module of the connectors knows Faust.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, NoReturn, TypeVar

import faust
from faust.app.base import BootStrategy
from faust.types import ChannelT
from mode import CrashingSupervisor, Service

from connectors.transport.chunk import Assignment, Chunk, Run
from connectors.transport.ladder import Ladder, Step, describe
from connectors.transport.lane import Lane, LaneSettings
from connectors.transport.partitions import Partitions
from connectors.transport.poll import PollThread
from connectors.transport.resolve import Membership, Resolver
from connectors.transport.routes import Routes
from connectors.transport.settings import ConsumerSettings, rarer
from connectors.transport.snapshot import TransportView, view_lanes, view_partition
from connectors.transport.watch import Watch
from schemas.errors import ConfigurationError, HeadgateError, SourceMoved, TransportFatal, Unavailable

T = TypeVar("T")
OnEvent = Callable[[str, Mapping[str, object]], None]

_CHANNEL_SIZE = 4
_LEAVE_SECONDS = 5.0  # beyond the drain: committing and leaving the group
_BETWEEN_CHECKS_SECONDS = 0.05
_EXIT_BY_FORCE = 70  # EX_SOFTWARE


class _Boot(BootStrategy):
    """Faust without its Kafka: no consumer, producer, conductor or tables."""

    enable_kafka = False
    enable_web = False


class StageApp(faust.App):
    """A Faust app whose agents are fed by a ConsumerService. What needs Faust's own Kafka is refused."""

    BootStrategy = _Boot

    def __init__(self, id: str, **options: Any) -> None:  # noqa: A002 - Faust's name
        """Make an app that never contacts a broker of its own."""
        options.setdefault("broker", "kafka://127.0.0.1:1")  # must be given, is never contacted
        options.setdefault("web_enabled", False)
        options.setdefault("agent_supervisor", CrashingSupervisor)  # a restarted agent would have lost what it held
        super().__init__(id, **options)

    def agent(self, channel: Any = None, **options: Any) -> Any:
        """Make an agent on an in-memory channel.

        Raises:
            ConfigurationError: it was to read a topic.
        """
        if not isinstance(channel, ChannelT):
            _refuse("an agent on a topic", "give the topic to a lane of the ConsumerService")
        return super().agent(channel, **options)

    def topic(self, *topics: Any, **options: Any) -> NoReturn:
        """Refuse: it would bring nothing."""
        _refuse("app.topic", "give the topic to a lane of the ConsumerService")

    def Table(self, *args: Any, **options: Any) -> NoReturn:  # noqa: N802 - Faust's name
        """Refuse: it would come back empty after a restart."""
        _refuse("a table", "keep state in a compacted topic and read it with CompactedReader")

    GlobalTable = SetTable = SetGlobalTable = Table

    def LiveCheck(self, **options: Any) -> NoReturn:  # noqa: N802 - Faust's name
        """Refuse: it sends through Faust's producer."""
        _refuse("livecheck", "test a stage with the test suite's own Kafka")

    async def send(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse: Faust's producer is not started."""
        _refuse(
            "app.send, and with it agent.ask and agent.send to topics",
            "write with a TransactionalWriter or PlainWriter",
        )


def _refuse(what: str, instead: str) -> NoReturn:
    raise ConfigurationError(f"{what} does not work in a stage: Faust's own Kafka is switched off", hint=instead)


class ConsumerService(Service):
    """Reads the lanes' topics and hands records to the lanes' steps; acknowledgement is `done`, and nothing else."""

    def __init__(
        self,
        app: StageApp,
        settings: ConsumerSettings,
        *,
        topic_admin: Membership,
        on_event: OnEvent | None = None,
        exit_seconds_max: float | None = None,
        **options: Any,
    ) -> None:
        """Register with `app`: started after its agents, so stopped before them, which is the order that a drain needs.

        With `exit_seconds_max` the process is ended by force when an end, asked for or not, takes longer: for workers,
        not for tests.
        """
        super().__init__(**options)
        self.app = app
        self.settings = settings
        self.lanes: dict[str, Lane] = {}
        self.failure: BaseException | None = None
        self._on_event = on_event
        self._exit_seconds_max = exit_seconds_max
        self._routes = Routes()
        self._partitions = Partitions(self._routes, incremental=settings.incremental)
        steps = (partial(self._take, PollThread.commit_first_starts), partial(self._take, PollThread.begin_at))
        self._resolver = Resolver(settings, topic_admin, *steps, self._tell)
        self._watch = Watch(settings, self._tell, membership=topic_admin, lanes=self.lanes)
        self._channels: dict[str, Any] = {}
        self._poller = PollThread(settings, self._routes, self._partitions, self)
        self._suspected = asyncio.Event()
        self._events: asyncio.AbstractEventLoop | None = None
        app.service(self)  # type: ignore[arg-type]  # it takes services as well as their classes

    # -- what a stage asks -------------------------------------------------------------------------------------------

    def lane(self, name: str, topics: Iterable[str], step: Step, **options: Any) -> Lane:
        """Give `topics` (names, or patterns that begin with `^`) to `step`; `options` are those of LaneSettings.

        Raises:
            ConfigurationError: the name or a topic is taken.
        """
        if name in self.lanes or self._poller.is_alive():
            raise ConfigurationError(
                f"lane {name} comes twice or too late", hint="name each lane once, before the worker starts"
            )
        settings = LaneSettings(**options)
        self._routes.add(name, list(topics))
        ladder = Ladder(name, step, self, on_poison=settings.on_poison, report=self._tell)
        lane = self.lanes[name] = Lane(name, settings, ladder, self._partitions.lock)
        kinds = {each: getattr(settings, each) for each in ("commits", "transactional", "goes_on", "loads", "limit_of")}
        self._partitions.add_lane(name, settings.bytes_max, **kinds)
        channel = self._channels[name] = self.app.channel(maxsize=_CHANNEL_SIZE)

        async def work(stream: Any) -> None:
            async for _ in stream:
                await self._work(lane)

        self.app.agent(channel, name=f"{self.app.conf.id}.{name}")(work)
        return lane

    async def add_topics(self, lane: Lane | str, topics: Iterable[str]) -> None:
        """Read `topics` too, from now on."""
        self._routes.add(lane if isinstance(lane, str) else lane.name, list(topics))
        await self._ask(PollThread.subscribe)

    async def remove_topics(self, topics: Iterable[str]) -> None:
        """Read `topics` no more: what was begun of them is finished and committed first."""
        self._routes.remove(list(topics))
        await self._ask(PollThread.subscribe)

    def done(self, runs: Iterable[Run], metadata: Mapping[Run, str] | None = None) -> None:
        """Say that `runs` are durable; from any thread, at any time. Of a run that was lost it changes nothing."""
        self._answer(list(runs), metadata, durable=True)

    def taken(self, runs: Iterable[Run]) -> None:
        """Say that `runs` were copied into a buffer with a byte limit of its own; `done` follows later."""
        self._answer(list(runs), None, durable=False)

    def _answer(self, runs: list[Run], metadata: Mapping[Run, str] | None, *, durable: bool) -> None:
        for run in runs:
            run.answer()
        self._poller.finished.append((runs, metadata, durable))
        self._poller.waking.set()

    async def give_up(self, runs: Iterable[Run]) -> None:
        """Say that `runs` will not be finished: each partition is read again from its first unfinished offset."""
        chosen = {run.assignment for run in runs if not run.lost}
        await self._ask(lambda thread: thread.rewind(dict.fromkeys(chosen)))

    async def seek(self, assignment: Assignment, offset: int, metadata: str | None = None) -> bool:
        """Read `assignment` again from `offset`; False if it is no longer ours.

        Its unfinished runs are lost, a late `done` is ignored. `metadata` becomes the stage's text beside the commit,
        where offsets are committed here; without it the last one stays.
        """
        return await self._ask(lambda thread: thread.rewind({assignment: offset}, metadata))

    async def pause(self, topic: str, reason: str | HeadgateError, *, give_up: bool = True) -> None:
        """Read nothing of `topic` until `resume`, across rebalances.

        What no step began is read again then; with `give_up` also what was begun: its runs are lost when this returns.
        """
        await self._ask(lambda thread: thread.pause_topic(topic, reason, give_up=give_up))

    async def resume(self, topic: str) -> None:
        """Read `topic` again, from its first unfinished offset."""
        await self._ask(lambda thread: thread.resume_topic(topic))

    async def group_metadata(self) -> Any:
        """Return the group's metadata of this moment, for a transactional producer."""
        return await self._ask(PollThread.refresh_group_metadata)

    def group_metadata_now(self, *, fresh: bool = False) -> Any:
        """Return the group's metadata, from any thread but the event loop's.

        As of the last rebalance or second, or `fresh`. An old one is safe: the broker refuses what comes with it.
        """
        known = self._poller.group_metadata
        if known is not None and not fresh:
            return known
        return self._poller.call(PollThread.refresh_group_metadata).result(self.settings.drain_seconds)

    def assignments(self) -> list[Assignment]:
        """Return what is assigned to this worker; from any thread."""
        return [each.assignment for each in self._partitions.all()]

    def snapshot(self) -> TransportView:
        """Return what is known of every partition and lane; cheap, from any thread."""
        now = monotonic()
        waiting = self._resolver.waiting
        parts = self._partitions
        return TransportView(
            [view_partition(each, parts, waiting.get(each.assignment.lane, ""), now) for each in parts.all()],
            view_lanes(self.lanes.values(), parts),
            {topic: str(reason) for topic, reason in list(parts.paused_topics.items())},
            self._poller.committer.failures,
            "" if self.failure is None else describe(self.failure),
            parts.broker_away,
            self.settings.security.without_secrets(parts.broker_says),
        )

    # -- Faust's life cycle ------------------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Start pumps, watches and the owning thread."""
        self._events = asyncio.get_running_loop()
        self.app.flow_control.resume()  # Faust does this when partitions are assigned
        for lane in self.lanes.values():
            self.add_future(self._pump(lane))
        self.add_future(self._watch_topics())
        self.add_future(self._watch.live(self._partitions, self._poller, lambda: self.should_stop))
        self._poller.start()

    async def on_stop(self) -> None:
        """Drain, commit and leave; a stop that could not do so makes the worker's exit code other than 0."""
        self._force_exit_later()
        if self._poller.ident is None:
            return
        self._poller.crashed = self._poller.crashed or self.failure is not None or self.crashed
        self._poller.stop()
        await asyncio.to_thread(self._poller.join, self.settings.drain_seconds + _LEAVE_SECONDS)
        if self._poller.is_alive():
            await self.fail(
                TransportFatal("the consumer does not end", hint="is the broker away? the work is done again elsewhere")
            )

    async def fail(self, error: BaseException) -> None:
        """End the worker, in order, with an exit code other than 0. The first failure counts."""
        if self.failure is not None:
            return
        self.failure = error
        self._poller.crashed = True
        self._force_exit_later()
        self._tell("worker_ends", {"error": describe(error), "hint": getattr(error, "hint", "")})
        await self.crash(error)

    def _force_exit_later(self) -> None:
        if self._exit_seconds_max is not None:
            timer = threading.Timer(self._exit_seconds_max, os._exit, [_EXIT_BY_FORCE])
            timer.daemon = True
            timer.start()

    async def _pump(self, lane: Lane) -> None:
        """Wake the lane's agent whenever chunks wait. A put without a subscriber would vanish."""
        channel = self._channels[lane.name]
        while not channel.subscriber_count:  # noqa: ASYNC110 - Faust tells nobody when an agent subscribes
            await asyncio.sleep(0.01)
        while True:
            await lane.something.wait()
            lane.something.clear()
            await channel.put(lane.name)

    async def _work(self, lane: Lane) -> None:
        try:
            await lane.work()
        except Exception as error:  # noqa: BLE001 - what a ladder lets through ends the worker
            await self.fail(error)
            await asyncio.Event().wait()  # hold what was begun, unfinished, until Faust cancels this agent

    # -- starts and ids ----------------------------------------------------------------------------------------------

    async def _resolve(self, assignments: list[Assignment]) -> None:
        by_lane: dict[str, list[Assignment]] = {}
        for each in assignments:
            by_lane.setdefault(each.lane, []).append(each)
        try:
            await asyncio.gather(
                *(self._resolver.resolve(name, self.lanes[name].settings, some) for name, some in by_lane.items())
            )
        except Exception as error:  # noqa: BLE001 - what the resolver lets through ends the worker
            await self.fail(error)

    async def _take(self, step: Callable[..., None], found: Mapping[Assignment, int | SourceMoved]) -> None:
        await self._ask(partial(step, found=found))

    async def _watch_topics(self) -> None:
        """Compare the topics' ids, now and then, and at once for those that may have been made anew."""
        while not self.should_stop and self.settings.topic_ids:
            with suppress(TimeoutError):  # then the time is up: look at all of them
                async with asyncio.timeout(self.settings.topic_check_seconds * rarer(len(self._routes.subscription()))):
                    await self._suspected.wait()
            only = self._suspected.is_set()
            self._suspected.clear()
            asked_at = monotonic()
            chosen = [
                each for each in self._partitions.all() if each.doubted_at is not None or (each.running and not only)
            ]
            known = {each.key[0]: each.assignment.topic_id for each in chosen}
            if not known:
                continue
            try:
                found = await self._resolver.ids(known)
            except Unavailable:
                found = {}  # asked again; suspects wait
            await self._ask(partial(PollThread.compared, asked=known, found=found, asked_at=asked_at))
            await asyncio.sleep(_BETWEEN_CHECKS_SECONDS)

    # -- what the owning thread tells --------------------------------------------------------------------------------

    def delivered(self, chunks: list[Chunk]) -> None:
        """Hand chunks to their lanes."""
        self._later(partial(self._receive, chunks))

    def assigned(self, assignments: list[Assignment]) -> None:
        """Find out where new assignments begin."""
        self._later(lambda: self.add_future(self._resolve(assignments)))
        self.report("assigned", {"partitions": len(assignments)})

    def leaving(self, assignments: list[Assignment]) -> None:
        """Tell the stages that partitions are about to leave."""
        self._later(lambda: self._tell_lanes(assignments, "on_leaving"))

    def left(self, assignments: list[Assignment], *, lost: bool) -> None:
        """Tell the stages that partitions left."""
        self._later(lambda: self._tell_lanes(assignments, "on_left"))
        self.report("lost" if lost else "revoked", {"partitions": len(assignments)})

    def suspected(self, topics: set[str]) -> None:
        """Look at the topics' ids at once."""
        self._later(self._suspected.set)

    def report(self, event: str, fields: Mapping[str, object]) -> None:
        """Tell an event, on the event loop."""
        self._later(lambda: self._tell(event, fields))

    def ended(self, error: BaseException | None) -> None:
        """End the worker if the thread ended by itself."""
        if error is None and not self._poller.stopping:
            error = TransportFatal(
                "the consumer's thread ended by itself", hint="the supervisor starts the worker again"
            )
        if error is not None:
            failure = error
            self._later(lambda: self.add_future(self.fail(failure)))

    def _receive(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            self.lanes[chunk.lane].receive(chunk)

    def _tell_lanes(self, assignments: list[Assignment], hook: str) -> None:
        for name, lane in self.lanes.items():
            call = getattr(lane.settings, hook)
            mine = [each for each in assignments if each.lane == name]
            if call is not None and mine:
                self.add_future(call(mine))

    def _tell(self, event: str, fields: Mapping[str, object]) -> None:
        if self._on_event is not None:
            self._on_event(event, fields)

    def _later(self, call: Callable[[], object]) -> None:
        assert self._events is not None
        try:
            self._events.call_soon_threadsafe(call)
        except RuntimeError:  # the loop is closed: the process is at its end, nobody listens any more
            return

    async def _ask(self, command: Callable[[PollThread], T]) -> T:
        return await asyncio.wrap_future(self._poller.call(command))
