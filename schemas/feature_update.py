"""A feature update, as readers of `headgate.features.<view>` get it: what an entity's features were, and are now.

The record's key is the entity's text, as in Redis; its partition is the bucket modulo the topic's partitions. A reader
keeps (incarnation, number) for each bucket and drops what is not above; another incarnation starts anew.
"""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.change import Origin

HEADER_VIEW = "view"


class FeatureUpdate(msgspec.Struct, gc=False):
    """The value: features have the JSON forms of the contract, null ones are there as null.

    `before` and `after` are what a reader of HGETALL would have seen; None: the entity had, has no live row. Columns
    that are not known have no field and are named in `unavailable_before` and `unavailable`. `key`, `position`, `ts`
    and `origin` are those of the change that caused it. `snapshot`: a row that was only read caused it, or the loading
    of a view. `number` rises by one per bucket and incarnation.
    """

    view: str
    version: int
    entity: dict[str, Any]
    op: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    unavailable_before: list[str]
    unavailable: list[str]
    table: str
    key: dict[str, Any]
    position: str
    ts: str
    snapshot: bool
    replay: bool
    origin: Origin
    bucket: int
    incarnation: str
    number: int
