"""The steps from one layout in Redis to the next, by the layout that they begin with; `migrate.py` has them done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Protocol

import structlog

from sinks.redis.layout import ENTITY, RANKS, Layout
from sinks.redis.wire import checked

Exchange = Callable[[Sequence[Sequence[Any]]], Awaitable[list[Any]]]

SCAN_KEYS = 2_000  # looked at in one step, which takes the server a millisecond

# KEYS: entities' ledgers of one bucket, each followed by where its ranks go. Answers how many rows got one.
_RANK = (
    files("sinks.redis").joinpath("ranks.lua").read_bytes()
    + b"""
local ranked = 0
for k = 1, #KEYS, 2 do
  local rows = redis.call('EXISTS', KEYS[k + 1]) == 0 and redis.call('HGETALL', KEYS[k]) or {}
  for i = 1, #rows, 2 do
    local rank = rank_of(rows[i], cmsgpack.unpack(rows[i + 1]))
    if rank then ranked = ranked + redis.call('ZADD', KEYS[k + 1], 0, rank) end
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
    """From 1 to 2: beside what rows told an entity (`e:`) lies in which order it would show them (`z:`)."""
    cursor, ranked = b"0", 0
    while True:
        (page,) = await exchange([("SCAN", cursor, "MATCH", f"{layout.prefix}:{{b*}}:{ENTITY}:*", "COUNT", SCAN_KEYS)])
        cursor, keys = checked(page)
        calls = [("EVAL", _RANK, len(some), *some) for some in _by_bucket(keys, layout)]
        ranked += sum(checked(reply) for reply in (await exchange(calls) if calls else ()))
        if cursor == b"0":
            break
    log.info("layout_rows_ranked", rows=ranked)


def _by_bucket(keys: Iterable[bytes], layout: Layout) -> Iterable[list[bytes]]:
    """Return per bucket its ledgers, each followed by the key of its ranks."""
    found: dict[bytes, list[bytes]] = {}
    for key in keys:
        base, end, rest = key.partition(b"}:")
        ranks = base + end + RANKS.encode() + rest.removeprefix(ENTITY.encode())
        found.setdefault(base.removeprefix(layout.prefix.encode()), []).extend((key, ranks))
    return found.values()


STEPS: Mapping[int, Step] = {1: rank_rows}
