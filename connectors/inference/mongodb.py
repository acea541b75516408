"""Samples of Debezium's envelopes of MongoDB: the fields of documents, whole or as far as an update says them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from connectors.formats.mongodb import ID, NAME
from connectors.inference.base import Sample, SampledRecord
from connectors.inference.fitting import UNREADABLE

_OPERATIONS = frozenset("crud")


class _Source(msgspec.Struct, gc=False):
    connector: str = ""
    name: str = ""
    db: str = ""
    collection: str = ""


class _Truncated(msgspec.Struct, gc=False):
    field: str = ""


class _Description(msgspec.Struct, gc=False):
    updatedFields: str | None = None  # noqa: N815 - Debezium's names
    removedFields: list[str] | None = None  # noqa: N815
    truncatedArrays: list[_Truncated] | None = None  # noqa: N815


class _Envelope(msgspec.Struct, gc=False):
    op: str = ""
    source: _Source | None = None
    after: str | None = None
    before: str | None = None
    updateDescription: _Description | None = None  # noqa: N815 - Debezium's name
    payload: _Envelope | None = None


class _Key(msgspec.Struct, gc=False):
    id: str | None = None
    payload: _Key | None = None


_envelope = msgspec.json.Decoder(_Envelope).decode
_key = msgspec.json.Decoder(_Key).decode
_document = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_anything = msgspec.json.Decoder(float_hook=Decimal).decode


class MongodbSampler:
    """The sampler of `debezium-mongodb`."""

    format = NAME
    by_topic = True

    def __init__(self) -> None:
        """Know no key yet."""
        self._kinds: dict[str, set[str]] = {}

    def samples(self, record: SampledRecord) -> Sequence[Sample]:
        """Return the change in an envelope; none of any other record."""
        if record.value is None:
            return ()
        try:
            read = _envelope(record.value)
            read = read.payload or read
            if read.op not in _OPERATIONS or read.source is None:
                return ()
            key = None if record.key is None else _key(record.key)
            identifier = None if key is None else (key.payload or key).id
            row, parts = _row(read)
            named = None if identifier is None else {ID: _anything(identifier)}
        except UNREADABLE:
            return ()
        source = read.source
        sample = Sample(
            table=f"{source.db}.{source.collection}",
            origin=f"{source.connector} {source.name}",
            op=read.op,
            connector=source.connector,
            key_columns=(ID,) if named else None,
            key=named,
            row=row,
            dialect="bson",
            apart=self._apart(record.topic, named),
            parts=parts,
        )
        return (sample,)

    def _apart(self, topic: str, named: dict[str, Any] | None) -> frozenset[str]:
        """Return the key where its values are of several types so far."""
        kinds = self._kinds.setdefault(topic, set())
        if named is not None:
            value = named[ID]
            kinds.add(next(iter(value), "") if isinstance(value, dict) else type(value).__name__)
        return frozenset({ID}) if len(kinds) > 1 else frozenset()


def _row(read: _Envelope) -> tuple[dict[str, Any] | None, frozenset[str]]:
    """Return the document, or the whole fields that an update says, and the fields of which it says a part alone."""
    if read.after is not None:
        return _document(read.after), frozenset()
    said = read.updateDescription
    if said is None:
        return None, frozenset()
    updated = _document(said.updatedFields or "{}")
    inside = {path.partition(".")[0] for path in (*updated, *(said.removedFields or ())) if "." in path}
    inside |= {one.field.partition(".")[0] for one in said.truncatedArrays or ()}
    whole = {name: value for name, value in updated.items() if "." not in name}
    return whole or None, frozenset() if read.before is not None else frozenset(inside)
