"""A table of the lake: its columns, its partitions, and the properties by which we know it again.

The source's columns stand under their own names, all optional; ours begin with `_hg_`. A delete carries the columns of
its key and nothing else of the row. The layout has a version: a table of another one is refused, not guessed at.
"""

from __future__ import annotations

import json
from uuid import uuid4

import pyarrow as pa
from pyiceberg.catalog import Catalog, MetastoreCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BooleanType,
    DateType,
    IcebergType,
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)

from schemas import versions
from schemas.errors import TableStopped, VersionRefused
from schemas.table import TableSpec
from sinks.lake.evolve import ATTEMPTS, check_names, evolved, kept_changing
from sinks.lake.types import iceberg_type

LAYOUT_VERSION = "1"
LAYOUT_VERSION_OF_ROWS = "2"  # of a table that has `ROW_COLUMNS`: the releases before would take its rows for doubled
PROPERTY_LAYOUT = "headgate.layout-version"
PROPERTY_KEY = "headgate.key"

OP = "_hg_op"
POSITION = "_hg_position"
TOPIC = "_hg_topic"
GENERATION = "_hg_generation"
PARTITION = "_hg_partition"
OFFSET = "_hg_offset"
PREVIOUS = "_hg_previous"
TS = "_hg_ts"
INGESTED = "_hg_ingested"
TX = "_hg_tx"
SNAPSHOT = "_hg_snapshot"
UNAVAILABLE = "_hg_unavailable"
OLD_KEY = "_hg_old_key"
NEW_KEY = "_hg_new_key"
COMMIT_DATE = "_hg_commit_date"
ROW = "_hg_row"
ROWS = "_hg_rows"
# Only in a table that has had a record of several changes, last; null means 0, and 1.
ROW_COLUMNS = (ROW, ROWS)

_UTC = pa.timestamp("us", tz="UTC")
# In the order of the table: name, type in Iceberg, type in Arrow, required.
_OWN: tuple[tuple[str, IcebergType, pa.DataType, bool], ...] = (
    (OP, StringType(), pa.string(), True),
    (POSITION, StringType(), pa.string(), True),
    (TOPIC, StringType(), pa.string(), True),
    (GENERATION, LongType(), pa.int64(), True),
    (PARTITION, LongType(), pa.int64(), True),
    (OFFSET, LongType(), pa.int64(), True),
    (PREVIOUS, LongType(), pa.int64(), False),
    (TS, TimestamptzType(), _UTC, True),
    (INGESTED, TimestamptzType(), _UTC, True),
    (TX, StringType(), pa.string(), False),
    (SNAPSHOT, BooleanType(), pa.bool_(), True),
    (
        UNAVAILABLE,
        ListType(element_id=0, element_type=StringType(), element_required=False),
        pa.list_(pa.string()),
        True,
    ),
    (OLD_KEY, StringType(), pa.string(), False),
    (NEW_KEY, StringType(), pa.string(), False),
    (COMMIT_DATE, DateType(), pa.date32(), True),
)
OWN_COLUMNS = tuple(name for name, *_ in _OWN)
OWN_ARROW = {name: type_ for name, _, type_, _ in _OWN}


def lake_schema(spec: TableSpec) -> Schema:
    """Return the Iceberg schema of a table, before the catalogue has numbered its fields anew."""
    columns = [(name, iceberg_type(column.type), False) for name, column in spec.columns.items()]
    columns += [(name, type_, required) for name, type_, _, required in _OWN]
    fields = [
        NestedField(number, name, type_, required=required) for number, (name, type_, required) in enumerate(columns, 1)
    ]
    numbered = len(fields)
    return Schema(*(_with_element_id(field, numbered + field.field_id) for field in fields))


def _with_element_id(field: NestedField, element_id: int) -> NestedField:
    """Give lists distinct element ids; nested lists stand far apart."""
    if not isinstance(field.field_type, ListType):
        return field
    return NestedField(field.field_id, field.name, _numbered(field.field_type, element_id), required=field.required)


def _numbered(type_: IcebergType, element_id: int) -> IcebergType:
    if not isinstance(type_, ListType):
        return type_
    inner = _numbered(type_.element_type, element_id + 10_000)
    return ListType(element_id=element_id, element_type=inner, element_required=False)


def open_table(catalog: Catalog, namespace: str, spec: TableSpec, *, snapshots_kept: int = 20) -> Table:
    """Return the table of `spec`, created if it is not there, with a column for each of the spec's.

    Raises:
        TableStopped: its layout has another version, or a column of it cannot become what the spec says.
        SinkUnavailable: another worker kept changing its schema.
    """
    table = _load_or_create(catalog, namespace, spec, snapshots_kept)
    check_layout(table)
    return followed(table, spec)


def followed(table: Table, spec: TableSpec) -> Table:
    """Return a table that is there, with a column for each of the spec's.

    Raises:
        TableStopped, SinkUnavailable: as `open_table`.
    """
    return evolved(table, {name: column.type for name, column in spec.columns.items()})


def load_table(catalog: Catalog, namespace: str, name: str) -> Table:
    """Return a table that is there.

    Raises:
        TableStopped: there is none of this name, or its layout has another version.
    """
    try:
        table = catalog.load_table((namespace, name))
    except NoSuchTableError as exc:
        known = sorted(identifier[-1] for identifier in catalog.list_tables(namespace))
        hint = f"tables are {', '.join(known[:20])}" if known else "the lake is empty; has a worker committed yet?"
        raise TableStopped("not_in_lake", f"the lake has no table {name}", hint=hint) from exc
    check_layout(table)
    return table


def load_anew(table: Table) -> None:
    """Load a table that is open as it is now.

    Raises:
        TableStopped: it was dropped or moved aside; where there is one of its name, that is another.
    """
    try:
        table.refresh()
    except NoSuchTableError as exc:
        raise _replaced(table) from exc
    except ValueError as exc:  # among others pyiceberg's word for a table with another UUID
        if table.catalog.load_table(table.name()).metadata.table_uuid == table.metadata.table_uuid:
            raise
        raise _replaced(table) from exc


def _replaced(table: Table) -> TableStopped:
    name = table.name()[-1]
    return TableStopped(
        "lake_replaced",
        f"lake table {name} was dropped or moved aside while this worker had it open",
        hint=f"`headgate tables resume {name}` goes on: where there is none, a new one is filled from the output topic",
    )


def has_row_columns(table: Table) -> bool:
    """Tell whether a table has had a record of several changes."""
    return not {field.name for field in table.schema().fields}.isdisjoint(ROW_COLUMNS)


def add_row_columns(table: Table) -> None:
    """Have a table ready for records of several changes; from then on only releases that know of them take it.

    Raises:
        TableStopped: it is not there any more.
        SinkUnavailable: another worker kept changing its schema.
    """
    for _ in range(ATTEMPTS):
        if has_row_columns(table):
            return
        try:
            with table.transaction() as transaction:
                with transaction.update_schema() as update:
                    for name in ROW_COLUMNS:
                        update.add_column((name,), LongType())
                transaction.set_properties({PROPERTY_LAYOUT: LAYOUT_VERSION_OF_ROWS})
        except CommitFailedException:
            load_anew(table)
    raise kept_changing(str(table.name()[-1]))


def check_layout(table: Table) -> None:
    """Refuse a table whose layout we do not know.

    Raises:
        TableStopped: the version is missing, or one that this release does not read.
    """
    try:
        versions.LAKE_LAYOUT.check(table.properties.get(PROPERTY_LAYOUT), f"lake table {table.name()[-1]}")
    except VersionRefused as refused:
        hint = f"{refused.hint}; or move the table aside: it is created anew"
        raise TableStopped("lake_layout", refused.message, hint=hint) from refused


def key_of(table: Table) -> list[str]:
    """Return the key columns that the table was created with; empty for a table without a key."""
    return [str(name) for name in json.loads(table.properties.get(PROPERTY_KEY, "[]"))]


def _load_or_create(catalog: Catalog, namespace: str, spec: TableSpec, snapshots_kept: int) -> Table:
    identifier = (namespace, spec.table)
    try:
        return catalog.load_table(identifier)
    except NoSuchTableError:
        check_names(spec.table, OWN_COLUMNS, spec.columns)
        schema = lake_schema(spec)
        try:
            return catalog.create_table(
                identifier,
                schema=schema,
                location=_new_location(catalog, namespace, spec.table),
                partition_spec=_partition_spec(schema, spec),
                properties=_new_properties(spec, snapshots_kept),
            )
        except TableAlreadyExistsError:  # another worker was faster
            return catalog.load_table(identifier)


def _new_location(catalog: Catalog, namespace: str, table: str) -> str | None:
    """Return a folder for a new table that no other can have; None where the catalogue's server says where tables lie.

    A table that is moved aside leaves its name and takes its files' names along: the next one of that name must not
    lie among them.
    """
    if not isinstance(catalog, MetastoreCatalog):
        return None
    named = catalog._get_default_warehouse_location(namespace, table)  # noqa: SLF001 - each catalogue has its own way
    return f"{named}-{uuid4()}"


def _partition_spec(schema: Schema, spec: TableSpec) -> PartitionSpec:
    if "commit_date" not in spec.lake.partition_by:
        return PartitionSpec()
    source = schema.find_field(COMMIT_DATE).field_id
    return PartitionSpec(PartitionField(source, 1000, IdentityTransform(), COMMIT_DATE))


def _new_properties(spec: TableSpec, snapshots_kept: int) -> dict[str, str]:
    metrics = {**dict.fromkeys((*spec.key, POSITION, TS, OFFSET), "full"), NEW_KEY: "counts"}
    return {
        PROPERTY_LAYOUT: LAYOUT_VERSION,
        PROPERTY_KEY: json.dumps(spec.key),
        "format-version": "2",
        "write.parquet.compression-codec": "zstd",
        # Retried by themselves, appends of a frozen worker would pass on top of its successor's.
        "commit.retry.num-retries": "0",
        "commit.manifest-merge.enabled": "true",
        "write.metadata.delete-after-commit.enabled": "true",
        "write.metadata.previous-versions-max": str(snapshots_kept),
        # Bounds of every column would make manifests, which each commit reads and merges, ten times as large.
        "write.metadata.metrics.default": "none",
        **{f"write.metadata.metrics.column.{name}": mode for name, mode in metrics.items()},
    }
