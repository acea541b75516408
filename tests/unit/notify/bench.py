"""A NOTIFY stage with fakes around it, a clock to turn, and a sink that is real."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

import msgspec
from aiohttp import web

from connectors.transport.chunk import Assignment, Group, Run
from schemas.config import Config
from schemas.rule import Alert
from schemas.topics import TopicNames
from sinks.webhook import WebhookSink
from streams.notify import NotifyStage
from tests.unit.fakes import Consumer, Message, Writer
from tests.unit.notify.receiver import destination

NAMES = TopicNames("hg")
START = 1_795_203_957.0


class Bench:
    """A stage with fakes around it, a clock to turn, and a sink that is real."""

    def __init__(self, url: str, *, name: str = "ops", **settings: Any) -> None:
        config = Config.model_validate({"notify": {name: destination(url, **{"quick_attempts": 1, **settings})}})
        self.now = START
        self.writer, self.consumer = Writer(), Consumer()
        sink = WebhookSink(name, config.notify[name])  # by the true clock: the receiver refuses old signatures
        self.stage = NotifyStage(
            config,
            destination=name,
            names=NAMES,
            writer=self.writer,
            consumer=self.consumer,
            sink=sink,
            clock=lambda: self.now,
            jitter=lambda: 0.5,
        )

    async def __aenter__(self) -> Self:
        await self.stage.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stage.stop()

    def run(self, *alerts: Alert) -> Run:
        """Return a run of the alerts' topic."""
        messages = [
            Message(at, msgspec.json.encode([a.table, a.key]), msgspec.json.encode(a)) for at, a in enumerate(alerts)
        ]
        return Run(Assignment("x", NAMES.alerts, 0), messages)

    def waiting_run(self) -> Run:
        """Return what was written to the retry topic so far as a run of it, and forget it."""
        records = [record for record in self.writer.records if record.topic.startswith(NAMES.alerts_retry_prefix)]
        self.writer.records = [record for record in self.writer.records if record not in records]
        messages = [Message(at, record.key, record.value) for at, record in enumerate(records)]
        return Run(Assignment("y", records[0].topic, 0), messages)

    async def step(self, *runs: Run) -> Group:
        """Hand over a group."""
        group = Group(list(runs), self.consumer)
        await self.stage.step(group)
        return group

    async def step_as_time_passes(self, run: Run) -> Group:
        """Hand over a group while the clock runs, a thousand times as fast as the true one."""
        step = asyncio.create_task(self.step(run))
        while not step.done():
            self.now += 5
            await asyncio.wait([step], timeout=0.005)
        return await step

    def waiting(self) -> list[dict[str, Any]]:
        """Return what waits in the topics of the retries."""
        topics = {record.topic for record in self.writer.records}
        return [
            each for topic in sorted(topics - {NAMES.alerts_dead, NAMES.quarantine}) for each in self.written(topic)
        ]

    def written(self, topic: str) -> list[dict[str, Any]]:
        """Return the values written to `topic`."""
        return [record.content for record in self.writer.records if record.topic == topic]


def answer_by_number(status_of: Callable[[int], int]) -> Callable[[dict[str, Any]], web.StreamResponse]:
    """Answer with a status by the number of the alert."""
    return lambda body: web.Response(status=status_of(body["data"]["values"]["n"]))
