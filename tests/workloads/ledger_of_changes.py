"""What was committed, in the order of commits: kept by the player of a workload, read by the oracles."""

from __future__ import annotations

from collections import defaultdict

from tests.oracles import RowEvent
from tests.workloads.model import Begin, End, RowChange, Step


class LedgerOfChanges:
    """Follows steps; `events` are the committed changes, `records` counts Debezium's records of them, by table."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.events: list[RowEvent] = []
        self.records: dict[str, int] = defaultdict(int)
        self._open: dict[str, list[RowChange]] = {}

    def follow(self, step: Step) -> list[RowChange]:
        """Take note of a step; return what it committed."""
        match step:
            case Begin():
                self._open[step.connection] = []
            case RowChange():
                self._open[step.connection].append(step)
            case End():
                changes = self._open.pop(step.connection)
                return self._commit(changes) if step.commit else []
        return []

    def open_changes(self) -> list[list[RowChange]]:
        """Return what was done and has neither been committed nor rolled back."""
        return list(self._open.values())

    def _commit(self, changes: list[RowChange]) -> list[RowChange]:
        for change in changes:
            events = events_of(change)
            self.events += events
            # A delete is followed by a tombstone, also that of a changed key.
            self.records[change.table] += len(events) + sum(event.op == "delete" for event in events)
        return changes


def events_of(change: RowChange) -> list[RowEvent]:
    """Return the changes that the contract makes of one statement."""
    table, old, new = change.table, change.key_before, change.key_after
    if new is None:
        assert old is not None, "a delete has a row"
        return [RowEvent(table, "delete", old, None, frozenset())]
    if old is None:
        return [RowEvent(table, "insert", new, change.after, change.touched)]
    if old == new:
        return [RowEvent(table, "update", new, change.after, change.touched)]
    return [
        RowEvent(table, "delete", old, None, frozenset(), new_key=new),
        RowEvent(table, "insert", new, change.after, change.touched, old_key=old),
    ]
