"""How Debezium encodes a column on the wire, and how each encoding becomes the contract's form of a type: one table.

Names of encodings are those of Debezium without `io.debezium.` (`time.MicroTimestamp`), those of Kafka Connect with
`connect.` (`connect.Decimal`), and plain words for what carries no name (`int`, `string`, `base64`). `oracle.NUMBER` is
whichever of its forms Debezium chose by the digits of the column.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import re
from decimal import Decimal
from typing import Any

import msgspec

from connectors.formats import decimals, temporal
from connectors.formats.forms import Conversion, Float, Float32, Form, Int32, Int64, Maker, by, plain
from connectors.formats.raw_encodings import BSON, PLAIN
from connectors.formats.reasons import Rejection
from connectors.formats.structured import STRUCTURED
from connectors.formats.texts import whole_texts
from connectors.formats.uuids import uuid_column, uuid_text
from schemas.errors import ConfigurationError
from schemas.types import ColumnType, Kind

_WITH_NUMBER = re.compile(r"(connect\.Decimal|data\.Bits)\((-?\d{1,5})\)")
_ESCAPED = re.compile(r"\\([\\,])")
_BITS_PADDED_MAX = 65_536  # a bit varying without a length says 2147483647


def is_whole_text(form: Form) -> bool:
    """Tell whether a column's integers become their digits as text."""
    return form.conversion is not None and form.conversion.column is whole_texts


def _boolean(value: Any) -> bool:
    if value not in (0, 1):
        raise Rejection("out_of_range")
    return bool(value)


def _base64url(value: str) -> bytes:
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Rejection("bad_type") from None


def _hex(value: str) -> bytes:
    try:
        return bytes.fromhex(value.removeprefix("0x"))  # so does AWS DMS write it
    except ValueError:
        raise Rejection("bad_type") from None


def _whole(type_: ColumnType, _scale: int | None) -> Form:
    """Integers into a decimal."""

    def each(value: int) -> str:
        return decimals.fitted(value, 0, precision=type_.precision, target=type_.scale)

    return Form(int, Conversion(each))


def _unscaled(type_: ColumnType, scale: int | None) -> Form:
    at = type_.scale if scale is None else scale
    each = decimals.bytes_text(at, type_.precision, type_.scale)
    return Form(bytes, Conversion(each, decimals.bytes_column(at, type_.precision, type_.scale)))


def _unscaled_string(_type: ColumnType, scale: int | None) -> Form:
    if scale is None:
        raise ConfigurationError(
            "the scale of connect.Decimal is not known for a string",
            hint="declare the column decimal(p,s), or write its scale behind: connect.Decimal(30)",
        )
    return Form(bytes, Conversion(lambda value: decimals.plain_text(decimals.ScaledValue(scale, value))))


def _oracle_number(type_: ColumnType, _scale: int | None) -> Form:
    of_bytes = decimals.bytes_text(type_.scale, type_.precision, type_.scale)
    of_scaled = decimals.scaled_text(type_.precision, type_.scale)

    def each(value: decimals.AnyNumber) -> str:
        if isinstance(value, bytes):
            return of_bytes(value)
        if isinstance(value, int):
            return decimals.fitted(value, 0, precision=type_.precision, target=type_.scale)
        return of_scaled(value)

    return Form(decimals.AnyNumber, Conversion(each))


def _oracle_long(_type: ColumnType, _scale: int | None) -> Form:
    each = _oracle_number(ColumnType(Kind.DECIMAL, precision=19, scale=0), None).conversion
    assert each is not None, "numbers become text"
    return Form(decimals.AnyNumber, Conversion(lambda value: _within_64_bits(each.each(value))))


def _within_64_bits(digits: str) -> str:
    if not -(2**63) <= int(digits) < 2**63:
        raise Rejection("out_of_range")
    return digits


def _unscaled_long(_type: ColumnType, scale: int | None) -> Form:
    digits = decimals.bytes_text(scale or 0, 19, 0)

    return Form(bytes, Conversion(lambda value: _within_64_bits(digits(value))))


def _of_scaled(type_: ColumnType, _scale: int | None) -> Form:
    return Form(decimals.ScaledValue, Conversion(decimals.scaled_text(type_.precision, type_.scale)))


def _of_decimal(*, rounded: bool) -> Maker:
    return lambda type_, _scale: Form(
        Decimal, Conversion(decimals.decimal_text(type_.precision, type_.scale, rounded=rounded))
    )


def _of_number_text(type_: ColumnType, _scale: int | None) -> Form:
    return Form(str, Conversion(decimals.number_text(type_.precision, type_.scale)))


def _raw_json(value: msgspec.Raw) -> str | None:
    text = bytes(value).decode()
    return None if text == "null" else text


def _bits(_type: ColumnType, length: int | None) -> Form:
    """Bits as digits: as many as the column has where that is known, else from the highest that is set."""
    width = length if length is not None and length <= _BITS_PADDED_MAX else 1

    def each(value: bytes) -> str:
        return f"{int.from_bytes(value, 'little'):0{max(width, 1)}b}"

    return Form(bytes, Conversion(each))


def _unescaped(value: str) -> str:
    return _ESCAPED.sub(r"\1", value)


def _float_text(value: float | str) -> str:
    return value if isinstance(value, str) else repr(value)


def _times(factor: int, divisor: int = 1) -> Maker:
    return by(Int64, lambda value: temporal.time_text(value * factor // divisor), temporal.time_column(factor, divisor))


def _stamps(factor: int, divisor: int = 1, suffix: str = "") -> Maker:
    column = temporal.timestamp_column(factor, divisor, suffix)
    if divisor != 1:
        return by(Int64, lambda value: temporal.nanos_text(value) + suffix, column)
    return by(Int64, lambda value: temporal.timestamp_text(value * factor) + suffix, column)


def _epoch(factor: int, divisor: int = 1) -> dict[Kind, Maker]:
    return {Kind.TIMESTAMP: _stamps(factor, divisor), Kind.TIMESTAMPTZ: _stamps(factor, divisor, "Z"), **_INT_AS_IT_IS}


def _zoned(value: str) -> str:
    return temporal.timestamp_text(temporal.micros_of(value)) + "Z"


def _iso_stamp(value: str) -> str:
    return temporal.timestamp_text(temporal.micros_of(value))


def _iso_date(value: str) -> str:
    return temporal.date_text(temporal.days_of(value))


def _iso_time(value: str) -> str:
    return temporal.time_text(temporal.time_micros_of(value))


def _midnight(millis: int) -> str:
    """Return the day of an Oracle DATE without a time of day; one with it is no date."""
    days, rest = divmod(millis, temporal.DAY_US // 1_000)
    if rest:
        raise Rejection("out_of_range")
    return temporal.date_text(days)


def _micros(value: float) -> str:
    """Return a whole number of microseconds, which older connectors write as a binary float."""
    whole = round(value)
    if not -(2**63) <= whole < 2**63:
        raise Rejection("out_of_range")
    return str(whole)


_TEXT = {Kind.STRING: plain(str)}
_INT_AS_IT_IS = {Kind.LONG: by(Int64, str, whole_texts), Kind.STRING: by(int, str, whole_texts)}
_DATES = {Kind.DATE: by(Int32, temporal.date_text, temporal.date_column), Kind.INT: plain(Int32), **_INT_AS_IT_IS}
_DOCUMENT = {Kind.JSON: by(msgspec.Raw, _raw_json), Kind.STRING: by(msgspec.Raw, _raw_json)}
_ENUM = {Kind.STRING: plain(str)}

ENCODINGS: dict[str, dict[Kind, Maker]] = {
    "plain": PLAIN,
    "bson": BSON,
    "boolean": {Kind.BOOLEAN: plain(bool), Kind.STRING: by(bool, lambda value: "true" if value else "false")},
    "tinyint": {Kind.BOOLEAN: by(bool | int, _boolean)},
    "int": {
        Kind.INT: plain(Int32),
        Kind.LONG: by(Int64, str, whole_texts),
        Kind.DECIMAL: _whole,
        Kind.FLOAT: plain(float),
        Kind.DOUBLE: plain(float),
        Kind.BOOLEAN: by(int, _boolean),
        Kind.STRING: by(int, str, whole_texts),
    },
    "double": {
        Kind.FLOAT: plain(Float32),
        Kind.DOUBLE: plain(Float),
        Kind.DECIMAL: _of_decimal(rounded=True),
        Kind.STRING: by(Float, _float_text),
    },
    "number": {Kind.DECIMAL: _of_decimal(rounded=False), Kind.STRING: by(Decimal, decimals.plain_text)},
    "string": {
        Kind.STRING: plain(str),
        Kind.JSON: plain(str),
        Kind.UUID: by(str, uuid_text, uuid_column),
        Kind.DECIMAL: _of_number_text,
    },
    "base64": {Kind.BINARY: plain(bytes), Kind.STRING: plain(str)},
    "base64url": {Kind.BINARY: by(str, _base64url), Kind.STRING: plain(str)},
    "hex": {Kind.BINARY: by(str, _hex), Kind.STRING: plain(str)},
    "map": _DOCUMENT,
    "array": _DOCUMENT,
    "struct": _DOCUMENT,
    "any": {Kind.STRING: PLAIN[Kind.STRING]},  # a text as it is, anything else as its JSON
    "connect.Decimal": {Kind.DECIMAL: _unscaled, Kind.STRING: _unscaled_string, Kind.LONG: _unscaled_long},
    "connect.Date": _DATES,
    "connect.Time": {Kind.TIME: _times(1_000), **_INT_AS_IT_IS},
    "connect.Timestamp": _epoch(1_000),
    "data.VariableScaleDecimal": {
        Kind.DECIMAL: _of_scaled,
        Kind.STRING: by(decimals.ScaledValue, decimals.plain_text),
    },
    "oracle.NUMBER": {Kind.DECIMAL: _oracle_number, Kind.LONG: _oracle_long},
    "data.Bits": {Kind.BINARY: plain(bytes), Kind.STRING: _bits},
    "data.Json": {Kind.JSON: plain(str), Kind.STRING: plain(str)},
    "data.Uuid": {Kind.UUID: by(str, uuid_text, uuid_column), Kind.STRING: plain(str)},
    "data.Xml": _TEXT,
    "data.Ltree": _TEXT,
    "data.Tsvector": _TEXT,
    "data.Enum": _ENUM,
    "data.EnumEscaped": {Kind.STRING: by(str, _unescaped)},
    "data.EnumSet": _ENUM,
    "time.Date": _DATES,
    "time.Time": {Kind.TIME: _times(1_000), **_INT_AS_IT_IS},
    "time.MicroTime": {Kind.TIME: _times(1), **_INT_AS_IT_IS},
    "time.NanoTime": {Kind.TIME: _times(1, 1_000), **_INT_AS_IT_IS},
    "time.Timestamp": {Kind.DATE: by(Int64, _midnight), **_epoch(1_000)},
    "time.MicroTimestamp": _epoch(1),
    "time.NanoTimestamp": _epoch(1, 1_000),
    "time.ZonedTimestamp": {Kind.TIMESTAMPTZ: by(str, _zoned, temporal.zoned_column), Kind.STRING: plain(str)},
    "time.ZonedTime": {Kind.TIME: by(str, _iso_time), Kind.STRING: plain(str)},
    "time.IsoDate": {Kind.DATE: by(str, _iso_date), Kind.STRING: plain(str)},
    "time.IsoTime": {Kind.TIME: by(str, _iso_time), Kind.STRING: plain(str)},
    "time.IsoTimestamp": {
        Kind.TIMESTAMP: by(str, _iso_stamp),
        Kind.TIMESTAMPTZ: by(str, _zoned),
        Kind.STRING: plain(str),
    },
    "time.MicroDuration": {Kind.LONG: by(int | float, _micros), Kind.STRING: by(int | float, _micros)},
    "time.Interval": _TEXT,
    "time.Year": {Kind.INT: plain(Int32), **_INT_AS_IT_IS},
    **{name: {**kinds, Kind.JSON: _DOCUMENT[Kind.JSON]} for name, kinds in STRUCTURED.items()},
}


def form_of(type_: ColumnType, encoding: str, *, scale: int | None = None) -> Form:
    """Return how a column (not a list) of `type_` is read from `encoding`; `scale` is what a schema block says.

    An encoding may carry its number, `connect.Decimal(30)` its scale and `data.Bits(8)` its length, for what no schema
    block and no decimal type says.

    Raises:
        ConfigurationError: there is no such encoding, or it cannot be read as `type_`.
    """
    if match := _WITH_NUMBER.fullmatch(encoding):
        encoding, scale = match[1], int(match[2]) if scale is None else scale
    kinds = ENCODINGS.get(encoding)
    if kinds is None:
        near = difflib.get_close_matches(encoding, ENCODINGS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(ENCODINGS))}"
        raise ConfigurationError(f"{encoding!r} is no encoding", hint=hint)
    maker = kinds.get(type_.kind)
    if maker is None:
        able = ", ".join(sorted(kinds))
        raise ConfigurationError(f"encoding {encoding} cannot be read as {type_}", hint=f"it is read as {able}")
    return maker(type_, scale)
