"""What came of a group of runs, before anything is written: alerts encoded, and what is known afterwards."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from connectors.transport.chunk import Assignment, Run
from schemas.change import ChangeValue, Origin
from schemas.errors import RecordTooLarge
from schemas.feature_update import FeatureUpdate
from schemas.rule import ALERT_ENVELOPE_BYTES, Alert, alert_id
from streams.alert_state import StateChange
from streams.origins import OriginHeights
from streams.rules import Firing

_ENCODER = msgspec.json.Encoder(order=None)


@dataclass(slots=True)
class Fired:
    """Encoded alerts by run, as key, value and table; and what each partition's state is after them."""

    clock: Callable[[], float]
    message_bytes_max: int
    records: dict[Run, list[tuple[bytes, bytes, bytes]]] = field(default_factory=dict)
    heights: dict[Assignment, OriginHeights] = field(default_factory=dict)  # of output topics
    changes: dict[Assignment, StateChange] = field(default_factory=dict)  # of views' topics
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, run: Run, alert: Alert, place: Any) -> None:
        """Take an alert; those of one `place`, a row or an entity, stay in order."""
        key = _ENCODER.encode([alert.table, place])
        self.records.setdefault(run, []).append((key, self._encoded(alert, key), alert.table.encode()))
        self.counts["alerts"] += 1
        self.counts["alerts_late"] += alert.late

    def is_late(self, firing: Firing, at_seconds: float) -> bool:
        """Tell whether a firing is older than its rule allows."""
        return self.clock() - at_seconds > firing.rule.max_age_seconds

    def _encoded(self, alert: Alert, key: bytes) -> bytes:
        """Return the alert's JSON within the limit of a record, with room for what NOTIFY may lay around it.

        Values that do not fit are left out and counted.
        """
        limit = self.message_bytes_max - len(key) - ALERT_ENVELOPE_BYTES
        encoded = _ENCODER.encode(alert)
        if len(encoded) > limit and alert.values:
            self.counts["alerts_without_values"] += 1
            encoded = _ENCODER.encode(msgspec.structs.replace(alert, values={}))
        if len(encoded) > limit:
            raise RecordTooLarge(
                f"an alert of rule {alert.rule} takes {len(encoded)} bytes", hint="raise kafka.message_bytes_max"
            )
        return encoded


def alert_of_change(table: str, change: ChangeValue, firing: Firing, *, late: bool) -> Alert:
    """Return the alert of a match rule."""
    origin = change.source.origin
    # Rows without a key may share a position (PostgreSQL logs rows of a COPY together): their origin tells them apart.
    identity = change.key if change.key is not None else [origin[0], *origin[2:]]
    return _alert(table, identity, change, origin, firing, late=late)


def alert_of_update(update: FeatureUpdate, firing: Firing, *, shared: bool, late: bool) -> Alert:
    """Return the alert of a rule on a view; where rows share an entity (`shared`), one change may update two."""
    identity = [update.key, update.entity] if shared else update.key
    alert = _alert(update.table, identity, update, update.origin, firing, late=late)
    alert.view, alert.entity = update.view, update.entity
    return alert


def _alert(
    table: str,
    identity: Any,
    news: ChangeValue | FeatureUpdate,
    origin: Origin,
    firing: Firing,
    *,
    late: bool,
) -> Alert:
    rule = firing.rule
    return Alert(
        id=alert_id(rule.rule, rule.version, table, identity, news.position),
        rule=rule.rule,
        rule_version=rule.version,
        severity=rule.severity,
        title=rule.title,
        table=table,
        key=news.key,
        op=news.op,
        position=news.position,
        ts=news.ts,
        values=firing.values,
        origin=origin,
        late=late,
        destinations=rule.destinations,
    )


def partition_of(key: bytes, partitions: int) -> int:
    """Return where the alerts of one row or entity go: always the same partition, so that they stay in order."""
    return zlib.crc32(key) % partitions


def last_of_each(runs: Sequence[Run]) -> list[Run]:
    """Return the run that ends highest of each partition."""
    last: dict[Assignment, Run] = {}
    for run in runs:
        if run.assignment not in last or last[run.assignment].next < run.next:
            last[run.assignment] = run
    return list(last.values())
