"""The views of an installation as they lie in Redis: which there are, and how one is emptied or removed.

Promise: where a view is emptied, rows go together with the offsets that say that they are there, in one call per
bucket. Whoever dies in between leaves what any loss leaves: a FEATURES worker finds it, and fills the view again. A
view that is removed is named until nothing else is left of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from importlib.resources import files
from typing import Any, Self

from schemas.config import RedisConfig
from sinks.redis.floor import SWEEPING
from sinks.redis.layout import (
    ENTITY,
    GONE,
    HANDOVERS,
    LEFT,
    RANKS,
    ROW,
    SHARING_ROW,
    TOMBSTONES,
    Layout,
    read_offset,
    view_of,
)
from sinks.redis.migrate import check_readable
from sinks.redis.standing import UNKNOWN
from sinks.redis.wire import Wire, checked

SCAN_KEYS = 5_000  # looked at in one step, which takes the server a millisecond or two

# KEYS: offsets, standings, counter and floors of a bucket, then what is to go. ARGV: what the views' standings become
# (empty: they go, and their floors, too), then their ids. With the counter gone, feature updates are numbered under
# a new incarnation: what an entity shows is not what it showed last. A row that goes leaves the entity that it was at:
# where it comes back at another one before that is gone as well, a repeat tells it. Answers how many keys went.
_TAKE_AWAY = (
    files("sinks.redis").joinpath("left.lua").read_bytes()
    + b"""
local standing, wanted, gone = ARGV[1], {}, 0
for i = 2, #ARGV do wanted[ARGV[i]] = true end
for i = 1, 2 do
  for _, field in ipairs(redis.call('HKEYS', KEYS[i])) do
    if wanted[string.match(field, '^[^|]*')] then
      redis.call('HDEL', KEYS[i], field)
      if standing ~= '' then redis.call('HSET', KEYS[2], field, standing) end
    end
  end
end
if standing ~= '' then
  redis.call('DEL', KEYS[3])
else
  for view in pairs(wanted) do redis.call('HDEL', KEYS[4], view, view .. '|SWEEPING') end
end
for i = 5, #KEYS do
  local base, view, id = string.match(KEYS[i], '^([^{]*{b%d+}:)r:([^:]*):(.*)$')
  local entity = standing ~= '' and view and redis.call('HGET', KEYS[i], '.e')
  if entity then leave(base .. 'm:' .. view, id, entity) end
  gone = gone + redis.call('UNLINK', KEYS[i])
end
return gone
"""
)


class Views:
    """All views of one installation, by a connection of their own; ids are `<name>.<version>`."""

    def __init__(self, config: RedisConfig) -> None:
        """Connect when first asked."""
        self._layout = Layout(config.key_prefix, config.buckets)
        self._wire = Wire(config)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            SinkUnavailable: Redis does not answer, or is being brought to another layout.
            ConfigurationError: it refuses the user, or holds a layout that this release does not read.
        """
        await self._wire.open()
        try:
            (marker,) = await self._ask([("GET", self._layout.marker)])
            check_readable(marker, self._layout)
        except BaseException:  # not ours to decide: only the connection is
            await self._wire.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave."""
        await self._wire.close()

    async def topic_ids(self) -> dict[str, set[tuple[str, str]]]:
        """Return the views of which Redis knows how far they are, each with the topics that it was filled from, by id.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        buckets = range(self._layout.buckets)
        at = await self._ask([("HGETALL", self._layout.offsets(bucket)) for bucket in buckets])
        standings = await self._ask([("HKEYS", self._layout.standings(bucket)) for bucket in buckets])
        found: dict[str, set[tuple[str, str]]] = {}
        for field in {name.decode() for names in standings for name in names}:
            found.setdefault(view_of(field), set())
        for flat in at:
            for name, text in zip(flat[::2], flat[1::2], strict=True):
                view, _, place = name.decode().partition("|")
                found.setdefault(view, set()).add((place.rpartition("|")[0], read_offset(text.decode())[0]))
        return found

    async def sweeping(self, views: Collection[str]) -> list[str]:
        """Return those of some views of which rows below a floor are on their way out in some bucket, sorted.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        ids = sorted(views)
        asked = [view + SWEEPING for view in ids]
        said = await self._ask([("HMGET", self._layout.floors(b), *asked) for b in range(self._layout.buckets)])
        return [view for at, view in enumerate(ids) if any(causes[at] is not None for causes in said)]

    async def empty(self, views: Collection[str]) -> int:
        """Take away all rows of some views, which are pending from now on; return how many keys that were.

        Which entities a row has ever left stays, as after any loss.

        Their workers find the offsets gone, at their next write or within half a minute, and fill them again.

        Raises:
            SinkUnavailable: Redis does not answer; what is gone is pending.
        """
        ids, standing = sorted(views), UNKNOWN.to_text()
        gone = await self._shared(ids, (TOMBSTONES, GONE, HANDOVERS), standing)
        return gone + await self._rows(ids, ids, standing)

    async def remove(self, views: Collection[str]) -> int:
        """Take away all that there is of some views; return how many keys that were, beside what buckets share.

        What says that a view is there goes last: whoever is stopped in between does it again, and nothing is left.

        Raises:
            SinkUnavailable: Redis does not answer; some of it may be left, and `topic_ids` still names it.
        """
        ids = sorted(views)
        gone = await self._rows(ids, (), "")
        return gone + await self._shared(ids, (TOMBSTONES, GONE, HANDOVERS, LEFT), "")

    async def _shared(self, ids: Sequence[str], kinds: Sequence[str], standing: str) -> int:
        """Take away what the buckets say of views, and of what is kept beside their rows these kinds."""
        layout = self._layout
        keys = {b: [f"{layout.base(b)}{kind}:{id_}" for kind in kinds for id_ in ids] for b in range(layout.buckets)}
        return sum(await self._ask([self._call(b, some, ids, standing) for b, some in keys.items()]))

    async def _rows(self, ids: Sequence[str], told: Sequence[str], standing: str) -> int:
        """Take away the rows of views, and with each what its bucket says of those in `told`."""
        gone, kinds = 0, ROW + SHARING_ROW + ENTITY + RANKS
        for id_ in ids:
            pattern = f"{self._layout.prefix}:{{b*}}:[{kinds}]:{id_}:*"
            cursor: bytes = b"0"
            while True:
                ((cursor, keys),) = await self._ask([("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_KEYS)])
                by_bucket = self._by_bucket(self._layout.of_view(keys, kinds, id_))
                gone += sum(await self._ask([self._call(b, some, told, standing) for b, some in by_bucket.items()]))
                if cursor == b"0":
                    break
        return gone

    def _call(self, bucket: int, keys: Sequence[Any], ids: Sequence[str], standing: str) -> tuple[Any, ...]:
        layout = self._layout
        own = (layout.offsets(bucket), layout.standings(bucket), layout.counter(bucket), layout.floors(bucket))
        return ("EVAL", _TAKE_AWAY, len(own) + len(keys), *own, *keys, standing, *ids)

    def _by_bucket(self, keys: Iterable[bytes]) -> dict[int, list[bytes]]:
        """Return keys by bucket, each entity with its ledger: one that is left would refuse what it was told before."""
        found: dict[int, list[bytes]] = {}
        start = len(self._layout.prefix) + len(":{b")
        for key in keys:
            end = key.index(b"}:", start)
            head, kind, rest = key[: end + 2], key[end + 2 : end + 3], key[end + 3 :]
            kinds = (kind,) if kind == SHARING_ROW.encode() else (ROW.encode(), ENTITY.encode(), RANKS.encode())
            found.setdefault(int(key[start:end]), []).extend(head + each + rest for each in kinds)
        return found

    async def _ask(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        return [checked(reply) for reply in await self._wire.exchange(commands)] if commands else []
