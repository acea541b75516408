"""A latest topic, read independently: what compaction leaves of it, which is the table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.oracles.topic import Record


def compacted(records: Iterable[Record]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the last value of each key that is no tombstone, by the texts of the key, schema blocks taken off.

    Raises:
        AssertionError: records of one key lie in several partitions, where nothing says which is the last.
    """
    last: dict[bytes, Record] = {}
    for record in records:
        assert record.key is not None, f"{record.topic}[{record.partition}] {record.offset} has no key"
        before = last.get(record.key)
        assert before is None or before.partition == record.partition, f"{record.topic}: one key in two partitions"
        last[record.key] = record
    return {
        tuple(str(part) for part in _payload(key).values()): _payload(record.value)
        for key, record in last.items()
        if record.value is not None
    }


def _payload(text: bytes) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(text)
    payload: dict[str, Any] = read["payload"] if read.keys() == {"schema", "payload"} else read
    return payload
