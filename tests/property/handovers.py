"""Rows that change their keys, as a source does it and as workers may read it: chains, swaps, keys taken anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import strategies as st

from schemas.table import TableSpec
from tests.property.ledgers import digits

KEYS = 5
COLUMNS = ["name", "note", "memo"]
SPEC = TableSpec.model_validate(
    {
        "table": "patients",
        "topics": ["clinic.patients"],
        "key": ["id"],
        "columns": {"id": "long", "name": "string", "note": "string", "memo": "string"},
        "features": [
            {"view": "latest", "entity": "patient", "columns": COLUMNS},
            {"view": "told", "entity": "patient", "columns": COLUMNS, "emit": True},
            {"view": "by_name", "entity": "name", "entity_key": ["name"], "columns": ["note", "memo"]},
        ],
    }
)
Rows = dict[int, dict[str, str | None]]


@dataclass
class Source:
    """A table, its rows, and the changes that came of what was done to it."""

    apart: bool = False  # the delete and the insert of a changed key have positions of their own, as `half` makes them
    position: int = 0
    rows: Rows = field(default_factory=dict)
    newest: dict[int, str] = field(default_factory=dict)  # the position of each row
    changes: list[dict[str, Any]] = field(default_factory=list)

    def put(self, key: int, row: dict[str, str | None]) -> None:
        """Insert a row."""
        self.rows[key] = row
        self._say("insert", key, after=row)

    def update(self, key: int, row: dict[str, str | None], *, whole: bool) -> None:
        """Change some columns; what did not change is sent only of a `whole` row."""
        self.rows[key] = self.rows[key] | row
        self._say("update", key, after=self.rows[key] if whole else row)

    def delete(self, key: int) -> None:
        """Delete a row."""
        del self.rows[key]
        self._say("delete", key)

    def move(self, key: int, to: int, row: dict[str, str | None]) -> None:
        """Change the key of a row and some columns with it; the others are not sent."""
        self.rows[to] = self.rows.pop(key) | row
        self._say("delete", key, new_key={"id": str(to)})
        self.position -= 0 if self.apart else 1
        self._say("insert", to, after=row, old_key={"id": str(key)})

    def _say(self, op: str, key: int, *, after: dict[str, str | None] | None = None, **keys: Any) -> None:
        self.position += 1
        self.newest[key] = digits(self.position)
        value: dict[str, Any] = {
            "op": op,
            "key": {"id": str(key)},
            "old_key": None,
            "new_key": None,
            "before": None,
            "after": None,
            "position": digits(self.position),
            "ts": "2026-11-20T19:45:57.123456Z",
            "unavailable": [],
            "source": {
                "connector": "postgresql",
                "name": "clinic",
                "table": "public.patients",
                "tx": None,
                "snapshot": False,
                "origin": ["clinic.patients", 0, 0, len(self.changes)],
                "first_origin": None,
                "previous": None,
            },
        }
        if after is not None:
            value["after"] = {"id": str(key), **after}
            value["unavailable"] = [name for name in COLUMNS if name not in after]
        self.changes.append(value | keys)


@st.composite
def sources(draw: st.DrawFn, *, steps_max: int = 14) -> Source:
    """Draw what was done to a table: most of it changes of keys."""
    source = Source(apart=draw(st.booleans()))
    texts = st.sampled_from(["a", "b", "c", None])
    for step in range(draw(st.integers(1, steps_max))):
        free = [key for key in range(KEYS) if key not in source.rows]
        taken = sorted(source.rows)
        if not taken or (free and draw(st.integers(0, 4)) == 0):
            source.put(draw(st.sampled_from(free)), {name: f"{name} {step}" for name in COLUMNS})
            continue
        key = draw(st.sampled_from(taken))
        said = {name: draw(texts) for name in draw(st.lists(st.sampled_from(COLUMNS), unique=True, max_size=2))}
        match draw(st.sampled_from("uudmmmmm")):
            case "d":
                source.delete(key)
            case "m" if free:
                source.move(key, draw(st.sampled_from(free)), said)
            case _:
                source.update(key, said, whole=draw(st.booleans()))
    return source


@st.composite
def deliveries(draw: st.DrawFn, source: Source) -> list[dict[str, Any]]:
    """Draw an order in which partitions are read: each in its own, and again from anywhere before after a crash."""
    partitions = draw(st.integers(1, KEYS))
    streams = [[c for c in source.changes if int(c["key"]["id"]) % partitions == p] for p in range(partitions)]
    at, found = [0] * partitions, []
    for partition in draw(st.lists(st.integers(0, partitions - 1), max_size=3 * len(source.changes))):
        if draw(st.integers(0, 5)) == 0:
            at[partition] = draw(st.integers(0, at[partition]))
        found += streams[partition][at[partition] : at[partition] + 1]
        at[partition] = min(at[partition] + 1, len(streams[partition]))
    for stream, begun in zip(streams, at, strict=True):
        found += stream[begun:]
    return found


def encoded(changes: Sequence[dict[str, Any]]) -> list[bytes]:
    """Write changes as the contract has them."""
    return [msgspec.json.encode(change) for change in changes]


def moved(*, apart: bool = False) -> Source:
    """Return a source with a chain over three keys, a swap by way of a third key, and a key that is taken anew."""
    source = Source(apart=apart)
    source.put(0, {"name": "n", "note": "of 0", "memo": "of 0"})
    source.put(1, {"name": "n", "note": "of 1", "memo": "of 1"})
    source.move(0, 2, {"name": "moved"})
    source.move(1, 0, {"name": "moved"})
    source.move(2, 1, {"name": "swapped", "memo": None})
    source.put(2, {"name": "anew", "note": "anew", "memo": "anew"})
    source.move(2, 3, {})
    source.move(3, 4, {"note": "last"})
    return source
