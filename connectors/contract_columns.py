"""The fast way of the contract reader: msgspec makes objects of what is wanted, Arrow makes columns of them and casts.

Where one value is not what it knows, it gives none of them: then `contract_rows` decides. A field costs 50 to 100 ns,
half of it for an object that lives for a moment, so what nobody wants is not named to msgspec, and skipped by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, partial
from itertools import filterfalse
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from schemas.change import ChangeSource, ChangeValue
from schemas.types import ColumnType, Kind

NAME_NOT_BY_COLUMN = re.compile(r'["\\\x00-\x1f]')  # msgspec has no field of such a name

_CHANGE: dict[str, Any] = {"op": str, "position": str, "ts": str, "unavailable": tuple[str, ...]}
_SOURCE: dict[str, Any] = {"tx": str | None, "snapshot": bool, "previous": int | None}
_ROWS: dict[str, Any] = {"rows": (int, 1)}
_NO_ROWS: dict[str, Any] = {"rows": (None, None)}  # a number there is refused
_NAMES_ROWS = b'"rows"'  # stands in every change of a record of several
_ALONE = {"origin_row": 0, "rows": 1}  # of a change that is its record's only one
REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError, pa.ArrowInvalid)

# What JSON has as text, and Arrow casts.
_CAST = frozenset({Kind.LONG, Kind.DECIMAL, Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ})
_PYTHON: dict[Kind, Any] = {
    Kind.BOOLEAN: bool,
    Kind.INT: int,
    Kind.FLOAT: float,
    Kind.DOUBLE: float,
    Kind.BINARY: bytes,  # msgspec reads base64
}
# Arrow's casts do not see a number that overflows its 128 or 256 bits: so long may a text be that never does.
_DECIMAL128_CHARACTERS_MAX = 38
_DECIMAL256_CHARACTERS_MAX = 76
_DECIMAL_AROUND_DIGITS = 3  # sign, point and the zero before it
_LONG_CHARACTERS, _DECIMAL_CHARACTERS = b"-0123456789", b"-.0123456789"

_Values = Sequence[Any]
_Take = Callable[[_Values], list[Any]]


class _Origin(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """An origin; a struct costs less than a tuple, which the garbage collector follows."""

    origin_topic: str
    origin_generation: int
    origin_partition: int
    origin_offset: int


class _OriginOfSeveral(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """An origin of a topic on which a record has several changes."""

    origin_topic: str
    origin_generation: int
    origin_partition: int
    origin_offset: int
    origin_row: Annotated[int, msgspec.Meta(ge=1)] = 0


class ColumnReader:
    """Reads values as a table of `schema`, whose struct columns are `rows`; no column has a `NAME_NOT_BY_COLUMN`.

    Until it has met a record of several changes it knows of none: others do not pay for what they do not have.
    """

    def __init__(self, rows: Mapping[str, Mapping[str, ColumnType]], schema: pa.Schema) -> None:
        self._schema = schema
        self._rows = {name: RowReader(types, schema.field(name).type) for name, types in rows.items() if types}
        self._take_rows = _takes(self._rows)
        structs = {name: row.struct | None for name, row in self._rows.items()}
        self._heads = _Heads(schema.names, structs, several=False)
        self._several = partial(_Heads, schema.names, structs, several=True)

    def read(self, values: Sequence[bytes]) -> pa.Table | None:
        """Return the values as a table, or None where one of them is not what this way reads."""
        table = self._read(self._heads, values)
        if table is None and not self._heads.several and any(_NAMES_ROWS in value for value in values):
            several = self._several()
            table = self._read(several, values)
            if table is not None:
                self._heads = several  # more of them will come
        return table

    def _read(self, heads: _Heads, values: Sequence[bytes]) -> pa.Table | None:
        try:
            # msgspec does not look at the bytes of a text that it skips.
            for _ in map(bytes.decode, filterfalse(bytes.isascii, values)):
                pass
            return self._table(heads, list(map(heads.decode, values)))
        except REFUSED:
            return None

    def _table(self, heads: _Heads, changes: list[Any]) -> pa.Table:
        fields = heads.fields(changes)
        columns = {name: _field(name, values, self._schema.field(name).type) for name, values in fields.items()}
        if heads.several and columns.keys() >= _ALONE.keys():
            _check_counts(columns["origin_row"], columns["rows"])
        columns |= {name: self._rows[name].array(take(changes)) for name, take in self._take_rows.items()}
        for name in self._schema.names:
            if name not in columns:
                columns[name] = pa.repeat(pa.scalar(_ALONE.get(name), self._schema.field(name).type), len(changes))
        return pa.Table.from_arrays([columns[name] for name in self._schema.names], schema=self._schema)


class _Heads:
    """Decodes changes and gives what is wanted of them beside their rows."""

    def __init__(self, names: Collection[str], rows: Mapping[str, Any], *, several: bool) -> None:
        """Read those of `names` that are fields, and structs for `rows`; `several` changes may be of one record."""
        wanted, origin = set(names), _OriginOfSeveral if several else _Origin
        self.several = several
        self._change = _takes(wanted & _CHANGE.keys())
        self._source = _takes(wanted & (_SOURCE.keys() | _ROWS.keys() if several else _SOURCE.keys()))
        self._origin = _takes(wanted & set(origin.__struct_fields__))
        self._take_origin, self._take_source = _take("origin"), _take("source")
        source: dict[str, Any] = {name: type_ for name, type_ in _SOURCE.items() if name in wanted}
        if "rows" in wanted:
            source |= _ROWS if several else _NO_ROWS
        if self._origin or "origin_row" in wanted:
            source["origin"] = origin
        change = {name: _CHANGE[name] for name in self._change} | dict(rows)
        if source:
            change["source"] = _struct(ChangeSource, source)
        # The narrowest struct that reads a change; what it names must be there.
        self.decode = msgspec.json.Decoder(_struct(ChangeValue, change)).decode

    def fields(self, changes: list[Any]) -> dict[str, list[Any]]:
        """Return the values of each field."""
        fields = {name: take(changes) for name, take in self._change.items()}
        if self._source or self._origin:
            sources = self._take_source(changes)
            fields |= {name: take(sources) for name, take in self._source.items()}
            origins = self._take_origin(sources) if self._origin else []
            fields |= {name: take(origins) for name, take in self._origin.items()}
        return fields


class RowReader:
    """Reads one of the row objects; its struct's fields are numbered, since a column may have any name."""

    def __init__(self, types: Mapping[str, ColumnType], arrow: pa.StructType) -> None:
        names = [f"c{index}" for index in range(len(types))]
        fields = [(name, _python_type(type_) | None, None) for name, type_ in zip(names, types.values(), strict=True)]
        rename = dict(zip(names, types, strict=True))
        self.struct = msgspec.defstruct("Row", fields, rename=rename, gc=False)
        self._arrow = arrow
        self._absent = self.struct()
        self._columns = list(zip(map(_take, names), types.values(), arrow, strict=True))

    def array(self, rows: list[Any]) -> pa.StructArray:
        """Return the rows as a struct column, null where they are null."""
        if not any(rows):  # a struct is true
            return pa.nulls(len(rows), self._arrow)
        mask = None
        if not all(rows):
            mask = pa.array([row is None for row in rows], pa.bool_())
            rows = [self._absent if row is None else row for row in rows]
        columns = [_column(take(rows), type_, arrow.type) for take, type_, arrow in self._columns]
        return pa.StructArray.from_arrays(columns, fields=list(self._arrow), mask=mask)


def _struct(written: type[msgspec.Struct], fields: Mapping[str, Any]) -> type[msgspec.Struct]:
    """Return a struct of some fields, in the order that they are written in: msgspec looks for the next one first."""
    ordered = [(name, *_typed_field(fields[name])) for name in written.__struct_fields__ if name in fields]
    return msgspec.defstruct(written.__name__, ordered, gc=False)


def _typed_field(field: Any) -> tuple[Any, ...]:
    """Return a field's type, and its default where it has one."""
    return field if isinstance(field, tuple) else (field,)


@cache
def _take(name: str) -> _Take:
    """Return what gives a field of many structs: a loop compiled for its name, which halves what `attrgetter` takes."""
    take: _Take = eval(f"lambda structs: [one.{name} for one in structs]")  # noqa: S307 - the names are ours
    return take


def _takes(names: Iterable[str]) -> dict[str, _Take]:
    return {name: _take(name) for name in sorted(names)}


def _field(name: str, values: list[Any], type_: pa.DataType) -> pa.Array:
    """Return a field of the change as a column."""
    match name:
        case "ts":
            return pa.array(values, pa.string()).cast(type_)
        case "unavailable" if not any(values):
            offsets = pa.repeat(pa.scalar(0, pa.int32()), len(values) + 1)
            return pa.ListArray.from_arrays(offsets, pa.array([], type_.value_type), type=type_)
        case "origin_topic" | "origin_generation" | "origin_partition" | "origin_row" | "rows" if values.count(
            values[0]
        ) == len(values):
            return pa.repeat(pa.scalar(values[0], type_), len(values))
        case _:
            return pa.array(values, type_)


def _check_counts(rows: pa.Array, counts: pa.Array) -> None:
    """Refuse a change that its record did not make.

    Raises:
        ArrowInvalid: there is one.
    """
    if pc.any(pc.greater_equal(rows, counts)).as_py():
        raise pa.ArrowInvalid("more changes than the record made")


def _column(values: list[Any], column: ColumnType, type_: pa.DataType) -> pa.Array:
    return _typed(pa.array(values, _read_type(column, type_)), column, type_)


def _python_type(column: ColumnType) -> Any:
    if column.kind is Kind.LIST:
        assert column.element is not None, "a list has an element"
        return list[_python_type(column.element) | None]  # type: ignore[misc]
    return _PYTHON.get(column.kind, str)


def _read_type(column: ColumnType, type_: pa.DataType) -> pa.DataType:
    """Return the Arrow type of what msgspec read; `_typed` makes the rest of it."""
    if column.kind is Kind.LIST:
        assert column.element is not None, "a list has an element"
        return pa.list_(_read_type(column.element, type_.value_type))
    return pa.string() if column.kind in _CAST else type_


def _typed(read: pa.Array, column: ColumnType, type_: pa.DataType) -> pa.Array:
    """Return the column in its own type.

    Raises:
        ArrowInvalid: a value does not fit.
    """
    match column.kind:
        case Kind.LONG:
            _check_characters(read, _LONG_CHARACTERS)  # Arrow takes hexadecimal numbers as well
            return read.cast(type_)
        case Kind.DECIMAL:
            return _decimals(read, type_)
        case Kind.DATE:
            return read.cast(type_)
        case Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            _check_shortest(read, len("2024-02-29T13:45:06"))  # Arrow takes a day for its midnight
            return read.cast(type_)
        case Kind.TIME:
            _check_shortest(read, len("13:45:06"))
            # Arrow casts no text to a time: it becomes one of the first day.
            moment = pc.binary_join_element_wise("1970-01-01T", read, "").cast(pa.timestamp("us"))
            return moment.cast(type_)
        case Kind.LIST:
            assert column.element is not None, "a list has an element"
            elements = _typed(read.values, column.element, type_.value_type)
            return pa.ListArray.from_arrays(read.offsets, elements, type=type_, mask=read.is_null())
        case _:
            return read


def _decimals(texts: pa.Array, type_: pa.Decimal128Type) -> pa.Array:
    _check_characters(texts, _DECIMAL_CHARACTERS)  # of exponents Arrow may lose digits
    narrow = type_.precision + _DECIMAL_AROUND_DIGITS <= _DECIMAL128_CHARACTERS_MAX
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    if longest > (_DECIMAL128_CHARACTERS_MAX if narrow else _DECIMAL256_CHARACTERS_MAX):
        raise pa.ArrowInvalid("too many digits")
    return texts.cast(type_ if narrow else pa.decimal256(type_.precision, type_.scale)).cast(type_)


def _check_shortest(texts: pa.Array, characters_min: int) -> None:
    shortest = pc.min(pc.binary_length(texts)).as_py()
    if shortest is not None and shortest < characters_min:
        raise pa.ArrowInvalid("no seconds")


def _check_characters(texts: pa.Array, characters: bytes) -> None:
    """Refuse texts of other characters than these, looked at as one.

    Raises:
        ArrowInvalid: there is another.
    """
    assert texts.offset == 0, "the buffer holds these texts only"
    buffer = texts.buffers()[2]
    if buffer is not None and buffer.to_pybytes().translate(None, characters):
        raise pa.ArrowInvalid("another character")
