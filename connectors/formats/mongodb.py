"""Debezium's envelopes of MongoDB: documents as texts of extended JSON, whole or as what was changed of them.

A document's fields are the row's columns, and so is what stands inside of them where `options.paths` say it; `_id` is
the key. An update without the whole document (`capture.mode: change_streams`) is laid over the document before it, if
that is there. Else it says some columns: the others are unavailable, and what was removed is null. Where it says only a
part inside of a column, nobody can tell that column from it, and the record is refused (documents.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from connectors.formats.base import Records, origin_offsets
from connectors.formats.documents import Delta, DocumentColumns, DocumentOptions, applied, delta_of
from connectors.formats.envelope import INCREMENTAL, Snapshot
from connectors.formats.event_decoder import EventFormat
from connectors.formats.events import Envelopes, Events
from connectors.formats.inspection import inspect, is_block, side_record
from connectors.formats.objects import written
from connectors.formats.options import options_of
from connectors.formats.positions import NO_SNAPSHOT
from connectors.formats.reasons import Rejection
from schemas.config import LimitsConfig
from schemas.position import mongodb_position
from schemas.table import TableEntry

NAME = "debezium-mongodb"
ID = "_id"
_MILLI_US = 1_000


class _Source(msgspec.Struct, gc=False):
    connector: Literal["mongodb"]
    name: str | UnsetType = UNSET
    db: str | UnsetType = UNSET
    collection: str | UnsetType = UNSET
    ts_ms: int | UnsetType | None = UNSET
    ts_us: int | UnsetType | None = UNSET
    ord: int | UnsetType | None = UNSET
    snapshot: Snapshot | UnsetType = UNSET
    lsid: str | UnsetType | None = UNSET
    txnNumber: int | UnsetType | None = UNSET  # noqa: N815 - Debezium's name


class _Truncated(msgspec.Struct, gc=False):
    field: str
    size: int


class _Description(msgspec.Struct, gc=False):
    updatedFields: str | UnsetType | None = UNSET  # noqa: N815 - Debezium's names
    removedFields: list[str] | UnsetType | None = UNSET  # noqa: N815
    truncatedArrays: list[_Truncated] | UnsetType | None = UNSET  # noqa: N815


class _Envelope(msgspec.Struct, gc=False):
    op: Literal["c", "u", "d", "r"]
    source: _Source
    after: str | UnsetType | None = UNSET
    before: str | UnsetType | None = UNSET
    updateDescription: _Description | UnsetType | None = UNSET  # noqa: N815


class _Record(msgspec.Struct, gc=False):
    """An envelope, or one behind a schema block."""

    op: Literal["c", "u", "d", "r"] | UnsetType | None = UNSET
    source: _Source | UnsetType | None = UNSET
    after: str | UnsetType | None = UNSET
    before: str | UnsetType | None = UNSET
    updateDescription: _Description | UnsetType | None = UNSET  # noqa: N815
    schema: msgspec.Raw | UnsetType = UNSET
    payload: _Envelope | UnsetType | None = UNSET


class _Key(msgspec.Struct, gc=False):
    id: str | None = None
    payload: _Key | None = None


_key = msgspec.json.Decoder(_Key).decode


@dataclass(slots=True)
class _Run:
    """Records, and the source of the last one that was a change."""

    values: list[bytes | None]
    keys: list[bytes | None]
    offsets: list[int]
    source: _Source | None = None


class _Unwrapper:
    """Reads the records of one collection."""

    def __init__(self, entry: TableEntry, limits: LimitsConfig) -> None:
        """Prepare for the columns of the spec.

        Raises:
            ConfigurationError: an option is none, or a path is that of no column.
        """
        self._epoch, self._depth_max, self._trusted = entry.epoch, limits.record_depth_max, entry.spec.before == "full"
        paths = options_of(entry.spec, DocumentOptions).paths
        self._columns = DocumentColumns(entry.spec, paths, depth_max=limits.record_depth_max)
        self._envelopes = Envelopes(_Record, limits, _judged)

    def unwrap(self, records: Records) -> Events:
        """Return the changes of the run."""
        events = Events(connector="mongodb")
        run = _Run(records.values(), records.keys(), origin_offsets(records))
        self._envelopes.each(run.values, events, partial(self._take, run))
        if source := run.source:
            events.source_name, events.source_table = source.name or "", f"{source.db or ''}.{source.collection or ''}"
        return events

    def _take(self, run: _Run, index: int, read: _Record, events: Events) -> None:
        envelope: Any = read if read.op and read.source else read.payload
        if not envelope:
            events.skipped[index] = _judged(inspect(run.values[index] or b"", depth_max=self._depth_max))
            return
        source, snapshot = envelope.source, envelope.op == "r" or (envelope.source.snapshot or None) not in NO_SNAPSHOT
        identifier = _identifier(run.keys[index], self._depth_max)
        after, missing = self._after(envelope, identifier)
        before = None
        if envelope.before and (self._trusted or (envelope.op == "d" and identifier is None)):
            before = self._columns.row(envelope.before.encode())
        offset = run.offsets[index]
        position = mongodb_position(self._epoch, source.ts_ms or 0, source.ord or 0, offset, streamed=not snapshot)
        place = events.add(
            index, envelope.op, position, _micros(source), after=after, before=before, snapshot=snapshot,
            transaction=_transaction(source),
        )  # fmt: skip
        events.keys.append(None if identifier is None else b'{"_id":' + identifier + b"}")
        run.source = source
        if missing:
            events.unavailable[place] = missing
        if snapshot and source.snapshot != INCREMENTAL:
            events.initial.add(place)

    def _after(self, envelope: Any, identifier: bytes | None) -> tuple[bytes | None, list[str]]:
        """Return the document as far as the record says it, and the columns that it does not say."""
        if envelope.op == "d":
            return None, []
        if envelope.after:
            return self._columns.row(envelope.after.encode()), []
        if not envelope.updateDescription:
            raise Rejection("no_row", "an update with neither `after` nor `updateDescription`")
        delta = self._delta(envelope.updateDescription)
        if envelope.before:
            return self._columns.row(applied(envelope.before.encode(), delta, depth_max=self._depth_max)), []
        fields, missing = self._columns.of_delta(delta)
        if identifier is not None:
            fields[ID] = msgspec.Raw(identifier)
        return written(fields), [name for name in missing if name not in fields]

    def _delta(self, said: _Description) -> Delta:
        truncated = [(one.field, one.size) for one in said.truncatedArrays or ()]
        updated = (said.updatedFields or "{}").encode()
        return delta_of(updated, said.removedFields or (), truncated, depth_max=self._depth_max)


def _micros(source: _Source) -> int:
    """Return the commit time."""
    if isinstance(source.ts_us, int):
        return source.ts_us
    if not isinstance(source.ts_ms, int):
        raise Rejection("bad_time", "`source` has neither ts_us nor ts_ms")
    return source.ts_ms * _MILLI_US


def _identifier(key: bytes | None, depth_max: int) -> bytes | None:
    """Return the extended JSON of a key's identifier, None if the record has none."""
    if key is None:
        return None
    try:
        read = _key(key)
        text = (read.payload or read).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Rejection("bad_key", "the key is not `id` with a text of extended JSON") from None
    if b"\\u" in key or key.count(b'"id"') > 1:
        inspect(key, depth_max=depth_max)
    if text is None:
        return None
    try:
        # The connector puts spaces into it, and not into documents.
        return msgspec.json.format(text, indent=-1).encode()
    except (msgspec.DecodeError, RecursionError):
        raise Rejection("bad_key", "the key's `id` is no extended JSON") from None


def _transaction(source: _Source) -> str | None:
    return f"{source.lsid}:{source.txnNumber}" if source.lsid and isinstance(source.txnNumber, int) else None


def _judged(document: Any) -> str:
    """Return the name of what is no change."""
    payload = document["payload"] if is_block(document) else document
    if payload is None:
        return "tombstone"
    if isinstance(payload, dict):
        if (name := side_record(payload)) is not None:
            return name
        if payload.get("op") == "t":
            raise Rejection("unknown_op", "MongoDB has no truncate")
        source = payload.get("source")
        if isinstance(source, dict) and source.get("connector") != "mongodb":
            raise Rejection("unknown_connector", "`source.connector` is not mongodb: this format reads no other")
    raise Rejection("not_a_change", "the value is no Debezium envelope of MongoDB")


def looks_like(document: dict[str, Any]) -> bool:
    """Tell whether a document (without its schema block) is an envelope of MongoDB."""
    source = document.get("source")
    return "op" in document and isinstance(source, dict) and source.get("connector") == "mongodb"


def table_of(document: dict[str, Any]) -> str | None:
    """Return the collection of an envelope, `db.collection`; None if it names none."""
    source = document.get("source")
    if not isinstance(source, dict):
        return None
    database, collection = source.get("db"), source.get("collection")
    return f"{database}.{collection}" if isinstance(database, str) and isinstance(collection, str) else None


DEBEZIUM_MONGODB = EventFormat(NAME, _Unwrapper, dialect="bson")
