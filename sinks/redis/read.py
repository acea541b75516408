"""The read side: latest values of an entity, with null and unavailable told apart, and whether its view is complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.asyncio import Redis

from schemas.config import RedisConfig
from schemas.feature import View
from sinks.redis.floor import floor_fields, floor_of
from sinks.redis.generation import said_position
from sinks.redis.layout import ENTITY, RANKS, Layout, entity_text
from sinks.redis.rows import EVENT_TIME
from sinks.redis.standing import Standing, standing_of

RANKS_READ = 500


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """What a view says of one entity. A column in none of `values`, `null` and `unavailable` was absent.

    Values are text as the column has it, everything else as in the contract's JSON (`schemas/types.py`).
    """

    values: dict[str, str]
    null: frozenset[str]
    unavailable: frozenset[str]
    position: str
    event_time: str | None


def row_of(fields: Mapping[bytes, bytes], floor: str = "") -> FeatureRow | None:
    """Return the row that a hash of HGETALL holds; None: no such entity, a deleted one, or one below its view's floor.

    A value that is from below the floor is unavailable.
    """
    text = {name.decode(): value.decode() for name, value in fields.items()}
    if ".p" not in text or text[".p"] < floor:
        return None
    lost = {name[len(".p.") :] for name, at in text.items() if name.startswith(".p.") and at < floor}
    return FeatureRow(
        values={name: value for name, value in text.items() if not name.startswith(".") and name not in lost},
        null=_names(text.get(".null")) - lost,
        unavailable=_names(text.get(".unavailable")) | {name for name in lost if not name.startswith(".")},
        position=said_position(text[".p"]),
        event_time=None if EVENT_TIME in lost else text.get(EVENT_TIME),
    )


@dataclass(frozen=True, slots=True)
class EntityRead:
    """What a view says of one entity, and how the view stands: while that is pending, the row may be old or missing.

    While it is `sweeping`, rows below its floor may still lie in Redis; this read has passed over them.
    """

    row: FeatureRow | None
    standing: Standing
    sweeping: bool = False


async def get_entity(redis: Redis, config: RedisConfig, view: View, entity_key: Sequence[str]) -> FeatureRow | None:
    """Return the latest values of an entity, or None if it does not live.

    `entity_key` are the texts of the view's key columns, in the order of the spec. `redis` must not decode responses.
    """
    return (await read_entity(redis, config, view, entity_key)).row


async def read_entity(redis: Redis, config: RedisConfig, view: View, entity_key: Sequence[str]) -> EntityRead:
    """Return the latest values of an entity, as `get_entity` does, and whether its view holds what its table does."""
    layout = Layout(config.key_prefix, config.buckets)
    name, entity = view.id, entity_text(entity_key)
    bucket = layout.bucket(entity)
    async with redis.pipeline(transaction=False) as pipe:
        pipe.hgetall(layout.standings(bucket))
        pipe.hmget(layout.floors(bucket), list(floor_fields(name)))
        pipe.hgetall(layout.values(name, entity))
        standings, floors, fields = await pipe.execute()
    floor = floor_of(floors)
    row = row_of(fields, floor.position)
    if row is None and fields and floor.sweeping:
        row = await _shown_instead(redis, layout, name, entity, floor.position)
    return EntityRead(row, standing_of(name, standings), bool(floor.sweeping))


async def _shown_instead(redis: Redis, layout: Layout, view: str, entity: str, floor: str) -> FeatureRow | None:
    """Return the row that an entity shows which shows one below the floor, of those that share it: none, if it is one.

    It is what the sweep will leave there.
    """
    base, last = layout.base(layout.bucket(entity)), b"+"
    client: Any = redis  # its types do not know that it does not decode
    while ranks := await client.zrevrangebylex(f"{base}{RANKS}:{view}:{entity}", last, "-", start=0, num=RANKS_READ):
        for rank in ranks:
            _, position, row = rank.split(b"\0", 2)
            text = await client.hget(f"{base}{ENTITY}:{view}:{entity}", row) if position.decode() >= floor else None
            told = msgspec.msgpack.decode(text, type=tuple[str, str, list[str] | bool]) if text else None
            if told is not None and isinstance(told[2], list):
                fields = [part.encode() for part in told[2]]
                return row_of(dict(zip(fields[::2], fields[1::2], strict=True)), floor)
        last = b"(" + ranks[-1]
    return None


def _names(text: str | None) -> frozenset[str]:
    names = msgspec.json.decode(text, type=list[str]) if text else []
    return frozenset(name for name in names if not name.startswith("."))
