"""One connection to Redis with several calls in flight, which never reconnects silently.

redis-py's pools connect anew behind their caller's back. Here a new connection is a fact that must be seen: Redis may
have come back with less than it acknowledged, so a broken connection fails everything in flight, and `open` counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

import hiredis
from redis.asyncio import Connection, ConnectionPool
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - redis-py's
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from schemas.config import RedisConfig
from schemas.errors import BugError, ConfigurationError, SinkUnavailable

# What a server answers while it starts, follows another, is busy or full: send it again later. The client's library has
# classes for most of them and leaves others as text.
RETRY_ERRORS = (
    ConnectionError,
    NoScriptError,
    ReadOnlyError,
    OutOfMemoryError,
    MasterDownError,
    ClusterDownError,
    TryAgainError,
    AskError,
)
AUTH_ERRORS = (AuthenticationError, AuthorizationError, NoPermissionError)  # two of them count as connection errors
RETRY_PREFIXES = (
    "LOADING",
    "READONLY",
    "BUSY",
    "OOM",
    "NOSCRIPT",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "UNKILLABLE",
)

Reply = Any


class Wire:
    """A connection that is opened on purpose; `opened` counts how often, `run_id` names the server's life."""

    def __init__(self, config: RedisConfig) -> None:
        self._pool = ConnectionPool.from_url(
            config.url.get_secret_value(),
            protocol=2,
            decode_responses=False,
            socket_timeout=None,  # the client's own limit swallows cancellations (`asyncio.wait_for`, Python 3.11)
            health_check_interval=0,
        )
        self._seconds_max = config.timeout_seconds
        self._connection: Connection | None = None
        self._sending = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._last: asyncio.Future[None] | None = None
        self.opened = 0
        self.run_id = ""

    @property
    def is_open(self) -> bool:
        """Say whether calls can be sent."""
        return self._connection is not None and self._connection.is_connected

    async def open(self) -> None:
        """Connect, unless there is a connection.

        Raises:
            SinkUnavailable: Redis does not answer.
            ConfigurationError: Redis refuses the user or password.
        """
        async with self._opening:
            if self.is_open:
                return
            await self.close()
            connection: Connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                await self._connect(connection)
            except AuthenticationError as exc:
                raise ConfigurationError("Redis refuses user or password", hint="look at redis.url") from exc
            except (RedisError, OSError) as exc:
                raise SinkUnavailable("Redis does not answer", hint="is redis.url right, and the server up?") from exc
            self._connection, self._last = connection, None
            self.opened += 1
            try:
                (reply,) = await self.exchange([("INFO", "server")])
                self.run_id = _run_id(checked(reply))
            except BaseException:
                await self.close()  # a server that cannot say which life it lives is not taken for the one before
                raise

    async def _connect(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(self._seconds_max):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    async def close(self) -> None:
        """Leave; what is in flight fails with SinkUnavailable."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def exchange(self, commands: Sequence[Sequence[Any]], *, opened: int | None = None) -> list[Reply]:
        """Send `commands` and return one reply each, errors of the server among them (see `checked`).

        Several may be in flight; they are sent, and answered, in the order in which they were called. With `opened`
        they are sent on the connection of that number, or not at all.

        Raises:
            SinkUnavailable: the connection broke or a time-out passed; nothing is known of the commands.
        """
        packed = [hiredis.pack_command(tuple(command)) for command in commands]
        async with self._sending:
            connection = self._connection
            if connection is None or not connection.is_connected or opened not in (None, self.opened):
                raise SinkUnavailable("the connection to Redis is lost", hint="it is opened again at the next attempt")
            before, turn = self._last, asyncio.get_running_loop().create_future()
            self._last = turn
            try:
                async with asyncio.timeout(self._seconds_max):
                    await connection.send_packed_command(packed, check_health=False)
            except BaseException as exc:  # noqa: BLE001 - half a command may be sent: this connection ends
                turn.set_result(None)
                await self._broken(connection, exc)
        try:
            if before is not None:
                await before
            return [await self._read(connection) for _ in commands]
        except BaseException as exc:  # noqa: BLE001 - replies would go to the wrong caller: this connection ends
            await self._broken(connection, exc)
        finally:
            if not turn.done():
                turn.set_result(None)

    async def _read(self, connection: Connection) -> Reply:
        try:
            async with asyncio.timeout(self._seconds_max):
                return await connection.read_response(disable_decoding=True)
        except (ResponseError, *AUTH_ERRORS) as exc:
            return exc

    async def _broken(self, connection: Connection, exc: BaseException) -> NoReturn:
        if self._connection is connection:
            self._connection = None
        await connection.disconnect(nowait=True)
        if isinstance(exc, (RedisError, OSError)):
            raise SinkUnavailable("Redis does not answer", hint="what was in flight is sent again") from exc
        raise exc


def checked(reply: Reply) -> Any:
    """Return a reply that is not an error.

    Raises:
        SinkUnavailable: the server cannot take it now.
        ConfigurationError: the user may not do this.
        BugError: the server refuses the command itself.
    """
    if not isinstance(reply, Exception):
        return reply
    text = str(reply)
    if not isinstance(reply, AUTH_ERRORS) and (isinstance(reply, RETRY_ERRORS) or text.startswith(RETRY_PREFIXES)):
        raise SinkUnavailable(f"Redis cannot take it now: {_word(reply)}", hint="it is sent again") from reply
    if isinstance(reply, AUTH_ERRORS):
        raise ConfigurationError(
            "the user of redis.url may not do this", hint="it needs @all on its key prefix"
        ) from reply
    raise BugError(f"Redis refuses a command: {_word(reply)}", hint="look at the server's log") from reply


def _word(reply: Exception) -> str:
    """Return the name of a server's error: what follows it may hold a key."""
    word = str(reply).partition(" ")[0]
    return f"{type(reply).__name__} {word}" if word.isupper() else type(reply).__name__


def _run_id(text: bytes) -> str:
    for line in text.decode().splitlines():
        name, _, value = line.partition(":")
        if name == "run_id":
            return value
    raise BugError("INFO server has no run_id")
