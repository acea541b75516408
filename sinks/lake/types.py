"""The types of columns in Iceberg, in Arrow and in DuckDB, each as what `schemas/types.py` calls it."""

from __future__ import annotations

import pyarrow as pa
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from schemas.types import ColumnType, Kind

STRING = ColumnType(Kind.STRING)
_STRINGS = frozenset({Kind.STRING, Kind.JSON, Kind.UUID})

# Of each kind that is stored by itself: Iceberg's type, Arrow's, DuckDB's.
_PLAIN: dict[Kind, tuple[IcebergType, pa.DataType, str]] = {
    Kind.BOOLEAN: (BooleanType(), pa.bool_(), "BOOLEAN"),
    Kind.INT: (IntegerType(), pa.int32(), "INTEGER"),
    Kind.LONG: (LongType(), pa.int64(), "BIGINT"),
    Kind.FLOAT: (FloatType(), pa.float32(), "FLOAT"),
    Kind.DOUBLE: (DoubleType(), pa.float64(), "DOUBLE"),
    Kind.DATE: (DateType(), pa.date32(), "DATE"),
    Kind.TIME: (TimeType(), pa.time64("us"), "TIME"),
    Kind.TIMESTAMP: (TimestampType(), pa.timestamp("us"), "TIMESTAMP"),
    Kind.TIMESTAMPTZ: (TimestamptzType(), pa.timestamp("us", tz="UTC"), "TIMESTAMP WITH TIME ZONE"),
    Kind.STRING: (StringType(), pa.string(), "VARCHAR"),
    Kind.BINARY: (BinaryType(), pa.binary(), "BLOB"),
}
_OF_ICEBERG = {iceberg: ColumnType(kind) for kind, (iceberg, _, _) in _PLAIN.items()}
_OF_ARROW = {arrow: ColumnType(kind) for kind, (_, arrow, _) in _PLAIN.items()}


def stored(column: ColumnType) -> ColumnType:
    """Return the type that a column is stored as: uuid and json are strings, as in the contract."""
    if column.kind is Kind.LIST:
        return ColumnType(Kind.LIST, element=stored(element_of(column)))
    return STRING if column.kind in _STRINGS else column


def element_of(column: ColumnType) -> ColumnType:
    """Return the type of a list's elements."""
    assert column.element is not None, "a list has an element"
    return column.element


def iceberg_type(column: ColumnType) -> IcebergType:
    """Return the Iceberg type of a column; the elements of lists have no number yet."""
    column = stored(column)
    if column.kind is Kind.DECIMAL:
        return DecimalType(column.precision, column.scale)
    if column.kind is Kind.LIST:
        return ListType(element_id=0, element_type=iceberg_type(element_of(column)), element_required=False)
    return _PLAIN[column.kind][0]


def column_of_iceberg(type_: IcebergType) -> ColumnType | None:
    """Return what an Iceberg type is called here, None for one that no column of ours has."""
    if isinstance(type_, DecimalType):
        return ColumnType(Kind.DECIMAL, type_.precision, type_.scale)
    if isinstance(type_, ListType):
        element = column_of_iceberg(type_.element_type)
        return None if element is None else ColumnType(Kind.LIST, element=element)
    return _OF_ICEBERG.get(type_)


def column_of_arrow(type_: pa.DataType) -> ColumnType:
    """Return what a type of the contract reader is called here."""
    if pa.types.is_decimal(type_):
        return ColumnType(Kind.DECIMAL, type_.precision, type_.scale)
    if pa.types.is_list(type_):
        return ColumnType(Kind.LIST, element=column_of_arrow(type_.value_type))
    return _OF_ARROW[type_]


def duckdb_type(column: ColumnType) -> str:
    """Return the DuckDB type that a column of the lake reads as."""
    if column.kind is Kind.LIST:
        return f"{duckdb_type(element_of(column))}[]"
    if column.kind is Kind.DECIMAL:
        return f"DECIMAL({column.precision},{column.scale})"
    return _PLAIN[column.kind][2]
