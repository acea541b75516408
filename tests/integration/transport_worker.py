"""A worker process for the tests of the transport: its step writes what it did to a log, and misbehaves as told.

    python transport_worker.py '{"bootstrap": "...", "group": "...", "topics": ["..."], "log": "file", ...}'

Each line of the log is one JSON array: seconds, event, and what belongs to it.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import faust

from connectors.transport.chunk import Group, Run
from connectors.transport.service import ConsumerService, StageApp
from connectors.transport.settings import ClientSettings, ConsumerSettings, ProducerSettings
from connectors.transport.topics import TopicAdmin
from connectors.transport.transaction import Advance, Outbox, TransactionalWriter


class Worker:
    """One process: an app, a service, a lane for all topics (or one lane each), and a step."""

    def __init__(self, asked: dict[str, Any]) -> None:
        """Read what was asked for; unknown keys have defaults in `asked.get` below."""
        self.asked = asked
        self.log = Path(asked["log"]).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115 - open as long as the process
        self.app = StageApp(asked["group"])
        settings = ConsumerSettings(
            bootstrap=asked["bootstrap"],
            group=asked["group"],
            session_timeout_seconds=asked.get("session", 6.0),
            **asked.get("settings", {}),
        )
        admin = TopicAdmin(ClientSettings(bootstrap=asked["bootstrap"]))
        self.service = ConsumerService(
            self.app, settings, topic_admin=admin, on_event=self.event, exit_seconds_max=15.0
        )
        self.writer: TransactionalWriter | None = None
        if asked.get("out"):
            self.writer = TransactionalWriter(
                ProducerSettings(bootstrap=asked["bootstrap"], transactional_id=asked["slot"]),
                self.service,
                on_event=self.event,
            )
        lanes = {topic: [topic] for topic in asked["topics"]} if asked.get("lanes") else {"main": asked["topics"]}
        for name, topics in lanes.items():
            self.service.lane(
                name,
                topics,
                self.step,
                commits=self.writer is None,
                group_partitions_max=None if self.writer is None else self.writer.partitions_max,
                on_poison=self.on_poison if asked.get("poison") else None,
                bytes_max=asked.get("bytes_max", 16 << 20),
            )
        self.steps = 0
        self.app.task(self.main)

    def event(self, name: str, fields: Any) -> None:
        """Log an event of the transport."""
        self.say(name, dict(fields))

    def say(self, event: str, *rest: Any) -> None:
        """Write one line."""
        self.log.write(json.dumps([time.time(), event, *rest]) + "\n")

    async def main(self) -> None:
        """Log how much is owned, for the tests to wait on."""
        owned = None
        while not self.app.should_stop:
            running = sum(view.status == "running" for view in self.service.snapshot().partitions)
            if running != owned:
                owned = running
                self.say("running", running)
            await asyncio.sleep(0.05)

    async def on_poison(self, run: Run, error: BaseException) -> None:
        """Log the record as quarantined."""
        self.say("poison", run.topic, run.partition, run.first, len(run), type(error).__name__)

    async def step(self, group: Group) -> None:
        """Work as told, then say done."""
        self.steps += 1
        self.say("begun", len(group))
        if slow := self.asked.get("slow", {}).get(group.runs[0].topic):
            await asyncio.sleep(slow)
        if delay := self.asked.get("delay_seconds"):
            await asyncio.sleep(delay)
        if per_record := self.asked.get("record_seconds"):
            await asyncio.sleep(per_record * len(group))
        if self.asked.get("fail_always"):
            raise ValueError("told to fail")
        broken = {
            value for run in group.runs for value in run.values() if value is not None and value.startswith(b"BROKEN")
        }
        if broken:
            raise ValueError("a broken record")
        if self.writer is None:
            runs = group.live()
            group.done()
        else:
            runs = await self.transact(group)
        for run in runs:
            self.say("done", run.topic, run.partition, run.first, run.next, len(run))

    async def transact(self, group: Group) -> list[Run]:
        """Copy the group to the output topic, in one transaction with its offsets."""
        assert self.writer is not None
        if self.writer._producer is None:  # noqa: SLF001 - started late, on the first group
            await self.writer.start()
        wrote: list[Run] = []

        def work(outbox: Outbox, live: Any) -> list[Advance]:
            wrote[:] = live
            for run in live:
                for offset, value in zip(run.offsets(), run.values(), strict=True):
                    to = offset if self.asked.get("spread") else run.partition
                    outbox.produce(self.asked["out"], to, b"%d:%d" % (run.partition, offset), value)
            if hold := self.asked.get("hold_seconds"):
                time.sleep(hold)
            last = {run.assignment: Advance(run.assignment, run.next, f"upto {run.next}") for run in live}
            return list(last.values())

        most = self.writer.width.outputs_max
        report = await self.writer.write(group.runs, work, parted=True)
        self.say("transaction", report.partitions, most)
        group.done()
        return wrote


if __name__ == "__main__":
    worker = Worker(json.loads(sys.argv[1]))
    worker.say("start")
    faust.Worker(worker.app, loglevel="warning", redirect_stdouts=False).execute_from_commandline()
