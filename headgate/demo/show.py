"""The demo, put together: services, stages under the real supervisor, the town's life, and what people see of it.

Promise: whatever happens, when `run_demo` returns none of its processes is left.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from connectors.transport.embedded import EmbeddedBroker
from headgate.cli.codes import ExitCode
from headgate.demo.connector import TownConnector
from headgate.demo.database import TownDatabase
from headgate.demo.ends import AlertsWatch, EventsWatch, FeaturesWatch, LakeWatch
from headgate.demo.envelope import SourceRecord, topic_of
from headgate.demo.folder import DemoFolder, own_command
from headgate.demo.receiver import AlertReceiver
from headgate.demo.redis_server import DemoRedis
from headgate.demo.screen import Scene, Screen, make_screen, totals
from headgate.demo.story import WATCHED_CUSTOMER, WATCHED_PATIENT, Story
from headgate.slot import Slot
from headgate.supervisor import Supervisor, places, worker_command
from schemas.config import Config
from schemas.errors import ConfigurationError, Unavailable
from schemas.table import TableSpec
from schemas.topics import TopicNames

TICK_SECONDS = 0.25
LAST_COMMIT_SECONDS = 8.0  # the town falls silent so long before the end, and the lake takes the rest
STORY_SEED = 20_261_120
_INSTANCE = "demo"


def run_demo(folder: Path, *, seconds: float, plain: bool) -> int:
    """Run the demo for `seconds` or until Ctrl-C, and return an exit code: 0 where all four ends showed life.

    Raises:
        ConfigurationError: another demo runs in `folder`, or something of this machine is missing.
    """
    place = DemoFolder(folder)
    screen = make_screen(plain=plain)
    place.claim()
    screen.say(f"headgate demo: starting a broker, a Redis and five stages in {place.path}")
    try:
        slot = Slot(place.state, stage="show", instance=_INSTANCE, number=0)
        if not slot.try_take():
            raise ConfigurationError(
                f"a demo runs in {place.path} already: process {slot.holder()}",
                hint="stop it, or name another --folder",
            )
        with slot:
            place.clear()
            scene = asyncio.run(Demo(place, screen, seconds=seconds).run())
    finally:
        screen.close()
    return sum_up(place, scene)


class Demo:
    """One run of the demo."""

    def __init__(self, folder: DemoFolder, screen: Screen, *, seconds: float) -> None:
        """Prepare; nothing is started yet."""
        self._folder, self._screen = folder, screen
        self.scene = Scene(seconds=seconds, commands=commands_now(folder))
        self._stopped = asyncio.Event()
        self._started = time.monotonic()

    async def run(self) -> Scene:
        """Run from the first service to the last, and return what was seen."""
        async with AsyncExitStack() as stack:
            broker, receiver = EmbeddedBroker(), AlertReceiver()
            redis = DemoRedis(self._folder.log / "redis.log")
            await receiver.start()
            stack.push_async_callback(receiver.stop)
            stack.push_async_callback(redis.stop)  # before it starts: Ctrl-C may come in between
            await redis.start()
            specs = self._folder.write_specs()
            config = self._folder.write_config(
                bootstrap=broker.bootstrap,
                redis_url=redis.url,
                receiver_url=receiver.url,
                receiver_secret=receiver.secret,
            )
            self._screen.say(f"broker at {broker.bootstrap}, {redis.origin} at {redis.url}, receiver at {receiver.url}")
            broker.create_topics(demo_topics(config, specs))
            await asyncio.to_thread(_apply, config, self._folder.tables)
            self._screen.say(f"tables applied: {', '.join(spec.table for spec in specs)}; the stages are starting")
            supervisor = self._supervisor(config)
            running = asyncio.create_task(supervisor.run())
            stack.push_async_callback(_stop, supervisor, running)
            self._listen(supervisor)
            await self._live(broker, receiver, config, specs)
        return self.scene

    async def _live(
        self, broker: EmbeddedBroker, receiver: AlertReceiver, config: Config, specs: list[TableSpec]
    ) -> None:
        """Let the town live and watch the ends until the time is up or somebody stops it."""
        names, ends = TopicNames(config.kafka.topic_prefix), self.scene.ends
        reader = broker.reader([*(names.changes(spec.table) for spec in specs), names.quarantine])
        features = FeaturesWatch(config, specs, {"patient": str(WATCHED_PATIENT), "customer": str(WATCHED_CUSTOMER)})
        lake = LakeWatch(config, [spec.table for spec in specs])
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._every(0.1, lambda: EventsWatch(reader, names).look(ends)))
                group.create_task(self._every(0.5, lambda: features.look(ends)))
                group.create_task(self._every(0.2, lambda: AlertsWatch(receiver).look(ends)))
                group.create_task(self._every(1.0, lambda: lake.look(ends)))
                group.create_task(self._every(0.25, self._draw))
                group.create_task(self._life(broker))
        finally:
            await features.close()
            await asyncio.to_thread(reader.close)

    async def _life(self, broker: EmbeddedBroker) -> None:
        """Fill the town, send its snapshot, then let time pass, with its moments, until the end."""

        def send(record: SourceRecord) -> None:
            broker.produce(record.topic, key=record.key, value=record.value, headers=record.headers, at_ms=record.at_ms)

        database = TownDatabase(self._folder.database)
        try:
            connector = TownConnector(database, send)
            story = Story(database, connector, seed=STORY_SEED)
            self.scene.sent = connector.sent
            story.settle()
            connector.snapshot()
            broker.flush()
            beats = story.beats(self.scene.seconds)
            first_event = None
            while not self._stopped.is_set():
                if self.scene.elapsed < self.scene.seconds - LAST_COMMIT_SECONDS:
                    story.tick()
                    if first_event is None and self.scene.ends.events:
                        first_event = self.scene.elapsed
                    while first_event is not None and beats and beats[0].at_seconds <= self.scene.elapsed - first_event:
                        beat = beats.pop(0)
                        beat.act()
                        self._tell(beat.text)
                connector.stream()
                await self._sleep(TICK_SECONDS)
        finally:
            broker.flush()
            database.close()

    def _tell(self, text: str) -> None:
        line = f"[{self.scene.elapsed:5.1f} s] {text}"
        self.scene.story.append(line)
        self._screen.tell(line)

    async def _draw(self) -> None:
        self.scene.elapsed = time.monotonic() - self._started
        if self.scene.elapsed >= self.scene.seconds:
            self._stopped.set()
        self._screen.show(self.scene)

    async def _every(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        while not self._stopped.is_set():
            await self._try(act)
            await self._sleep(seconds)
        await self._try(act)  # once more, for what came last

    async def _try(self, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
        except Unavailable as error:  # a stage was killed, or all are being stopped: what was seen before stays shown
            self._tell(f"could not look: {error.message}")

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            return

    def _supervisor(self, config: Config) -> Supervisor:
        return Supervisor(
            places(list(config.notify), {}),
            lambda place: worker_command(place, config=self._folder.config_file, instance=_INSTANCE),
            on_event=self._on_worker,
            log=lambda place: self._folder.log / f"{place}.log",
        )

    def _on_worker(self, event: str, fields: dict[str, Any]) -> None:
        if event == "worker_died" and not self._stopped.is_set():
            self._tell(f"worker {fields['worker']} died ({fields['reason']}), started again")

    def _listen(self, supervisor: Supervisor) -> None:
        def stop() -> None:
            if self._stopped.is_set():  # a second Ctrl-C does not wait for anybody
                supervisor.stop()
            self._stopped.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop)


def demo_topics(config: Config, specs: list[TableSpec]) -> list[str]:
    """Return all topics of the demo: the embedded broker makes them when they are asked for."""
    names = TopicNames(config.kafka.topic_prefix)
    own = [names.tables, names.quarantine, names.alerts, names.alerts_redrive, names.alerts_dead, names.status]
    own += [topic for destination in config.notify for topic in names.all_alerts_retry(destination)]
    return [*(topic_of(spec.table) for spec in specs), *(names.changes(spec.table) for spec in specs), *own]


def _apply(config: Config, tables: Path) -> None:
    from streams.apply import apply_folder  # noqa: PLC0415  slow to import: after the stages have been started

    apply_folder(config, tables)


async def _stop(supervisor: Supervisor, running: asyncio.Task[int]) -> None:
    supervisor.stop()
    await running


def commands_now(folder: DemoFolder) -> list[str]:
    """Return what to try while the demo runs."""
    own, config = own_command(), f"--config {folder.shown_config}"
    return [
        f"{own} status {config}",
        f"{own} features get patient {WATCHED_PATIENT} {config}",
        f"{own} tables list {config}",
        f"{own} quarantine list {config}",
        *commands_afterwards(folder)[:1],
    ]


def commands_afterwards(folder: DemoFolder) -> list[str]:
    """Return what works on what the demo left behind."""
    own, config = own_command(), f"--config {folder.shown_config}"
    query = "SELECT ward, count(*) FROM patients_latest GROUP BY ward"
    return [
        f'{own} lake sql "{query}" {config}',
        f"{own} lake verify lab_results {config}",
    ]


def sum_up(folder: DemoFolder, scene: Scene) -> int:
    """Print what came out and what to try next; return the exit code."""
    alive = scene.ends.alive()
    silent = [end for end, lives in alive.items() if not lives]
    sent = ", ".join(f"{count} {name}" for name, count in scene.sent.items())
    lines = [
        "",
        f"The town sent: {sent or 'nothing'}.",
        f"Out came: {totals(scene.ends)}.",
        *(f"Nothing came out of: {end}; the stages' logs are in {folder.log}" for end in silent),
        "",
        "What it left behind can be asked:",
        *(f"  {command}" for command in commands_afterwards(folder)),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    stopped_early = scene.elapsed < scene.seconds
    return ExitCode.FOUND if silent and not stopped_early else ExitCode.OK
