"""A Redis that answers as it is told: between clients and a real server, it knows what a command and a reply are.

Errors are those of the server's own source, to those commands that it answers so; all else passes. Pipelines keep
their order: a refused command among others is answered in its place.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from tests.faults.listening import HOST, Listening
from tests.faults.manners import Manner

OOM = "OOM command not allowed when used memory > 'maxmemory'."
READONLY = "READONLY You can't write against a read only replica."
LOADING = "LOADING Redis is loading the dataset in memory"
BUSY = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
ERRORS = (OOM, READONLY, LOADING, BUSY)

WRITES = frozenset({
    "EVALSHA", "EVAL", "FCALL", "SET", "SETEX", "SETNX", "APPEND", "INCR", "INCRBY", "HSET", "HSETNX", "HINCRBY",
    "LPUSH", "RPUSH", "SADD", "ZADD", "XADD", "XTRIM", "RENAME", "COPY", "RESTORE", "DEL", "UNLINK", "HDEL", "EXPIRE",
    "PEXPIRE",
})  # fmt: skip
# What is answered even so: before a client is let in, and what says how the server is.
_ALWAYS = frozenset({"HELLO", "AUTH", "QUIT"})
_WHILE_LOADING = _ALWAYS | {"INFO", "SELECT", "CLIENT", "CONFIG", "COMMAND"}

POLL_SECONDS = 0.02
PIPELINE_MAX = 4_096
Chooses = Callable[[str], bool]
_Due = tuple[str, Manner, bytes | None]


def answers_so(error: str) -> Chooses:
    """Return which commands a real server answers with this error."""
    word = error.partition(" ")[0]
    if word == "LOADING":
        return lambda name: name not in _WHILE_LOADING
    if word == "BUSY":
        return lambda name: name not in _ALWAYS
    return lambda name: name in WRITES


class RedisAnswers(Listening):
    """Stands in front of `target`; `did` counts the commands that met a manner other than TAKE."""

    def __init__(self, target: str, *, port: int | None = None) -> None:
        """`target` is `host:port` of a real server."""
        super().__init__(port=port)
        host, _, number = target.rpartition(":")
        self._target = (host, int(number))
        self.did: Counter[Manner] = Counter()
        self.slow_seconds = 0.05
        self._rule: tuple[Manner, Chooses, bytes] = (Manner.TAKE, lambda _: False, b"")
        self._server: asyncio.Server | None = None
        self._standing: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        """`redis://host:port/0`."""
        return f"redis://{self.address}/0"

    def put(self, manner: Manner, *, error: str = OOM, commands: Collection[str] | None = None) -> None:
        """Answer in this manner from now on; `commands` are those that meet it.

        Left out, they are those to which a server gives `error`, or for other manners those that write.
        """
        wanted = frozenset(commands) if commands is not None else None
        chooses = answers_so(error) if manner is Manner.REJECT else WRITES.__contains__
        self._rule = (manner, chooses if wanted is None else wanted.__contains__, b"-" + error.encode() + b"\r\n")

    def chooses(self, name: str) -> bool:
        """Say whether a command of this name meets the manner of the moment."""
        return self._rule[1](name)

    def switch(self, target: str) -> None:
        """Have another server behind it from now on, and end the connections to the one before."""

        async def change() -> None:
            host, _, number = target.rpartition(":")
            self._target = (host, int(number))
            await self._end_all()

        self.call(change)

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._accept, HOST, self.port, backlog=512)

    async def close(self) -> None:
        """End everything."""
        assert self._server is not None, "it listens"
        self._server.close()
        await self._end_all()

    async def _end_all(self) -> None:
        for task in list(self._standing):
            task.cancel()
        await asyncio.gather(*self._standing, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a server accepts in a task"
        self._standing.add(task)
        task.add_done_callback(self._standing.discard)
        try:
            there, to = await asyncio.open_connection(*self._target)
        except (OSError, asyncio.CancelledError):  # nobody there: neither are we; or `close` came first
            writer.transport.abort()
            return
        due: asyncio.Queue[_Due] = asyncio.Queue(PIPELINE_MAX)
        both = [
            asyncio.ensure_future(self._commands(reader, to, due)),
            asyncio.ensure_future(self._replies(there, writer, due)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # `close` ends it: that is all it wants
            pass
        finally:
            writer.transport.abort()  # first: `close` may cancel what is waited for below
            to.transport.abort()
            for half in both:
                half.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _commands(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, due: asyncio.Queue[_Due]) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                command = await read_frame(reader)
                name, (manner, chooses, error) = name_of(command), self._rule
                if not chooses(name):
                    manner = Manner.TAKE
                if manner is not Manner.TAKE:
                    self.did[manner] += 1
                if manner is Manner.REJECT:
                    await due.put((name, manner, error))
                    continue
                if manner is Manner.SLOW:
                    await asyncio.sleep(self.slow_seconds)
                await due.put((name, manner, None))
                to.write(command)
                await to.drain()

    async def _replies(
        self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, due: asyncio.Queue[_Due]
    ) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                _, manner, reply = await due.get()
                if reply is None:
                    reply = await read_frame(there)
                if manner is Manner.FAIL_AFTER_WRITE:
                    return
                while manner is Manner.HOLD and self._rule[0] is Manner.HOLD:  # noqa: ASYNC110 - another thread lets go
                    await asyncio.sleep(POLL_SECONDS)
                writer.write(reply)
                await writer.drain()


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Return one value of RESP 2 or 3 as it came, a command or a reply; an inline command is a line of its own.

    Raises:
        asyncio.IncompleteReadError: the stream ended.
    """
    line = await reader.readuntil(b"\r\n")
    kind, count = line[:1], line[1:-2]
    if kind in b"$!=":
        return line if count == b"-1" else line + await reader.readexactly(int(count) + 2)
    if kind in b"*~>%":
        values = max(0, int(count)) * (2 if kind == b"%" else 1)
        return b"".join([line, *[await read_frame(reader) for _ in range(values)]])
    return line


def name_of(command: bytes) -> str:
    """Return the name of a command."""
    if command[:1] == b"*":
        _, _, name, *_ = command.split(b"\r\n", 3)  # *count, $length, name
        return name.decode().upper()
    return command.split(maxsplit=1)[0].decode().upper()
