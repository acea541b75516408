"""The slow way of the contract reader: value by value, for what the fast way cannot say or must not decide.

It knows NaN and the infinities as texts, years beyond 9999 and before 1, and which value of many is the broken one.
"""

from __future__ import annotations

import math
import re
from binascii import a2b_base64
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from itertools import accumulate
from typing import Annotated, Any, Protocol

import msgspec
import orjson
import pyarrow as pa

from schemas.change import ChangeValue
from schemas.errors import PoisonRecord
from schemas.types import ColumnType, Kind

_INT_MAX = 2**31 - 1
_LONG_MAX = 2**63 - 1
_LONG = re.compile(r"-?\d{1,19}")
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,6}))?")
_DATE = re.compile(r"([+-]?\d{4,7})-(\d\d)-(\d\d)")
_CYCLE_YEARS, _CYCLE_DAYS = 400, 146_097  # the Gregorian calendar repeats itself
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class UnreadableChange(PoisonRecord):
    """A value on an output topic is not what the contract says; `index` is its place among those read."""

    def __init__(self, index: int, what: str) -> None:
        super().__init__(
            "broken_contract",
            f"value {index}: {what}",
            hint="only NORMALIZE writes to this topic; see who else did, or whether the table's spec changed its types",
        )
        self.index = index


Types = Mapping[str, ColumnType]


class RowsReader(Protocol):
    """What reads values as a table of `schema`; `first_index` is the index of the first value.

    Raises:
        UnreadableChange: for the first value that is not what the contract says.
    """

    def __call__(
        self, values: Sequence[bytes], rows: Mapping[str, Types], schema: pa.Schema, *, first_index: int
    ) -> pa.Table:
        """Read them."""


def read_rows(values: Sequence[bytes], rows: Mapping[str, Types], schema: pa.Schema, *, first_index: int) -> pa.Table:
    """Return the values as a table of `schema`: a `RowsReader`."""
    return table_of(values, rows, schema, _decoded, read_row, first_index=first_index)


def _decoded(value: bytes) -> ChangeValue:
    return msgspec.convert(orjson.loads(value), ChangeValue)


def table_of(
    values: Sequence[bytes],
    rows: Mapping[str, Types],
    schema: pa.Schema,
    decode: Callable[[bytes], ChangeValue],
    row_of: Callable[[Any, Types], dict[str, Any] | None],
    *,
    first_index: int,
) -> pa.Table:
    """Return the values as a table of `schema`, each decoded by `decode`, its row objects read by `row_of`.

    Raises:
        UnreadableChange: for the first value that is not what the contract says.
    """
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for index, value in enumerate(values, first_index):
        try:
            change = decode(value)
            fields = {
                **_change_fields(change),
                **{name: row_of(getattr(change, name), types) for name, types in rows.items()},
            }
        except (ValueError, TypeError, RecursionError, msgspec.MsgspecError) as exc:
            # The chained message may hold a piece of the value, which no error of ours carries.
            raise UnreadableChange(index, f"not a change of the contract ({type(exc).__name__})") from None
        except DoesNotFit as exc:
            raise UnreadableChange(index, str(exc)) from None
        for name, found in columns.items():
            found.append(fields[name])
    return pa.Table.from_arrays([array_of(columns[field.name], field.type) for field in schema], schema=schema)


class _Origin(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    origin_topic: str
    origin_generation: int
    origin_partition: int
    origin_offset: int
    origin_row: Annotated[int, msgspec.Meta(ge=1)] = 0


class DoesNotFit(Exception):
    """A column's value is not of its type; the text names the column."""


def _change_fields(change: ChangeValue) -> dict[str, Any]:
    source = change.source
    origin = msgspec.convert(source.origin, _Origin)
    fields: dict[str, Any] = {
        "op": change.op,
        "position": change.position,
        "ts": read_timestamp(change.ts),
        "tx": source.tx,
        "snapshot": source.snapshot,
        "unavailable": change.unavailable,
        **msgspec.structs.asdict(origin),
        "previous": source.previous,
        "rows": source.rows,
    }
    for name in ("origin_generation", "origin_partition", "origin_offset", "origin_row", "previous", "rows"):
        if fields[name] is not None and abs(fields[name]) > _LONG_MAX:
            raise DoesNotFit(f"{name} is above 64 bits")
    if source.rows <= origin.origin_row:
        raise DoesNotFit("its record made fewer changes")
    return fields


def read_row(row: Any, types: Types) -> dict[str, Any] | None:
    """Return the values of a row object, by column; raises `DoesNotFit`."""
    if row is None or not types:
        return None
    if not isinstance(row, dict):
        raise DoesNotFit("a row is not an object")
    return {name: read_column(row.get(name), type_, name) for name, type_ in types.items()}


def read_column(value: Any, type_: ColumnType, name: str) -> Any:
    """Return the value of a column; raises `DoesNotFit`."""
    if value is None:
        return None
    try:
        return _READ[type_.kind](value, type_)
    except (ValueError, TypeError, InvalidOperation):
        raise DoesNotFit(f"column {name} does not fit {type_}") from None


def _boolean(value: Any, _: ColumnType) -> bool:
    return bool(_checked(value, isinstance(value, bool)))


def _int(value: Any, _: ColumnType) -> int:
    return int(_checked(value, type(value) is int and -_INT_MAX - 1 <= value <= _INT_MAX))


def _long(value: Any, _: ColumnType) -> int:
    number = int(_checked(value, isinstance(value, str) and _LONG.fullmatch(value) is not None))
    return int(_checked(number, -_LONG_MAX - 1 <= number <= _LONG_MAX))


def _float(value: Any, _: ColumnType) -> float:
    if isinstance(value, str):
        return _NOT_FINITE[_checked(value, value in _NOT_FINITE)]
    return float(_checked(value, type(value) in {int, float}))


def _decimal(value: Any, type_: ColumnType) -> Decimal:
    number = Decimal(_checked(value, isinstance(value, str)))
    _checked(number, number.is_finite())
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int), "a finite number has an exponent"
    whole = len(digits) + exponent
    return Decimal(_checked(number, -exponent <= type_.scale and whole <= type_.precision - type_.scale))


def _text(value: Any, _: ColumnType) -> str:
    return str(_checked(value, isinstance(value, str)))


def _binary(value: Any, _: ColumnType) -> bytes:
    return a2b_base64(_checked(value, isinstance(value, str)), strict_mode=True)


def _date(value: Any, _: ColumnType) -> int:
    """Return days since 1970-01-01, of any year."""
    match = _DATE.fullmatch(_checked(value, isinstance(value, str)))
    if match is None:
        raise ValueError
    cycles, year = divmod(int(match[1]), _CYCLE_YEARS)
    # `datetime` knows the years 1 to 9999: the same day of the years 400 to 799 stands in.
    stand_in = date(year + _CYCLE_YEARS, int(match[2]), int(match[3]))
    days = stand_in.toordinal() + (cycles - 1) * _CYCLE_DAYS - _EPOCH_DAY
    return int(_checked(days, -_INT_MAX - 1 <= days <= _INT_MAX))


def _time(value: Any, _: ColumnType) -> int:
    """Return microseconds since midnight."""
    match = _TIME.fullmatch(_checked(value, isinstance(value, str)))
    if match is None:
        raise ValueError
    hours, minutes, seconds, fraction = match.groups(default="0")
    return (int(hours) * 3600 + int(minutes) * 60 + int(seconds)) * 1_000_000 + int(fraction.ljust(6, "0"))


def _moment(value: Any, _: ColumnType) -> int:
    return read_timestamp(_checked(value, isinstance(value, str)))


def read_timestamp(text: str) -> int:
    """Return microseconds since 1970-01-01, of any year; all times of the contract are UTC, or zoneless."""
    day, _, time = text.removesuffix("Z").partition("T")
    micros = _date(day, _TEXT) * 86_400_000_000 + _time(time, _TEXT)
    return int(_checked(micros, -_LONG_MAX - 1 <= micros <= _LONG_MAX))


def _list(value: Any, type_: ColumnType) -> list[Any]:
    assert type_.element is not None, "a list has an element"
    element = type_.element
    return [
        None if item is None else _READ[element.kind](item, element)
        for item in _checked(value, isinstance(value, list))
    ]


def _checked(value: Any, fits: bool) -> Any:  # noqa: FBT001  # the condition is the whole point
    if not fits:
        raise ValueError
    return value


_TEXT = ColumnType(Kind.STRING)
_READ: dict[Kind, Callable[[Any, ColumnType], Any]] = {
    Kind.BOOLEAN: _boolean,
    Kind.INT: _int,
    Kind.LONG: _long,
    Kind.FLOAT: _float,
    Kind.DOUBLE: _float,
    Kind.DECIMAL: _decimal,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.TIMESTAMP: _moment,
    Kind.TIMESTAMPTZ: _moment,
    Kind.STRING: _text,
    Kind.JSON: _text,
    Kind.UUID: _text,
    Kind.BINARY: _binary,
    Kind.LIST: _list,
}


def array_of(values: list[Any], type_: pa.DataType) -> pa.Array:
    """Build an array whose times come as integers, which Arrow takes for any year, unlike datetime."""
    if pa.types.is_struct(type_):
        missing = pa.array([value is None for value in values], pa.bool_())
        fields = [type_.field(index) for index in range(type_.num_fields)]
        if not fields:
            return pa.nulls(len(values), type_)
        columns = [array_of([value and value[field.name] for value in values], field.type) for field in fields]
        return pa.StructArray.from_arrays(columns, fields=fields, mask=missing)
    if pa.types.is_list(type_):
        offsets = pa.array(accumulate((len(value or ()) for value in values), initial=0), pa.int32())
        elements = array_of([item for value in values for item in value or ()], type_.value_type)
        missing = pa.array([value is None for value in values], pa.bool_())
        return pa.ListArray.from_arrays(offsets, elements, type=type_, mask=missing)
    if pa.types.is_temporal(type_):
        number = pa.int32() if pa.types.is_date32(type_) else pa.int64()
        return pa.array(values, number).cast(type_)
    return pa.array(values, type_)
