"""Values of the contract, as the FEATURES stage reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec


def change(key: int, position: int, after: dict[str, Any] | None, unavailable: Sequence[str] = ()) -> bytes:
    """Write a change as the contract has it; `after` None is a delete."""
    value: dict[str, Any] = {
        "op": "delete" if after is None else "update",
        "key": {"id": str(key)},
        "old_key": None,
        "new_key": None,
        "before": None,
        "after": None if after is None else {"id": str(key)} | after,
        "position": f"0001{position:041d}",
        "ts": "2026-11-20T19:45:57.123456Z",
        "unavailable": list(unavailable),
        "source": {
            "connector": "postgresql",
            "name": "clinic",
            "table": "public.patients",
            "tx": str(position),
            "snapshot": False,
            "origin": ["clinic.public.patients", 0, 0, position],
            "first_origin": None,
            "previous": position - 1,
        },
    }
    return msgspec.json.encode(value)


def floor(position: int) -> bytes:
    """Write a floor as the contract has it."""
    value = msgspec.json.decode(change(0, position, None)) | {"op": "floor", "key": None}
    value["source"]["previous"] = None
    return msgspec.json.encode(value)
