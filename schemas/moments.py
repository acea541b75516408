"""Days, times of day and moments of any year, as the texts that the contract has for them.

Years beyond 9999 and before 1, which Python's types do not have, are written as ISO 8601 does, with a sign
(`+12345-01-01`, `-0043-03-15`; the year 0 is 1 BC).
"""

from __future__ import annotations

import datetime as dt

DAY_US = 86_400_000_000
YEAR_1_DAYS = -719_162  # days since 1970-01-01
YEAR_9999_DAYS = 2_932_896
EPOCH_ORDINAL = dt.date(1970, 1, 1).toordinal()
CYCLE_DAYS, CYCLE_YEARS = 146_097, 400  # the Gregorian calendar repeats
_YEAR_DIGITS_MAX = 9_999


def date_text(days: int) -> str:
    """Return the date that lies `days` after 1970-01-01."""
    if YEAR_1_DAYS <= days <= YEAR_9999_DAYS:
        return dt.date.fromordinal(days + EPOCH_ORDINAL).isoformat()
    cycles = (days - YEAR_1_DAYS) // CYCLE_DAYS
    near = dt.date.fromordinal(days - cycles * CYCLE_DAYS + EPOCH_ORDINAL)
    year = near.year + cycles * CYCLE_YEARS
    digits = f"{year:+05d}" if year < 0 or year > _YEAR_DIGITS_MAX else f"{year:04d}"
    return f"{digits}-{near.month:02d}-{near.day:02d}"


def time_text(micros: int) -> str:
    """Return the time of day that lies `micros` after midnight.

    Raises:
        ValueError: it is none; 24:00 has no form.
    """
    if not 0 <= micros < DAY_US:
        raise ValueError("no time of day")
    seconds, fraction = divmod(micros, 1_000_000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{fraction:06d}"


def timestamp_text(micros: int) -> str:
    """Return the timestamp without zone that lies `micros` after 1970-01-01T00:00:00."""
    days, rest = divmod(micros, DAY_US)
    return f"{date_text(days)}T{time_text(rest)}"
