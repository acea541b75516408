"""Dates and times: from the numbers and texts of sources to the contract's texts, by column where they are ordinary.

Each `*_text` takes one value and is right for all that have a form: years beyond 9999 and before 1 are written as
ISO 8601 does, with sign (`+12345-01-01`, `-0043-03-15`; year 0 is 1 BC). What PostgreSQL cannot hold (before 4713 BC,
beyond the microseconds of 64 bits) is out of range: infinities arrive as such numbers. Nanoseconds are cut down to the
microsecond before. The `*_column` functions do many at once with Arrow and may raise anything for what is not ordinary;
then the value alone decides.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.formats.reasons import Rejection
from connectors.formats.texts import arrow_lines
from schemas import moments
from schemas.moments import CYCLE_DAYS, CYCLE_YEARS, EPOCH_ORDINAL, YEAR_1_DAYS, YEAR_9999_DAYS

DAY_US = moments.DAY_US
_DAYS_MIN = -2_440_588  # 4713 BC, the first day of PostgreSQL
_DAYS_MAX = 2_145_042_905  # 5874897-12-31, its last
_MICROS_MIN = _DAYS_MIN * DAY_US
# Infinity: the highest number of 64 bits, or in older connectors that of milliseconds, whatever the unit is.
_MICROS_MAX = 9_223_372_036_825_200_000 - 1
INFINITE = frozenset({(1 << 63) - 1, -(1 << 63)})  # of nanoseconds, too, whose 64 bits end within ordinary years

_DATE = r"([+-]?\d{4,9})-(\d\d)-(\d\d)"
_TIME = r"(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?"
_ZONE = r"(Z|[+-]\d\d(?::?\d\d(?::?\d\d)?)?)"
_ISO_DATE = re.compile(rf"{_DATE}Z?", re.ASCII)
_ISO_TIME = re.compile(rf"{_TIME}{_ZONE}?", re.ASCII)
_ISO_TIMESTAMP = re.compile(rf"{_DATE}[T ]{_TIME}{_ZONE}?", re.ASCII)


def date_text(days: int) -> str:
    """Return the date that lies `days` after 1970-01-01."""
    if not _DAYS_MIN <= days <= _DAYS_MAX:
        raise Rejection("out_of_range")
    return moments.date_text(days)


def time_text(micros: int) -> str:
    """Return the time of day that lies `micros` after midnight; 24:00 has no form."""
    if not 0 <= micros < DAY_US:
        raise Rejection("out_of_range")
    return moments.time_text(micros)


def timestamp_text(micros: int) -> str:
    """Return the timestamp without zone that lies `micros` after 1970-01-01T00:00:00."""
    if not _MICROS_MIN <= micros <= _MICROS_MAX:
        raise Rejection("out_of_range")
    return moments.timestamp_text(micros)


def nanos_text(nanos: int) -> str:
    """Return the timestamp without zone that lies `nanos` after 1970-01-01T00:00:00, an infinity being none."""
    if nanos in INFINITE:
        raise Rejection("out_of_range")
    return timestamp_text(nanos // 1_000)


def datetime_text(micros: int) -> str:
    """Return `timestamp_text` of the years 1 to 9999; others are out of range."""
    if not YEAR_1_DAYS <= micros // DAY_US <= YEAR_9999_DAYS:
        raise Rejection("out_of_range")
    return timestamp_text(micros)


def days_of(text: str) -> int:
    """Return the days since 1970-01-01 of an ISO date; the `Z` that Debezium writes behind it says nothing."""
    match = _ISO_DATE.fullmatch(text)
    if match is None:
        raise Rejection("bad_type" if text.lstrip("+-") != "infinity" else "out_of_range")
    return _days(*match.groups())


def time_micros_of(text: str) -> int:
    """Return the microseconds since midnight of an ISO time, in UTC where it has an offset."""
    match = _ISO_TIME.fullmatch(text)
    if match is None:
        raise Rejection("bad_type")
    *parts, zone = match.groups()
    micros = _time(*parts)
    return micros if not zone or zone == "Z" else (micros - _offset(zone)) % DAY_US


def micros_of(text: str) -> int:
    """Return the microseconds since 1970-01-01T00:00:00 of an ISO timestamp, in UTC where it has an offset."""
    match = _ISO_TIMESTAMP.fullmatch(text)
    if match is None:
        raise Rejection("bad_type" if text.lstrip("+-") != "infinity" else "out_of_range")
    year, month, day, *clock, zone = match.groups()
    return _days(year, month, day) * DAY_US + _time(*clock) - (_offset(zone) if zone else 0)


def _days(year: str, month: str, day: str) -> int:
    return days_since_epoch(int(year), int(month), int(day))


def days_since_epoch(year: int, month: int, day: int) -> int:
    """Return the days since 1970-01-01 of a day of any year; year 0 is 1 BC."""
    cycles, near = divmod(year - 1, CYCLE_YEARS)
    try:
        ordinal = dt.date(near + 1, month, day).toordinal()
    except (ValueError, OverflowError):
        raise Rejection("bad_type") from None
    return ordinal - EPOCH_ORDINAL + cycles * CYCLE_DAYS


def _time(hour: str, minute: str, second: str | None, fraction: str | None) -> int:
    hours, minutes, seconds = int(hour), int(minute), int(second or 0)
    micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + int((fraction or "0").ljust(6, "0")[:6])
    if hours > 24 or minutes > 59 or seconds > 59 or micros > DAY_US:  # noqa: PLR2004 - the clock's own numbers
        raise Rejection("bad_type")
    return micros


def _offset(zone: str) -> int:
    if zone == "Z":
        return 0
    digits = zone[1:].replace(":", "").ljust(6, "0")
    offset = _time(digits[:2], digits[2:4], digits[4:], None)
    if offset >= DAY_US:
        raise Rejection("bad_type")
    return offset if zone[0] == "+" else -offset


def date_column(values: list[int]) -> list[str]:
    """Return `date_text` of many."""
    array = pa.array(values, pa.int32())
    _whole(array)
    return days_column(array)


def days_column(days: Any) -> list[str]:
    """Return dates of an Arrow array of days since 1970, 32 bits each; of ordinary years only."""
    _within(days, YEAR_1_DAYS, YEAR_9999_DAYS)
    return arrow_lines(days.view(pa.date32()).cast(pa.string())).split("\n")


def time_column(factor: int, divisor: int = 1) -> Callable[[list[int]], list[str]]:
    """Return the function for numbers that are microseconds since midnight once times `factor` by `divisor`."""

    def convert(values: list[int]) -> list[str]:
        array = _scaled(values, factor, divisor)
        _within(array, 0, DAY_US - 1)
        return arrow_lines(array.view(pa.time64("us")).cast(pa.string())).split("\n")

    return convert


def timestamp_column(factor: int, divisor: int = 1, suffix: str = "") -> Callable[[list[int]], list[str]]:
    """Return the function for numbers that are microseconds since 1970 once times `factor`, divided by `divisor`."""

    def convert(values: list[int]) -> list[str]:
        if divisor != 1 and not INFINITE.isdisjoint(values):
            raise Rejection("out_of_range")
        return micros_column(_scaled(values, factor, divisor), suffix)

    return convert


def zoned_column(values: list[str]) -> list[str]:
    """Return timestamps in UTC of texts with an offset; the very list where all have the contract's form."""
    array = pa.array(values, pa.string()).cast(pa.timestamp("us", "UTC"))
    joined = "".join(values)
    count = len(values)
    # Arrow took them, so each ends in its only Z: where every 27th character is one, all are 27 long.
    if len(joined) == 27 * count and joined[10::27] == "T" * count and joined[26::27] == "Z" * count:
        return values
    if set(map(itemgetter(13), values)) != {":"}:
        raise Rejection("bad_type")  # of this shortcut: Arrow takes hours without minutes
    return micros_column(array.view(pa.int64()), "Z")


def micros_column(micros: Any, suffix: str) -> list[str]:
    """Return timestamps of an Arrow array of microseconds since 1970, each with `suffix`; of ordinary years only."""
    _within(micros, YEAR_1_DAYS * DAY_US, (YEAR_9999_DAYS + 1) * DAY_US - 1)
    texts = micros.view(pa.timestamp("us")).cast(pa.string())  # with a zone this cast is five times as slow
    lines = arrow_lines(texts, suffix)
    assert len(lines) + 1 == (27 + len(suffix)) * len(texts), "four digits of year and six of fraction"
    return lines.replace(" ", "T").split("\n")


def _scaled(values: list[int], factor: int, divisor: int) -> Any:
    if divisor != 1:
        return pa.array([value // divisor for value in values], pa.int64())  # floor, also before 1970
    array = pa.array(values, pa.int64())
    _whole(array)
    return array if factor == 1 else pc.multiply_checked(array, factor)


def _whole(array: Any) -> None:
    if array.null_count:
        raise Rejection("bad_type")  # of these shortcuts: the caller takes nulls out and asks again


def _within(array: Any, low: int, high: int) -> None:
    bounds = pc.min_max(array)
    if bounds["min"].as_py() < low or bounds["max"].as_py() > high:
        raise Rejection("out_of_range")
