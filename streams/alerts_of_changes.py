"""Match rules over a table's changes. Snapshots, silent replays and floors fire nothing, nor what was before the rule.

A change that stands on the output topic twice (`at_least_once`) is dropped by the subscriber's rule, as long as its
origin stream is remembered.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from connectors.contract import ContractReader
from connectors.contract_wire import ChangeReader
from connectors.transport.chunk import Assignment, Run
from schemas.change import ChangeValue, Operation, is_silent
from schemas.table import TableEntry
from streams.fired import Fired, alert_of_change
from streams.origins import ORIGIN_COLUMNS, OriginHeights, read_heights, unrepeated
from streams.rules import Firing, RuleEngine
from streams.run_values import RunValues, offset_at

_FIELDS = ("op", "snapshot", "ts")

_DECODER = msgspec.json.Decoder(ChangeValue)
_log = structlog.get_logger(__name__)


class WatchedTable:
    """A table with match rules: the rules compiled, and a reader of just the columns that they use.

    Raises:
        ConfigurationError: a rule cannot be compiled.
    """

    def __init__(self, entry: TableEntry, engine: RuleEngine, changes: ChangeReader, *, may_repeat: bool) -> None:
        self._changes = changes
        self._table, self._starts, self._may_repeat = entry.spec.table, entry.rules_from, may_repeat
        self._rules = engine.compile(entry.spec)
        fields = {*_FIELDS, *(ORIGIN_COLUMNS if may_repeat else ())}
        self._reader = ContractReader(entry.spec, rows=self._rules.rows, columns=self._rules.columns, fields=fields)

    def evaluate(self, runs: Sequence[Run], fired: Fired, *, older: bool = False) -> None:
        """Add what the changes of `runs` fire; with `older` some may be of a schema version before the spec's."""
        values = RunValues(runs)
        changes = self._reader.read(self._changes.as_json(values.present), older=older)
        wanted = _may_fire(changes)
        if self._may_repeat:
            wanted = pc.and_(wanted, _not_repeated(changes, values, fired))
        changes, rows = changes.filter(wanted), pc.indices_nonzero(wanted)
        evaluation = self._rules.evaluate(changes)
        for rule, errors in evaluation.errors.items():
            fired.counts["rule_errors"] += errors
            _log.warning("rule_failed", table=self._table, rule=rule, changes=errors)
        times = changes["ts"].cast(pa.int64())
        for firing in evaluation.firings:
            run, index = values.place(rows[firing.row].as_py())
            self._record(run, index, firing, times[firing.row].as_py() / 1e6, fired)

    def _record(self, run: Run, index: int, firing: Firing, at_seconds: float, fired: Fired) -> None:
        if is_silent(run.headers(index)):
            fired.counts["replays_ignored"] += 1
            return
        start = self._starts.get(firing.rule.rule)
        if start is not None and offset_at(run, index) < start.first(run.assignment.topic_id, run.partition):
            fired.counts["history_ignored"] += 1
            return
        value = run.values()[index]
        assert value is not None, "a tombstone fires nothing"
        (value,) = self._changes.as_json([value])
        late = fired.is_late(firing, at_seconds)
        alert = alert_of_change(self._table, _DECODER.decode(value), firing, late=late)
        fired.add(run, alert, alert.key)


def heights_of(assignment: Assignment) -> OriginHeights:
    """Return the highest origin offsets of a partition: this worker's, else those committed with its offset."""
    if assignment.state is None:
        assignment.state = read_heights(assignment.metadata)
    heights: OriginHeights = assignment.state
    return heights


def _not_repeated(changes: pa.Table, values: RunValues, fired: Fired) -> pa.Array:
    """Return which rows are above the highest offset seen of their origin stream, partition by partition."""
    masks = []
    for run, start, stop in values.spans():
        assignment = run.assignment
        heights = fired.heights.get(assignment) or heights_of(assignment)
        mask, fired.heights[assignment] = unrepeated(changes.slice(start, stop - start), heights)
        masks.append(mask)
    kept = pa.concat_arrays(masks) if masks else pa.array([], pa.bool_())
    fired.counts["repeats_dropped"] += len(kept) - kept.true_count
    return kept


def _may_fire(changes: pa.Table) -> pa.Array:
    """Return which rows are changes: not rows that were only read, nor floors."""
    nothing = pc.is_in(changes["op"], value_set=pa.array([Operation.SNAPSHOT.value, Operation.FLOOR.value]))
    mask = pc.invert(pc.or_(changes["snapshot"], nothing))
    return mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
