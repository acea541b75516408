"""A change, as the contract with subscribers writes it: one value on `headgate.changes.<table>` per row-level event.

The layout is frozen (docs/contract.md). `streams/normalize.py` writes it; every other stage
and every subscriber reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

import msgspec

CONTRACT_VERSION = 1

HEADER_TABLE = "headgate.table"
HEADER_SCHEMA_VERSION = "headgate.schema"
HEADER_REPLAY = "headgate.replay"
HEADER_INTO = "headgate.into"  # of a replayed change: the stages that take it; without it all but ALERTS do
HEADER_FIRST_ORIGIN = "headgate.first-origin"  # of a record that was redriven or parked: where it was read at first
HEADER_TIME = "headgate.time"  # before those two: the time that Kafka had of it there, in milliseconds
HEADER_MEMORY = "headgate.memory"  # before it, of the first parked record of a run: what was seen of its table before

Headers = Sequence[tuple[str, bytes | None]]


def is_replay(headers: Headers) -> bool:
    """Say whether a record is marked as part of a replay."""
    return any(name == HEADER_REPLAY for name, _ in headers)


def is_silent(headers: Headers) -> bool:
    """Say whether a record is part of a replay that fires no alerts."""
    return is_replay(headers) and "alerts" not in _into(headers)


def is_for(stage: str, headers: Headers) -> bool:
    """Say whether a stage (`features`, `lake`) takes a record: each does, unless it is of a replay into others."""
    into = _into(headers)
    return not into or stage in into


def _into(headers: Headers) -> list[str]:
    return next(((text or b"").decode().split(",") for name, text in headers if name == HEADER_INTO), [])


class Operation(StrEnum):
    """What happened to a row; `snapshot` is a row read, not changed."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    SNAPSHOT = "snapshot"
    TRUNCATE = "truncate"
    FLOOR = "floor"


# Where a change was read, its identity: topic, generation, partition, offset; and, of each change of a record but the
# first, which one of the record it is.
Origin = Annotated[tuple[str | int, ...], msgspec.Meta(min_length=4, max_length=5)]


class Height(NamedTuple):
    """How far an origin stream is known: the offset of a record, and which of its changes; heights compare."""

    offset: int
    row: int = 0


NOTHING_SEEN = Height(-1)


class ChangeSource(msgspec.Struct, gc=False, omit_defaults=True):
    """Where a change comes from; `previous` is the origin offset of the change before it in the same stream.

    `rows` is how many changes its record made; left out where it made one, as nearly all do.
    """

    connector: str
    name: str
    table: str
    tx: str | None
    snapshot: bool
    origin: Origin
    first_origin: Origin | None
    previous: int | None
    rows: int = 1


class ChangeValue(msgspec.Struct, gc=False):
    """The value of the contract; rows are JSON objects whose values have the forms of `schemas/types.py`.

    A column named in `unavailable` has no field in `after`: the source did not send it. A column that is null has the
    field with null. A column that is in neither was absent.
    """

    op: str
    key: Any
    old_key: Any
    new_key: Any
    before: Any
    after: Any
    position: str
    ts: str
    unavailable: list[str]
    source: ChangeSource
