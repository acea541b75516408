"""Event times as digits, so that comparing text compares time. Pure.

Redis compares text by the locale of its server; digits of one width have one order in all of them.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import msgspec

from schemas.errors import PoisonRecord, TableStopped
from schemas.types import DECIMAL_PRECISION_MAX, ColumnType, Kind

_DATES = frozenset({Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ})
_WHOLE = frozenset({Kind.INT, Kind.LONG, Kind.DECIMAL})
_FLOATS = frozenset({Kind.FLOAT, Kind.DOUBLE})
_DIGITS = DECIMAL_PRECISION_MAX + 1
_U64 = 2**64


def check_event_time(column: ColumnType, view: str) -> None:
    """Refuse a type that has no order in time.

    Raises:
        TableStopped: the view cannot say which row is the latest.
    """
    if column.kind not in _DATES | _WHOLE | _FLOATS:
        raise TableStopped(
            "event_time_type",
            f"view {view}: {column} has no order as event time",
            hint="name a column that is a date, a timestamp or a number",
        )


def event_order(column: ColumnType, value: Any) -> Any:
    """Return digits of one width per type that compare as the values do; null and absent stay what they are.

    Raises:
        PoisonRecord: the value is not one of its type.
    """
    if value is None or value is msgspec.UNSET:
        return value
    if value == "null":
        return None
    text = str(value)
    try:
        return _float_order(float(text)) if column.kind in _FLOATS else _whole_order(text)
    except ValueError:
        raise PoisonRecord("bad_contract", f"an event time is no {column}") from None


def _whole_order(text: str) -> str:
    """Order numbers, and dates and times, whose digits are a number: the parts have fixed widths from the right."""
    digits = text.lstrip("-").translate(_PUNCTUATION)
    number = -int(digits) if text.startswith("-") else int(digits)
    return f"{number + 10**_DIGITS:0{_DIGITS + 1}d}"


_PUNCTUATION = {ord(mark): None for mark in "-:.TZ"}


def _float_order(number: float) -> str:
    """Order floats by their bits (IEEE 754): negative ones inverted, positive ones above them; NaN lowest of all."""
    if math.isnan(number):
        return "0" * 20
    (bits,) = struct.unpack(">Q", struct.pack(">d", number + 0.0))
    return f"{(_U64 - 1 - bits) if bits >> 63 else bits + _U64 // 2:020d}"
