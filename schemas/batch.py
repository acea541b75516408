"""A batch: the changes of one run, decoded and typed, of one table, as parallel columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from schemas.errors import HeadgateError, TableStopped


@dataclass(slots=True)
class Batch:
    """Changes of one table in the order of their offsets; all lists have the same length.

    `rows` alone may be empty: each record has one change then. Else it says of each change which one of its record it
    is, from 0 on; the changes of a record stand together, in that order, and none of them is missing.
    `keys`, `old_keys`, `new_keys`, `befores` and `afters` hold None or row objects that encode to the JSON forms of
    `schemas/types.py`, without the columns that are absent or unavailable.
    """

    table: str
    connector: str = ""
    source_name: str = ""
    source_table: str = ""
    offsets: list[int] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    keys: list[Any] = field(default_factory=list)
    old_keys: list[Any] = field(default_factory=list)
    new_keys: list[Any] = field(default_factory=list)
    befores: list[Any] = field(default_factory=list)
    afters: list[Any] = field(default_factory=list)
    positions: list[str] = field(default_factory=list)
    ts: list[str] = field(default_factory=list)
    unavailable: list[list[str]] = field(default_factory=list)
    transactions: list[str | None] = field(default_factory=list)
    snapshots: list[bool] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of changes."""
        return len(self.offsets)


_COLUMNS = tuple(column.name for column in fields(Batch) if str(column.type).startswith("list"))


def slice_of(batch: Batch, low: int, high: int) -> Batch:
    """Return the changes from place `low` up to, without, `high`."""
    if low == high:
        return Batch(batch.table)  # what has no change names no source
    columns = {name: getattr(batch, name)[low:high] for name in _COLUMNS}
    return Batch(batch.table, batch.connector, batch.source_name, batch.source_table, **columns)


def some_of(batch: Batch, places: Sequence[int]) -> Batch:
    """Return the changes at some places, in their order."""
    columns = {name: [column[at] for at in places] for name in _COLUMNS if (column := getattr(batch, name))}
    return Batch(batch.table, batch.connector, batch.source_name, batch.source_table, **columns)


def rows_of(offsets: Sequence[int]) -> list[int]:
    """Return what `Batch.rows` must be for changes of these offsets, in order: empty where none comes twice."""
    if len(set(offsets)) == len(offsets):
        return []
    rows: list[int] = []
    before: int | None = None
    for offset in offsets:
        rows.append(rows[-1] + 1 if offset == before else 0)
        before = offset
    return rows


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that goes to quarantine: `index` within its run, and why."""

    index: int
    error: HeadgateError


@dataclass(slots=True)
class Decoded:
    """What a format made of a run.

    Each record is in exactly one place: the changes of `batch`, one of `rejected`, counted in `skipped` by reason
    (`tombstone`, `heartbeat`, …), or at or behind `stop_index`, where the table must stop. A record of several changes
    is rejected as a whole, once, whichever of them is bad. `noted` counts what is worth a metric although the change
    went through (`key_from_row`, `unrepresentable`, `null_or_default`). `definitions` are the indices of records, in
    their order, that tell a change of the table's schema and do not stop it.
    """

    batch: Batch
    rejected: list[Rejected] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    noted: dict[str, int] = field(default_factory=dict)
    unknown_columns: set[str] = field(default_factory=set)
    definitions: list[int] = field(default_factory=list)
    stop: TableStopped | None = None
    stop_index: int | None = None
