"""A server of a test that has a thread and an event loop of its own: nothing of a test or of a worker stalls it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.services.waiting import free_port

T = TypeVar("T")
HOST = "127.0.0.1"
_START_SECONDS = 30.0
_TURNS = 5


class Listening:
    """Listens on `address` between entering and leaving; its port is known, and its own, from the beginning."""

    def __init__(self, *, port: int | None = None) -> None:
        """`port` is where it listens; a free one if it is left out."""
        self.port = port or free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"{type(self).__name__} {self.port}", daemon=True)

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.call(self.open)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.call(self.close)
            self.call(_settled)
        finally:
            self._end()

    async def open(self) -> None:
        """Begin to listen."""
        raise NotImplementedError

    async def close(self) -> None:
        """End everything, connections too."""
        raise NotImplementedError

    def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Have something done in its loop, and return what came of it."""
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(_START_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_SECONDS)
        self._loop.close()


async def _settled() -> None:
    """Let what was just closed close: sockets go a turn of the loop later.

    A connection that came at the last moment has a task that has not begun: cancelled now, it could close nothing.
    """
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    for _ in range(_TURNS):
        await asyncio.sleep(0)
