"""Records with a schema block in front, or without: payload and stated fields, each block read once."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from connectors.formats.envelope import Block
from connectors.formats.schemablock import START, payload_behind, prefix_of
from connectors.inference.base import Fields, SampledRecord
from connectors.inference.fitting import UNREADABLE

_BLOCKS_KEPT = 256
_object = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_block = msgspec.json.Decoder(Block).decode
_anything = msgspec.json.Decoder().decode


class _Schema(msgspec.Struct, gc=False):
    """A schema block that was met: the bytes before the payload, and the fields that it states."""

    prefix: bytes
    fields: Fields | None


def read_key(keys: Blocks, record: SampledRecord) -> tuple[dict[str, Any] | None, Fields | None]:
    """Return the columns of a record's key and what is stated of them; None where it has none that can be read."""
    if record.key is None:
        return None, None
    try:
        payload, fields = keys.parted(record.topic, record.key)
        return _object(payload), fields
    except UNREADABLE:  # a text or null, or what another converter writes: no key of columns
        return None, None


class Blocks:
    """Parts records from their schema blocks; each block is read once."""

    def __init__(self, read: Callable[[Any], Fields | None]) -> None:
        """Know none yet; `read` gives the fields of a schema."""
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
