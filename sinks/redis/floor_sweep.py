"""The sweep of the rows below a floor: until it is through, their view is SWEEPING.

The ledger refuses what is below a floor at once, and readers pass over it; the sweep takes the rows away. Of entities
that rows share it first tells these, the row that they show last, so that none shows one dead row in the place of
another. It may be begun again and run beside anything: what it sends, the ledger decides on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sinks.redis.floor import ViewFloor, cause_of, floor_fields, floor_of
from sinks.redis.fold import Section
from sinks.redis.layout import RANKS, Layout
from sinks.redis.ledger import Arguments
from sinks.redis.rows import ViewPlan
from sinks.redis.sharing import Telling
from sinks.redis.updates import columns_of_text

SCAN_KEYS = 2_000  # looked at in one step, which takes the server a millisecond
ENTITIES = 50  # are looked at in one step, of each at most so many rows
RANKS_READ = 200
SUNK = "s"  # the state of a row of which the floor leaves something or nothing

# KEYS: the floors of a bucket. ARGV: view, field that says SWEEPING, the floor that was swept. Another one stays.
_SWEPT = b"""
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[3] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[2])
"""

Ask = Callable[[Sequence[Sequence[Any]]], Awaitable[list[Any]]]
Send = Callable[[Mapping[int, Mapping[str, Arguments]]], Awaitable[int]]


class _Place(NamedTuple):
    """A key of a view: its name, its bucket, and what it is of: a row or an entity."""

    key: bytes
    bucket: int
    text: str


async def read_floors(ask: Ask, layout: Layout, views: Sequence[str]) -> dict[str, ViewFloor]:
    """Return the floors of views, given by their ids, that have one: the highest of all buckets, and what sweeps it.

    Raises:
        SinkUnavailable: Redis does not answer.
    """
    if not views:
        return {}
    fields = [name for view in views for name in floor_fields(view)]
    found: dict[str, ViewFloor] = {}
    for texts in await ask([("HMGET", layout.floors(bucket), *fields) for bucket in range(layout.buckets)]):
        for at, view in enumerate(views):
            floor, known = floor_of(texts[2 * at : 2 * at + 2]), found.get(view, ViewFloor())
            if floor.position:
                found[view] = ViewFloor(max(floor.position, known.position), floor.sweeping or known.sweeping)
    return found


class FloorSweep:
    """One sweep of a view; `send` applies sections to the ledger, and tells entities what comes of it."""

    def __init__(self, ask: Ask, send: Send, layout: Layout, plan: ViewPlan, floor: ViewFloor) -> None:
        self._ask, self._send, self._layout, self._plan, self._floor = ask, send, layout, plan, floor
        self.swept = 0

    async def sweep(self) -> int:
        """Return how many rows went, once none is left below the floor that was there before.

        Raises:
            SinkUnavailable: Redis does not answer; some may be left.
            OutboxFull: the same, as long as the relay has not written what waits.
        """
        if self._plan.shares:
            async for places in self._scan(RANKS):
                for first in range(0, len(places), ENTITIES):
                    await self._tell(places[first : first + ENTITIES])
        async for places in self._scan(self._plan.kind):
            await self._sink(places)
        return self.swept

    async def end(self) -> None:
        """Say in every bucket that it is swept, unless its floor has risen meanwhile.

        Raises:
            SinkUnavailable: Redis does not answer; some buckets may say so.
        """
        view, sweeping = floor_fields(self._plan.id)
        buckets = range(self._layout.buckets)
        arguments = (view, sweeping, self._floor.position)
        await self._ask([("EVAL", _SWEPT, 1, self._layout.floors(bucket), *arguments) for bucket in buckets])

    async def _scan(self, kind: str) -> AsyncIterator[list[_Place]]:
        """Yield the keys of one kind of the view, each that was there from the beginning at least once."""
        pattern = f"{self._layout.prefix}:{{b*}}:{kind}:{self._plan.id}:*"
        cursor: bytes = b"0"
        while True:
            ((cursor, keys),) = await self._ask([("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_KEYS)])
            if ours := self._layout.of_view(keys, kind, self._plan.id):
                yield [self._place(key, kind) for key in ours]
            if cursor == b"0":
                return

    def _place(self, key: bytes, kind: str) -> _Place:
        start = len(f"{self._layout.prefix}:{{b".encode())
        end = key.index(b"}:", start)
        return _Place(key, int(key[start:end]), key[end + 2 + len(f"{kind}:{self._plan.id}:".encode()) :].decode())

    async def _tell(self, entities: Sequence[_Place]) -> None:
        """Tell entities that their rows below the floor are gone, the lowest in their order first."""
        after = dict.fromkeys(entities, b"-")
        while after:
            ranges = [("ZRANGEBYLEX", each.key, start, "+", "LIMIT", 0, RANKS_READ) for each, start in after.items()]
            sections: dict[int, dict[str, Arguments]] = {}
            for entity, members in zip(list(after), await self._ask(ranges), strict=True):
                after[entity] = b"(" + members[-1] if members else b""
                for member in members:
                    _, position, row = member.split(b"\0", 2)
                    if position.decode() < self._floor.position:
                        self._telling(sections, entity.bucket).add(
                            entity.text, row.decode(), self._floor.position, "", (), self._cause(row.decode())
                        )
                if len(members) < RANKS_READ:
                    del after[entity]
            if sections:
                await self._send(sections)

    def _telling(self, sections: dict[int, dict[str, Arguments]], bucket: int) -> Telling:
        views = sections.setdefault(bucket, {})
        if self._plan.id not in views:
            views[self._plan.id] = Telling(self._plan)
        telling = views[self._plan.id]
        assert isinstance(telling, Telling), "nothing else was put there"
        return telling

    async def _sink(self, rows: Sequence[_Place]) -> None:
        """Have rows sunk that the floor leaves nothing of, or not all."""
        held = await self._ask([("HMGET", each.key, ".p", ".own") for each in rows])
        sections: dict[int, dict[str, Arguments]] = {}
        for row, (position, own) in zip(rows, held, strict=True):
            if position is None or (own is None and position.decode() >= self._floor.position):
                continue
            section = sections.setdefault(row.bucket, {}).setdefault(self._plan.id, Section(self._plan))
            assert isinstance(section, Section), "nothing else was put there"
            sunk = (row.text, self._floor.position, SUNK)
            section.earlier.append((*sunk, self._cause(row.text)) if self._plan.emits else sunk)
        if sections:
            self.swept += await self._send(sections)

    def _cause(self, key: str) -> str:
        """Return what updates say of the delete of a row; nothing where the view emits none."""
        return cause_of(columns_of_text(self._plan.key, key), self._floor.sweeping) if self._plan.emits else ""
