"""The FEATURES stage on a Redis that fails over, is full, is busy, loads its dump or drops its connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import pytest
import redis

from schemas.errors import SinkUnavailable
from tests.integration.features_worker import Worker, expected, flow, history
from tests.services import RedisServer, until, wait_until

MET_SECONDS_MAX = 60.0


class Switch:
    """A name in front of two servers: connections made from now on go to the one of the moment."""

    def __init__(self, to: RedisServer) -> None:
        self.to = to
        self._open: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.address = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Listen no more, and wait for what was connected."""
        self._server.close()
        await asyncio.gather(*self._open)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "the server calls this in a task"
        self._open.append(task)
        up_reader, up_writer = await asyncio.open_connection(self.to.host, self.to.port)
        await asyncio.gather(_copy(reader, up_writer), _copy(up_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_replica_that_lags_is_caught_up_when_it_is_promoted(
    private_redis: Callable[..., RedisServer],
) -> None:
    """The old primary says READONLY, so the connection is made anew, and the replica's offsets show what it lacks."""
    primary, replica = private_redis({"repl-diskless-sync-delay": "0"}), private_redis()
    with replica.client() as at_replica, primary.client() as at_primary:
        at_replica.replicaof(primary.host, str(primary.port))
        async with Switch(primary) as switch:
            one = Worker(switch.address, "features", history(2_600))
            await one.begin()
            one.log, later = one.log[:1_600], one.log[1_600:]
            await flow(one)
            at_primary.set("written", "last")  # WAIT is for what its own connection has written
            await until(lambda: at_primary.wait(1, 500) == 1, "the replica has all", seconds=60)
            at_replica.replicaof("NO", "ONE")
            one.log += later[:300]
            await flow(one)
            switch.to = replica
            at_primary.replicaof(replica.host, str(replica.port))
            one.log += later[300:]
            await flow(one)

            assert expected(2_600) == await one.rows()
            await one.stage.stop()


@pytest.mark.parametrize("trouble", ["OOM", "BUSY", "reset"])
async def test_what_a_server_answers_in_trouble_is_waited_for(
    private_redis: Callable[[], RedisServer], trouble: str
) -> None:
    """The stage goes on by itself once that is over."""
    server = private_redis()
    one = Worker(server.address, "features", history(2_600))
    await one.begin()
    one.log, later = one.log[:1_600], one.log[1_600:]
    await flow(one)
    one.log += later

    met = threading.Event()
    over = asyncio.create_task(asyncio.to_thread(make_trouble, server, trouble, met))
    try:
        with pytest.raises(SinkUnavailable):
            await read_slowly(one, 1_600)
    finally:
        met.set()
    one.consumer.rewind(one.assignment)
    await over
    await flow(one)

    assert expected(2_600) == await one.rows()
    await one.stage.stop()


async def test_a_server_that_loads_its_dump_is_waited_for(private_redis: Callable[..., RedisServer]) -> None:
    """It takes connections, and answers LOADING; what the dump did not hold is brought back after it."""
    server = private_redis({"key-load-delay": "5000", "loading-process-events-interval-bytes": "1024"})
    one = Worker(server.address, "features", history(2_600))
    await one.begin()
    one.log, later = one.log[:1_600], one.log[1_600:]
    await flow(one)
    server.save()
    one.log += later[:500]
    await flow(one)
    one.log += later[500:]

    server.kill()
    over = asyncio.create_task(asyncio.to_thread(server.start))
    refused = 0
    while not over.done():
        loading = await asyncio.to_thread(server.is_loading)
        try:
            await one.read(2_100, 2_200)
        except SinkUnavailable:
            refused += loading
            one.consumer.rewind(one.assignment)
        await asyncio.sleep(0.01)
    await over
    await flow(one)

    assert refused > 0
    assert expected(2_600) == await one.rows()
    await one.stage.stop()


async def read_slowly(one: Worker, first: int) -> None:
    """Read record by record, so that what happens to the server happens in between."""
    for at in range(first, len(one.log)):
        await one.read(at, at + 1)
        await asyncio.sleep(0.002)


def make_trouble(server: RedisServer, trouble: str, met: threading.Event) -> None:
    """Bring a server into trouble until somebody has met it."""
    with server.client() as client, server.client() as other:
        match trouble:
            case "OOM":
                client.config_set("maxmemory", "1")
                met.wait(MET_SECONDS_MAX)
                client.config_set("maxmemory", "0")
            case "BUSY":
                client.config_set("busy-reply-threshold", "1")
                busy = threading.Thread(target=_run_for_ever, args=[other])
                busy.start()
                wait_until(lambda: _is_busy(client), "the script runs")
                met.wait(MET_SECONDS_MAX)
                client.script_kill()
                busy.join()
            case "reset":
                while not met.wait(0.01):
                    client.client_kill_filter(_type="normal", skipme=True)


def _is_busy(client: Any) -> bool:
    try:
        client.ping()
    except redis.ResponseError:
        return True
    return False


def _run_for_ever(client: Any) -> None:
    with suppress(redis.RedisError):
        client.eval("while true do end", 0)
