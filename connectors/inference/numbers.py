"""What numbers may be: integers of 64 bits or beyond, binary floats, or decimals written as numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from connectors.inference.choice import Choice, Sure
from connectors.inference.fitting import ANY_TEXT, Way
from schemas.types import ColumnType, Kind

_LONG = Way(ColumnType(Kind.LONG), "int")
_BIG = Way(ColumnType(Kind.STRING), "int")
_DOUBLE = Way(ColumnType(Kind.DOUBLE), "double")
_DECIMAL = Way(ColumnType(Kind.STRING), "number")
_INT64 = range(-(2**63), 2**63)
_DOUBLE_DIGITS = 17
_DOUBLE_WHOLE_MAX = 2**53  # up to here a double holds every integer
# Integers from a start up to forty times it lie between 1973 and 2096, and are rarely anything else.
_EPOCHS = ((10**11, "time.Timestamp"), (10**14, "time.MicroTimestamp"), (10**17, "time.NanoTimestamp"))
_EPOCH_SPAN = 40
_NAME_OF_DATE = re.compile(r"(?:^|_)(?:date|day|born|birth\w*|dob|on)$", re.IGNORECASE)
_DAYS = range(-36_525, 47_482)  # 1870 to 2099
MAY_BE_TIME = "may be time."  # so the warning of a column of integers begins that may be times
_INTEGERS = "integers; long, since later ones may be larger than those that were seen"


class Numbers:
    """The numbers of one column, so far."""

    def __init__(self) -> None:
        """Have seen none."""
        self._low = self._high = 0
        self._whole = False
        self._binary = True

    def absorb_integers(self, values: Sequence[int]) -> None:
        """Take integers."""
        low, high = min(values), max(values)
        if self._whole:
            low, high = min(low, self._low), max(high, self._high)
        self._low, self._high, self._whole = low, high, True

    def absorb_decimals(self, values: Sequence[Decimal]) -> None:
        """Take numbers that were written with a point or an exponent."""
        self._binary = self._binary and all(map(is_of_a_double, values))

    def of_integers(self, name: str) -> Choice:
        """Return how to read a column of integers alone; its name may hint at dates."""
        if self._low not in _INT64 or self._high not in _INT64:
            return Choice(_BIG, Sure.MEDIUM, "integers beyond 64 bits: a string keeps all digits")
        if (encoding := self._maybe_time(name)) is None:
            return Choice(_LONG, Sure.MEDIUM, _INTEGERS)
        kind = encoding.removeprefix("time.")
        warning = f"{MAY_BE_TIME}{kind}: integers look like it, but nothing but the source's type can tell"
        return Choice(_LONG, Sure.LOW, _INTEGERS, warning)

    def _maybe_time(self, name: str) -> str | None:
        for start, encoding in _EPOCHS:
            if start <= self._low and self._high < start * _EPOCH_SPAN:
                return encoding
        is_days = self._low in _DAYS and self._high in _DAYS
        return "time.Date" if is_days and _NAME_OF_DATE.search(name) else None

    def of_all(self, *, have_words: bool) -> Choice:
        """Return how to read a column of numbers with and without a point, and of words such as NaN."""
        is_exact = self._binary and max(abs(self._low), abs(self._high)) <= _DOUBLE_WHOLE_MAX
        if is_exact:
            return Choice(_DOUBLE, Sure.MEDIUM, "numbers as binary floats are written")
        if have_words:
            return Choice(ANY_TEXT, Sure.LOW, "numbers beyond binary floats, and words", "values of several kinds")
        why = "numbers of more digits than a binary float is written with: decimals of which the precision is not known"
        return Choice(_DECIMAL, Sure.MEDIUM, f"{why}; a string keeps all digits")


def is_of_a_double(number: Decimal) -> bool:
    """Tell whether a JSON number may be a binary float as Java writes it: 12.50 is a decimal."""
    _, digits, exponent = number.as_tuple()
    if len(digits) > _DOUBLE_DIGITS:
        return False
    if digits[-1] != 0:
        return True
    return exponent == -1 or (len(digits) == len("10") and digits[0] != 0)  # 1.0E10
