"""ALERTS: changes of output topics in, alerts of the tables' rules out.

Promise: alerts and input offsets of a group are one Kafka transaction, so a firing is on `headgate.alerts` once, under
an id that is the same on every replay. Snapshots, replays and floors fire nothing. A change that stands on the output
topic twice (`at_least_once`) is dropped by the subscriber's rule, as long as its origin stream is remembered.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from connectors.contract import ContractReader
from connectors.transport.chunk import Assignment, Group, Run
from connectors.transport.transaction import Advance, Outbox
from schemas.change import HEADER_REPLAY, HEADER_TABLE, ChangeValue, Operation
from schemas.config import Config
from schemas.errors import ConfigurationError, RecordTooLarge, TableStopped
from schemas.rule import ALERT_ENVELOPE_BYTES, Alert, alert_id
from schemas.table import TableEntry
from schemas.topics import TopicNames
from sinks.quarantine import reason_of
from streams.origins import ORIGIN_COLUMNS, OriginHeights, read_heights, unrepeated
from streams.poison import quarantined
from streams.rules import Firing, RuleEngine, RuleSet
from streams.stage import BaseStage

_FIELDS = ("op", "snapshot", "ts")

_ENCODER = msgspec.json.Encoder(order=None)
_DECODER = msgspec.json.Decoder(ChangeValue)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Watched:
    """A table with rules: its entry, the rules compiled, and a reader of just the columns that they use."""

    entry: TableEntry
    rules: RuleSet
    reader: ContractReader


@dataclass(slots=True)
class _Fired:
    """What came of a group, before anything is written: encoded alerts by run, and the origins' heights after it."""

    records: dict[Run, list[tuple[bytes, bytes, bytes]]] = field(default_factory=dict)
    heights: dict[Assignment, OriginHeights] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


class AlertsStage(BaseStage):
    """The stage; `writer` is the transport's, transactional or plain, `partitions` are those of `headgate.alerts`."""

    name = "alerts"

    def __init__(
        self,
        config: Config,
        *,
        names: TopicNames,
        tables: Mapping[str, TableEntry],
        writer: Any,
        consumer: Any,
        partitions: int = 4,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Watch the tables that have rules; those whose rules are refused are paused when their records come."""
        super().__init__()
        assert partitions > 0, "a topic has partitions"
        self._config, self._names, self._tables = config, names, tables
        self._writer, self._consumer, self._partitions, self._clock = writer, consumer, partitions, clock
        self._at_least_once = config.kafka.guarantee == "at_least_once"
        self._engine = RuleEngine()
        self._engine_free = asyncio.Lock()  # DuckDB's connection serves one thread at a time
        self._watched: dict[str, _Watched] = {}
        self._refused: dict[str, TableStopped] = {}
        for table in tables:
            self._watch(table)

    async def start(self) -> None:
        """Open the producer; a predecessor of the same slot is fenced from here on."""
        await self._writer.start()

    async def stop(self) -> None:
        """Close the producer."""
        await self._writer.close()

    def topics(self) -> list[str]:
        """Return the output topics of the tables that have rules; of a paused table what was emitted is still read."""
        return sorted(self._names.changes(table) for table, entry in self._tables.items() if entry.spec.rules)

    async def tables_changed(self, changed: set[str]) -> None:
        """Compile the rules of changed tables; they hold for what is read from now on."""
        async with self._engine_free:
            for table in sorted(changed):
                was_refused = self._refused.pop(table, None) is not None
                self._watch(table)
                if was_refused and table in self._watched:
                    await self._consumer.resume(self._names.changes(table))

    async def step(self, group: Group) -> None:
        """Evaluate the group's changes, and write what fired together with the offsets."""
        runs = await self._readable(group)
        async with self._engine_free:
            fired = await asyncio.to_thread(self._evaluate, runs)
        metadata = {run: fired.heights[run.assignment].to_text() for run in runs if run.assignment in fired.heights}
        written: list[Run] = []

        def work(outbox: Outbox, live: Sequence[Run]) -> list[Advance]:
            written[:] = live
            for run in live:
                for key, value, table in fired.records.get(run, ()):
                    outbox.produce(self._names.alerts, self._partition(key), key, value, [(HEADER_TABLE, table)])
            return [Advance(run.assignment, run.next, metadata.get(run, "")) for run in _last_of_each(live)]

        if runs:
            await self._writer.write(runs, work)
        for run in written:  # a run that was lost meanwhile is read again: its origins must not count as seen
            run.assignment.state = fired.heights.get(run.assignment, run.assignment.state)
        self.counts.update(fired.counts)
        group.done(runs, metadata=metadata)

    async def on_poison(self, run: Run, error: BaseException) -> None:
        """Put one record in quarantine that is no change of the contract; its successors go on."""

        def work(outbox: Outbox, live: Sequence[Run]) -> list[Advance]:
            for one in live:
                outbox.produce(self._names.quarantine, None, None, self._quarantined(one, error), None)
            return [Advance(one.assignment, one.next, self._metadata(one.assignment)) for one in live]

        await self._writer.write([run], work)
        self.counts[f"quarantined_{reason_of(error)}"] += 1

    # ── tables ──

    def _watch(self, table: str) -> None:
        entry = self._tables.get(table)
        self._watched.pop(table, None)
        if entry is None or not entry.spec.rules:
            return
        try:
            rules = self._engine.compile(entry.spec)
        except ConfigurationError as exc:
            hint = exc.hint or "correct the rule and apply"
            self._refused[table] = TableStopped("rules_refused", exc.message, hint=hint)
            return
        fields = {*_FIELDS, *(ORIGIN_COLUMNS if self._at_least_once else ())}
        reader = ContractReader(entry.spec, rows=rules.rows, columns=rules.columns, fields=fields)
        self._watched[table] = _Watched(entry, rules, reader)

    async def _readable(self, group: Group) -> list[Run]:
        """Return the runs to evaluate; those of a table whose rules were refused are paused where they stand."""
        readable: list[Run] = []
        refused: dict[Assignment, int] = {}
        for run in group.runs:
            if self._names.table_of(run.topic) in self._refused:
                refused[run.assignment] = min(run.first, refused.get(run.assignment, run.first))
            else:
                readable.append(run)
        for assignment, first in refused.items():
            self.last_error = stop = self._refused[self._names.table_of(assignment.topic)]
            await self._consumer.pause(assignment.topic, stop)
            await self._consumer.seek(assignment, first)
        return readable

    # ── evaluation: on a thread of its own, so that a large group does not hold up the event loop ──

    def _evaluate(self, runs: Sequence[Run]) -> _Fired:
        fired = _Fired()
        by_table: dict[str, list[Run]] = {}
        for run in runs:
            by_table.setdefault(self._names.table_of(run.topic), []).append(run)
        for table, table_runs in by_table.items():
            fired.counts["read"] += sum(map(len, table_runs))
            if (watched := self._watched.get(table)) is not None:
                self._evaluate_table(watched, table_runs, fired)
        return fired

    def _evaluate_table(self, watched: _Watched, runs: list[Run], fired: _Fired) -> None:
        values = _Values(runs)
        changes = watched.reader.read(values.present)
        wanted = _may_fire(changes)
        if self._at_least_once:
            wanted = pc.and_(wanted, self._not_repeated(changes, values, fired))
        changes, rows = changes.filter(wanted), pc.indices_nonzero(wanted)
        evaluation = watched.rules.evaluate(changes)
        for rule, errors in evaluation.errors.items():
            fired.counts["rule_errors"] += errors
            _log.warning("rule_failed", table=watched.entry.spec.table, rule=rule, changes=errors)
        times = changes["ts"].cast(pa.int64())
        for firing in evaluation.firings:
            run, index = values.place(rows[firing.row].as_py())
            late = self._clock() - times[firing.row].as_py() / 1e6 > firing.rule.max_age_seconds
            self._record(watched, run, index, firing, late=late, fired=fired)

    def _record(self, watched: _Watched, run: Run, index: int, firing: Firing, *, late: bool, fired: _Fired) -> None:
        if any(name == HEADER_REPLAY for name, _ in run.headers(index)):
            fired.counts["replays_ignored"] += 1
            return
        value = run.values()[index]
        assert value is not None, "a tombstone fires nothing"
        table = watched.entry.spec.table
        alert = _alert(table, _DECODER.decode(value), firing, late=late)
        key = _ENCODER.encode([table, alert.key])
        fired.records.setdefault(run, []).append((key, self._encoded(alert, key, fired), table.encode()))
        fired.counts["alerts"] += 1
        fired.counts["alerts_late"] += late

    def _encoded(self, alert: Alert, key: bytes, fired: _Fired) -> bytes:
        """Return the alert's JSON within the limit of a record, with room for what NOTIFY may lay around it.

        Values that do not fit are left out and counted.
        """
        limit = self._config.kafka.message_bytes_max - len(key) - ALERT_ENVELOPE_BYTES
        encoded = _ENCODER.encode(alert)
        if len(encoded) > limit and alert.values:
            fired.counts["alerts_without_values"] += 1
            encoded = _ENCODER.encode(msgspec.structs.replace(alert, values={}))
        if len(encoded) > limit:
            raise RecordTooLarge(
                f"an alert of rule {alert.rule} takes {len(encoded)} bytes", hint="raise kafka.message_bytes_max"
            )
        return encoded

    def _partition(self, key: bytes) -> int:
        """Return where the alerts of one row go: always the same partition, so that they stay in order."""
        return zlib.crc32(key) % self._partitions

    # ── the subscriber's rule ──

    def _not_repeated(self, changes: pa.Table, values: _Values, fired: _Fired) -> pa.Array:
        """Return which rows are above the highest offset seen of their origin stream, partition by partition."""
        masks = []
        for run, start, stop in values.spans():
            assignment = run.assignment
            heights = fired.heights.get(assignment) or _heights_of(assignment)
            mask, fired.heights[assignment] = unrepeated(changes.slice(start, stop - start), heights)
            masks.append(mask)
        kept = pa.concat_arrays(masks) if masks else pa.array([], pa.bool_())
        fired.counts["repeats_dropped"] += len(kept) - kept.true_count
        return kept

    def _metadata(self, assignment: Assignment) -> str:
        return _heights_of(assignment).to_text() if self._at_least_once else ""

    def _quarantined(self, run: Run, error: BaseException) -> bytes:
        return quarantined(
            self._config, run, error, stage=self.name, table=self._names.table_of(run.topic), at=self._clock()
        )


class _Values:
    """The values of some runs, side by side and without tombstones, and the way back to run and index."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._indexes: list[list[int] | None] = []
        self.present: list[bytes] = []
        lengths = []
        for run in runs:
            values = run.values()
            found = [value for value in values if value is not None]
            gaps = len(found) < len(values)
            self._indexes.append([at for at, value in enumerate(values) if value is not None] if gaps else None)
            self.present += found
            lengths.append(len(found))
        self._starts = list(accumulate(lengths, initial=0))

    def place(self, row: int) -> tuple[Run, int]:
        """Return the run of a row, and the index of its record within it."""
        at = bisect_right(self._starts, row) - 1
        within, indexes = row - self._starts[at], self._indexes[at]
        return self._runs[at], within if indexes is None else indexes[within]

    def spans(self) -> list[tuple[Run, int, int]]:
        """Return each run with its first row and the row behind its last."""
        return list(zip(self._runs, self._starts[:-1], self._starts[1:], strict=True))


def _may_fire(changes: pa.Table) -> pa.Array:
    """Return which rows are changes: not rows that were only read, nor floors."""
    nothing = pc.is_in(changes["op"], value_set=pa.array([Operation.SNAPSHOT.value, Operation.FLOOR.value]))
    mask = pc.invert(pc.or_(changes["snapshot"], nothing))
    return mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask


def _alert(table: str, change: ChangeValue, firing: Firing, *, late: bool) -> Alert:
    rule, origin = firing.rule, change.source.origin
    # Rows without a key may share a position (PostgreSQL logs rows of a COPY together): their origin tells them apart.
    identity = change.key if change.key is not None else [origin[0], origin[2], origin[3]]
    return Alert(
        id=alert_id(rule.rule, rule.version, table, identity, change.position),
        rule=rule.rule,
        rule_version=rule.version,
        severity=rule.severity,
        title=rule.title,
        table=table,
        key=change.key,
        op=change.op,
        position=change.position,
        ts=change.ts,
        values=firing.values,
        origin=origin,
        late=late,
        destinations=rule.destinations,
    )


def _last_of_each(runs: Sequence[Run]) -> list[Run]:
    """Return the run that ends highest of each partition."""
    last: dict[Assignment, Run] = {}
    for run in runs:
        if run.assignment not in last or last[run.assignment].next < run.next:
            last[run.assignment] = run
    return list(last.values())


def _heights_of(assignment: Assignment) -> OriginHeights:
    """Return the highest origin offsets of a partition: this worker's, else those committed with its offset."""
    if assignment.state is None:
        assignment.state = read_heights(assignment.metadata)
    heights: OriginHeights = assignment.state
    return heights
