"""How long things take, what gets lost, and what goes on at the broker by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context, copy_context
from random import Random
from typing import Any, Literal

from tests.simulation.broker import Broker, Transaction
from tests.simulation.loop import PROCESS, Event, Process, VirtualLoop

Lost = Literal["", "before", "behind"]
_TICK_SECONDS = 0.5


class Network:
    """Delays and losses, all of them from the seed; `trouble` is how likely a loss is."""

    def __init__(self, loop: VirtualLoop, random: Random, *, slow_seconds: float) -> None:
        self.loop, self.random = loop, random
        self.trouble = 0.0
        self.slow_seconds = slow_seconds
        self.context: Context = copy_context()
        self.context.run(PROCESS.set, loop.world)
        self._watching: list[Event] = []

    @property
    def over(self) -> bool:
        """The run has ended: nothing answers any more."""
        return self.loop.over

    def clock(self) -> float:
        """Return the virtual time."""
        return self.loop.now

    def delay(self) -> float:
        """Return how long something takes: mostly little, now and then long."""
        at = self.random.random()
        return 0.001 + self.slow_seconds * at**6

    def loses(self, process: Process) -> Lost:
        """Say whether a request is lost, or its answer."""
        if process.cut:
            return "before"
        if self.random.random() >= self.trouble:
            return ""
        return "before" if self.random.random() < 0.5 else "behind"

    # -- who waits for records ---------------------------------------------------------------------------------------

    def watch(self, event: Event) -> None:
        """Set `event` when anything changes at the broker."""
        self._watching.append(event)

    def unwatch(self, event: Event) -> None:
        """Watch no more."""
        if event in self._watching:
            self._watching.remove(event)

    def changed(self) -> None:
        """Wake who waits for records."""
        watching, self._watching = self._watching, []
        for event in watching:
            event.set()

    # -- the broker's own life ---------------------------------------------------------------------------------------

    def attach(self, broker: Broker) -> None:
        """Let the broker live: sessions expire, transactions time out, markers arrive."""
        broker.changed = self.changed
        broker.on_decided = lambda transaction: self.task(_mark(self, broker, transaction))
        self.task(_tick(self, broker))

    def task(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run something that is of no worker."""
        self.loop.create_task(self._looked_after(coroutine), context=self.context)

    async def _looked_after(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        try:
            await coroutine
        except Exception as error:  # noqa: BLE001 - nobody awaits it: it ends the run
            self.loop.failure = error


async def _mark(network: Network, broker: Broker, transaction: Transaction) -> None:
    more = True
    while more:
        await asyncio.sleep(network.delay())
        more = broker.mark(transaction)
    network.changed()


async def _tick(network: Network, broker: Broker) -> None:
    while True:
        await asyncio.sleep(_TICK_SECONDS)
        broker.expire()
        network.changed()
