"""The views that latest topics are written from: of all columns of a table, kept in Redis like any other.

Such a view is in the entry of `headgate.tables`, where `apply` puts it, and not in the file. Its version is made of the
table's schema version, so that one of other columns is another view, filled and written anew, also where the columns
become those of before again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

from schemas.config import Config
from schemas.errors import ConfigurationError
from schemas.feature import View
from schemas.masked import masked_spec
from schemas.output import latest_view_name
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from schemas.types import ColumnType, Kind
from streams.registration import open_admin

_VERSION_MAX = 2**31 - 1
_WIDEST = {Kind.INT: Kind.LONG, Kind.FLOAT: Kind.DOUBLE}


def with_latest_view(spec: TableSpec, schema_version: int) -> TableSpec:
    """Return the spec with the view of its latest topic, if it has one, and with no older version of it."""
    name = latest_view_name(spec.table)
    views = [view for view in spec.features if view.view != name]
    if spec.output.latest:
        behind = masked_spec(spec)
        version = _version(behind, schema_version)
        views.append(View(view=name, version=version, entity=name, columns=list(behind.columns)))
    return spec if views == spec.features else spec.model_copy(update={"features": views})


def check_latest(config: Config, entries: Mapping[str, TableEntry], specs: Mapping[str, TableSpec]) -> None:
    """Check that no latest topic would keep rows under keys that nobody writes any more.

    Raises:
        ConfigurationError: a topic is there from before, or the key of a table that has one is not as it was.
        SourceUnavailable: Kafka does not answer.
    """
    names = TopicNames(config.kafka.topic_prefix)
    before = {table: entry.spec for table, entry in entries.items() if entry.spec.output.latest}
    wanted = {table: spec for table, spec in specs.items() if spec.output.latest}
    new = {names.latest(table): table for table in wanted.keys() - before.keys()}
    for topic in open_admin(config).describe(new) if new else ():
        raise ConfigurationError(
            f"{new[topic]}: output: {topic} is there from before, and its rows would stay beside the new ones",
            hint=f"`headgate features forget {latest_view_name(new[topic])}` takes it away",
        )
    for table in wanted.keys() & before.keys():
        if _key_form(masked_spec(wanted[table])) != _key_form(masked_spec(before[table])):
            raise ConfigurationError(
                f"{table}: output: records of {names.latest(table)} would have other keys than those that are there",
                hint="apply it without `latest` first, with --force, then `headgate features forget "
                f"{latest_view_name(table)}`",
            )


def _version(spec: TableSpec, schema_version: int) -> int:
    columns = [[name, str(column.type)] for name, column in spec.columns.items()]
    return zlib.crc32(json.dumps([schema_version, spec.key, columns]).encode()) % _VERSION_MAX + 1


def _key_form(spec: TableSpec) -> tuple[object, ...]:
    return spec.output.latest_schema, [(name, _form(spec.columns[name].type)) for name in spec.key]


def _form(column: ColumnType) -> tuple[object, ...]:
    element = _form(column.element) if column.element is not None else ()
    return _WIDEST.get(column.kind, column.kind), column.scale, element
