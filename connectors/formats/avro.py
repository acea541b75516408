"""Values of Avro by the schema of their writer, as plain Python: dict, list, int, float, bool, str, bytes, None.

fastavro reads them. Logical types are left raw: a decimal stays bytes, a time stays its number, for the contract's own
conversions know ranges that Python's types do not have. Promise: whatever the bytes are, a value or a Rejection comes
of them, and memory stays within `limits.record_values_max` values of a record.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any

import fastavro

from connectors.formats.avro_scan import scan
from connectors.formats.avro_schema import MANY, Type, bare, bounds, resolved
from connectors.formats.reasons import Rejection
from schemas.config import LimitsConfig


class AvroDecoder:
    """Decodes the values of one writer's schema. `type` is the schema as a tree."""

    def __init__(self, text: str, references: Iterable[str] = (), *, limits: LimitsConfig) -> None:
        """Prepare for a schema; `references` are those that it refers to, each after those that it needs.

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

    def decode(self, payload: bytes) -> Any:
        """Return the value of one payload.

        Raises:
            Rejection: `bad_avro`, `not_utf8`, `too_deep` or `too_many_values`.
        """
        if len(payload) > self._unscanned_bytes_max:
            scan(self.type, payload, values_max=self._values_max, depth_max=self._depth_max)
        stream = BytesIO(payload)
        try:
            value = fastavro.schemaless_reader(stream, self._schema, None)
        except EOFError:
            raise Rejection("bad_avro", "the record ends inside a value") from None
        except UnicodeDecodeError:
            raise Rejection("not_utf8", "a text of the record is not UTF-8") from None
        except Exception as exc:  # noqa: BLE001 - an index of no branch or symbol
            raise Rejection("bad_avro", f"the bytes do not fit the schema of their id: {type(exc).__name__}") from None
        if stream.tell() != len(payload):
            raise Rejection("bad_avro", f"{len(payload) - stream.tell()} bytes are left behind the value")
        return value
