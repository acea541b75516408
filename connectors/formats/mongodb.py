"""Debezium's envelopes of MongoDB: documents as texts of extended JSON, whole or as what was changed of them.

A document's fields are the row's columns; `_id` is the key. An update without the whole document (`capture.mode:
change_streams`) says some fields: the others are unavailable, and what was removed is null. Where it says only a part
inside of a field, nobody can tell that field from it, and the record is refused.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from connectors.formats.base import Records, origin_offsets
from connectors.formats.envelope import INCREMENTAL, NULL, Snapshot
from connectors.formats.event_decoder import EventFormat
from connectors.formats.events import Envelopes, Events
from connectors.formats.inspection import inspect, is_block, side_record
from connectors.formats.positions import NO_SNAPSHOT
from connectors.formats.reasons import Rejection
from schemas.config import LimitsConfig
from schemas.errors import PoisonRecord
from schemas.position import mongodb_position
from schemas.table import TableEntry

NAME = "debezium-mongodb"
ID = "_id"
_MILLI_US = 1_000


class _Source(msgspec.Struct, gc=False):
    connector: Literal["mongodb"]
    name: str = ""
    db: str = ""
    collection: str = ""
    ts_ms: int | None = None
    ts_us: int | None = None
    ord: int | None = None
    snapshot: Snapshot = None
    lsid: str | None = None
    txnNumber: int | None = None  # noqa: N815 - Debezium's name


class _Description(msgspec.Struct, gc=False):
    updatedFields: str | None = None  # noqa: N815 - Debezium's names
    removedFields: list[str] | None = None  # noqa: N815
    truncatedArrays: list[Any] | None = None  # noqa: N815


class _Envelope(msgspec.Struct, gc=False):
    op: Literal["c", "u", "d", "r"]
    source: _Source
    after: str | None = None
    before: str | None = None
    updateDescription: _Description | None = None  # noqa: N815


class _Record(msgspec.Struct, gc=False):
    """An envelope, or one behind a schema block."""

    op: Literal["c", "u", "d", "r"] | None = None
    source: _Source | None = None
    after: str | None = None
    before: str | None = None
    updateDescription: _Description | None = None  # noqa: N815
    schema: msgspec.Raw = NULL
    payload: _Envelope | None = None


class _Key(msgspec.Struct, gc=False):
    id: str | None = None
    payload: _Key | None = None


_key = msgspec.json.Decoder(_Key).decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Unwrapper:
    """Reads the records of one collection."""

    def __init__(self, entry: TableEntry, limits: LimitsConfig) -> None:
        self._spec, self._epoch, self._depth_max = entry.spec, entry.epoch, limits.record_depth_max
        self._envelopes = Envelopes(_Record, limits, _judged)

    def unwrap(self, records: Records) -> Events:
        """Return the changes of the run."""
        events, values, keys = Events(connector="mongodb"), records.values(), records.keys()
        offsets = origin_offsets(records)
        source = None
        for index, read in self._envelopes.read(values, events):
            envelope = read if read.op is not None and read.source is not None else read.payload
            try:
                if envelope is None:
                    events.skipped[index] = _judged(inspect(values[index] or b"", depth_max=self._depth_max))
                    continue
                self._one(events, index, envelope, keys[index], offsets[index])
                source = envelope.source
            except Rejection as fault:
                events.rejected[index] = fault
        if source is not None:
            events.source_name, events.source_table = source.name, f"{source.db}.{source.collection}"
        return events

    def _one(self, events: Events, index: int, envelope: Any, key: bytes | None, offset: int) -> None:
        source, snapshot = envelope.source, envelope.op == "r" or envelope.source.snapshot not in NO_SNAPSHOT
        identifier = _identifier(key)
        after, missing = self._after(envelope, identifier)
        before = None if envelope.before is None else envelope.before.encode()
        micros = (
            source.ts_us if source.ts_us is not None else None if source.ts_ms is None else source.ts_ms * _MILLI_US
        )
        if micros is None:
            raise Rejection("bad_time", "`source` has neither ts_us nor ts_ms")
        place = events.add(
            index, envelope.op, self._position(source, offset, snapshot=snapshot), micros, after=after, before=before,
            snapshot=snapshot, transaction=_transaction(source),
        )  # fmt: skip
        events.keys.append(None if identifier is None else b'{"%b":%b}' % (ID.encode(), identifier))
        if missing:
            events.unavailable[place] = missing
        if snapshot and source.snapshot != INCREMENTAL:
            events.initial.add(place)

    def _position(self, source: _Source, offset: int, *, snapshot: bool) -> str:
        try:
            return mongodb_position(self._epoch, source.ts_ms or 0, source.ord or 0, offset, streamed=not snapshot)
        except PoisonRecord:
            raise Rejection("bad_position", "`source.ts_ms` or `source.ord` is out of range") from None

    def _after(self, envelope: Any, identifier: bytes | None) -> tuple[bytes | None, list[str]]:
        """Return the document as far as the record says it, and the columns that it does not say."""
        if envelope.op == "d":
            return None, []
        if envelope.after is not None:
            return envelope.after.encode(), []
        if envelope.updateDescription is None:
            raise Rejection("no_row", "an update with neither `after` nor `updateDescription`")
        return self._of_description(envelope.updateDescription, identifier)

    def _of_description(self, said: _Description, identifier: bytes | None) -> tuple[bytes, list[str]]:
        updated = (said.updatedFields or "{}").encode()
        inspect(updated, depth_max=self._depth_max)
        try:
            fields = {name: bytes(raw) for name, raw in _fields(updated).items()}
        except (msgspec.DecodeError, RecursionError):
            raise Rejection("no_row", "`updatedFields` is no text with a JSON object") from None
        fields |= dict.fromkeys(said.removedFields or (), b"null")
        if said.truncatedArrays or any("." in name for name in fields):
            raise Rejection("partial_field", "the update says a part inside of a field, not the field")
        if identifier is not None:
            fields[ID] = identifier
        missing = [name for name in self._spec.columns if name not in fields]
        pairs = (msgspec.json.encode(name) + b":" + raw for name, raw in fields.items())
        return b"{" + b",".join(pairs) + b"}", missing


def _identifier(key: bytes | None) -> bytes | None:
    """Return the extended JSON of a key's identifier, None if the record has none."""
    if key is None:
        return None
    try:
        read = _key(key)
        text = (read.payload or read).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Rejection("bad_key", "the key is not `id` with a text of extended JSON") from None
    if text is None:
        return None
    try:
        # The connector puts spaces into it, and not into documents.
        return msgspec.json.format(text, indent=-1).encode()
    except (msgspec.DecodeError, RecursionError):
        raise Rejection("bad_key", "the key's `id` is no extended JSON") from None


def _transaction(source: _Source) -> str | None:
    return None if source.lsid is None or source.txnNumber is None else f"{source.lsid}:{source.txnNumber}"


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
