"""The read side: latest values of an entity, with null and unavailable told apart, and whether its view is complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import msgspec
from redis.asyncio import Redis

from schemas.config import RedisConfig
from schemas.feature import View
from sinks.redis.layout import Layout, entity_text
from sinks.redis.rows import EVENT_TIME, view_id
from sinks.redis.standing import Standing, standing_of


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


def row_of(fields: Mapping[bytes, bytes]) -> FeatureRow | None:
    """Return the row that a hash of HGETALL holds; None: no such entity, or a deleted one."""
    if b".p" not in fields:
        return None
    text = {name.decode(): value.decode() for name, value in fields.items()}
    return FeatureRow(
        values={name: value for name, value in text.items() if not name.startswith(".")},
        null=_names(text.get(".null")),
        unavailable=_names(text.get(".unavailable")),
        position=text[".p"],
        event_time=text.get(EVENT_TIME),
    )


@dataclass(frozen=True, slots=True)
class EntityRead:
    """What a view says of one entity, and how the view stands: while that is pending, the row may be old or missing."""

    row: FeatureRow | None
    standing: Standing


async def get_entity(redis: Redis, config: RedisConfig, view: View, entity_key: Sequence[str]) -> FeatureRow | None:
    """Return the latest values of an entity, or None if it does not live.

    `entity_key` are the texts of the view's key columns, in the order of the spec. `redis` must not decode responses.
    """
    layout = Layout(config.key_prefix, config.buckets)
    fields = await redis.hgetall(layout.values(view_id(view), entity_text(entity_key)))
    return row_of(cast("Mapping[bytes, bytes]", fields))


async def read_entity(redis: Redis, config: RedisConfig, view: View, entity_key: Sequence[str]) -> EntityRead:
    """Return the latest values of an entity, as `get_entity` does, and whether its view holds what its table does."""
    layout = Layout(config.key_prefix, config.buckets)
    name, entity = view_id(view), entity_text(entity_key)
    async with redis.pipeline(transaction=False) as pipe:
        pipe.hgetall(layout.standings(layout.bucket(entity)))
        pipe.hgetall(layout.values(name, entity))
        standings, fields = await pipe.execute()
    return EntityRead(row_of(fields), standing_of(name, standings))


def _names(text: str | None) -> frozenset[str]:
    names = msgspec.json.decode(text, type=list[str]) if text else []
    return frozenset(name for name in names if not name.startswith("."))
