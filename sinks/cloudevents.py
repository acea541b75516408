"""Changes as CloudEvents in binary mode: what the headers of a record say beside its value. Pure.

CloudEvents 1.0, Kafka Protocol Binding 1.0: attributes are headers that begin with `ce_`, the value is the data. A
change is told again with the id that it had: it is made of the change's origin.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat

from schemas.batch import Batch

TYPE = b"headgate.change."
_SPEC_VERSION = ("ce_specversion", b"1.0")
_JSON = ("content-type", b"application/json")
_AVRO = ("content-type", b"application/avro")

EventHeaders = list[tuple[str, bytes]]


def event_source(prefix: str, table: str) -> str:
    """Return what events of a table name as their source, a reference without a host."""
    return f"/{prefix}/changes/{table}"


def event_headers(batch: Batch, stream: tuple[str, int, int], source: str, *, avro: bool = False) -> list[EventHeaders]:
    """Return the headers of each change; `stream` is origin topic, generation and partition."""
    same = [_SPEC_VERSION, ("ce_source", source.encode()), _AVRO if avro else _JSON]
    start = ":".join(map(str, stream)).encode()
    rows: Iterable[int] = batch.rows or repeat(0)
    return [
        [
            *same,
            ("ce_id", b"%b:%d:%d" % (start, offset, row) if row else b"%b:%d" % (start, offset)),
            ("ce_type", TYPE + operation.encode()),
            ("ce_time", ts.encode()),
        ]
        for offset, row, operation, ts in zip(batch.offsets, rows, batch.operations, batch.ts, strict=False)
    ]
