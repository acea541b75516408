"""Values of the contract's JSON as Python's own types, by a table's contract.

Promise: a value keeps what it says, or is refused with the name of its column and never its text. Older forms of what
became wider are read as what it is now: a number in a column of `long`.
"""

from __future__ import annotations

import math
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from schemas.types import ColumnType, Kind

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_DIGITS_MAX = 20  # of an int or a long, with its sign: more would only cost time
_DECIMAL_CHARACTERS_MAX = 41  # 38 digits, sign, point and the zero before it
_YEAR_DIGITS = 4

Reader = Callable[[Any], Any]


class DoesNotFit(Exception):
    """A value is not of its column's type; the text names the column, and `hint` what helps where that is known."""

    def __init__(self, why: str, *, hint: str = "") -> None:
        """Say why."""
        super().__init__(why)
        self.hint = hint


class RowReader:
    """Reads the row objects of one table: `key`, `old_key`, `new_key`, `before` and `after`."""

    def __init__(self, columns: Mapping[str, ColumnType]) -> None:
        """Know these columns; others keep the form that JSON has for them."""
        self._readers = {name: reader_of(type_) for name, type_ in columns.items()}
        self._types = dict(columns)

    def read(self, row: Any) -> dict[str, Any] | None:
        """Return a row with its values typed, in the order of its fields.

        Raises:
            DoesNotFit: naming the column.
        """
        if row is None:
            return None
        if not isinstance(row, dict):
            raise DoesNotFit("a row is not an object")
        return {name: None if value is None else self._value(name, value) for name, value in row.items()}

    def _value(self, name: str, value: Any) -> Any:
        reader = self._readers.get(name)
        if reader is None:
            return value
        try:
            return reader(value)
        except (ValueError, TypeError, InvalidOperation, OverflowError):
            raise DoesNotFit(f"column {name} does not fit {self._types[name]}") from None


def reader_of(type_: ColumnType) -> Reader:
    """Return the function that types a value which is not null; it raises ValueError or TypeError."""
    if type_.kind is not Kind.LIST:
        return _READERS[type_.kind]
    assert type_.element is not None, "a list has an element"
    element = reader_of(type_.element)

    def read(value: Any) -> list[Any]:
        _check(isinstance(value, list))
        return [None if item is None else element(item) for item in value]

    return read


def read_moment(value: Any) -> datetime:
    """Return a time of the contract, of the years 1 to 9999, in UTC."""
    return datetime.fromisoformat(_text(value).removesuffix("Z")).replace(tzinfo=UTC)


def _check(fits: bool) -> None:  # noqa: FBT001 - the condition is the whole point
    if not fits:
        raise ValueError


def _boolean(value: Any) -> bool:
    _check(isinstance(value, bool))
    return bool(value)


def _integer(value: Any) -> int:
    if isinstance(value, str):
        _check(len(value) <= _DIGITS_MAX)
        return int(value)
    _check(type(value) is int)
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, str):
        return _NOT_FINITE[value] if value in _NOT_FINITE else float("x")
    _check(type(value) in {int, float})
    return float(value)


def _decimal(value: Any) -> Decimal:
    _check(len(_text(value)) <= _DECIMAL_CHARACTERS_MAX)
    number = Decimal(value)
    _check(number.is_finite())
    return number


def _text(value: Any) -> str:
    _check(isinstance(value, str))
    return str(value)


def _binary(value: Any) -> bytes:
    return a2b_base64(_text(value), strict_mode=True)


def _uuid(value: Any) -> UUID:
    return UUID(_text(value))


def _date(value: Any) -> date | str:
    if _is_far(_text(value)):
        return str(value)
    _check(len(value) == len("2024-02-29"))
    return date.fromisoformat(value)


def _time(value: Any) -> time:
    found = time.fromisoformat(_text(value))
    _check(found.tzinfo is None and len(value) >= len("13:45:06"))
    return found


def _timestamp(value: Any) -> datetime | str:
    if _is_far(_text(value)):
        return str(value)
    found = datetime.fromisoformat(value)
    _check(found.tzinfo is None and len(value) >= len("2024-02-29T13:45:06"))
    return found


def _timestamptz(value: Any) -> datetime | str:
    return str(value) if _is_far(_text(value)) else read_moment(value)


def _is_far(text: str) -> bool:
    """Tell whether a date is of a year that Python's types do not have: it has a sign, or is of the year 0."""
    return text[:1] in {"+", "-"} or text[:_YEAR_DIGITS] == "0000"


_READERS: dict[Kind, Reader] = {
    Kind.BOOLEAN: _boolean,
    Kind.INT: _integer,
    Kind.LONG: _integer,
    Kind.FLOAT: _float,
    Kind.DOUBLE: _float,
    Kind.DECIMAL: _decimal,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.TIMESTAMP: _timestamp,
    Kind.TIMESTAMPTZ: _timestamptz,
    Kind.STRING: _text,
    Kind.JSON: _text,
    Kind.UUID: _uuid,
    Kind.BINARY: _binary,
}
