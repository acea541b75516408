"""Feature updates as FEATURES writes them, one after another."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.feature_update import FeatureUpdate

VIEW = "latest"


def row(**columns: Any) -> dict[str, Any]:
    """Return a row of the view: null where nothing is said."""
    return {"status": None, "level": None, "note": None, **columns}


class Chain:
    """Updates of some entities, one after another: `before` is what the last one left; numbers rise by bucket."""

    def __init__(self, *, view: str = VIEW, version: int = 1, incarnation: str = "a") -> None:
        self.view, self.version, self.incarnation = view, version, incarnation
        self.position = 0
        self.numbers: dict[int, int] = {}
        self.rows: dict[int, tuple[dict[str, Any] | None, list[str]]] = {}

    def update(self, key: int, after: dict[str, Any] | None, **fields: Any) -> bytes:
        """Return the update of entity `key` to `after`; columns named in `unavailable` are left out of it."""
        unavailable = fields.pop("unavailable", [])
        shown = None if after is None else {name: each for name, each in after.items() if name not in unavailable}
        before, unavailable_before = self.rows.get(key, (None, []))
        self.rows[key] = shown, unavailable
        self.position += 1
        bucket = fields.pop("bucket", key % 4)
        self.numbers[bucket] = self.numbers.get(bucket, 0) + 1
        made = FeatureUpdate(
            view=self.view,
            version=self.version,
            entity={"id": str(key)},
            op="delete" if after is None else "insert" if before is None else "update",
            before=before,
            after=shown,
            unavailable_before=unavailable_before,
            unavailable=unavailable,
            table="patients",
            key={"id": str(key)},
            position=f"{self.position:045d}",
            ts="2026-11-20T19:45:50.000000Z",
            snapshot=False,
            replay=False,
            origin=("src", 0, 0, self.position),
            bucket=bucket,
            incarnation=self.incarnation,
            number=self.numbers[bucket],
        )
        return msgspec.json.encode(msgspec.structs.replace(made, **fields))


def entity_of(update: bytes) -> bytes:
    """Return the record's key."""
    return str(msgspec.json.decode(update, type=FeatureUpdate).entity["id"]).encode()
