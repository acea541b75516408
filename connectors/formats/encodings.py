"""How Debezium encodes a column on the wire, and how each encoding becomes the contract's form of a type: one table.

Names of encodings are those of Debezium without `io.debezium.` (`time.MicroTimestamp`), those of Kafka Connect with
`connect.` (`connect.Decimal`), and plain words for what carries no name (`int`, `string`, `base64`).
"""

from __future__ import annotations

import base64
import binascii
import difflib
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from connectors.formats import decimals, plain, temporal
from connectors.formats.reasons import Rejection
from connectors.formats.texts import whole_texts
from schemas.errors import ConfigurationError
from schemas.types import ColumnType, Kind

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
WHOLE = (Int32, Int64)
_NotFinite = Literal["NaN", "Infinity", "-Infinity"]
Float = float | _NotFinite
_FLOAT32_END = 2.0**128 - 2.0**103  # from here on the nearest number of 32 bits is infinity
Float32 = Annotated[float, msgspec.Meta(gt=-_FLOAT32_END, lt=_FLOAT32_END)] | _NotFinite

_SCALED = re.compile(r"(connect\.Decimal)\((-?\d{1,4})\)")
HALVES_MIN = 16  # below so many, values are converted one by one

Each = Callable[[Any], Any]
Column = Callable[[list[Any]], list[Any]]


@dataclass(frozen=True, slots=True)
class Conversion:
    """From the wire's form to the contract's: `each` decides; `column` is its faster twin for ordinary values."""

    each: Each
    column: Column | None = None

    def apply(self, values: list[Any]) -> tuple[list[Any], dict[int, Rejection]]:
        """Return the converted values (the same list if nothing changed), and which were refused, by index."""
        faults: dict[int, Rejection] = {}
        return self._part(values, 0, faults), faults

    def _part(self, values: list[Any], start: int, faults: dict[int, Rejection]) -> list[Any]:
        if self.column is not None and values:
            try:
                return self.column(values)
            except Exception:  # noqa: BLE001 - whatever Arrow makes of odd values: `each` decides below
                if len(values) > HALVES_MIN:
                    half = len(values) // 2
                    return self._part(values[:half], start, faults) + self._part(values[half:], start + half, faults)
        out = []
        for index, value in enumerate(values, start):
            try:
                out.append(self.each(value))
            except Rejection as exc:
                faults[index] = exc
                out.append(None)
            except (ValueError, ArithmeticError):  # a limit of Python's own numbers
                faults[index] = Rejection("out_of_range")
                out.append(None)
        return out


@dataclass(frozen=True, slots=True)
class Form:
    """A column on the wire: the type that msgspec checks, and what is converted afterwards (None: nothing)."""

    wire: Any
    conversion: Conversion | None = None


Maker = Callable[[ColumnType, int | None], Form]


def _plain(wire: Any) -> Maker:
    return lambda _type, _scale: Form(wire)


def _by(wire: Any, each: Each, column: Column | None = None) -> Maker:
    conversion = Conversion(each, column)
    return lambda _type, _scale: Form(wire, conversion)


def is_whole_text(form: Form) -> bool:
    """Tell whether a column's integers become their digits as text."""
    return form.conversion is not None and form.conversion.column is whole_texts


def _boolean(value: Any) -> bool:
    if value not in (0, 1):
        raise Rejection("out_of_range")
    return bool(value)


def uuid_text(value: str) -> str:
    """Return a UUID in lower case with hyphens."""
    try:
        found = uuid.UUID(value)
    except ValueError:
        raise Rejection("bad_type") from None
    if found.hex not in value.lower().replace("-", ""):  # digits of other scripts, underscores
        raise Rejection("bad_type")
    return str(found)


def uuid_column(values: list[str]) -> list[str]:
    """Return the very list if each text is a UUID in the contract's form; else raise."""
    count = len(values)
    joined = "\n".join(values) + "\n"
    rest = joined.encode("ascii").translate(None, b"0123456789abcdef")
    in_place = all(joined[at::37] == "-" * count for at in (8, 13, 18, 23)) and joined[36::37] == "\n" * count
    if len(joined) != 37 * count or rest != b"----\n" * count or not in_place:
        raise Rejection("bad_type")
    return values


def _base64url(value: str) -> bytes:
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Rejection("bad_type") from None


def _hex(value: str) -> bytes:
    try:
        return bytes.fromhex(value)
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


def _unscaled_long(_type: ColumnType, scale: int | None) -> Form:
    digits = decimals.bytes_text(scale or 0, 19, 0)

    def each(value: bytes) -> str:
        text = digits(value)
        if not -(2**63) <= int(text) < 2**63:
            raise Rejection("out_of_range")
        return text

    return Form(bytes, Conversion(each))


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


def _float_text(value: float | str) -> str:
    return value if isinstance(value, str) else repr(value)


def _times(factor: int, divisor: int = 1) -> Maker:
    return _by(
        Int64, lambda value: temporal.time_text(value * factor // divisor), temporal.time_column(factor, divisor)
    )


def _stamps(factor: int, divisor: int = 1, suffix: str = "") -> Maker:
    column = temporal.timestamp_column(factor, divisor, suffix)
    return _by(Int64, lambda value: temporal.timestamp_text(value * factor // divisor) + suffix, column)


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


def _raw(each: Each, column: Column | None = None) -> Maker:
    return _by(msgspec.Raw, each, None if column is None else plain.with_nulls(column))


def _raw_decimal(type_: ColumnType, _scale: int | None) -> Form:
    each, column = plain.decimal_maker(type_.precision, type_.scale)
    return Form(msgspec.Raw, Conversion(each, plain.with_nulls(column)))


def _raw_uuid(raw: Any) -> str | None:
    text = plain.text_of(raw)
    return None if text is None else uuid_text(text)


_TEXT = {Kind.STRING: _plain(str)}
_INT_AS_IT_IS = {Kind.LONG: _by(Int64, str, whole_texts), Kind.STRING: _by(int, str, whole_texts)}
_DATES = {Kind.DATE: _by(Int32, temporal.date_text, temporal.date_column), Kind.INT: _plain(Int32), **_INT_AS_IT_IS}
_DOCUMENT = {Kind.JSON: _by(msgspec.Raw, _raw_json), Kind.STRING: _by(msgspec.Raw, _raw_json)}
_ENUM = {Kind.STRING: _plain(str)}

ENCODINGS: dict[str, dict[Kind, Maker]] = {
    "plain": {
        Kind.BOOLEAN: _raw(plain.boolean_of, plain.booleans),
        Kind.INT: _raw(plain.int_of, plain.ints),
        Kind.LONG: _raw(plain.long_of, plain.longs),
        Kind.FLOAT: _raw(*plain.float_maker(single=True)),
        Kind.DOUBLE: _raw(*plain.float_maker(single=False)),
        Kind.DECIMAL: _raw_decimal,
        Kind.DATE: _raw(plain.date_of, plain.dates),
        Kind.TIME: _raw(plain.time_of),
        Kind.TIMESTAMP: _raw(plain.stamp_of, plain.stamps),
        Kind.TIMESTAMPTZ: _raw(plain.zoned_of, plain.zoned),
        Kind.STRING: _raw(plain.text_of, plain.texts),
        Kind.JSON: _raw(plain.document_of),
        Kind.UUID: _raw(_raw_uuid, lambda raws: uuid_column(plain.texts(raws))),
        Kind.BINARY: _raw(plain.bytes_of, plain.binaries),
    },
    "boolean": {Kind.BOOLEAN: _plain(bool), Kind.STRING: _by(bool, lambda value: "true" if value else "false")},
    "tinyint": {Kind.BOOLEAN: _by(bool | int, _boolean)},
    "int": {
        Kind.INT: _plain(Int32),
        Kind.LONG: _by(Int64, str, whole_texts),
        Kind.DECIMAL: _whole,
        Kind.FLOAT: _plain(float),
        Kind.DOUBLE: _plain(float),
        Kind.BOOLEAN: _by(int, _boolean),
        Kind.STRING: _by(int, str, whole_texts),
    },
    "double": {
        Kind.FLOAT: _plain(Float32),
        Kind.DOUBLE: _plain(Float),
        Kind.DECIMAL: _of_decimal(rounded=True),
        Kind.STRING: _by(Float, _float_text),
    },
    "number": {Kind.DECIMAL: _of_decimal(rounded=False), Kind.STRING: _by(Decimal, decimals.plain_text)},
    "string": {
        Kind.STRING: _plain(str),
        Kind.JSON: _plain(str),
        Kind.UUID: _by(str, uuid_text, uuid_column),
        Kind.DECIMAL: _of_number_text,
    },
    "base64": {Kind.BINARY: _plain(bytes), Kind.STRING: _plain(str)},
    "base64url": {Kind.BINARY: _by(str, _base64url), Kind.STRING: _plain(str)},
    "hex": {Kind.BINARY: _by(str, _hex), Kind.STRING: _plain(str)},
    "map": _DOCUMENT,
    "struct": _DOCUMENT,
    "connect.Decimal": {Kind.DECIMAL: _unscaled, Kind.STRING: _unscaled_string, Kind.LONG: _unscaled_long},
    "connect.Date": _DATES,
    "connect.Time": {Kind.TIME: _times(1_000), **_INT_AS_IT_IS},
    "connect.Timestamp": _epoch(1_000),
    "data.VariableScaleDecimal": {
        Kind.DECIMAL: _of_scaled,
        Kind.STRING: _by(decimals.ScaledValue, decimals.plain_text),
    },
    "data.Bits": {Kind.BINARY: _plain(bytes), Kind.STRING: _plain(str)},
    "data.Json": {Kind.JSON: _plain(str), Kind.STRING: _plain(str)},
    "data.Uuid": {Kind.UUID: _by(str, uuid_text, uuid_column), Kind.STRING: _plain(str)},
    "data.Xml": _TEXT,
    "data.Ltree": _TEXT,
    "data.TsVector": _TEXT,
    "data.Enum": _ENUM,
    "data.EnumSet": _ENUM,
    "time.Date": _DATES,
    "time.Time": {Kind.TIME: _times(1_000), **_INT_AS_IT_IS},
    "time.MicroTime": {Kind.TIME: _times(1), **_INT_AS_IT_IS},
    "time.NanoTime": {Kind.TIME: _times(1, 1_000), **_INT_AS_IT_IS},
    "time.Timestamp": _epoch(1_000),
    "time.MicroTimestamp": _epoch(1),
    "time.NanoTimestamp": _epoch(1, 1_000),
    "time.ZonedTimestamp": {Kind.TIMESTAMPTZ: _by(str, _zoned, temporal.zoned_column), Kind.STRING: _plain(str)},
    "time.ZonedTime": {Kind.TIME: _by(str, _iso_time), Kind.STRING: _plain(str)},
    "time.IsoDate": {Kind.DATE: _by(str, _iso_date), Kind.STRING: _plain(str)},
    "time.IsoTime": {Kind.TIME: _by(str, _iso_time), Kind.STRING: _plain(str)},
    "time.IsoTimestamp": {
        Kind.TIMESTAMP: _by(str, _iso_stamp),
        Kind.TIMESTAMPTZ: _by(str, _zoned),
        Kind.STRING: _plain(str),
    },
    "time.MicroDuration": _INT_AS_IT_IS,
    "time.Interval": _TEXT,
    "time.Year": {Kind.INT: _plain(Int32), **_INT_AS_IT_IS},
}

# What a column is taken for where neither the record nor the spec says: PostgreSQL with time.precision.mode=adaptive.
DEFAULTS: dict[Kind, str] = {
    Kind.BOOLEAN: "boolean",
    Kind.INT: "int",
    Kind.LONG: "int",
    Kind.FLOAT: "double",
    Kind.DOUBLE: "double",
    Kind.DECIMAL: "connect.Decimal",
    Kind.DATE: "time.Date",
    Kind.TIME: "time.MicroTime",
    Kind.TIMESTAMP: "time.MicroTimestamp",
    Kind.TIMESTAMPTZ: "time.ZonedTimestamp",
    Kind.STRING: "string",
    Kind.JSON: "data.Json",
    Kind.UUID: "data.Uuid",
    Kind.BINARY: "base64",
}
# MySQL and MariaDB, where they differ: DATETIME has no fraction unless asked for, and there is no boolean of its own.
MYSQL_DEFAULTS: dict[Kind, str] = {**DEFAULTS, Kind.TIMESTAMP: "time.Timestamp", Kind.BOOLEAN: "tinyint"}
DEFAULTS_OF: dict[str, dict[Kind, str]] = {
    "postgresql": DEFAULTS,
    "mysql": MYSQL_DEFAULTS,
    "plain": dict.fromkeys(DEFAULTS, "plain"),
}


def form_of(type_: ColumnType, encoding: str, *, scale: int | None = None) -> Form:
    """Return how a column (not a list) of `type_` is read from `encoding`; `scale` is what a schema block says.

    An encoding may carry its scale, `connect.Decimal(30)`, for what no schema block and no decimal type says.

    Raises:
        ConfigurationError: there is no such encoding, or it cannot be read as `type_`.
    """
    if scaled := _SCALED.fullmatch(encoding):
        encoding, scale = scaled[1], int(scaled[2]) if scale is None else scale
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
