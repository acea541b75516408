"""Values of Avro by the schema of their writer, as plain Python: dict, list, int, float, bool, str, bytes, None.

Logical types are left raw: a decimal stays bytes, a time stays its number, for the contract's own conversions know
ranges that Python's types do not have. Promise: whatever the bytes are, a value or a Rejection comes
of them, and memory stays within `limits.record_values_max` values of a record.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable
from io import BytesIO
from typing import Any

import fastavro

from connectors.formats.avro_compiled import compiled
from connectors.formats.avro_scan import scan
from connectors.formats.avro_schema import MANY, Field, Type, bare, bounds, resolved
from connectors.formats.reasons import Rejection
from schemas.config import LimitsConfig


class AvroDecoder:
    """Decodes the values of one writer's schema. `type` is the schema as a tree."""

    def __init__(
        self,
        text: str,
        references: Iterable[str] = (),
        *,
        limits: LimitsConfig,
        unread: Callable[[Type], Collection[Field]] = lambda _root: (),
    ) -> None:
        """Prepare for a schema; `references` are those that it refers to, each after those that it needs.

        `unread` returns fields of it that values need not have: where it costs less, they are left out.

        Raises:
            Rejection: `bad_registered_schema`, where it is no Avro schema, or nests deeper than records may.
        """
        self.type: Type = resolved(text, references)
        self._values_max, self._depth_max = limits.record_values_max, limits.record_depth_max
        known = bounds(self.type)
        self._unscanned_bytes_max = known.bytes_of(self._values_max)
        if self._depth_max < known.deepest < MANY:
            raise Rejection("bad_registered_schema", "the schema nests deeper than limits.record_depth_max")
        try:
            self._schema: Any = fastavro.parse_schema(bare(self.type))
        except Exception as exc:  # noqa: BLE001 - a name or an enum that fastavro does not take
            raise Rejection("bad_registered_schema", f"fastavro refuses the schema: {type(exc).__name__}") from None
        self._read = compiled(self.type, unread(self.type)) or self._by_fastavro

    def decode(self, payload: bytes) -> Any:
        """Return the value of one payload.

        Raises:
            Rejection: `bad_avro`, `not_utf8`, `too_deep` or `too_many_values`.
        """
        if len(payload) > self._unscanned_bytes_max:
            scan(self.type, payload, values_max=self._values_max, depth_max=self._depth_max)
        try:
            value, end = self._read(payload)
        except (EOFError, IndexError, struct.error):
            raise Rejection("bad_avro", "the record ends inside a value, or has no such branch or symbol") from None
        except UnicodeDecodeError:
            raise Rejection("not_utf8", "a text of the record is not UTF-8") from None
        except Exception as exc:  # noqa: BLE001 - whatever fastavro makes of bytes that fit no schema
            raise Rejection("bad_avro", f"the bytes do not fit the schema of their id: {type(exc).__name__}") from None
        if end != len(payload):
            raise Rejection("bad_avro", f"{len(payload) - end} bytes are left behind the value")
        return value

    def _by_fastavro(self, payload: bytes) -> tuple[Any, int]:
        stream = BytesIO(payload)
        return fastavro.schemaless_reader(stream, self._schema, None), stream.tell()
