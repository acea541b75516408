"""Records of a PostgreSQL table without a schema block, of which a test changes the columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from streams.apart import Picked


def envelope(
    row: dict[str, Any], *, op: str = "c", lsn: int = 1, schema: Any = None, at_ms: int = 1_700_000_000_000
) -> str:
    """Return the value of a change, committed at a time."""
    source = {
        "connector": "postgresql", "name": "s", "schema": "public", "table": "t", "lsn": 1000 + lsn,
        "ts_ms": at_ms, "snapshot": "false", "txId": 7, "sequence": json.dumps([None, str(1000 + lsn)]),
    }  # fmt: skip
    payload = {
        "before": {**dict.fromkeys(row), "id": row["id"]} if op == "d" else None,
        "after": None if op == "d" else row,
        "source": source, "op": op, "ts_ms": at_ms, "transaction": None,
    }  # fmt: skip
    return json.dumps(payload if schema is None else {"schema": schema, "payload": payload}, separators=(",", ":"))


class Made:
    """Records as a decoder reads them."""

    topic, partition = "s", 0

    def __init__(self, records: Sequence[tuple[str | None, str]]) -> None:
        """Have keys and values."""
        self._records = records

    def keys(self) -> list[bytes | None]:
        """Return their keys."""
        return [None if key is None else key.encode() for key, _ in self._records]

    def values(self) -> list[bytes | None]:
        """Return their values."""
        return [value.encode() for _, value in self._records]

    def offsets(self) -> list[int]:
        """Return their offsets."""
        return list(range(len(self._records)))

    def time_ms(self, _index: int, /) -> int:
        """Return that there is no time."""
        return -1

    def headers(self, _index: int) -> list[tuple[str, bytes | None]]:
        """Return none."""
        return []


def records_of(rows: Sequence[dict[str, Any]], *, extra: Sequence[tuple[str | None, str]] = ()) -> Picked:
    """Return inserts of rows with keys, and `extra` keys and values behind them."""
    made = [(json.dumps({"id": row["id"]}, separators=(",", ":")), envelope(row, lsn=n)) for n, row in enumerate(rows)]
    records = Made([*made, *extra])
    return Picked(records, range(len(made) + len(extra)), "s")
