"""The steps from one layout in Redis to the next, by the layout that they begin with; `migrate.py` has them done."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Protocol

import structlog

from sinks.redis.layout import ENTITY, GONE, RANKS, Layout
from sinks.redis.wire import checked

Exchange = Callable[[Sequence[Sequence[Any]]], Awaitable[list[Any]]]

SCAN_KEYS = 2_000  # looked at in one step, which takes the server a millisecond

# KEYS: when rows left entities, of one view and bucket; then entities' ledgers, each followed by where its ranks go.
# ARGV: now (ms), then the entities. Answers how many rows got a rank.
_RANK = (
    files("sinks.redis").joinpath("ranks.lua").read_bytes()
    + b"""
local ranked = 0
for k = 2, #KEYS, 2 do
  local rows = redis.call('EXISTS', KEYS[k + 1]) == 0 and redis.call('HGETALL', KEYS[k]) or {}
  for i = 1, #rows, 2 do
    local rank = rank_of(rows[i], cmsgpack.unpack(rows[i + 1]))
    if rank then
      ranked = ranked + redis.call('ZADD', KEYS[k + 1], 0, rank)
    else
      redis.call('ZADD', KEYS[1], 'NX', ARGV[1], ARGV[k / 2 + 1] .. '\\0' .. rows[i])
    end
  end
end
return ranked
"""
)

log = structlog.get_logger("sinks.redis")


class Step(Protocol):
    """Turns every key of one layout into the next.

    Promise: each key is turned by one atomic call that changes only what still has the old form. So a step may run
    twice, by several workers at once, and be finished late by one that was frozen, beside workers of the new layout.
    """

    async def __call__(self, exchange: Exchange, layout: Layout) -> None:
        """Return once every key has the new form."""


async def rank_rows(exchange: Exchange, layout: Layout) -> None:
    """From 1 to 2: beside what rows told entities (`e:`) lies in which order these show them, and when rows left."""
    cursor, ranked, now_ms = b"0", 0, int(time.time() * 1_000)
    while True:
        (page,) = await exchange([("SCAN", cursor, "MATCH", f"{layout.prefix}:{{b*}}:{ENTITY}:*", "COUNT", SCAN_KEYS)])
        cursor, keys = checked(page)
        calls = [_call(*place, entities, now_ms) for place, entities in _by_view(keys).items()]
        ranked += sum(checked(reply) for reply in (await exchange(calls) if calls else ()))
        if cursor == b"0":
            break
    log.info("layout_rows_ranked", rows=ranked)


def _by_view(keys: Iterable[bytes]) -> dict[tuple[bytes, bytes], list[bytes]]:
    """Return the entities of ledgers by bucket (what every key of it begins with) and view.

    A pattern of SCAN also finds keys of other kinds whose entities hold what it looks for (layout.py).
    """
    found: dict[tuple[bytes, bytes], list[bytes]] = {}
    for key in keys:
        base, end, rest = key.partition(b"}:")
        kind, view, entity = rest.split(b":", 2)
        if kind == ENTITY.encode():
            found.setdefault((base + end, view), []).append(entity)
    return found


def _call(base: bytes, view: bytes, entities: Sequence[bytes], now_ms: int) -> tuple[Any, ...]:
    kinds = [kind.encode() for kind in (ENTITY, RANKS)]
    keys = [b"%s%s:%s:%s" % (base, kind, view, entity) for entity in entities for kind in kinds]
    return ("EVAL", _RANK, 1 + len(keys), b"%s%s:%s" % (base, GONE.encode(), view), *keys, now_ms, *entities)


STEPS: Mapping[int, Step] = {1: rank_rows}
