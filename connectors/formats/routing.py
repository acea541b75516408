"""Which source table a record belongs to, by what it says itself: for topics that several tables share.

Nothing but the name is read here. Whether the rest of a record is right is its table's decoder to say. A change of a
table's schema is that table's, where its tool names it; what gives no name is a tombstone, a heartbeat, broken bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from connectors.formats import cloudevents, dynamodb, goldengate, mapped_json, mongodb, s3, sequin
from connectors.formats.dms import OWN_TABLES
from connectors.formats.inspection import is_block
from connectors.formats.json_options import JsonOptions
from connectors.formats.options import options_of
from connectors.formats.paths import names_of
from schemas.errors import ConfigurationError
from schemas.table import TableSpec

Name = Callable[[Any], str | None]
_Text = str | None


class _DmsMetadata(msgspec.Struct, rename="kebab", gc=False):
    record_type: str
    schema_name: _Text = None
    table_name: _Text = None


class _Dms(msgspec.Struct, gc=False):
    metadata: _DmsMetadata

    def name(self) -> str | None:
        mine = self.metadata
        if not mine.table_name or mine.table_name.startswith(OWN_TABLES):
            return None
        return f"{mine.schema_name}.{mine.table_name}" if mine.schema_name else mine.table_name

    def defines(self) -> bool:
        return self.metadata.record_type != "data"


class _Binlog(msgspec.Struct, gc=False):
    """A record of Maxwell or of Canal."""

    type: str
    database: str
    table: str


class _Maxwell(_Binlog, gc=False):
    def name(self) -> str | None:
        rows = self.type in {"insert", "update", "delete", _BOOTSTRAP}
        return f"{self.database}.{self.table}" if rows or self.defines() else None

    def defines(self) -> bool:
        return self.type.startswith("table-")


class _Canal(_Binlog, gc=False):
    def name(self) -> str | None:
        return f"{self.database}.{self.table}" if self.table else None

    def defines(self) -> bool:
        return self.type not in {"INSERT", "UPDATE", "DELETE", "TRUNCATE"}


class _Source(msgspec.Struct, gc=False):
    table: _Text = None
    schema: _Text = None
    db: _Text = None


class _Debezium(msgspec.Struct, gc=False):
    """An envelope, with or without its schema block."""

    op: _Text = None
    source: _Source | None = None
    payload: _Debezium | None = None

    def name(self) -> str | None:
        envelope = self if self.payload is None else self.payload
        source = envelope.source
        if source is None or not source.table or envelope.op is None:
            return None
        above = source.schema or source.db
        return f"{above}.{source.table}" if above else source.table


_BOOTSTRAP = "bootstrap-insert"
_FAST: dict[str, Any] = {"dms": _Dms, "maxwell": _Maxwell, "canal": _Canal, "debezium-json": _Debezium}
_BY_DOCUMENT: dict[str, Name] = {
    "debezium-mongodb": mongodb.table_of,
    "cloudevents": cloudevents.table_of,
    "goldengate": goldengate.table_of,
    "sequin": sequin.table_of,
    "dynamodb": dynamodb.table_of,
    "s3": s3.table_of,
}
_HINTS = {
    "debezium-avro": "only the registry knows what its bytes name: have the connector write a topic for each table",
    "debezium-flat": "flattened rows and their deletes need not name their table: write a topic for each table",
    "qlik": "Replicate's changes do not name their table: write a topic for each table",
}


class Router:
    """Tells the records of one topic apart."""

    def __init__(self, spec: TableSpec) -> None:
        """Prepare for the format of a spec, which is that of all tables of the topic.

        Raises:
            ConfigurationError: its records do not name their table, or an option is missing that says where.
        """
        if spec.format in _FAST:
            self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(_FAST[spec.format]).decode
            self._name: Name = _FAST[spec.format].name
            self._defines: Callable[[Any], bool] | None = getattr(_FAST[spec.format], "defines", None)
            return
        self._defines = None
        self._decode, self._name = msgspec.json.decode, partial(_of_document, _table_of(spec))

    def names(self, values: Sequence[bytes | None]) -> list[str | None]:
        """Return the source table that each value names, None where it names none."""
        name = self._name
        return [None if document is None else name(document) for document in self._documents(values)]

    def define(self, values: Sequence[bytes | None]) -> list[bool]:
        """Return of each value whether it tells the definition of the table that it names, and is no row of it."""
        if self._defines is None:
            return [False] * len(values)
        return [document is not None and self._defines(document) for document in self._documents(values)]

    def _documents(self, values: Sequence[bytes | None]) -> list[Any]:
        decode, documents = self._decode, list[Any]()
        remaining = iter([value or b"" for value in values])
        while len(documents) < len(values):
            try:
                documents.extend(map(decode, remaining))
            except (msgspec.MsgspecError, ValueError, RecursionError):
                documents.append(None)  # `extend` keeps what came before it, and `remaining` stands behind it
        return documents


def is_routed_alike(one: TableSpec, other: TableSpec) -> bool:
    """Tell whether the records of two tables name them in the same place."""
    if one.format != other.format:
        return False
    return one.format != mapped_json.FORMAT.name or _paths(one) == _paths(other)


def _table_of(spec: TableSpec) -> Name:
    if spec.format in _BY_DOCUMENT:
        return _BY_DOCUMENT[spec.format]
    if spec.format != mapped_json.FORMAT.name:
        raise ConfigurationError(
            f"source_table: records of {spec.format} cannot be told apart",
            hint=_HINTS.get(spec.format, "leave it out, and have a topic for each table"),
        )
    if not _paths(spec):
        raise ConfigurationError(
            "source_table: no option says where a record names its table",
            hint="name the path, or paths, in options.table; docs/formats.md",
        )
    return partial(_at, [names_of(path) for path in _paths(spec)])


def _at(places: Sequence[Sequence[str]], document: dict[str, Any]) -> str | None:
    """Do what `mapped_json.table_of` does, with the paths of the option already read."""
    found = []
    for names in places:
        node: Any = document
        for name in names:
            node = node.get(name) if isinstance(node, dict) else None
        if not isinstance(node, str):
            return None
        found.append(node)
    return ".".join(found) or None


def _paths(spec: TableSpec) -> list[str]:
    return options_of(spec, JsonOptions).tables


def _of_document(table_of: Name, document: Any) -> str | None:
    if is_block(document):
        document = document["payload"]
    return table_of(document) if isinstance(document, dict) else None
