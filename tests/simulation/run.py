"""One seed: a world, its workers, what happens to them, and whether all is well in the end."""

from __future__ import annotations

import asyncio
import gc
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from time import process_time

from tests.simulation.broker import Broker, Violation
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Network
from tests.simulation.worker import Surroundings, Worker, installed
from tests.simulation.world import CONSUMER, SESSION_SECONDS, World
from tests.simulation.worlds import WORLDS

TRANSACTION_SECONDS = 8.0
WORKERS_MAX = 3
FAULT_SECONDS = 20.0
HEALED_SECONDS_MAX = 400.0
AFTER_SECONDS = 3.0
STEPS_MAX = 400_000
FAULTS = ("kill", "kill", "freeze", "freeze", "cut", "join", "leave", "trouble")


@dataclass(slots=True)
class Outcome:
    """What came of one seed."""

    seed: int
    world: str
    error: str = ""
    seconds: float = 0.0  # virtual
    steps: int = 0
    processor_seconds: float = 0.0
    digest: str = ""
    trace: list[str] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)


class Run:
    """One seed's run."""

    def __init__(self, seed: int, worlds: Sequence[str], faults: Sequence[str] = ()) -> None:
        self.random = Random(seed)
        self._only = list(faults)
        name = worlds[seed % len(worlds)]
        self.loop = VirtualLoop(self.random)  # type: ignore[abstract]  # what asyncio's own code asks for is there
        network = Network(self.loop, self.random, slow_seconds=self.random.choice([0.05, 0.5, 3.0]))
        broker = Broker(network.clock, session_seconds=SESSION_SECONDS, transaction_seconds=TRANSACTION_SECONDS)
        self.around = Surroundings(network, broker)
        self.outcome = Outcome(seed, name)
        self.slots: dict[str, Worker | None] = {}
        self.lives = 0
        self._kind: type[World] = WORLDS[name]

    def trace(self, text: str) -> None:
        """Note what happens."""
        self.outcome.trace.append(f"{self.loop.now:9.3f} {text}")

    def go(self) -> Outcome:
        """Run it to its end."""
        try:
            self.loop.run(self._main(), steps_max=STEPS_MAX)
        except Exception as error:  # noqa: BLE001 - whatever ended the run is what was found
            self.outcome.error = f"{type(error).__name__}: {error}"
        finally:
            self.outcome.seconds, self.outcome.steps = self.loop.now, self.loop.steps
            self.loop.tidy()
        text = "\n".join([*self.outcome.trace, repr(self.loop.now), str(self.loop.steps)])
        self.outcome.digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self.outcome

    async def _main(self) -> None:
        self.world = world = self._kind(self.random, self.around)
        self.around.network.attach(self.around.broker)
        feeding = self.loop.create_task(world.feed(FAULT_SECONDS * self.random.choice([0.3, 1.0, 1.0])))
        for _ in range(self.random.randint(1, 2)):
            self._add_slot()
        supervising = self.loop.create_task(self._supervise())
        await self._misfortune()
        await feeding
        await self._healed()
        supervising.cancel()

    # -- workers -----------------------------------------------------------------------------------------------------

    def _add_slot(self) -> None:
        slot = next((name for name in ("a", "b", "c") if name not in self.slots), None)
        if slot is not None:
            self._begin(slot)

    def _begin(self, slot: str) -> None:
        self.lives += 1
        worker = Worker(slot, self.lives, self.around, self.random, self.trace)
        self.slots[slot] = worker
        self.trace(f"{worker.name} begins")
        worker.start(CONSUMER, self.world.stage, [self.world.topic])

    async def _supervise(self) -> None:
        """Start dead slots again, as the supervisor does; a slot that was asked to leave is given up."""
        while True:
            await asyncio.sleep(self.random.uniform(0.1, 0.6))
            for slot, worker in list(self.slots.items()):
                if worker is not None and not worker.alive:
                    if worker.stopping:
                        del self.slots[slot]
                    else:
                        self._begin(slot)

    # -- what happens ------------------------------------------------------------------------------------------------

    async def _misfortune(self) -> None:
        random = self.random
        moments = sorted(random.uniform(0.2, FAULT_SECONDS) for _ in range(random.randint(2, 9)))
        for moment in moments:
            await asyncio.sleep(max(0.0, moment - self.loop.now))
            self._strike()
        await asyncio.sleep(max(0.0, FAULT_SECONDS - self.loop.now))
        self._calm()

    def _strike(self) -> None:
        kind = self.random.choice(self._only or [*FAULTS, *2 * self.world.mishaps()])
        living = [worker for worker in self.slots.values() if worker is not None and worker.runs]
        worker = self.random.choice(living) if living else None
        self.outcome.happened.append(kind)
        self.trace(f"-- {kind} {worker.name if worker and kind in ('kill', 'freeze', 'cut', 'leave') else ''}")
        if kind in self.world.mishaps():
            self._later(self.world.mishap(kind), self.world.mend)
        elif kind == "trouble":
            self.around.network.trouble = self.random.choice([0.05, 0.2, 0.5])
            self._later(self.random.uniform(0.5, 5.0), self._no_trouble)
        elif kind == "join":
            self._add_slot()
        elif worker is not None:
            self._strike_worker(kind, worker, len(living))

    def _strike_worker(self, kind: str, worker: Worker, living: int) -> None:
        seconds = self.random.choice([0.3, 2.0, SESSION_SECONDS + 2, 2 * SESSION_SECONDS + 3])
        match kind:
            case "kill":
                self._kill(worker)
            case "freeze":
                worker.frozen = True
                self._later(seconds, lambda: setattr(worker, "frozen", False))
            case "cut":
                worker.cut = True
                self._later(seconds, lambda: setattr(worker, "cut", False))
            case "leave" if living > 1:
                worker.stop()

    def _kill(self, worker: Worker) -> None:
        worker.kill()
        self.loop.forget(worker)

    def _no_trouble(self) -> None:
        self.around.network.trouble = 0.0

    def _later(self, seconds: float, call: object) -> None:
        assert callable(call), "something is to be called"
        self.loop.call_later(seconds, call)

    def _calm(self) -> None:
        self.trace("-- calm")
        self._no_trouble()
        self.world.mend()
        for worker in self.slots.values():
            if worker is not None:
                worker.frozen = worker.cut = False
        if not any(worker is not None and worker.alive and not worker.stopping for worker in self.slots.values()):
            self._add_slot()

    async def _healed(self) -> None:
        """Wait until everything is as it must be; then see that it stays so."""
        deadline = self.loop.now + HEALED_SECONDS_MAX
        while not self.world.caught_up() or self.world.differences():
            if self.loop.now > deadline:
                wrong = self.world.differences() or ["the group has not come to the end"]
                raise Violation(f"{HEALED_SECONDS_MAX:.0f} s after the last fault: {'; '.join(wrong[:5])}")
            await asyncio.sleep(1.0)
        await asyncio.sleep(AFTER_SECONDS)
        if wrong := self.world.differences():
            raise Violation(f"it was right, and then: {'; '.join(wrong[:5])}")


def run_seed(seed: int, worlds: Sequence[str] = tuple(WORLDS), faults: Sequence[str] = ()) -> Outcome:
    """Run one seed, with only these faults if any are named; the same seed gives the same run."""
    collects = gc.isenabled()
    gc.disable()  # what a killed process leaves behind goes afterwards
    began = process_time()
    try:
        with installed():
            outcome = Run(seed, worlds, faults).go()
    finally:
        if collects:
            gc.enable()
    outcome.processor_seconds = process_time() - began
    return outcome
