"""The ledger on a Redis that answers errors for a while: nothing is taken for done, and it works once they are over."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from schemas.config import RedisConfig
from schemas.errors import SinkUnavailable
from sinks.redis.layout import offset_text
from sinks.redis.ledger import Ledger
from tests.faults import RedisAnswers
from tests.faults.manners import Manner
from tests.faults.redis_answers import BUSY, ERRORS, LOADING
from tests.services import RedisServer

FIELD = ("view.1/t/0", "t")


@pytest.fixture
def answers(redis_server: RedisServer) -> Iterator[RedisAnswers]:
    """In front of the Redis that tests share."""
    with RedisAnswers(f"{redis_server.host}:{redis_server.port}") as running:
        yield running


@pytest.fixture
async def ledger(answers: RedisAnswers) -> AsyncIterator[Ledger]:
    """A ledger that comes through it, with a prefix of its own."""
    prefix = f"answers-{uuid.uuid4().hex[:12]}"
    made = Ledger(
        RedisConfig.model_validate({"url": answers.url, "key_prefix": prefix, "buckets": 2, "timeout_seconds": 2})
    )
    yield made
    await made.close()


@pytest.mark.parametrize("error", [BUSY, LOADING], ids=["BUSY", "LOADING"])
async def test_a_server_that_cannot_say_who_it_is_is_not_open(
    answers: RedisAnswers, ledger: Ledger, error: str
) -> None:
    """Else the life of the one before would be taken for its own, and its script and layout not looked at."""
    answers.put(Manner.REJECT, error=error, commands={"INFO"})
    for _ in range(2):
        with pytest.raises(SinkUnavailable):
            await ledger.open()
        assert not ledger.wire.is_open
    answers.put(Manner.TAKE)
    await ledger.open()
    life = ledger.wire.run_id
    await ledger.begin({0: [FIELD]})

    assert len(life) == 40
    assert [[offset_text(FIELD[1], 0)], [None]] == await ledger.offsets([FIELD[0]])


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.partition(" ")[0])
async def test_an_error_for_a_while_is_the_sink_being_away(answers: RedisAnswers, ledger: Ledger, error: str) -> None:
    """Whatever the command; afterwards it goes on."""
    await ledger.open()
    answers.put(Manner.REJECT, error=error)
    with pytest.raises(SinkUnavailable):
        await ledger.begin({0: [FIELD]})
    answers.put(Manner.TAKE)
    await ledger.open()
    await ledger.begin({0: [FIELD]})

    assert answers.did[Manner.REJECT] >= 1


@pytest.mark.parametrize("manner", [Manner.FAIL_AFTER_WRITE, Manner.HOLD])
async def test_an_answer_that_does_not_come_is_the_sink_being_away(
    answers: RedisAnswers, ledger: Ledger, manner: Manner
) -> None:
    """What was sent may be there; it is sent again on another connection."""
    await ledger.open()
    answers.put(manner, commands={"HSETNX"})
    with pytest.raises(SinkUnavailable):
        await asyncio.wait_for(ledger.begin({0: [FIELD], 1: [FIELD]}), 60)
    answers.put(Manner.TAKE)
    await ledger.open()
    await ledger.begin({0: [FIELD], 1: [FIELD]})

    assert 2 == ledger.wire.opened
    assert all(text is not None for of in await ledger.offsets([FIELD[0]]) for text in of)
