"""The rows that changes come to, in any order and however often they come: the rule of docs/redis.md, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from schemas.change import ChangeValue, Operation
from schemas.table import TableSpec

_decode = msgspec.json.Decoder(ChangeValue).decode
_ABSENT = object()


@dataclass(slots=True)
class _Row:
    """What is known of a key: its highest delete, its highest other change, and of each column value and position."""

    key: Any
    deleted: str = ""
    newest: str = ""
    columns: dict[str, tuple[str, Any]] = field(default_factory=dict)


class FinalRows:
    """The rows of one table that has a key."""

    def __init__(self, spec: TableSpec) -> None:
        """Have none."""
        assert spec.key, "rows of a table without a key cannot be told apart"
        self._spec = spec
        self._rows: dict[bytes, _Row] = {}

    def apply(self, value: bytes) -> None:
        """Take a change as the contract writes it."""
        change = _decode(value)
        row = self._rows.setdefault(msgspec.json.encode(change.key), _Row(change.key))
        if change.op == Operation.DELETE:
            row.deleted = max(row.deleted, change.position)
            return
        row.newest = max(row.newest, change.position)
        for name in self._spec.columns.keys() - set(change.unavailable):
            if name not in row.columns or row.columns[name][0] < change.position:
                row.columns[name] = (change.position, change.after.get(name, _ABSENT))

    def documents(self) -> Iterator[dict[str, Any]]:
        """Yield the rows that live, by key; `unavailable` names what no change since the last delete has said."""
        for _, row in sorted(self._rows.items()):
            if not row.newest or row.newest < row.deleted:
                continue
            known = {name: value for name, (position, value) in row.columns.items() if position >= row.deleted}
            missing = [name for name in self._spec.columns if name not in known]
            values = {name: known[name] for name in self._spec.columns if known.get(name, _ABSENT) is not _ABSENT}
            yield {
                "table": self._spec.table,
                "key": row.key,
                "row": values,
                **({"unavailable": missing} if missing else {}),
            }
