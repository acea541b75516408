"""What happened in the source, as its client saw it, against what the output topic says happened.

A workload keeps a `RowEvent` per committed change, in the order of commits. The output topic must hold exactly these,
and for each key in this order; what it calls unavailable must be a column that the change did not touch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.oracles.shape import Shape
from tests.oracles.topic import Change
from tests.oracles.verdict import Verdict, compare


@dataclass(frozen=True, slots=True)
class RowEvent:
    """One committed change of one row: canonical values; `touched` are the columns that the statement set.

    A change of the key is two: the delete of the old one with `new_key`, the insert of the new one with `old_key`.
    """

    table: str
    op: str
    key: tuple[Any, ...]
    row: dict[str, Any] | None
    touched: frozenset[str]
    old_key: tuple[Any, ...] | None = None
    new_key: tuple[Any, ...] | None = None


def expected_rows(events: Iterable[RowEvent], table: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Fold a history to the rows of `table` that are there at its end; a truncate has no key."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for event in events:
        if event.table != table:
            continue
        if event.op == "truncate":
            rows.clear()
        elif event.row is None:
            rows.pop(event.key, None)
        else:
            rows[event.key] = event.row
    return rows


def check_history(
    shape: Shape, events: Sequence[RowEvent], changes: Sequence[Change], *, out_of_line: frozenset[str] = frozenset()
) -> Verdict:
    """Check that `changes` are the table's `events`, one for one, and each key's in order.

    A change that carries a position which its key has had before is a repeat of the source (Debezium is at-least-once)
    and counted as such; it must say the same as the first.
    """
    verdict = Verdict(f"history of {shape.table}")
    wanted = [event for event in events if event.table == shape.table]
    first, repeats = _first_of_each_position(verdict, changes)
    by_key: dict[tuple[Any, ...], list[Change]] = defaultdict(list)
    for change in first:
        by_key[change.key or ()].append(change)
    events_by_key: dict[tuple[Any, ...], list[RowEvent]] = defaultdict(list)
    for event in wanted:
        events_by_key[event.key].append(event)
    unavailable = 0
    for key in events_by_key.keys() | by_key.keys():
        unavailable += _check_key(verdict, key, events_by_key[key], by_key[key], out_of_line)
    verdict.figures = {
        "changes": len(changes),
        "keys": len(events_by_key),
        "unavailable values": unavailable,
        "repeats of the source": repeats,
    }
    verdict.at_least("changes", len(wanted))
    return verdict


def _first_of_each_position(verdict: Verdict, changes: Sequence[Change]) -> tuple[list[Change], int]:
    seen: dict[tuple[Any, ...], Change] = {}
    first: list[Change] = []
    for change in changes:
        before = seen.setdefault((change.key, change.position, change.op), change)
        if before is change:
            first.append(change)
        elif before.after != change.after:
            verdict.differ(f"two changes of one key and position differ: {before.origin} and {change.origin}")
    return first, len(changes) - len(first)


def _check_key(
    verdict: Verdict, key: tuple[Any, ...], events: list[RowEvent], changes: list[Change], out_of_line: frozenset[str]
) -> int:
    """Compare one key's events with its changes, pair by pair; return how many values were unavailable."""
    what = [(event.op, event.old_key, event.new_key) for event in events]
    said = [(_as_streamed(change.op), change.old_key, change.new_key) for change in changes]
    if what != said:
        if sorted(map(repr, what)) == sorted(map(repr, said)):
            verdict.differ(f"key {key!r}: not in the order of the source")
        else:
            compare(verdict, ((key, *item) for item in what), ((key, *item) for item in said))
        return 0
    unavailable = 0
    for event, change in zip(events, changes, strict=True):
        _check_row(verdict, event, change, out_of_line)
        unavailable += len(change.unavailable)
    return unavailable


def _as_streamed(op: str) -> str:
    return "insert" if op == "snapshot" else op


def _check_row(verdict: Verdict, event: RowEvent, change: Change, out_of_line: frozenset[str]) -> None:
    if (event.row is None) != (change.after is None):
        verdict.differ(f"{change.origin}: `after` is {'there' if change.after else 'missing'} for op {change.op}")
        return
    if event.row is None or change.after is None:
        return
    wrongly = change.unavailable & event.touched
    if wrongly or not change.unavailable <= out_of_line:
        named = sorted(wrongly or change.unavailable - out_of_line)
        verdict.differ(f"{change.origin}: unavailable, but sent by the source: {named}")
    for column, value in event.row.items():
        if column in change.unavailable:
            if column in change.after:
                verdict.differ(f"{change.origin}: {column} is unavailable and in `after`")
        elif column not in change.after:
            verdict.differ(f"{change.origin}: {column} is absent, {value!r} in the source")
        elif change.after[column] != value:
            verdict.differ(f"{change.origin}: {column} is {change.after[column]!r}, {value!r} in the source")
