"""Samples of Debezium's envelopes as JSON, with and without schema blocks."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from connectors.formats.envelope import DIALECTS, NULL
from connectors.formats.schemablock import key_fields, row_fields
from connectors.inference.base import Sample, SampledRecord
from connectors.inference.blocks import Blocks, read_key
from connectors.inference.fitting import UNREADABLE

_ROWS = frozenset("cur")
_OPERATIONS = frozenset("curdt")
_ROUTED = "__dbz__"  # what Debezium's router of logical tables adds to a key begins so


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


_envelope = msgspec.json.Decoder(_Envelope, float_hook=Decimal).decode
_object = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


class DebeziumSampler:
    """The sampler of `debezium-json`."""

    format = "debezium-json"
    by_topic = False

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
            envelope = _envelope(payload)
            if envelope.op not in _OPERATIONS:
                return ()
            key, stated = read_key(self._keys, record)
            before = _object(envelope.before) if envelope.op == "d" and envelope.before != NULL else None
        except UNREADABLE:
            return ()
        source = envelope.source
        full = ".".join(filter(None, (source.schema or source.db, source.table)))
        if key is not None and any(name.startswith(_ROUTED) for name in key):  # tables that were made one on purpose
            full = ""
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
