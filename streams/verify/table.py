"""A registered table verified against its source: the parts put together, and given back in the end."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing

import duckdb

from connectors.sources.base import KeyRange
from connectors.sources.opening import open_source
from schemas.config import Config
from schemas.errors import ConfigurationError
from schemas.masked import masked_spec
from schemas.table import TableSpec
from schemas.types import ColumnType
from sinks.lake.view import open_lake_sql
from streams.mask_keys import mask_keys_of
from streams.verify.behind_masks import MaskedSource, comparable
from streams.verify.places import places_of
from streams.verify.run import Options, Progress, Report, Verification

WORKSPACE_MEMORY = "1GB"  # beyond it, the latest rows of the lake and the keys that were seen lie on disk
_NAME_PARTS = 2


def verify_table(
    config: Config,
    spec: TableSpec,
    dsn: str,
    *,
    source_table: str | None,
    columns: Sequence[str] | None,
    bounds: KeyRange,
    options: Options,
    progress: Progress,
) -> Report:
    """Compare a table of the database at `dsn` with its lake and its views; `columns` None means all of the spec.

    Masked columns are compared as their masks leave them.

    Raises:
        ConfigurationError: the source's table is not known, or something that was asked for is not there.
        SourceUnavailable, SinkUnavailable: something does not answer.
        TableStopped: the lake has no such table.
    """
    if not spec.key:
        raise ConfigurationError(f"{spec.table} has no key", hint="rows can only be told apart by one")
    wanted = _wanted(spec, columns)
    opened = open_source(dsn, source_name(spec, source_table), spec.key, comparable(spec, wanted), bounds)
    with (
        closing(opened.session),
        tempfile.TemporaryDirectory(prefix="headgate-verify-") as folder,
        closing(_workspace(config, spec)) as workspace,
    ):
        workspace.execute(f"SET memory_limit = '{WORKSPACE_MEMORY}'")
        workspace.execute(f"SET temp_directory = '{folder}'")
        source = MaskedSource(opened, spec, mask_keys_of(config.masks)) if spec.is_masked else opened
        places = places_of(config, masked_spec(spec), source.columns, workspace)
        report = Verification(spec.table, source, places, workspace, options, progress=progress).run()
    report.not_compared = [name for name in wanted if name in masked_spec(spec).columns.keys() - source.columns.keys()]
    report.behind_masks = source.masked if isinstance(source, MaskedSource) else []
    return report


def _workspace(config: Config, spec: TableSpec) -> duckdb.DuckDBPyConnection:
    if not spec.lake.enabled:
        return duckdb.connect()
    return open_lake_sql(config.lake, [spec.table], keys={spec.table: spec.key})


def source_name(spec: TableSpec, given: str | None) -> tuple[str, str]:
    """Return schema (or database) and table: as `given`, else the spec's `source_table` or the end of its one topic.

    Raises:
        ConfigurationError: neither says it.
    """
    topic = spec.topics[0] if len(spec.topics) == 1 and not spec.topics[0].startswith("^") else ""
    said = topic if spec.source_table is None else spec.source_table
    parts = (said if given is None else given).split(".")[-_NAME_PARTS:]
    if len(parts) != _NAME_PARTS or not all(parts):
        raise ConfigurationError(
            f"{spec.table}: which table of the source is it?", hint="name it with --source-table SCHEMA.TABLE"
        )
    return parts[0], parts[1]


def _wanted(spec: TableSpec, columns: Sequence[str] | None) -> dict[str, ColumnType]:
    if unknown := [name for name in columns or () if name not in spec.columns]:
        raise ConfigurationError(
            f"{spec.table} has no column {', '.join(unknown)}", hint=f"it has {', '.join(spec.columns)}"
        )
    chosen = spec.columns if columns is None else {*spec.key, *columns}
    return {name: column.type for name, column in spec.columns.items() if name in chosen}
