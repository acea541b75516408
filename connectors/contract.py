"""The contract read as columns: values of `headgate.changes.<table>` in, one typed Arrow table out.

Promise: the rows of the result are the values, one for one and in order; each column has the Arrow type of its spec. A
value that is not what the contract says is named by its index, never dropped and never half read.

The fast way, `contract_columns`, takes 2.5 µs a value of twelve columns, and 1.1 where a rule wants three of them;
`orjson.loads` takes 2.3 (`tests/bench/bench_decode.py`). What it refuses, NaN as text, years beyond 9999, a broken
value, is read row by row by `contract_rows`, in blocks small enough that one odd value does not slow its neighbours.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa

from connectors.contract_columns import NAME_NOT_BY_COLUMN, ColumnReader
from connectors.contract_older import read_older_rows
from connectors.contract_rows import RowsReader, read_rows
from schemas.table import TableSpec
from schemas.types import ColumnType, Kind

KEY_ROWS = ("key", "old_key", "new_key")
ROWS = frozenset({*KEY_ROWS, "before", "after"})
UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")

VALUES_AT_ONCE_MAX = 4_096  # bounds the objects held; smaller blocks pay more for calls, larger miss the cache
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
        pa.field("origin_row", pa.int64(), nullable=False),  # which change of its record, from 0 on
        pa.field("previous", pa.int64()),
        pa.field("rows", pa.int64(), nullable=False),  # how many changes its record made
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


def arrow_type(column: ColumnType) -> pa.DataType:
    """Return the Arrow type of a column: what Iceberg's type of the same name reads as; uuid and json are strings."""
    if column.kind is Kind.DECIMAL:
        return pa.decimal128(column.precision, column.scale)
    if column.kind is Kind.LIST:
        assert column.element is not None, "a list has an element"
        return pa.list_(arrow_type(column.element))
    return _PLAIN[column.kind]


class ContractReader:
    """Reads values of one table.

    `rows` are the row objects wanted, `columns` the columns of them (None: all), `fields` those of `CHANGE_FIELDS`.
    What is not wanted costs next to nothing.
    """

    def __init__(
        self,
        spec: TableSpec,
        *,
        rows: frozenset[str],
        columns: Collection[str] | None = None,
        fields: Collection[str] = CHANGE_FIELDS.names,
    ) -> None:
        assert rows <= ROWS, f"rows are {sorted(ROWS)}"
        assert set(fields) <= set(CHANGE_FIELDS.names), f"fields are {CHANGE_FIELDS.names}"
        types = {name: column.type for name, column in spec.columns.items() if columns is None or name in columns}
        keys = {name: types[name] for name in spec.key if name in types}
        self.rows = {name: keys if name in KEY_ROWS else types for name in sorted(rows)}
        row_fields = [pa.field(name, _struct(types)) for name, types in self.rows.items()]
        self.schema = pa.schema([*(field for field in CHANGE_FIELDS if field.name in fields), *row_fields])
        by_column = not any(map(NAME_NOT_BY_COLUMN.search, types))
        self._columns = ColumnReader(self.rows, self.schema) if by_column else None

    def read(self, values: Sequence[bytes], *, older: bool = False) -> pa.Table:
        """Return one row per value: its fields, then a struct column per wanted row object, null where it is null.

        With `older` some may be of a schema version before the spec's: their values become what they are now.

        Raises:
            UnreadableChange: the first value that is not what the contract says, by its index.
        """
        read_slowly = read_older_rows if older else read_rows
        tables: list[pa.Table] = []
        for at in range(0, len(values), VALUES_AT_ONCE_MAX):
            tables += self._read(values, at, VALUES_AT_ONCE_MAX, read_slowly)
        return pa.concat_tables(tables) if tables else self.schema.empty_table()

    def _read(self, values: Sequence[bytes], at: int, count: int, read_slowly: RowsReader) -> list[pa.Table]:
        part = values[at : at + count]
        table = self.read_fast(part)
        if table is not None:
            return [table]
        if count > VALUES_SLOW_MAX and len(part) > VALUES_SLOW_MAX:
            smaller = range(at, at + len(part), VALUES_SLOW_MAX)
            return [table for start in smaller for table in self._read(values, start, VALUES_SLOW_MAX, read_slowly)]
        return [read_slowly(part, self.rows, self.schema, first_index=at)]

    def read_fast(self, values: Sequence[bytes]) -> pa.Table | None:
        """Return the values as a table, or None where the fast way does not know one of them."""
        return None if self._columns is None else self._columns.read(values)


def _struct(types: dict[str, ColumnType]) -> pa.DataType:
    return pa.struct([(name, arrow_type(type_)) for name, type_ in types.items()])
