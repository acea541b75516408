"""Virtual time for code that awaits and for code that blocks: one event loop, processes that can be killed and frozen.

Code of a thread (the consumer's, a pool's) runs in a greenlet: where it would block it hands an awaitable to the loop,
and goes on when that is done. Everything runs in one thread, in an order that the seed alone decides. Within a process
what is ready runs first come, first served, as with asyncio; between processes the seed chooses.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any

from greenlet import getcurrent, greenlet

SLEEP_MIN = 1e-6
_CLOSING_ROUNDS = 20


class Killed(BaseException):
    """Raised where a process that is no more would speak to a service: it is only being tidied away."""


class Process:
    """What has a life of its own: its callbacks run while it is alive and not frozen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.cut = False  # from Kafka: its requests time out, its heartbeats do not arrive
        self.ready: deque[asyncio.Handle] = deque()

    @property
    def runs(self) -> bool:
        """Whether it does anything now."""
        return self.alive and not self.frozen

    def kill(self) -> None:
        """End it as SIGKILL does: nothing of it runs any more, nothing is cleaned up."""
        self.alive = False
        self.ready.clear()


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Deadlock(AssertionError):
    """Nothing is ready, no timer is set, and the run has not ended."""


class VirtualLoop(asyncio.AbstractEventLoop):
    """An event loop whose clock moves only when nothing is ready."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = 0.0
        self.steps = 0
        self.world = Process("world")  # services, the network, whoever looks on
        self.over = False
        self.failure: BaseException | None = None  # what ends the run, wherever it was raised
        self._busy: list[Process] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        self._closed = False
        self._running = False
        self._tasks: list[asyncio.Task[Any]] = []

    # -- what asyncio asks of a loop ---------------------------------------------------------------------------------

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        if self._closed:
            raise RuntimeError("the loop is closed")
        handle = asyncio.Handle(callback, args, self, context or copy_context())
        self._queue(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:  # type: ignore[override]
        handle = asyncio.TimerHandle(when, callback, args, self, context or copy_context())
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave it in the heap: it is passed over when its time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Pass over: tasks of killed processes are destroyed while they wait."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """Run `func` as a thread would; cancelling the answer does not end it, as with threads."""
        work = self.create_task(_in_turn(executor, lambda: func(*args)))
        return asyncio.shield(work)

    async def shutdown_asyncgens(self) -> None:
        """Nothing to do."""

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self, main: Awaitable[Any], *, steps_max: int) -> Any:
        """Run until `main` is done."""
        PROCESS.set(self.world)
        task = self.create_task(main)
        with self._current():
            while not task.done():
                self.steps += 1
                assert self.steps < steps_max, f"after {steps_max} steps, at {self.now:.1f} s, the run has not ended"
                self._step()
                if self.failure is not None:
                    raise self.failure
        return task.result()

    def tidy(self) -> None:
        """End all that still waits; services answer nothing any more."""
        self.over = True
        with self._current():
            for _ in range(_CLOSING_ROUNDS):
                pending = [task for task in self._tasks if not task.done()]
                if not pending:
                    break
                for task in pending:
                    task.cancel()
                while self._busy:
                    self._run_one(self._busy[0])
        self._closed = True
        self._timers.clear()

    @contextmanager
    def _current(self) -> Generator[None]:
        asyncio._set_running_loop(self)  # noqa: SLF001 - for implementers of loops
        self._running = True
        try:
            yield
        finally:
            self._running = False
            asyncio._set_running_loop(None)  # noqa: SLF001 - the same

    def _queue(self, handle: asyncio.Handle) -> None:
        process = handle._context.get(PROCESS) or self.world  # type: ignore[attr-defined]  # noqa: SLF001 - a loop's own business
        if not process.alive and not self.over:
            return
        if not process.ready:
            self._busy.append(process)
        process.ready.append(handle)

    def _step(self) -> None:
        ready = [process for process in self._busy if process.runs]
        if not ready:
            self._advance()
            return
        self._run_one(ready[0] if len(ready) == 1 else ready[int(self.random.random() * len(ready))])

    def _run_one(self, process: Process) -> None:
        handle = process.ready.popleft() if process.ready else None
        if not process.ready:
            self._busy.remove(process)
        if handle is not None and not handle.cancelled():
            handle._run()  # noqa: SLF001 - a loop runs handles

    def _advance(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            raise Deadlock(f"nothing more happens after {self.now:.3f} s")
        self.now = max(self.now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self.now:
            handle = heapq.heappop(self._timers)[2]
            if not handle.cancelled():
                self._queue(handle)

    def forget(self, process: Process) -> None:
        """Drop a killed process from what is ready."""
        if process in self._busy:
            self._busy.remove(process)


def the_loop() -> VirtualLoop:
    """Return the loop that runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "outside of a simulation"
    return loop


def now() -> float:
    """Stand in for `time.monotonic`."""
    return the_loop().now


# -- threads ---------------------------------------------------------------------------------------------------------


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run blocking code; where it blocks, others go on."""
    thread = greenlet(work)
    thread.gr_context = copy_context()
    waits_for = thread.switch()
    while not thread.dead:
        try:
            answer = await waits_for
        except BaseException as error:  # noqa: BLE001 - it is raised where the thread waits
            waits_for = thread.throw(error)
        else:
            waits_for = thread.switch(answer)
    return waits_for


def block(awaitable: Awaitable[Any]) -> Any:
    """Wait for something, in code that blocks."""
    parent = getcurrent().parent
    assert parent is not None, "only a thread may block"
    return parent.switch(awaitable)


def pause(seconds: float) -> None:
    """Stand in for `time.sleep`."""
    block(asyncio.sleep(max(seconds, SLEEP_MIN)))


class Event:
    """Stands in for `threading.Event`."""

    def __init__(self) -> None:
        self._set = False
        self._waiters: list[asyncio.Future[None]] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            block(self.wait_until_set(timeout))
        return self._set

    async def wait_until_set(self, timeout: float | None) -> None:  # noqa: ASYNC109 - it stands in for one that has it
        if self._set:
            return
        waiter = the_loop().create_future()
        self._waiters.append(waiter)
        timer = None if timeout is None else the_loop().call_later(timeout, _end, waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            with suppress(ValueError):
                self._waiters.remove(waiter)


def _end(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Pool:
    """Stands in for ThreadPoolExecutor."""

    def __init__(self, threads: int, *_: Any, **__: Any) -> None:
        self.places = asyncio.Semaphore(threads)
        self.closed = False
        self.busy = 0

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.closed = True
        while wait and self.busy:
            pause(0.01)


async def _in_turn(pool: Any, work: Callable[[], Any]) -> Any:
    if not isinstance(pool, Pool):
        return await in_thread(work)
    async with pool.places:
        if pool.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        pool.busy += 1
        try:
            return await in_thread(work)
        finally:
            pool.busy -= 1
