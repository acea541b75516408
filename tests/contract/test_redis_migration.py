"""An older layout in Redis is brought up by steps, again after a death, and nobody of before writes on.

The layouts and steps are this test's own; what the product's does is in tests/property/test_ledger_entities.py.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import pytest

from schemas.config import RedisConfig
from schemas.errors import ConfigurationError, SinkUnavailable, VersionRefused
from schemas.versions import Form
from sinks.redis.layout import Layout
from sinks.redis.ledger import Ledger, commands
from sinks.redis.migrate import brought_up
from sinks.redis.steps import Exchange, Step
from sinks.redis.wire import Wire, checked
from tests.services import RedisServer

THIRD = Form("features in Redis", "here", "`layout`", writes=3, reads=(1, 2, 3))
_ADD_ONE = b"local n = redis.call('GET', KEYS[1]) if n == ARGV[1] then redis.call('SET', KEYS[1], n + 1) end return n"


class Adds:
    """A step: every bucket's number grows by one, only where it has the old one; may die in the middle."""

    ran: ClassVar[list[int]] = []

    def __init__(self, before: int, *, dies_after: int | None = None) -> None:
        self._before, self._dies_after = before, dies_after

    async def __call__(self, exchange: Exchange, layout: Layout) -> None:
        """Turn the keys of all buckets."""
        self.ran.append(self._before)
        for bucket in range(layout.buckets):
            if bucket == self._dies_after:
                raise asyncio.CancelledError
            (reply,) = await exchange([("EVAL", _ADD_ONE, 1, f"{layout.base(bucket)}n", str(self._before))])
            checked(reply)
            await asyncio.sleep(0)


STEPS: Mapping[int, Step] = {1: Adds(1), 2: Adds(2)}


class Place:
    """A prefix of one test with numbers of the first layout in each bucket."""

    def __init__(self, server: RedisServer) -> None:
        prefix = f"mig-{uuid.uuid4().hex[:8]}"
        self.config = RedisConfig.model_validate({"url": server.address, "key_prefix": prefix, "buckets": 4})
        self.layout = Layout(prefix, 4)
        self.wires: list[Wire] = []
        Adds.ran.clear()

    async def wire(self) -> Wire:
        """Return a connection of a worker of its own."""
        self.wires.append(Wire(self.config))
        await self.wires[-1].open()
        return self.wires[-1]

    async def ask(self, *command: Any) -> Any:
        """Return one answer."""
        (reply,) = await self.wires[0].exchange([command])
        return checked(reply)

    async def numbers(self) -> list[int]:
        """Return the number of each bucket."""
        return [int(await self.ask("GET", f"{self.layout.base(bucket)}n")) for bucket in range(4)]


@pytest.fixture
async def place(redis_server: RedisServer) -> AsyncIterator[Place]:
    """An installation of the first layout."""
    made = Place(redis_server)
    await made.wire()
    await made.ask("SET", made.layout.marker, b'{"layout": 1, "buckets": 4}')
    for bucket in range(4):
        await made.ask("SET", f"{made.layout.base(bucket)}n", 1)
    yield made
    for key in await made.ask("KEYS", f"{made.layout.prefix}:*"):
        await made.ask("DEL", key)
    for wire in made.wires:
        await wire.close()


async def test_every_step_runs_once_in_order_and_the_marker_says_so(place: Place) -> None:
    """A second worker finds nothing to do."""
    for _ in range(2):
        await brought_up(place.wires[0].exchange, place.layout, form=THIRD, steps=STEPS)

    assert [1, 2] == Adds.ran
    assert [3] * 4 == await place.numbers()
    assert b'{"layout":3,"buckets":4}' == await place.ask("GET", place.layout.marker)


async def test_workers_that_start_together_do_no_harm(place: Place) -> None:
    """Steps may run side by side; what is turned is turned once."""
    wires = [await place.wire() for _ in range(3)]

    await asyncio.gather(*(brought_up(wire.exchange, place.layout, form=THIRD, steps=STEPS) for wire in wires))

    assert [3] * 4 == await place.numbers()
    assert b'{"layout":3,"buckets":4}' == await place.ask("GET", place.layout.marker)


async def test_what_a_dead_worker_left_half_turned_is_finished_by_the_next(place: Place) -> None:
    """Until then the marker says that it is under way, and no release of before takes it for its own."""
    with pytest.raises(asyncio.CancelledError):
        await brought_up(
            place.wires[0].exchange, place.layout, form=THIRD, steps={1: Adds(1), 2: Adds(2, dies_after=2)}
        )
    halfway = await place.numbers()
    marker = await place.ask("GET", place.layout.marker)
    await brought_up(place.wires[0].exchange, place.layout, form=THIRD, steps=STEPS)

    assert ([3, 3, 2, 2], b'{"layout":3,"buckets":4,"from":2}') == (halfway, marker)
    assert [3] * 4 == await place.numbers()


async def test_a_worker_of_before_that_still_runs_is_shut_out(place: Place) -> None:
    """Its next call finds its script gone; it connects anew, meets the marker, and refuses."""
    old = Ledger(place.config)
    await old.open()
    await old.begin({0: [("v.1|t|0", "id")]})
    move = commands(place.layout, {}, {0: []}, now_ms=1)

    await brought_up(place.wires[0].exchange, place.layout, form=THIRD, steps=STEPS)

    with pytest.raises(SinkUnavailable):
        await old.apply(move, {0: []})
    with pytest.raises(VersionRefused, match=r"has version 3, this release reads 1 and 2 .*upgrade this one"):
        await old.open()
    await old.close()


async def test_another_number_of_buckets_is_refused_before_anything_is_turned(place: Place) -> None:
    """Keys would be looked for in the wrong buckets."""
    with pytest.raises(ConfigurationError, match="Redis holds 4 buckets"):
        await brought_up(place.wires[0].exchange, Layout(place.layout.prefix, 8), form=THIRD, steps=STEPS)

    assert [1] * 4 == await place.numbers()
    assert [] == Adds.ran


async def test_an_empty_place_is_given_the_layout_of_this_release(place: Place) -> None:
    """Without any step."""
    await place.ask("DEL", place.layout.marker)

    await brought_up(place.wires[0].exchange, place.layout, form=THIRD, steps=STEPS)

    assert (b'{"layout":3,"buckets":4}', []) == (await place.ask("GET", place.layout.marker), Adds.ran)
