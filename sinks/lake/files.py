"""Parquet files of one batch, written before the commit that makes them count.

Promise: when `write_files` returns, the files are complete where they lie; nothing refers to them yet.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    DataFileStatistics,
    MetricModeTypes,
    MetricsMode,
    StatisticsCollector,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent
from pyiceberg.partitioning import PartitionFieldValue, PartitionKey
from pyiceberg.schema import Schema, sanitize_column_names
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import DateType, TimestampType, TimestamptzType

from schemas.errors import TableStopped
from sinks.lake.evolve import placed

_DATED = (DateType, TimestampType, TimestamptzType)
ROW_GROUP_ROWS_MAX = 32 * 1024  # what is cast and encoded at once: bounds the memory of a commit


def write_files(table: Table, rows: pa.Table) -> list[DataFile]:
    """Write `rows` in their order, one file per partition, and return what a manifest says of each.

    `rows` have the columns of a spec by name, in any order; a column of the table that they lack is null.

    Raises:
        TableStopped: the table has no column for one of them.
    """
    rows = placed(table, rows)
    batch_id = uuid.uuid4()
    schema = table.schema()
    return [
        _write_file(table, schema, part, key, f"{batch_id}-{number:05d}.parquet")
        for number, (key, part) in enumerate(_partitions(table, schema, rows))
    ]


def _partitions(table: Table, schema: Schema, rows: pa.Table) -> Iterator[tuple[PartitionKey | None, pa.Table]]:
    """Split by the identity columns of the table's partition spec; rows keep their order."""
    spec = table.spec()
    if spec.is_unpartitioned():
        yield None, rows
        return
    names = [schema.find_column_name(field.source_id) for field in spec.fields]
    distinct = rows.select(names).group_by(names).aggregate([]).to_pylist()
    for values in sorted(distinct, key=lambda found: [str(value) for value in found.values()]):
        key = PartitionKey(
            field_values=[
                PartitionFieldValue(field, values[name]) for field, name in zip(spec.fields, names, strict=True)
            ],
            partition_spec=spec,
            schema=schema,
        )
        yield key, rows if len(distinct) == 1 else rows.filter(_matches(rows, values))


def _matches(rows: pa.Table, values: dict[str, Any]) -> pa.Array:
    mask = None
    for name, value in values.items():
        column = rows.column(name)
        here = (
            pc.is_null(column)
            if value is None
            else pc.fill_null(pc.equal(column, pa.scalar(value, column.type)), False)
        )
        mask = here if mask is None else pc.and_(mask, here)
    return mask


def _write_file(table: Table, schema: Schema, rows: pa.Table, key: PartitionKey | None, name: str) -> DataFile:
    file_schema = sanitize_column_names(schema)  # Parquet readers of other engines want Avro's names
    encoded, metadata = _encoded(rows, schema, file_schema)
    path = table.location_provider().new_data_location(data_file_name=name, partition_key=key)
    with table.io.new_output(path).create(overwrite=True) as stream:
        stream.write(encoded)
    statistics = _statistics(metadata, file_schema, compute_statistics_plan(file_schema, table.properties))
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=key.partition if key else Record(),
        file_size_in_bytes=encoded.size,
        sort_order_id=None,
        spec_id=table.spec().spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def _statistics(
    metadata: pq.FileMetaData, file_schema: Schema, plan: dict[int, StatisticsCollector]
) -> DataFileStatistics:
    mapping = parquet_path_to_id_mapping(file_schema)
    try:
        return data_file_statistics_from_parquet_metadata(metadata, plan, mapping)
    except OverflowError:  # a year that Python's datetime does not know: dates and times go without bounds
        counted = MetricsMode(MetricModeTypes.COUNTS)
        bare = {
            number: replace(each, mode=counted) if isinstance(each.iceberg_type, _DATED) else each
            for number, each in plan.items()
        }
        return data_file_statistics_from_parquet_metadata(metadata, bare, mapping)


def _as_stored(rows: pa.Table, schema: Schema, file_schema: Schema) -> pa.Table:
    """Return the rows with the table's columns, types, field ids and order."""
    stored = schema_to_pyarrow(file_schema)
    present = set(rows.column_names)
    columns = [
        rows.column(field.name).cast(target.type) if field.name in present else pa.nulls(len(rows), target.type)
        for field, target in zip(schema.fields, stored, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=stored)


def _encoded(rows: pa.Table, schema: Schema, file_schema: Schema) -> tuple[pa.Buffer, pq.FileMetaData]:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema_to_pyarrow(file_schema), compression="zstd", store_schema=False) as writer:
        for first in range(0, len(rows), ROW_GROUP_ROWS_MAX):
            writer.write_table(_as_stored(rows.slice(first, ROW_GROUP_ROWS_MAX), schema, file_schema))
    return sink.getvalue(), writer.writer.metadata


def live_files(table: Table) -> list[DataFile]:
    """Return the data files of the table's current snapshot.

    Raises:
        TableStopped: another engine has deleted single rows from it, which only an engine can apply.
    """
    snapshot = table.current_snapshot()
    manifests = snapshot.manifests(table.io) if snapshot else ()
    if any(manifest.content != ManifestContent.DATA for manifest in manifests):
        raise TableStopped(
            "lake_row_deletes",
            f"lake table {table.name()[-1]} has row-level deletes, which Headgate never writes",
            hint="query it with the engine that wrote them, or compact it there first",
        )
    return [entry.data_file for manifest in manifests for entry in manifest.fetch_manifest_entry(table.io)]
