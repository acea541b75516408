"""Deletes whose key the source has lost: PostgreSQL's REPLICA IDENTITY USING INDEX sends zeros in its place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from connectors.formats.part import Part
from connectors.formats.reasons import Rejection

# What PostgreSQL's connector writes for a NOT NULL column that was not logged: as the contract has it, and on the wire.
_ZEROS = (0, False, "1970-01-01", "1970-01-01T00:00:00.000000", "1970-01-01T00:00:00.000000Z", "00:00:00.000000")
_NOTHINGS: tuple[Any, ...] = (
    0,
    False,
    "",
    [],
    "AA==",
    "1970-01-01T00:00:00Z",
    "1970-01-01T00:00:00.000000Z",
    "00:00:00Z",
)
_row = msgspec.json.Decoder(dict[str, Any]).decode


def check_zero_keys(part: Part, names: list[str]) -> None:
    """Reject deletes of PostgreSQL whose key is all zeros while the row before holds more than its key.

    So REPLICA IDENTITY USING INDEX tells of deletes: with the index's columns, and zeros for the key that it has not.
    Under DEFAULT the row before has nothing but the key; FULL has all, which the spec then says by `before: full`.
    """
    if part.layout.dialect != "postgresql" or part.layout.before or "d" not in part.codes:
        return
    suspects = [
        i
        for i, (code, key) in enumerate(zip(part.codes, part.keys, strict=True))
        if code == "d" and key is not None and i not in part.faults and all(map(_is_zero, msgspec.structs.astuple(key)))
    ]
    lost = [i for i in suspects if not all(map(_is_nothing, _others(part.entries[i].before, names)))]
    part.reject(
        {i: Rejection("zero_key", "the delete's key is the zero value, and its row holds other columns") for i in lost}
    )


def is_lost_key(key: Iterable[Any], others: Iterable[Any]) -> bool:
    """Tell whether the values of a delete's key are the zeros of a lost one: its row holds more than its key."""
    return all(map(_is_zero, key)) and not all(map(_is_nothing, others))


def _others(before: msgspec.Raw, names: list[str]) -> list[Any]:
    """Return the values beside the key's; none where `before` is no row that can be read: nobody asked for it."""
    try:
        return [value for name, value in _row(before).items() if name not in names]
    except (msgspec.MsgspecError, RecursionError):
        return []


def _is_zero(value: Any) -> bool:
    """Tell whether a value of a key is what stands for a NOT NULL column that the source did not log."""
    return value in _ZEROS or (isinstance(value, str) and not value.strip("0."))


def _is_nothing(value: Any) -> bool:
    """Tell whether a value of the wire says nothing: null, or what stands for it where a column is NOT NULL."""
    inside = value.values() if isinstance(value, dict) else [value]  # a decimal of its own scale is an object
    return all(each is None or each in _NOTHINGS for each in inside)
