"""Samples of Debezium's envelopes as JSON, with and without schema blocks."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from connectors.formats.envelope import DIALECTS, NULL, Block
from connectors.formats.schemablock import START, key_fields, payload_behind, prefix_of, row_fields
from connectors.inference.base import Fields, Sample, SampledRecord
from connectors.inference.fitting import UNREADABLE

_BLOCKS_KEPT = 256
_ROWS = frozenset("cur")
_OPERATIONS = frozenset("curdt")


class _Source(msgspec.Struct, gc=False):
    connector: str = ""
    name: str = ""
    db: str | None = None
    schema: str | None = None
    table: str | None = None


class _Envelope(msgspec.Struct, gc=False):
    op: str
    source: _Source
    after: dict[str, Any] | None = None
    before: msgspec.Raw = NULL


class _Schema(msgspec.Struct, gc=False):
    """A schema block that was met: the bytes before the payload, and the fields that it states."""

    prefix: bytes
    fields: Fields | None


_envelope = msgspec.json.Decoder(_Envelope, float_hook=Decimal).decode
objects = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_block = msgspec.json.Decoder(Block).decode
_anything = msgspec.json.Decoder().decode


class DebeziumSampler:
    """The sampler of `debezium-json`."""

    format = "debezium-json"
    by_topic = True

    def __init__(self) -> None:
        """Know no schema block yet."""
        self._values = Blocks(row_fields)
        self._keys = Blocks(key_fields)

    def samples(self, record: SampledRecord) -> Sequence[Sample]:
        """Return the change in an envelope; none of any other record."""
        if record.value is None:
            return ()
        try:
            payload, fields = self._values.parted(record.topic, record.value)
            key, stated = self._keys.parted(record.topic, record.key) if record.key is not None else (None, None)
            return sample_of(record.topic, payload, fields, key, stated)
        except UNREADABLE:
            return ()


def sample_of(
    topic: str, payload: bytes, fields: Fields | None, key_payload: bytes | None, key_fields: Fields | None
) -> Sequence[Sample]:
    """Return the change in an envelope; none of any other record.

    Raises:
        msgspec.MsgspecError: it is no envelope; or what else `UNREADABLE` names.
    """
    envelope = _envelope(payload)
    if envelope.op not in _OPERATIONS:
        return ()
    key = _key(key_payload)
    source = envelope.source
    full = ".".join(filter(None, (source.schema or source.db, source.table)))
    sample = Sample(
        table=full or topic,
        origin="\0".join((source.connector, source.name, source.db or "")),
        op=envelope.op,
        connector=source.connector,
        key_columns=None if key is None else tuple(key),
        key=key,
        row=envelope.after if envelope.op in _ROWS else None,
        before=objects(envelope.before) if envelope.op == "d" and envelope.before else None,
        fields=fields,
        key_fields=key_fields,
        dialect=DIALECTS.get(source.connector, "postgresql"),
    )
    return (sample,)


def _key(payload: bytes | None) -> dict[str, Any] | None:
    try:
        return None if payload is None else objects(payload)
    except msgspec.ValidationError:  # a text or null: no key of columns
        return None


class Blocks:
    """Parts records from their schema blocks; each block is read once."""

    def __init__(self, read: Any) -> None:
        self._read = read
        self._last: dict[str, _Schema] = {}
        self._known: dict[bytes, _Schema] = {}

    def parted(self, topic: str, raw: bytes) -> tuple[bytes, Fields | None]:
        """Return payload and stated fields; raises what decoders raise where it is neither way a record.

        Raises:
            msgspec.MsgspecError: it is no JSON.
        """
        last = self._last.get(topic)
        if last is not None and raw.startswith(last.prefix):
            return payload_behind(last.prefix, raw), last.fields
        prefix = prefix_of(raw) if raw.startswith(START) else None
        if prefix is not None:
            found = self._last[topic] = self._learned(prefix, prefix[len(START) : prefix.rindex(b",")])
            return payload_behind(prefix, raw), found.fields
        if b'"payload"' in raw and b'"schema"' in raw and objects(raw).keys() == {"schema", "payload"}:
            block = _block(raw)
            return bytes(block.payload), self._learned(bytes(block.schema), bytes(block.schema)).fields
        return raw, None

    def _learned(self, prefix: bytes, schema: bytes) -> _Schema:
        if prefix not in self._known:
            if len(self._known) >= _BLOCKS_KEPT:
                self._known.clear()
            self._known[prefix] = _Schema(prefix, self._read(_anything(schema)))
        return self._known[prefix]


_KEY_BLOCKS = Blocks(key_fields)


def parted_key(record: SampledRecord) -> dict[str, Any] | None:
    """Return a record's key that is an object of the key's columns, with or without a schema block; else None."""
    if record.key is None:
        return None
    try:
        return objects(_KEY_BLOCKS.parted(record.topic, record.key)[0])
    except UNREADABLE:
        return None
