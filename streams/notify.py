"""NOTIFY: alerts to one destination; a stage and a consumer group for each, so that a dead one stops no other.

Promise: an alert is delivered at least once, always under its own id, or lies in the dead letters with the reason.
After quick attempts in place it moves to a topic of the destination's own, by how long it is to wait, in a write that
is durable before its offset moves; there it waits until it is due. Alerts of one row are sent one after another; one
that had to move may come after a younger one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import structlog

from connectors.transport.chunk import Assignment, Group, Run
from connectors.transport.transaction import Advance, Outbox
from schemas.config import Config
from schemas.errors import HeadgateError, PoisonRecord, SinkUnavailable, TableStopped
from schemas.failpoints import failpoint
from schemas.rule import Alert
from schemas.topics import TopicNames
from sinks.quarantine import reason_of
from sinks.webhook import Attempt, Verdict, WebhookSink
from streams.outcome import Fate, Judge, Outcome
from streams.poison import quarantined
from streams.portion import Item, Portion, Record, portions
from streams.retry import ALERT_DECODER, Health, quick_seconds, read_waiting
from streams.stage import BaseStage

PARALLEL = 16
LOOK_SECONDS = 1.0  # how often a waiting step looks whether its runs are still ours

_log = structlog.get_logger(__name__)

Step = Callable[[Group], Awaitable[None]]


class NotifyStage(BaseStage):
    """The stage of one destination; `writer` is the plain one of the transport, for retry and dead letters."""

    def __init__(  # noqa: PLR0913 - what it works with, each handed in
        self,
        config: Config,
        *,
        destination: str,
        names: TopicNames,
        writer: Any,
        consumer: Any,
        prepare: Callable[[], bool] = lambda: False,
        sink: WebhookSink | None = None,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Take one destination of the configuration; `prepare` makes what it reads, and tells whether it is new.

        Raises:
            ConfigurationError: its URL or its secret cannot be used.
        """
        super().__init__()
        self.name = f"notify-{destination}"
        self._config, self._names, self._writer, self._consumer = config, names, writer, consumer
        self._destination, self._policy = destination, config.notify[destination]
        self._clock, self._jitter = clock, jitter
        self._sink = sink or WebhookSink(destination, self._policy, parallel=PARALLEL, clock=clock)
        self._judge = Judge(destination, self._policy, names, config.kafka.message_bytes_max, clock)
        self._health = Health(clock)
        self._free = asyncio.Semaphore(PARALLEL)  # over all lanes: none of them waits for a connection unseen
        self._prepare = prepare
        self._gone: TableStopped | None = None
        self._stopping = False
        self._leaving: set[Assignment] = set()
        self._wake = asyncio.Event()
        self._steps = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Make what is missing of its topics, then open the producer and the client."""
        if await asyncio.to_thread(self._prepare):
            _log.info("destination_begins", destination=self._destination, start=self._policy.start)
        await self._writer.start()
        await self._sink.start()

    async def stop(self) -> None:
        """Let what is being sent come to its end, within the drain limit; leave the rest unsaid, and close."""
        self._stopping = True
        self._wake.set()
        with contextlib.suppress(TimeoutError):  # what is still being sent then is sent again after the next start
            async with asyncio.timeout(self._config.limits.drain_seconds):
                await self._idle.wait()
        await self._sink.close()
        await self._writer.close()

    def waits_for(self) -> HeadgateError | None:
        """Return that the destination does not answer, while its last alert was refused in all its attempts."""
        if not self._health.failing:
            return None
        return SinkUnavailable(
            f"{self.name}: the destination refuses or does not answer", hint="its alerts wait, none is lost"
        )

    def topics(self) -> list[str]:
        """Return what is read: alerts, dead letters to be sent again, and the alerts that wait, by their delay."""
        return [self._names.alerts, self._names.alerts_redrive, *self._names.all_alerts_retry(self._destination)]

    def lanes(self) -> dict[str, tuple[list[str], Step]]:
        """Return the lanes to register: each topic has its own, so that waiting holds up nothing of another."""
        return {topic: ([topic], self.step) for topic in self.topics()}

    async def on_leaving(self, assignments: Sequence[Assignment]) -> None:
        """Begin nothing more of these partitions, which are about to leave; hand it to the lanes."""
        self._leaving.update(assignments)
        self._wake.set()

    async def on_left(self, assignments: Sequence[Assignment]) -> None:
        """Forget partitions that have left; hand it to the lanes."""
        self._leaving.difference_update(assignments)

    async def step(self, group: Group) -> None:
        """Deliver the group's alerts, or those that wait once they are due; answers portion by portion."""
        self._steps += 1
        self._idle.clear()
        try:
            for portion in portions(group.runs):
                if not await self._portion(group, portion):
                    return
        finally:
            self._steps -= 1
            if not self._steps:
                self._idle.set()

    async def on_poison(self, run: Run, error: BaseException) -> None:
        """Put one record in quarantine that is no alert; its successors go on."""

        def work(outbox: Outbox, live: Sequence[Run]) -> list[Advance]:
            for one in live:
                value = quarantined(self._config, one, error, stage=self.name, table=None, at=self._clock())
                outbox.produce(self._names.quarantine, None, None, value, None)
            return []

        await self._writer.write([run], work)
        self.counts[f"quarantined_{reason_of(error)}"] += 1
        self.quarantined["", reason_of(error)] += 1

    # ── one portion ──

    async def _portion(self, group: Group, portion: Portion) -> bool:
        """Work until every record of the portion is settled; False if the rest of the group was given up."""
        for run, index, key, value in portion.records():
            self._read(portion, run, index, key, value)
        while True:
            if self._gone is None and not self._stopping:
                await self._deliver(portion, self._due_now(portion))
            await self._settle(group, portion)
            left = portion.open()
            if not left:
                return True
            if self._gone is not None:
                await self._pause(self._gone)
                return False
            if self._stopping or any(self._abandoned(item) for item in left):
                await self._consumer.give_up([run for run in group.runs if not run.answered])
                return False
            await self._wait(min(self._due(item) for item in left))

    def _read(self, portion: Portion, run: Run, index: int, key: bytes | None, value: bytes | None) -> None:
        """Add the record to what is to be sent, unless it is not for this destination."""
        if value is None:
            return
        try:
            if run.topic == self._names.alerts:
                alert, waiting = ALERT_DECODER.decode(value), None
            else:
                waiting = read_waiting(value)
                alert = waiting.alert
        except msgspec.MsgspecError:
            # The library's message may hold a piece of the value, which no error of ours carries.
            raise PoisonRecord("broken_alert", "no alert", hint="only ALERTS and NOTIFY write here") from None
        if waiting is not None and waiting.destination != self._destination:
            return
        if waiting is None and (reason := self._unwanted(alert)) is not None:
            self.counts[f"skipped_{reason}"] += 1
            return
        portion.add(Item(run, index, key, alert, waiting))

    def _unwanted(self, alert: Alert) -> str | None:
        if alert.destinations is not None and self._destination not in alert.destinations:
            return "other_destination"
        if alert.severity not in self._policy.severities:
            return "severity"
        return "late" if alert.late else None

    def _due(self, item: Item) -> float:
        return self._judge.due(item, rests_until=self._health.rests_until)

    def _due_now(self, portion: Portion) -> list[Item]:
        now = self._clock()
        return [item for item in portion.open() if self._due(item) <= now]

    def _abandoned(self, item: Item) -> bool:
        return self._stopping or item.run.lost or item.run.assignment in self._leaving

    async def _wait(self, until: float) -> None:
        """Wait until then, or a second, or until something leaves; the clock may be a test's."""
        self._wake.clear()
        if self._stopping:
            return
        try:
            async with asyncio.timeout(min(max(until - self._clock(), 0.001), LOOK_SECONDS)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _deliver(self, portion: Portion, items: list[Item]) -> None:
        """Send the items, at most `PARALLEL` at once, those of one key one after another."""
        chains: dict[bytes | None, deque[Item]] = {}
        for item in items:
            chains.setdefault(item.key, deque()).append(item)
        waiting = deque(chains.values())

        async def send() -> None:
            while waiting:
                for item in waiting.popleft():
                    if self._gone is not None or self._abandoned(item):
                        return
                    record = await self._send(item)
                    if not item.postponed:
                        portion.finish(item, record)

        try:
            async with asyncio.TaskGroup() as senders:
                for _ in range(min(PARALLEL, len(waiting))):
                    senders.create_task(send())
        except ExceptionGroup as failed:  # what becomes of the alerts is decided by an error's kind: a group has none
            raise failed.exceptions[0] from failed

    async def _settle(self, group: Group, portion: Portion) -> None:
        """Write what moves to another topic, then say done of everything that is settled."""
        written = portion.take_records()
        if written:

            def work(outbox: Outbox, live: Sequence[Run]) -> list[Advance]:
                alive = {id(run) for run in live}
                for run, record in written:
                    if id(run) in alive:
                        outbox.produce(record.topic, None, record.key, record.value, record.headers)
                return []

            await self._writer.write(portion.runs, work)
        failpoint("notify.before_done")
        group.done(portion.take_settled())

    # ── one alert ──

    async def _send(self, item: Item) -> Record | None:
        """Send one alert; return the record that it becomes where it was not delivered."""
        item.postponed = False
        attempt, made = Attempt(Verdict.RETRY, "resting"), 0
        most = self._policy.quick_attempts if item.waiting is None else 1
        while made < most and not self._health.resting():
            async with self._free:
                if self._abandoned(item):
                    item.postponed = True
                    return None
                if self._health.resting():
                    break
                failpoint("notify.before_delivery")
                attempt = await self._sink.deliver(item.alert)
                failpoint("notify.after_delivery")
            made += 1
            if attempt.verdict is not Verdict.RETRY:
                self._health.succeeded()
                break
            self.counts["attempts_failed"] += 1
            self._health.heard(attempt)
            pause = quick_seconds(made, attempt, self._jitter())
            if made == most or pause is None:
                self._health.failed()
                break
            await self._pause_between(pause)
            if self._abandoned(item):
                item.postponed = True
                return None
        if attempt.verdict is Verdict.GONE:
            self._stop_destination()
        return self._settled(item, self._judge.outcome(item, attempt, made, rests_until=self._health.rests_until))

    async def _pause_between(self, seconds: float) -> None:
        """Wait between quick attempts; a stop or a revocation ends it early."""
        if self._wake.is_set() and (self._stopping or self._leaving):
            return
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _settled(self, item: Item, outcome: Outcome) -> Record | None:
        """Count what becomes of an alert, and return the record to write, if there is one."""
        if outcome.fate is Fate.STAYS:
            item.postponed = True
            return None
        self.counts[outcome.fate.value] += 1
        if outcome.left_out:
            self.counts["alerts_without_values"] += 1
        if outcome.fate is Fate.DEAD:
            _log.warning(
                "alert_undeliverable", destination=self._destination, alert=item.alert.id, reason=outcome.reason
            )
        return outcome.record

    def _stop_destination(self) -> None:
        self._gone = TableStopped(
            "destination_gone",
            f"{self._destination} answered 410: it wants no more alerts",
            hint="take it out of notify, or correct its url; the alerts wait as long as their topic keeps them",
        )
        self.last_error = self._gone

    async def _pause(self, stop: TableStopped) -> None:
        for topic in self.topics():
            await self._consumer.pause(topic, stop)
