"""A TCP proxy in front of a service, with toxics that are switched on and off while connections stand.

It runs in a thread of its own. What a toxic spoiled is spoiled for good: a connection of which bytes were swallowed is
reset when the toxic goes, never continued with a hole.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Any, Final

from tests.faults.listening import HOST, Listening
from tests.faults.toxics import HalfOpen, Piece, Toxic, applied

READ_BYTES = 32 * 1024
READS_AHEAD_MAX = 16
_AT_ONCE_AND_WITH_RST = struct.pack("ii", 1, 0)


class Direction(StrEnum):
    """Which bytes: those of the client, or those of the service."""

    UP = "up"
    DOWN = "down"


UP, DOWN = Direction.UP, Direction.DOWN
BOTH: Final = (UP, DOWN)


class Proxy(Listening):
    """Passes connections on to `target`; `hits` counts, by the toxic's name, the pieces that a toxic made.

    `connections` counts those that were accepted; `standing` those that stand now.
    """

    def __init__(self, target: str, *, port: int | None = None, seed: int = 0) -> None:
        """`target` is `host:port`; nobody needs to listen there yet."""
        super().__init__(port=port)
        host, _, number = target.rpartition(":")
        self._target = (host, int(number))
        self.chance = random.Random(seed)
        self._toxics: dict[Direction, tuple[Toxic, ...]] = dict.fromkeys(BOTH, ())
        self.changed = asyncio.Event()
        self._standing: set[_Connection] = set()
        self._accepted: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self.hits: Counter[str] = Counter()
        self.connections = 0

    @property
    def standing(self) -> int:
        """Say how many connections stand."""
        return len(self._standing)

    def put(self, *toxics: Toxic, directions: tuple[Direction, ...] = BOTH) -> None:
        """Have these toxics, and no others, in these directions, and what was there before in the others."""

        async def change() -> None:
            for direction in directions:
                self._toxics[direction] = toxics
            await self._tell()

        self.call(change)

    def clear(self) -> None:
        """Have no toxic; what was spoiled is reset, all else goes on."""
        self.put()

    @contextmanager
    def having(self, *toxics: Toxic, directions: tuple[Direction, ...] = BOTH) -> Iterator[None]:
        """Have toxics for the body, and none afterwards."""
        self.put(*toxics, directions=directions)
        try:
            yield
        finally:
            self.clear()

    def down(self) -> None:
        """Refuse connections and end those that stand."""
        self.call(self.close)

    def up(self) -> None:
        """Accept connections again, on the same port."""
        self.call(self.open)

    def toxics(self, direction: Direction) -> tuple[Toxic, ...]:
        """Return what is switched on."""
        return self._toxics[direction]

    def swallows(self, direction: Direction) -> bool:
        """Say whether nothing passes, not even an end."""
        return any(isinstance(toxic, HalfOpen) for toxic in self._toxics[direction])

    async def open(self) -> None:
        """Begin to listen."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.port, limit=READ_BYTES, backlog=512)

    async def close(self) -> None:
        """Refuse connections and reset those that stand."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in list(self._standing):
            connection.abort(reset=True)
        await asyncio.gather(*self._accepted, return_exceptions=True)

    async def _tell(self) -> None:
        """Wake who pauses, and reset what a toxic that is gone has spoiled."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
        for connection in list(self._standing):
            if any(stream.lost and not self.swallows(stream.direction) for stream in connection.streams):
                connection.abort(reset=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None, "a server accepts in a task"
        self._accepted.add(task)
        task.add_done_callback(self._accepted.discard)
        try:
            there = await asyncio.open_connection(*self._target, limit=READ_BYTES)
        except (OSError, asyncio.CancelledError):  # nobody there: as near to a refusal as one who accepted can come
            _abort(writer, reset=True)
            return
        connection = _Connection(self, (reader, writer), there)
        self._standing.add(connection)
        try:
            await connection.run()
        finally:
            self._standing.discard(connection)


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """A client and its connection to the service: two streams that end together."""

    def __init__(self, proxy: Proxy, client: Ends, service: Ends) -> None:
        self._writers = (client[1], service[1])
        self.streams = (
            _Stream(proxy, self, UP, client[0], service[1]),
            _Stream(proxy, self, DOWN, service[0], client[1]),
        )
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Pass on until both streams are over, or it was ended."""
        tasks = [asyncio.ensure_future(stream.run()) for stream in self.streams]
        ended: asyncio.Future[Any] = asyncio.ensure_future(self._ended.wait())
        passing: asyncio.Future[Any] = asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait([ended, passing], return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, ended):
            task.cancel()
        await asyncio.gather(*tasks, ended, return_exceptions=True)
        with suppress(asyncio.CancelledError):
            await passing
        for writer in self._writers:
            writer.close()

    def abort(self, *, reset: bool) -> None:
        """End it towards both ends."""
        for writer in self._writers:
            _abort(writer, reset=reset)
        self._ended.set()


class _Stream:
    """The bytes of one direction: read ahead, so that a latency delays them and does not thin them out."""

    def __init__(
        self, proxy: Proxy, connection: _Connection, direction: Direction, reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        self.direction, self.lost = direction, False
        self._proxy, self._connection, self._reader, self._writer = proxy, connection, reader, writer
        self._ahead: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(READS_AHEAD_MAX)

    async def run(self) -> None:
        """Pass on until the end, and pass the end on too."""
        reading = asyncio.ensure_future(self._read())
        try:
            await self._pass_on()
        except OSError:  # the receiving end is gone: the sender must hear of it
            self._connection.abort(reset=True)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            try:
                data = await self._reader.read(READ_BYTES)
            except OSError:
                self._connection.abort(reset=True)
                return
            await self._ahead.put((now(), data))
            if not data:
                return

    async def _pass_on(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            arrived, data = await self._ahead.get()
            if not data:
                if self._proxy.swallows(self.direction):
                    self.lost = True
                    self._proxy.hits[HalfOpen.__name__] += 1
                if not self.lost and self._writer.can_write_eof():
                    self._writer.write_eof()
                return
            if self.lost:
                continue
            toxics, changed = self._proxy.toxics(self.direction), self._proxy.changed
            for piece in applied(toxics, data, now() - arrived, self._proxy.chance):
                self._proxy.hits.update(type(toxic).__name__ for toxic in toxics)
                await self._write(piece, changed)

    async def _write(self, piece: Piece, changed: asyncio.Event) -> None:
        if piece.pause_seconds > 0:
            with suppress(TimeoutError):  # what was paused is not held back once the toxics are others
                await asyncio.wait_for(changed.wait(), piece.pause_seconds)
        if piece.data:
            self._writer.write(piece.data)
            await self._writer.drain()
        if piece.lost:
            self.lost = True
        if piece.ends is not None:
            self._connection.abort(reset=piece.ends.reset)
            await asyncio.Event().wait()  # cancelled by the connection, which is over


def _abort(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """End a connection: by RST, which throws away what is under way, or by FIN behind it."""
    transport: Any = writer.transport
    if not reset:
        transport.close()
        return
    link = transport.get_extra_info("socket")
    with suppress(OSError):  # it may be closed already
        if link is not None:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE_AND_WITH_RST)
    transport.abort()
