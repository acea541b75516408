"""The contract read as columns: values of `headgate.changes.<table>` in, one typed Arrow table out.

Promise: the rows of the result are the values, one for one and in order; each column has the Arrow type of its spec. A
value that is not what the contract says is named by its index, never dropped and never half read.

The fast way hands all values to Arrow's JSON reader with an explicit schema and casts by column (about 4 µs a value of
twelve columns; `orjson.loads` alone is 7). What it refuses, NaN as text, years beyond 9999, a broken value, is read row
by row by `contract_rows`, in blocks small enough that one odd value does not slow its neighbours.
"""

from __future__ import annotations

import io
import re
from binascii import a2b_base64
from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from connectors.contract_rows import read_rows
from schemas.table import TableSpec
from schemas.types import ColumnType, Kind

KEY_ROWS = ("key", "old_key", "new_key")
ROWS = frozenset({*KEY_ROWS, "before", "after"})
UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")

VALUES_AT_ONCE_MAX = (
    4_096  # bounds what Arrow's reader holds; a block that fits the processor's cache is also the fastest
)
VALUES_SLOW_MAX = 256  # how many values one odd value takes along on the slow way

CHANGE_FIELDS = pa.schema(
    [
        pa.field("op", pa.string(), nullable=False),
        pa.field("position", pa.string(), nullable=False),
        pa.field("ts", UTC_MICROSECONDS, nullable=False),
        pa.field("tx", pa.string()),
        pa.field("snapshot", pa.bool_(), nullable=False),
        pa.field("unavailable", pa.list_(pa.string()), nullable=False),
        pa.field("origin_topic", pa.string(), nullable=False),
        pa.field("origin_generation", pa.int64(), nullable=False),
        pa.field("origin_partition", pa.int64(), nullable=False),
        pa.field("origin_offset", pa.int64(), nullable=False),
        pa.field("previous", pa.int64()),
    ]
)

_PLAIN: dict[Kind, pa.DataType] = {
    Kind.BOOLEAN: pa.bool_(),
    Kind.INT: pa.int32(),
    Kind.LONG: pa.int64(),
    Kind.FLOAT: pa.float32(),
    Kind.DOUBLE: pa.float64(),
    Kind.DATE: pa.date32(),
    Kind.TIME: pa.time64("us"),
    Kind.TIMESTAMP: pa.timestamp("us"),
    Kind.TIMESTAMPTZ: UTC_MICROSECONDS,
    Kind.STRING: pa.string(),
    Kind.JSON: pa.string(),
    Kind.UUID: pa.string(),
    Kind.BINARY: pa.binary(),
}
# Arrow's JSON reader takes these only as text; a cast by column follows.
_READ_AS_TEXT = frozenset({Kind.LONG, Kind.DATE, Kind.TIME, Kind.BINARY})
_ORIGIN = re.compile(rb'"origin":\["([^"\\]*)",')


def arrow_type(column: ColumnType) -> pa.DataType:
    """Return the Arrow type of a column: what Iceberg's type of the same name reads as; uuid and json are strings."""
    if column.kind is Kind.DECIMAL:
        return pa.decimal128(column.precision, column.scale)
    if column.kind is Kind.LIST:
        assert column.element is not None, "a list has an element"
        return pa.list_(arrow_type(column.element))
    return _PLAIN[column.kind]


class ContractReader:
    """Reads values of one table; `rows` are the row objects wanted, `columns` the columns of them (None: all)."""

    def __init__(self, spec: TableSpec, *, rows: frozenset[str], columns: Collection[str] | None = None) -> None:
        assert rows <= ROWS, f"rows are {sorted(ROWS)}"
        types = {name: column.type for name, column in spec.columns.items() if columns is None or name in columns}
        keys = {name: types[name] for name in spec.key if name in types}
        self.rows = {name: keys if name in KEY_ROWS else types for name in sorted(rows)}
        row_fields = [pa.field(name, _struct(types)) for name, types in self.rows.items()]
        self.schema = pa.schema([*CHANGE_FIELDS, *row_fields])
        self._topics: list[bytes] = []
        # A column of this name could hold an array that begins like an origin; then nothing is rewritten as text.
        self._rewritable = not any(name.endswith("origin") for name in types)
        self._options = pj.ParseOptions(explicit_schema=self._read_schema(), unexpected_field_behavior="ignore")

    def read(self, values: Sequence[bytes]) -> pa.Table:
        """Return one row per value: `CHANGE_FIELDS`, then a struct column per wanted row object, null where it is null.

        Raises:
            UnreadableChange: the first value that is not what the contract says, by its index.
        """
        tables: list[pa.Table] = []
        for at in range(0, len(values), VALUES_AT_ONCE_MAX):
            tables += self._read(values, at, VALUES_AT_ONCE_MAX)
        return pa.concat_tables(tables) if tables else self.schema.empty_table()

    def _read(self, values: Sequence[bytes], at: int, count: int) -> list[pa.Table]:
        part = values[at : at + count]
        table = self.read_fast(part)
        if table is not None:
            return [table]
        if count > VALUES_SLOW_MAX and len(part) > VALUES_SLOW_MAX:
            smaller = range(at, at + len(part), VALUES_SLOW_MAX)
            return [table for start in smaller for table in self._read(values, start, VALUES_SLOW_MAX)]
        return [read_rows(part, self.rows, self.schema, first_index=at)]

    def read_fast(self, values: Sequence[bytes]) -> pa.Table | None:
        """Return the values as a table, or None where Arrow's reader refuses or cannot be trusted with them."""
        joined = b"\n".join(values)
        if not self._rewritable or joined.count(b"\n") != len(values) - 1 or not all(values):
            return None
        try:
            joined.decode()  # Arrow's reader takes any bytes for text
            read = self._parse(joined)
            if read.num_rows != len(values):
                return None
            return self._typed(read)
        except (pa.ArrowInvalid, pa.ArrowIndexError, UnicodeDecodeError):
            return None

    def _parse(self, joined: bytes) -> pa.Table:
        """Parse with the origins' topics replaced by their number: Arrow has no arrays of mixed types."""
        try:
            return self._parse_json(_number_topics(joined, self._topics))
        except pa.ArrowInvalid:
            found = set(_ORIGIN.findall(joined))
            if found <= set(self._topics):
                raise
            self._topics += sorted(found - set(self._topics))
            return self._parse_json(_number_topics(joined, self._topics))

    def _parse_json(self, joined: bytes) -> pa.Table:
        one_block = pj.ReadOptions(use_threads=False, block_size=len(joined) + 1)
        return pj.read_json(io.BytesIO(joined), read_options=one_block, parse_options=self._options).combine_chunks()

    def _typed(self, read: pa.Table) -> pa.Table | None:
        """Return the columns of the contract, or None where a field that must be there is missing."""
        source = _only_chunk(read, "source")
        origin = source.field("origin")
        lengths = pc.list_value_length(origin)
        if source.null_count or origin.null_count or not pc.all(pc.equal(lengths, 4), min_count=0).as_py():
            return None
        topic, generation, partition, offset = (_nth(origin, index) for index in range(4))
        columns = [
            *(_only_chunk(read, name) for name in ("op", "position", "ts")),
            source.field("tx"),
            source.field("snapshot"),
            _only_chunk(read, "unavailable"),
            pa.array([name.decode() for name in self._topics], pa.string()).take(topic),
            generation,
            partition,
            offset,
            source.field("previous"),
        ]
        if any(column.null_count for column, field in zip(columns, CHANGE_FIELDS, strict=True) if not field.nullable):
            return None
        columns += [_typed_row(_only_chunk(read, name), types) for name, types in self.rows.items()]
        return pa.Table.from_arrays(columns, schema=self.schema)

    def _read_schema(self) -> pa.Schema:
        source = {"tx": pa.string(), "snapshot": pa.bool_(), "origin": pa.list_(pa.int64()), "previous": pa.int64()}
        plain = ("op", "position", "ts", "unavailable")
        fields: dict[str, pa.DataType] = {name: CHANGE_FIELDS.field(name).type for name in plain}
        fields["source"] = pa.struct(list(source.items()))
        for name, types in self.rows.items():
            fields[name] = pa.struct([(column, _read_type(type_)) for column, type_ in types.items()])
        return pa.schema(list(fields.items()))


def _struct(types: dict[str, ColumnType]) -> pa.DataType:
    return pa.struct([(name, arrow_type(type_)) for name, type_ in types.items()])


def _read_type(column: ColumnType) -> pa.DataType:
    """Return the type that Arrow's JSON reader is asked for; `_typed_column` makes the rest of it."""
    if column.kind is Kind.LIST:
        assert column.element is not None, "a list has an element"
        return pa.list_(_read_type(column.element))
    return pa.string() if column.kind in _READ_AS_TEXT else arrow_type(column)


def _number_topics(joined: bytes, topics: list[bytes]) -> bytes:
    """Return the values with `"origin":["topic",` as `"origin":[number,`.

    The quotes around `origin` are not escaped, so this is never inside a text; a column that could look so is excluded.
    """
    for number, topic in enumerate(topics):
        joined = joined.replace(b'"origin":["%b",' % topic, b'"origin":[%d,' % number)
    return joined


def _only_chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    assert column.num_chunks == 1, "one block makes one chunk"
    return column.chunk(0)


def _nth(lists: pa.Array, index: int) -> pa.Array:
    return pc.list_element(lists, index)


def _typed_row(read: pa.Array, types: dict[str, ColumnType]) -> pa.Array:
    if not types:
        return pa.nulls(len(read), pa.struct([]))
    columns = [_typed_column(read.field(name), type_) for name, type_ in types.items()]
    fields = [pa.field(name, arrow_type(type_)) for name, type_ in types.items()]
    return pa.StructArray.from_arrays(columns, fields=fields, mask=read.is_null())


def _typed_column(read: pa.Array, column: ColumnType) -> pa.Array:
    """Return the column in its own type.

    Raises:
        ArrowInvalid: a value does not fit.
    """
    match column.kind:
        case Kind.LONG | Kind.DATE:
            return pc.cast(read, arrow_type(column))
        case Kind.TIME:
            # Arrow casts no text to a time: it becomes one of the first day.
            moment = pc.cast(pc.binary_join_element_wise("1970-01-01T", read, ""), pa.timestamp("us"))
            return pc.cast(moment, pa.time64("us"))
        case Kind.BINARY:
            return _decode_base64(read)
        case Kind.LIST:
            assert column.element is not None, "a list has an element"
            elements = _typed_column(read.values, column.element)
            return pa.ListArray.from_arrays(read.offsets, elements, type=arrow_type(column), mask=read.is_null())
        case _:
            return read


def _decode_base64(read: pa.Array) -> pa.Array:
    """Decode by value: Arrow has no base64, and `a2b_base64` costs 0.1 µs."""
    try:
        decoded: list[Any] = [None if text is None else a2b_base64(text, strict_mode=True) for text in read.to_pylist()]
    except ValueError as exc:  # binascii.Error
        raise pa.ArrowInvalid("not base64") from exc
    return pa.array(decoded, pa.binary())
