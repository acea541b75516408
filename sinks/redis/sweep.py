"""What Redis keeps of rows that are gone, given back once nothing brings them again: the rule of docs/redis.md."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sinks.redis.layout import ENTITY, GONE, LEFT, Layout

SCAN_FIELDS = 1_000  # looked at in one step, which takes the server less than a millisecond
_PARTS = 5  # position, topic id, partition, offset, applied at; a cause may follow

# KEYS: tombstones and left entities of a view in a bucket. ARGV: row and tombstone, again and again. One that has been
# written anew since stays. Answers how many went.
_SWEEP = b"""
local swept = 0
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
    redis.call('HDEL', KEYS[2], ARGV[i])
    swept = swept + 1
  end
end
return swept
"""

# KEYS: when rows left entities, of one view and bucket; then the ledgers of entities. ARGV: the time (ms) before which
# they must have left, then the row of each ledger and its member of the first key. Answers how many went.
_FORGET = b"""
local forgotten = 0
for k = 2, #KEYS do
  local row, member = ARGV[2 * k - 2], ARGV[2 * k - 1]
  local left = redis.call('ZSCORE', KEYS[1], member)
  if left and tonumber(left) < tonumber(ARGV[1]) then
    redis.call('ZREM', KEYS[1], member)
    local text = redis.call('HGET', KEYS[k], row)
    if text and not cmsgpack.unpack(text)[3] then
      forgotten = forgotten + redis.call('HDEL', KEYS[k], row)
    end
  end
end
return forgotten
"""

# KEYS: what changes of keys wait for, of one view and bucket. ARGV: the time (ms) before which an entry must have been
# written, then rows. Answers how many went.
_EXPIRE = b"""
local gone = 0
for i = 2, #ARGV do
  local text = redis.call('HGET', KEYS[1], ARGV[i])
  if text and tonumber(cmsgpack.unpack(text)[1]) < tonumber(ARGV[1]) then
    gone = gone + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return gone
"""

Ask = Callable[[Sequence[Sequence[Any]]], Awaitable[list[Any]]]


@dataclass(frozen=True, slots=True)
class Horizon:
    """Behind it no delete of an output topic comes again: its record has left the log, and it is no longer redriven.

    `log_starts` are of the partitions of which that is known, in the topic's life of this id; of another life there is
    no log any more.
    """

    topic_id: str
    log_starts: Mapping[int, int]
    applied_before_ms: int

    def is_behind(self, tombstone: bytes) -> bool:
        """Say whether a tombstone, as it stands in `x:`, lies behind it; one that is not ours does not."""
        parts = tombstone.split(b"|", _PARTS)
        try:
            topic_id, partition, offset, applied_ms = parts[1].decode(), int(parts[2]), int(parts[3]), int(parts[4])
        except (IndexError, ValueError):
            return False
        if partition not in self.log_starts or applied_ms >= self.applied_before_ms:
            return False
        return topic_id != self.topic_id or offset < self.log_starts[partition]


async def sweep_tombstones(ask: Ask, layout: Layout, view: str, horizon: Horizon) -> int:
    """Take away what of a view, given by its id, lies behind the horizon, in all buckets; return how many that were.

    With a tombstone goes what its row has left. A row that comes again meanwhile is passed over. It may run beside
    anything, and be done twice.

    Raises:
        SinkUnavailable: Redis does not answer; some may be left.
    """
    swept = 0
    for bucket in range(layout.buckets):
        keys = (layout.tombstones(view, bucket), f"{layout.base(bucket)}{LEFT}:{view}")
        cursor = b"0"
        while True:
            ((cursor, flat),) = await ask([("HSCAN", keys[0], cursor, "COUNT", SCAN_FIELDS)])
            found = [
                part for pair in zip(flat[::2], flat[1::2], strict=True) if horizon.is_behind(pair[1]) for part in pair
            ]
            if found:
                swept += (await ask([("EVAL", _SWEEP, 2, *keys, *found)]))[0]
            if cursor == b"0":
                break
    return swept


async def forget_left(ask: Ask, layout: Layout, view: str, left_before_ms: int) -> int:
    """Have entities of a view, given by its id, forget rows that left them before a time; return how many that were.

    What a worker that was frozen all the while still told them would be news to them. An entity whose text holds a zero
    byte keeps what it has.

    Raises:
        SinkUnavailable: Redis does not answer; some may be left.
    """
    forgotten = 0
    for bucket in range(layout.buckets):
        base = layout.base(bucket)
        gone = f"{base}{GONE}:{view}"
        while members := (
            await ask([("ZRANGE", gone, "-inf", f"({left_before_ms}", "BYSCORE", "LIMIT", 0, SCAN_FIELDS)])
        )[0]:
            parts = [member.partition(b"\0") for member in members]
            keys = [f"{base}{ENTITY}:{view}:".encode() + entity for entity, _, _ in parts]
            rows = [part for (_, _, row), member in zip(parts, members, strict=True) for part in (row, member)]
            forgotten += (await ask([("EVAL", _FORGET, 1 + len(keys), gone, *keys, left_before_ms, *rows)]))[0]
    return forgotten


async def forget_handovers(ask: Ask, layout: Layout, view: str, before_ms: int) -> int:
    """Give back what changes of keys of a view, given by its id, left before a time; return of how many rows.

    By then each of the two keys has been told by the other, or the record that would do so has left the log.

    Raises:
        SinkUnavailable: Redis does not answer; some may be left.
    """
    gone = 0
    for bucket in range(layout.buckets):
        key, cursor = layout.handovers(view, bucket), b"0"
        while True:
            ((cursor, flat),) = await ask([("HSCAN", key, cursor, "COUNT", SCAN_FIELDS)])
            if flat:
                gone += (await ask([("EVAL", _EXPIRE, 1, key, before_ms, *flat[::2])]))[0]
            if cursor == b"0":
                break
    return gone
