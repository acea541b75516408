"""The floor of a view: as a change says it, as the ledger is told it, and as readers find it in Redis. Pure.

Each bucket keeps, in the hash `floor`, the position below which a view's rows are dead, and while such rows may be left
there also `<view>|SWEEPING`: what feature updates say of their cause, but for the key of the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from schemas.change import Operation, Origin
from schemas.errors import PoisonRecord
from sinks.redis.layout import FLOOR

SWEEPING = "|SWEEPING"

_encode = msgspec.json.encode


class _Source(msgspec.Struct, gc=False):
    origin: Origin


class FloorChange(msgspec.Struct, gc=False):
    """A floor as the contract has it; the lake's have all of these, too."""

    op: str
    position: str
    ts: str
    source: _Source


_floor_change = msgspec.json.Decoder(FloorChange)


class ViewFloor(NamedTuple):
    """The floor of a view in Redis, and what updates say of their cause while rows below it may be left; else empty."""

    position: str = ""
    sweeping: str = ""


def read_floor(value: bytes) -> FloorChange:
    """Return the floor that a value of the contract is.

    Raises:
        PoisonRecord: it is none.
    """
    try:
        floor = _floor_change.decode(value)
        if floor.op == Operation.FLOOR and floor.position.isdecimal() and floor.position.isascii():
            return floor
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass  # what is wrong with it may hold a value
    raise PoisonRecord("bad_contract", "a floor without position, time or origin", hint="who else writes to the topic?")


def sweeping_text(floor: FloorChange, *, snapshot: bool, replay: bool) -> str:
    """Return what stands in Redis of the cause of the deletes that a floor brings; it is never empty."""
    parts = [floor.position, floor.ts, snapshot, replay, floor.source.origin]
    return _encode(parts).decode().removeprefix("[")


def cause_of(key: Mapping[str, Any], sweeping: str) -> str:
    """Return the cause (`updates.Cause`) of the delete of a row with this key."""
    return f"[{_encode(key).decode()},{sweeping}"


@dataclass(slots=True)
class FloorSection:
    """What raises the floor of a view in one bucket; the highest of those that it is told counts."""

    view: str
    floor: ViewFloor
    emits: bool = False  # the sweep does

    def arguments(self) -> list[Any]:
        """Return the section as `ledger.lua` reads it."""
        return [FLOOR, self.view, "", 0, 2, *self.floor]


def floor_fields(view: str) -> tuple[str, str]:
    """Return the fields of a view, given by its id, in the hash of floors."""
    return view, view + SWEEPING


def floor_of(texts: Sequence[bytes | None]) -> ViewFloor:
    """Return the floor that the values of `floor_fields` are."""
    position, sweeping = ((text or b"").decode() for text in texts)
    return ViewFloor(position, sweeping)
