"""The service beside the consumer: opens the stage, follows the tables' topic, and says how things stand.

It is registered before the consumer: started before the first record comes, stopped after the last one is settled.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from mode import Service

from connectors.transport.service import ConsumerService, StageApp
from connectors.transport.tail import CompactedReader, Entry
from schemas.config import Config
from schemas.errors import HeadgateError, SourceUnavailable, Unavailable
from schemas.topics import TopicNames
from streams.memory import COLLECT_SECONDS, TRIM_SECONDS, collect, give_back
from streams.page import Installation
from streams.registration import ensure_own_topics, own_topics
from streams.resume import let_go, take_up_again
from streams.stage import MAIN_LANE
from streams.status import Standing, status_of
from streams.tables import TableDirectory
from streams.telling import Teller
from streams.web import StageServer
from streams.wiring import Wired, stage_names
from streams.workers import TELL_SECONDS, read_workers

_BACKOFF_SECONDS_MAX = 10.0
GATHER_SILENCE_SECONDS = 0.2
GATHERED_MAX = 10_000
CATCH_UP_SECONDS_MAX = 10.0
CATCH_UP_LOOK_SECONDS = 0.02

T = TypeVar("T")

log = structlog.get_logger("streams.host")


class StageHost(Service):
    """One stage's life: open, follow, tell, close."""

    def __init__(
        self,
        app: StageApp,
        config: Config,
        *,
        stage: str,
        instance: str,
        slot: int,
        tables: TableDirectory,
        reader: CompactedReader,
    ) -> None:
        """Register with `app`, before the consumer does; `reader` has loaded what `tables` holds."""
        super().__init__()
        self.config, self.stage, self.tables = config, stage, tables
        self.names = TopicNames(config.kafka.topic_prefix)
        self.failure: BaseException | None = None
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.waiting: Unavailable | None = None
        self._opened = False
        self._reader = reader
        # Bounded by what people apply, and what NORMALIZE finds; who waits for what came before stands between.
        self._records: asyncio.Queue[Entry | asyncio.Future[None]] = asyncio.Queue()
        self._server = StageServer(
            config.web,
            stage=stage,
            instance=instance,
            slot=slot,
            snapshot=self.status,
            alive=self._alive,
            ready=self._ready,
            more=Installation(lambda: read_workers(config), stage_names(config)).routes(),
        )
        self._teller = Teller(config, f"{stage}-{instance}-{slot}", self._server.document)
        app.service(self)  # type: ignore[arg-type]  # it takes instances as well as classes

    def attach(self, wired: Wired, consumer: ConsumerService) -> None:
        """Take what the host looks after; once, before the start."""
        self.wired, self.consumer = wired, consumer

    async def on_start(self) -> None:
        """Serve the status, open the stage, follow the tables."""
        await self._server.start()
        self.add_future(self._tell())
        await self._open()
        self.add_future(self._take_up())
        self.add_future(self._give_back())
        self.add_future(self._collect())
        loop = asyncio.get_running_loop()
        self._reader.follow(
            lambda entry: _on(loop, self._records.put_nowait, entry),
            lambda error: _on(loop, self._reader_ended, error),
        )
        log.info("started", tables=len(self.tables))

    async def on_stop(self) -> None:
        """Close the stage, then stop telling of it."""
        await asyncio.to_thread(self._reader.close)
        if self._opened:
            await self.wired.stop()
        await self._server.stop()
        await asyncio.to_thread(self._teller.end, self.consumer.failure or self.failure)
        log.info("stopped", **{name: value for name, value in self.wired.counters().items() if value})

    async def _open(self) -> None:
        """Open the stage; a sink that is away is waited for."""
        try:
            await self._through(self._begin, "waiting_for_sink")
        except HeadgateError as error:
            self.failure = error
            log.warning("cannot_start", error=error.message, hint=error.hint)
            raise

    async def _begin(self) -> None:
        await asyncio.to_thread(ensure_own_topics, self.config, own_topics(self.config))
        self._teller.ready = True
        await self.wired.stage.start()
        self._opened = True

    async def _through(self, work: Callable[[], Awaitable[None]], event: str) -> None:
        """Return once `work` is through, or the worker is to stop; what it needs and does not answer is waited for."""
        seconds = 0.2
        while not self.should_stop:
            try:
                await work()
            except Unavailable as error:
                self.waiting = error
                log.warning(event, error=error.message, hint=error.hint)
                await self.sleep(seconds)
                seconds = min(seconds * 2, _BACKOFF_SECONDS_MAX)
            else:
                self.waiting = None
                return

    async def _tell(self) -> None:
        while not self.should_stop:
            self._teller.tell()
            await self.sleep(TELL_SECONDS if self._teller.ready else 0.1)

    async def _give_back(self) -> None:
        while not self.should_stop:
            await self.sleep(TRIM_SECONDS)
            await asyncio.to_thread(give_back)

    async def _collect(self) -> None:
        for number in itertools.count(1):
            await self.sleep(COLLECT_SECONDS)
            if self.should_stop:
                return
            collect(number)

    async def _take_up(self) -> None:
        """Take up changes of the tables as they come, without a restart; those that come together, together."""
        while not self.should_stop:
            records, waiting = await self._gathered()
            before, entries = set(self.wired.stage.topics()), dict(self.tables)
            changed = self.tables.update(records)
            if changed:
                await self._changed(changed)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
            if not changed:
                continue
            after = set(self.wired.stage.topics())
            if gone := before - after:
                await self.consumer.remove_topics(gone)
            if new := after - before:
                await self._add_topics(new)
            before_it = {table: entries[table] for table in changed & entries.keys()}
            await let_go(self.consumer, before_it, self.tables, self.names)
            for table in sorted(changed & self.tables.keys()):
                await take_up_again(self.consumer, self._add_topics, self.tables[table], entries.get(table), self.names)
            log.info(
                "tables_changed", tables=sorted(changed)[:20], added=len(after - before), removed=len(before - after)
            )

    async def _changed(self, changed: set[str]) -> None:
        """Have the stage take up changed tables."""
        try:
            await self._through(lambda: self.wired.stage.tables_changed(changed), "tables_wait")
        except Exception as error:
            self.failure = error  # it ends the worker, which is not to be told of as ended cleanly
            raise

    async def _add_topics(self, topics: Collection[str]) -> None:
        lane_of = getattr(self.wired.stage, "lane_of", lambda _: MAIN_LANE)
        lanes: dict[str, list[str]] = {}
        for topic in sorted(topics):
            lanes.setdefault(lane_of(topic), []).append(topic)
        for lane, some in lanes.items():
            await self.consumer.add_topics(lane, some)

    async def _gathered(self) -> tuple[dict[bytes, bytes | None], asyncio.Future[None] | None]:
        """Return what came up to a short silence: an apply of many tables is one change of the subscription.

        Or up to somebody who waits for it, who is returned then.
        """
        records: dict[bytes, bytes | None] = {}
        while len(records) < GATHERED_MAX:
            try:
                async with asyncio.timeout(GATHER_SILENCE_SECONDS if records else None):
                    entry = await self._records.get()
            except TimeoutError:
                break
            if isinstance(entry, asyncio.Future):
                return records, entry
            records[entry.key] = entry.value
        return records, None

    async def catch_up(self) -> None:
        """Return once all that the tables' topic holds now is taken up by the stage.

        Raises:
            SourceUnavailable: it was not within some seconds; nothing is known of what it holds.
        """
        taken_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS_MAX):
                ends = await asyncio.to_thread(self._reader.ends)
                while not self._reader.has_followed_to(ends):  # noqa: ASYNC110 - it is on a thread of its own
                    await asyncio.sleep(CATCH_UP_LOOK_SECONDS)
                await asyncio.sleep(0)  # what the reader's thread has put on the loop goes first
                self._records.put_nowait(taken_up)
                await taken_up
        except TimeoutError:
            raise SourceUnavailable(
                f"the end of {self.names.tables} was not taken up within {CATCH_UP_SECONDS_MAX:.0f} s",
                hint="is its broker away, or what this stage writes to?",
            ) from None

    def _reader_ended(self, error: BaseException) -> None:
        """A worker that no longer hears of its tables would go on with old ones: it ends, and starts anew."""
        if self.should_stop:
            return
        self.failure = error
        said = error.message if isinstance(error, HeadgateError) else type(error).__name__
        log.error("tables_unfollowed", error=said, hint=getattr(error, "hint", ""))
        self.add_future(self.crash(error))

    def status(self) -> dict[str, Any]:
        """Return how things stand, as docs/operate.md describes it; from any thread."""
        standing = Standing(
            name=self.stage,
            stage=self.wired.stage,
            counters=self.wired.counters(),
            started_at=self.started_at,
            started=bool(self.started),
            stopping=bool(self.should_stop),
            waiting=self.waiting,
            view=self.consumer.snapshot(),
            tables=self.tables,
            names=self.names,
            quarantined=self.wired.quarantined(),
            emitted=self.wired.emitted(),
        )
        return status_of(standing, now=time.time())

    def _alive(self) -> bool:
        return self.failure is None and self.consumer.failure is None

    async def _ready(self) -> str | None:
        if self.waiting is not None:
            return self.waiting.message
        troubles = [lane.trouble for lane in self.consumer.snapshot().lanes if lane.trouble is not None]
        if troubles:
            return troubles[0].message
        return None if self._opened else "the stage is not open yet"


def _on(loop: asyncio.AbstractEventLoop, call: Callable[[T], None], argument: T) -> None:
    """Call on the event loop, from the reader's thread; at the end of the process nobody listens any more."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, argument)
