"""The connection to Redis: who waits on it can be cancelled at any moment, and never waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from schemas.config import RedisConfig
from schemas.errors import SinkUnavailable
from sinks.redis.wire import Wire
from tests.faults import RedisAnswers
from tests.faults.manners import Manner
from tests.services import RedisServer

CANCELLATIONS = 600
TURNS_MAX = 12


async def test_no_cancellation_is_swallowed(redis_server: RedisServer) -> None:
    """At whatever turn of a call it comes: a stage stops its tasks by it, and waits for their end."""
    wire = Wire(RedisConfig.model_validate({"url": f"redis://{redis_server.host}:{redis_server.port}/0"}))

    async def calls() -> None:
        for _ in range(TURNS_MAX):
            await wire.exchange([("PING",)])

    went_on = 0
    for attempt in range(CANCELLATIONS):
        await wire.open()
        task = asyncio.create_task(calls())
        for _ in range(attempt % TURNS_MAX):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        went_on += not task.cancelled()
    await wire.close()

    assert went_on == 0


async def test_a_server_that_accepts_and_says_nothing_is_not_waited_for(redis_server: RedisServer) -> None:
    """Neither while the connection is made, nor after it."""
    with RedisAnswers(f"{redis_server.host}:{redis_server.port}") as answers:
        wire = Wire(RedisConfig.model_validate({"url": answers.url, "timeout_seconds": 3}))
        await wire.open()
        answers.put(Manner.HOLD, commands={"PING", "CLIENT"})  # the client says who it is as it connects
        with pytest.raises(SinkUnavailable):
            await wire.exchange([("PING",)])
        with pytest.raises(SinkUnavailable):
            await wire.open()
        assert not wire.is_open
        answers.put(Manner.TAKE)
        await wire.open()
        assert [b"PONG"] == await wire.exchange([("PING",)])
        await wire.close()
