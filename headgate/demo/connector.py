"""The demo's connector: reads the town's log and sends it to the source topics, first the snapshot, then each change.

Besides, two things that happen to people: after a crash it sends an older record again, behind a newer one of the
same key; and a record arrives that is broken.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

from headgate.demo.database import TABLES, TownDatabase
from headgate.demo.envelope import SourceRecord, change_records, commit_lsn_of, snapshot_record, topic_of

_KEPT = 500  # recent updates, of which one can come late

Send = Callable[[SourceRecord], None]


class TownConnector:
    """Sends each committed change once, in the order of the log, unless asked for an accident."""

    def __init__(self, database: TownDatabase, send: Send) -> None:
        """Begin before the snapshot."""
        self._database = database
        self._send = send
        self._seq = 0
        self._open_tx = 0
        self._last_commit = commit_lsn_of(0)
        self._recent: deque[tuple[tuple[str, bytes], SourceRecord]] = deque(maxlen=_KEPT)
        self.sent: Counter[str] = Counter()

    def snapshot(self) -> int:
        """Send all rows as the initial snapshot; changes up to here are part of it. Returns how many rows."""
        rows = [(table, row) for table in TABLES for row in self._database.rows(table)]
        now = time.time()
        for number, (table, row) in enumerate(rows):
            marker = "first" if number == 0 else "last" if number == len(rows) - 1 else "true"
            self._send(snapshot_record(table, row, marker=marker, tx=730, at_seconds=now))
        self._seq = self._database.log_end()
        self._last_commit = commit_lsn_of(self._seq)
        self.sent["snapshot"] += len(rows)
        return len(rows)

    def stream(self) -> int:
        """Send the changes committed since the last call; return how many."""
        changes = self._database.log_after(self._seq)
        for change in changes:
            if change.tx != self._open_tx:  # `sequence[0]` is the commit before it
                self._last_commit = commit_lsn_of(self._seq)
                self._open_tx = change.tx
            records = change_records(change, last_commit=self._last_commit)
            for record in records:
                self._send(record)
            if change.op == "u":
                self._recent.append(((records[0].topic, records[0].key), records[0]))
            self._seq = change.seq
            self.sent[{"c": "inserts", "u": "updates", "d": "deletes"}[change.op]] += 1
        return len(changes)

    def send_late(self) -> str | None:
        """Send an older update again, behind a newer one of the same row; return its topic, or None."""
        newest = dict(self._recent)
        late = next((record for key, record in self._recent if newest[key] is not record), None)
        if late is None:
            return None
        self._send(late)
        self.sent["late"] += 1
        return late.topic

    def send_broken(self, table: str = "lab_results") -> str:
        """Send half a record; return its topic."""
        self._send(SourceRecord(topic_of(table), b'{"id":0}', b'{"before":null,"after":{"id":0,"patient_id"', (), 0))
        self.sent["broken"] += 1
        return topic_of(table)
