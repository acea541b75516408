"""Structured temporals, Debezium's `time.precision.mode=structured`: a date or time as the numbers of its fields.

A field that is not there, or one more, is refused: the count of keys by which a record is found clean (inspection.py)
relies on each of them having all its fields. Infinities come as `specialValue` with all other fields null.
"""

from __future__ import annotations

from typing import Any

import msgspec

from connectors.formats import temporal
from connectors.formats.forms import Maker, by
from connectors.formats.reasons import Rejection
from schemas.types import Kind

_SECOND_NS = 1_000_000_000
_DAY_NS = 86_400 * _SECOND_NS
_INFINITIES = {"POSITIVE_INFINITY": "infinity", "NEGATIVE_INFINITY": "-infinity"}

Number = int | None


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What all of them share."""


class StructuredDate(_Strict, frozen=True):
    """`io.debezium.time.StructuredDate`."""

    year: Number
    month: Number
    day: Number
    special: str | None = msgspec.field(name="specialValue")


class StructuredTime(_Strict, frozen=True):
    """`io.debezium.time.StructuredTime`."""

    hour: Number
    minute: Number
    second: Number
    nanos: Number
    precision: Number


class StructuredZonedTime(_Strict, frozen=True):
    """`io.debezium.time.StructuredZonedTime`."""

    hour: Number
    minute: Number
    second: Number
    nanos: Number
    offset: Number = msgspec.field(name="offsetSeconds")
    precision: Number


class StructuredTimestamp(_Strict, frozen=True):
    """`io.debezium.time.StructuredTimestamp`."""

    year: Number
    month: Number
    day: Number
    hour: Number
    minute: Number
    second: Number
    nanos: Number
    special: str | None = msgspec.field(name="specialValue")
    precision: Number


class StructuredZonedTimestamp(_Strict, frozen=True):
    """`io.debezium.time.StructuredZonedTimestamp`."""

    year: Number
    month: Number
    day: Number
    hour: Number
    minute: Number
    second: Number
    nanos: Number
    offset: Number = msgspec.field(name="offsetSeconds")
    zone: str | None = msgspec.field(name="zoneId")
    special: str | None = msgspec.field(name="specialValue")
    precision: Number


class StructuredDuration(_Strict, frozen=True):
    """`io.debezium.time.StructuredDuration`."""

    years: Number
    months: Number
    days: Number
    hours: Number
    minutes: Number
    seconds: Number
    nanos: Number
    precision: Number


def _days(value: Any) -> int:
    """Return days since 1970-01-01."""
    if value.special is not None:
        raise Rejection("out_of_range")
    if None in (value.year, value.month, value.day):
        raise Rejection("bad_type")
    return temporal.days_since_epoch(value.year, value.month, value.day)


def _day_nanos(value: Any) -> int:
    """Return nanoseconds since midnight, at most those of a whole day."""
    hour, minute, second, nanos = value.hour, value.minute, value.second, value.nanos
    if None in (hour, minute, second, nanos):
        raise Rejection("bad_type")
    total = ((hour * 60 + minute) * 60 + second) * _SECOND_NS + nanos
    if not (0 <= minute <= 59 and 0 <= second <= 59 and 0 <= nanos < _SECOND_NS and 0 <= total <= _DAY_NS):  # noqa: PLR2004 - the clock's own numbers
        raise Rejection("out_of_range")
    return int(total)


def _offset(value: Any) -> int:
    """Return seconds east of UTC, less than a day of them."""
    if value.offset is None or abs(value.offset) >= 86_400:  # noqa: PLR2004 - seconds of a day
        raise Rejection("bad_type")
    return int(value.offset)


def date(value: StructuredDate) -> str:
    """Return the contract's date."""
    return temporal.date_text(_days(value))


def time(value: StructuredTime) -> str:
    """Return the contract's time; 24:00 has no form."""
    return temporal.time_text(_day_nanos(value) // 1_000)


def zoned_time(value: StructuredZonedTime) -> str:
    """Return the contract's time, in UTC."""
    nanos = _day_nanos(value)
    if not (offset := _offset(value)):
        return temporal.time_text(nanos // 1_000)
    return temporal.time_text((nanos - offset * _SECOND_NS) % _DAY_NS // 1_000)


def timestamp(value: StructuredTimestamp) -> str:
    """Return the contract's timestamp."""
    return temporal.timestamp_text(_days(value) * temporal.DAY_US + _day_nanos(value) // 1_000)


def zoned_timestamp(value: StructuredZonedTimestamp) -> str:
    """Return the contract's timestamp in UTC."""
    micros = _days(value) * temporal.DAY_US + (_day_nanos(value) - _offset(value) * _SECOND_NS) // 1_000
    return temporal.timestamp_text(micros) + "Z"


def date_as_text(value: Any) -> str:
    """Return an ISO date, `infinity` or `-infinity`."""
    if value.special in _INFINITIES:
        return _INFINITIES[value.special]
    return temporal.date_text(_days(value))


def time_as_text(value: Any) -> str:
    """Return an ISO time, also 24:00: six digits behind the seconds, nine where the source has so many."""
    nanos = _day_nanos(value)
    seconds, fraction = divmod(nanos, _SECOND_NS)
    digits = f"{fraction:09d}" if fraction % 1_000 else f"{fraction // 1_000:06d}"
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{digits}"


def zoned_time_as_text(value: StructuredZonedTime) -> str:
    """Return an ISO time with its offset."""
    return time_as_text(value) + _offset_text(value)


def timestamp_as_text(value: Any) -> str:
    """Return an ISO timestamp, `infinity` or `-infinity`."""
    return date_as_text(value) if value.special else f"{date_as_text(value)}T{time_as_text(value)}"


def zoned_timestamp_as_text(value: StructuredZonedTimestamp) -> str:
    """Return an ISO timestamp with its offset and, in brackets as Java writes it, the zone that is more than that."""
    if value.special:
        return date_as_text(value)
    offset = _offset_text(value)
    zone = "" if value.zone is None or value.zone in {"Z", offset} else f"[{value.zone}]"
    return timestamp_as_text(value) + offset + zone


def duration_as_text(value: StructuredDuration) -> str:
    """Return what `interval.handling.mode=string` writes, such as `P1Y2M3DT4H5M6.78S`."""
    numbers = (value.years, value.months, value.days, value.hours, value.minutes, value.seconds, value.nanos)
    if None in numbers:
        raise Rejection("bad_type")
    years, months, days, hours, minutes, seconds, nanos = numbers
    whole, fraction = divmod(abs(seconds * _SECOND_NS + nanos), _SECOND_NS)  # type: ignore[operator]
    sign = "-" if seconds * _SECOND_NS + nanos < 0 else ""  # type: ignore[operator]
    exact = f"{sign}{whole}.{fraction:09d}".rstrip("0").rstrip(".")
    return f"P{years}Y{months}M{days}DT{hours}H{minutes}M{exact}S"


def _offset_text(value: Any) -> str:
    offset = _offset(value)
    if not offset:
        return "Z"
    minutes, seconds = divmod(abs(offset), 60)
    rest = f":{seconds:02d}" if seconds else ""
    return f"{'-' if offset < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}{rest}"


STRUCTURED: dict[str, dict[Kind, Maker]] = {
    "time.StructuredDate": {Kind.DATE: by(StructuredDate, date), Kind.STRING: by(StructuredDate, date_as_text)},
    "time.StructuredTime": {Kind.TIME: by(StructuredTime, time), Kind.STRING: by(StructuredTime, time_as_text)},
    "time.StructuredZonedTime": {
        Kind.TIME: by(StructuredZonedTime, zoned_time),
        Kind.STRING: by(StructuredZonedTime, zoned_time_as_text),
    },
    "time.StructuredTimestamp": {
        Kind.TIMESTAMP: by(StructuredTimestamp, timestamp),
        Kind.STRING: by(StructuredTimestamp, timestamp_as_text),
    },
    "time.StructuredZonedTimestamp": {
        Kind.TIMESTAMPTZ: by(StructuredZonedTimestamp, zoned_timestamp),
        Kind.STRING: by(StructuredZonedTimestamp, zoned_timestamp_as_text),
    },
    "time.StructuredDuration": {Kind.STRING: by(StructuredDuration, duration_as_text)},
}
