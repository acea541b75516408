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
_object = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_block = msgspec.json.Decoder(Block).decode
_anything = msgspec.json.Decoder().decode


class DebeziumSampler:
    """The sampler of `debezium-json`."""

    format = "debezium-json"
    by_topic = True

    def __init__(self) -> None:
        """Know no schema block yet."""
        self._values = _Blocks(row_fields)
        self._keys = _Blocks(key_fields)

    def samples(self, record: SampledRecord) -> Sequence[Sample]:
        """Return the change in an envelope; none of any other record."""
        if record.value is None:
            return ()
        try:
            payload, fields = self._values.parted(record.topic, record.value)
            envelope = _envelope(payload)
            if envelope.op not in _OPERATIONS:
                return ()
            key, stated = self._key(record)
            before = _object(envelope.before) if envelope.op == "d" and envelope.before != NULL else None
        except UNREADABLE:
            return ()
        source = envelope.source
        full = ".".join(filter(None, (source.schema or source.db, source.table)))
        return (
            Sample(
                table=full or record.topic,
                origin="\0".join((source.connector, source.name, source.db or "")),
                op=envelope.op,
                connector=source.connector,
                key_columns=None if key is None else tuple(key),
                key=key,
                row=envelope.after if envelope.op in _ROWS else None,
                before=before,
                fields=fields,
                key_fields=stated,
                dialect=DIALECTS.get(source.connector, "postgresql"),
            ),
        )

    def _key(self, record: SampledRecord) -> tuple[dict[str, Any] | None, Fields | None]:
        if record.key is None:
            return None, None
        payload, fields = self._keys.parted(record.topic, record.key)
        try:
            return _object(payload), fields
        except msgspec.ValidationError:  # a text or null: no key of columns
            return None, None


class _Blocks:
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
        if b'"payload"' in raw and b'"schema"' in raw and _object(raw).keys() == {"schema", "payload"}:
            block = _block(raw)
            return bytes(block.payload), self._learned(bytes(block.schema), bytes(block.schema)).fields
        return raw, None

    def _learned(self, prefix: bytes, schema: bytes) -> _Schema:
        if prefix not in self._known:
            if len(self._known) >= _BLOCKS_KEPT:
                self._known.clear()
            self._known[prefix] = _Schema(prefix, self._read(_anything(schema)))
        return self._known[prefix]
