"""One canonical value for what PostgreSQL, the contract, the lake and Redis each write in their own way.

Canonical: bool, int, float (NaN as the text "NaN"), `Decimal` with the column's scale, `date`, `time`, naive `datetime`
for timestamp, aware UTC `datetime` for timestamptz, str, bytes, tuples for lists, None. Each reader is strict: a form
that docs/contract.md does not allow is an error, not a value.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

_DECIMAL = re.compile(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_LIST = re.compile(r"list<(.+)>")
_LONG_TEXT = re.compile(r"-?(0|[1-9][0-9]*)")
_TIMESTAMP_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
_TIME_TEXT = re.compile(r"\d\d:\d\d:\d\d\.\d{6}")
_FLOAT_TEXTS = {"NaN", "Infinity", "-Infinity"}
_INT_MAX = 2**31
_TEXT_TYPES = {"string", "json", "uuid"}


class WrongForm(Exception):
    """A value does not have the form that its place demands."""


def from_contract(type_text: str, value: Any) -> Any:
    """Read a value of the contract's JSON (already parsed).

    Raises:
        WrongForm: the type has another form in docs/contract.md.
    """
    if value is None:
        return None
    if match := _LIST.fullmatch(type_text):
        _want(type_text, value, isinstance(value, list))
        return tuple(from_contract(match[1], element) for element in value)
    if match := _DECIMAL.fullmatch(type_text):
        return _decimal_text(type_text, value, int(match[2]))
    return _CONTRACT[type_text](type_text, value)


def _want(type_text: str, value: Any, right: Any) -> None:
    if not right:
        raise WrongForm(f"{value!r} is not how the contract writes {type_text}")


def _boolean(type_text: str, value: Any) -> bool:
    _want(type_text, value, isinstance(value, bool))
    return bool(value)


def _int(type_text: str, value: Any) -> int:
    _want(type_text, value, type(value) is int and -_INT_MAX <= value < _INT_MAX)
    return int(value)


def _long(type_text: str, value: Any) -> int:
    _want(type_text, value, isinstance(value, str) and _LONG_TEXT.fullmatch(value))
    return int(value)


def _float(type_text: str, value: Any) -> Any:
    if isinstance(value, str):
        _want(type_text, value, value in _FLOAT_TEXTS)
        return canonical_float(float(value))
    _want(type_text, value, type(value) in {int, float})
    return float(value)


def _decimal_text(type_text: str, value: Any, scale: int) -> Decimal:
    digits = f"\\.[0-9]{{{scale}}}" if scale else ""
    _want(type_text, value, isinstance(value, str) and re.fullmatch(f"-?[0-9]+{digits}", value))
    return Decimal(value)


def _date(type_text: str, value: Any) -> date:
    _want(type_text, value, isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value))
    return date.fromisoformat(value)


def _time(type_text: str, value: Any) -> time:
    _want(type_text, value, isinstance(value, str) and _TIME_TEXT.fullmatch(value))
    return time.fromisoformat(value)


def _timestamp(type_text: str, value: Any) -> datetime:
    _want(type_text, value, isinstance(value, str) and _TIMESTAMP_TEXT.fullmatch(value))
    return datetime.fromisoformat(value)


def _timestamptz(type_text: str, value: Any) -> datetime:
    _want(type_text, value, isinstance(value, str) and value.endswith("Z") and _TIMESTAMP_TEXT.fullmatch(value[:-1]))
    return datetime.fromisoformat(value)


def _text(type_text: str, value: Any) -> str:
    _want(type_text, value, isinstance(value, str))
    return str(value)


def _binary(type_text: str, value: Any) -> bytes:
    _want(type_text, value, isinstance(value, str))
    return base64.b64decode(value, validate=True)


_CONTRACT: dict[str, Callable[[str, Any], Any]] = {
    "boolean": _boolean,
    "int": _int,
    "long": _long,
    "float": _float,
    "double": _float,
    "date": _date,
    "time": _time,
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
    "string": _text,
    "json": _text,
    "uuid": _text,
    "binary": _binary,
}


def canonical_float(value: float) -> Any:
    """Return a float that equals itself."""
    return "NaN" if math.isnan(value) else value


def from_python(type_text: str, value: Any) -> Any:
    """Make canonical what a driver read: psycopg from PostgreSQL, pyarrow from the lake, or a model's own value."""
    if value is None:
        return None
    if match := _LIST.fullmatch(type_text):
        return tuple(from_python(match[1], element) for element in value)
    if match := _DECIMAL.fullmatch(type_text):
        return Decimal(value).quantize(Decimal(1).scaleb(-int(match[2])))
    match type_text:
        case "float" | "double":
            return canonical_float(float(value))
        case "timestamptz":
            return value.astimezone(UTC)
        case "binary":
            return bytes(value)
        case "uuid":
            return str(value)
        case "json":
            return value if isinstance(value, str) else json.dumps(value)
        case _:
            return value


def from_redis(type_text: str, value: bytes) -> Any:
    """Read a field of a latest-values hash: text as it is, all else as in the contract's JSON.

    Raises:
        WrongForm: another form.
    """
    text = value.decode()
    if type_text in _TEXT_TYPES:
        return text
    if (type_text in {"boolean", "int", "float", "double"} and text not in _FLOAT_TEXTS) or _LIST.fullmatch(type_text):
        try:
            return from_contract(type_text, json.loads(text))
        except ValueError as exc:
            raise WrongForm(f"{text!r} is not how Redis holds {type_text}") from exc
    return from_contract(type_text, text)


def row_from_contract(columns: dict[str, str], row: dict[str, Any]) -> dict[str, Any]:
    """Read a row object of the contract.

    Raises:
        WrongForm: a column that the spec does not have, or a value in another form.
    """
    unknown = row.keys() - columns.keys()
    if unknown:
        raise WrongForm(f"columns that the spec does not have: {sorted(unknown)}")
    return {name: from_contract(columns[name], value) for name, value in row.items()}


def frozen(row: dict[str, Any] | None) -> Any:
    """Return a row as something hashable, for multisets; the order of columns does not count."""
    return None if row is None else tuple(sorted(row.items()))
