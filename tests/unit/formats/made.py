"""Envelopes and runs made by tests, and what a new decoder makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from connectors.formats import PartitionMemory, encode_row, format_of
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.table import TableEntry, TableSpec

PLACEHOLDER = "__debezium_unavailable_value"
COLUMNS: dict[str, Any] = {"id": "int", "name": "string", "amount": "decimal(8,2)", "big": "long", "at": "timestamptz"}
ROW: dict[str, Any] = {"id": 1, "name": "Ada", "amount": "MDk=", "big": 5, "at": "2024-02-29T13:45:06.789123Z"}


class MadeRun:
    """Records made by a test; it fits `Records`."""

    topic, partition = "made", 0

    def __init__(
        self,
        records: Sequence[tuple[bytes | None, bytes | None]],
        headers: dict[int, list[tuple[str, bytes]]] | None = None,
    ) -> None:
        """Keep pairs of key and value."""
        self._records, self._headers = records, headers or {}

    def values(self) -> list[bytes | None]:
        """Return the values."""
        return [value for _, value in self._records]

    def keys(self) -> list[bytes | None]:
        """Return the keys."""
        return [key for key, _ in self._records]

    def offsets(self) -> list[int]:
        """Return the offsets."""
        return list(range(100, 100 + len(self._records)))

    def time_ms(self, _index: int, /) -> int:
        """Return that there is no time."""
        return -1

    def headers(self, index: int, /) -> Sequence[tuple[str, bytes | None]] | None:
        """Return the headers of one record."""
        return self._headers.get(index)


def spec(**changes: Any) -> TableSpec:
    """Return a spec of five columns."""
    return TableSpec.model_validate({"table": "made", "topics": ["made"], "key": ["id"], "columns": COLUMNS, **changes})


def envelope(op: str = "u", after: Any = ROW, *, lsn: int = 200, **changes: Any) -> dict[str, Any]:
    """Return an envelope of PostgreSQL."""
    source = {
        "version": "3.7.0.Final",
        "connector": "postgresql",
        "name": "made",
        "ts_ms": 1_700_000_000_000,
        "snapshot": "false",
        "db": "d",
        "sequence": f'["100","{lsn}"]',
        "ts_us": 1_700_000_000_123_456,
        "schema": "public",
        "table": "made",
        "txId": 7,
        "lsn": lsn,
        "xmin": None,
    }
    return {
        "before": None,
        "after": after,
        "source": source,
        "transaction": None,
        "op": op,
        "ts_ms": 1_700_000_000_500,
    } | changes


def compact(document: Any) -> bytes:
    """Return JSON as JsonConverter writes it."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def with_source(**changes: Any) -> dict[str, Any]:
    """Return an envelope whose source is changed."""
    made = envelope()
    return made | {"source": made["source"] | changes}


def with_row(**changes: Any) -> bytes:
    """Return the bytes of an envelope whose row is changed."""
    return compact(envelope(after=ROW | changes))


def decode(
    *values: bytes | None, key: bytes | None = b'{"id":1}', memory: PartitionMemory | None = None, **changes: Any
) -> Decoded:
    """Return what a new decoder makes of values that share a key."""
    return decode_run(MadeRun([(key, value) for value in values]), memory=memory, **changes)


def decode_run(run: MadeRun, *, memory: PartitionMemory | None = None, epoch: int = 0, **changes: Any) -> Decoded:
    """Return what a new decoder makes of a run."""
    decoder = format_of("debezium-json").decoder(
        TableEntry(spec=spec(**changes), epoch=epoch), LimitsConfig(record_bytes_max=200_000)
    )
    return decoder.decode(run, memory or PartitionMemory())


def reasons(decoded: Decoded) -> list[str]:
    """Return why records were rejected."""
    return [rejected.error.reason for rejected in decoded.rejected]  # type: ignore[attr-defined]


def after(decoded: Decoded, place: int = 0) -> Any:
    """Return a row of the batch as a subscriber reads it."""
    return json.loads(encode_row(decoded.batch.afters[place]))


GOOD = compact(envelope())
