"""Changes of MySQL that share a place in the log although several statements made them: a compressed transaction.

With `binlog_transaction_compression=ON` all events of a transaction have the place of what they are packed in, and each
counts its rows from 0: file, pos and row say nothing of their order, and of two changes of one row an older one may
win. One event holds changes of one kind, each row once, and has one row for each number: where that does not hold, it
is several events. What a connector sends again after a restart is the same change in the same place.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from connectors.formats.base import encode_row
from schemas.batch import Batch
from schemas.change import Operation
from schemas.position import MYSQL_DIGITS, MYSQL_ROW_DIGITS


def unordered(batch: Batch) -> int:
    """Return how many changes of a batch share an event's place with others that are surely not of that event.

    The records may be those of several partitions. Positions that are no place of MySQL's are passed over.
    """
    if all(batch.snapshots):  # rows that were read have one place together
        return 0
    events = [at[:-MYSQL_ROW_DIGITS] for at in batch.positions]
    if len(set(events)) == len(events):
        return 0
    of_several = {event for event, count in Counter(events).items() if count > 1}
    seen = _Seen()
    return sum(
        seen.contradicts(batch, place, event)
        for place, event in enumerate(events)
        if event in of_several and not batch.snapshots[place] and len(batch.positions[place]) >= MYSQL_DIGITS
    )


class _Seen:
    """What the changes before said of their events."""

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}
        self._rows: dict[tuple[str, bytes], str] = {}
        self._changes: dict[str, tuple[bytes, Any]] = {}

    def contradicts(self, batch: Batch, place: int, event: str) -> bool:
        """Tell whether a change cannot be of the event whose place it has, after what came before."""
        at, operation = batch.positions[place], batch.operations[place]
        moves = batch.old_keys[place] is not None or batch.new_keys[place] is not None
        kind = Operation.UPDATE.value if moves else operation  # the key was changed: a delete, and an insert
        if self._kinds.setdefault(event, kind) != kind:
            return True
        key = batch.keys[place]
        if moves or key is None:
            return False
        of_row = encode_row(key)
        same = (of_row, batch.afters[place])
        return self._rows.setdefault((event, of_row), at) != at or self._changes.setdefault(at, same) != same
