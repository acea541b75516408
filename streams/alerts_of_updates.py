"""Rules that compare with what was, over the updates of one view.

An update that was seen before (its number is not above the bucket's) counts for nothing. One that a snapshot or a
replay caused fires nothing, but moves what is remembered; one that was there before the rule does neither for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from connectors.transport.chunk import Assignment, Run
from connectors.updates import UpdateReader
from schemas.errors import ConfigurationError
from schemas.feature import View
from schemas.feature_update import FeatureUpdate
from schemas.rule import Rule
from schemas.table import TableEntry, TableSpec
from streams.alert_state import PartitionState, StateChange, unseen
from streams.fired import Fired, alert_of_update
from streams.rule_kinds import KNOWN_AFTER, KNOWN_BEFORE, known_column
from streams.rule_views import rules_on, scope_of
from streams.rules import Firing, RuleEngine, RuleSet, Signals
from streams.run_values import RunValues, offset_at

GIVEN_BACK_MAX = 10_000  # slots of rules that were removed or say something else now, with one group

_DECODER = msgspec.json.Decoder(FeatureUpdate)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Updates:
    """The updates of a group that count, as columns, and where each of them was read."""

    columns: pa.Table
    values: RunValues
    rows: pa.Array  # for each of them its row in `values`

    def place(self, row: int) -> tuple[Run, int]:
        return self.values.place(self.rows[row].as_py())


class WatchedView:
    """A view that rules read: the rules compiled, and a reader of just the columns that they use.

    Raises:
        ConfigurationError: a rule cannot be compiled.
    """

    def __init__(self, entry: TableEntry, view: str, engine: RuleEngine) -> None:
        self._view = _view(entry.spec, view)
        self._table, self._starts = entry.spec.table, entry.rules_from
        rules = rules_on(entry.spec, view)
        scope = scope_of(entry.spec, self._view.columns)
        self._plain = RuleSet([rule for rule in rules if not rule.remembers], scope, engine)
        self._remembering = RuleSet([rule for rule in rules if rule.remembers], scope, engine)
        self._digests = {rule.rule: _digest(rule, self._view) for rule in self._remembering.rules}
        named = (self._plain.compared, self._remembering.compared)
        wanted = set(self._view.columns) if None in named else {name for names in named for name in names or ()}
        columns = {name: type_ for name, type_ in scope.columns.items() if name in wanted}
        self._reader = UpdateReader(columns, scope.key, rows=self._plain.rows | self._remembering.rows)
        self._known = sorted(columns)

    def evaluate(self, runs: Sequence[Run], fired: Fired, *, older: bool = False) -> None:
        """Add what the updates of `runs` fire, and what is remembered of them."""
        del older  # an update says no schema version: those of before the columns became wider are read at any time
        updates = self._read(RunValues(runs), fired)
        if len(updates.columns):
            self._fire(updates, fired)
        self._give_back(runs, fired)

    def remembered_bytes(self, assignment: Assignment) -> int:
        """Return what the rules take of a partition's state, as they are now: what they were is given back."""
        return state_of(assignment).nbytes_of(self._digests)

    def _fire(self, updates: _Updates, fired: Fired) -> None:
        firings = self._fire_plain(updates, fired) if len(self._plain) else []
        if len(self._remembering):
            firings += self._fire_remembering(updates, fired)
        for firing in sorted(firings, key=lambda firing: firing.row):
            self._record(updates, firing, fired)

    def _read(self, values: RunValues, fired: Fired) -> _Updates:
        """Return the updates that are seen for the first time, and are of this version of the view."""
        columns, masks = self._reader.read(values.present), []
        for run, start, stop in values.spans():
            change = fired.changes.setdefault(run.assignment, StateChange())
            heights = {**state_of(run.assignment).heights, **change.heights}
            mask, moved = unseen(columns.slice(start, stop - start), heights)
            change.heights.update(moved)
            masks.append(mask)
        fresh = pa.concat_arrays(masks) if masks else pa.array([], pa.bool_())
        fired.counts["repeats_dropped"] += len(fresh) - fresh.true_count
        mask = pc.and_(fresh, pc.equal(columns["version"], self._view.version))
        fired.counts["other_version_ignored"] += fresh.true_count - (pc.sum(mask).as_py() or 0)
        mask = mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
        return _Updates(self._with_known(columns.filter(mask)), values, pc.indices_nonzero(mask))

    def _give_back(self, runs: Sequence[Run], fired: Fired) -> None:
        """Give back slots of rules that the view has no more, or that say something else: they begin anew.

        After the updates, which may have taken such a slot anew.
        """
        room = GIVEN_BACK_MAX
        for assignment in dict.fromkeys(run.assignment for run in runs):
            gone = list(islice(state_of(assignment).outdated(self._digests), room))
            if gone:
                slots = fired.changes.setdefault(assignment, StateChange()).slots
                slots.update(dict.fromkeys(place for place in gone if place not in slots))
                fired.counts["slots_given_back"] += len(gone)
                room -= len(gone)

    def _with_known(self, columns: pa.Table) -> pa.Table:
        """Add, for each column that rules use, whether it is known of before and of after."""
        for root, unavailable in ((KNOWN_BEFORE, "unavailable_before"), (KNOWN_AFTER, "unavailable")):
            lists = columns[unavailable].combine_chunks()
            parents, names = pc.list_parent_indices(lists), pc.list_flatten(lists)
            every = (
                pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), len(columns)), start=-1) if len(names) else None
            )
            for column in self._known:
                if every is None:
                    known = pa.repeat(pa.scalar(value=True), len(columns))
                else:
                    unknown = parents.filter(pc.equal(names, column)).cast(pa.int64())
                    known = pc.invert(pc.is_in(every, value_set=unknown))
                columns = columns.append_column(known_column(root, column), known)
        return columns

    def _fire_plain(self, updates: _Updates, fired: Fired) -> list[Firing]:
        news = pc.invert(updates.columns["silent"].combine_chunks())
        rows = pc.indices_nonzero(news)
        evaluation = self._plain.evaluate(updates.columns.filter(news))
        self._count(evaluation.errors, fired)
        found = [Firing(rows[firing.row].as_py(), firing.rule, firing.values) for firing in evaluation.firings]
        return [firing for firing in found if self._is_of(firing.rule, *updates.place(firing.row), fired)]

    def _fire_remembering(self, updates: _Updates, fired: Fired) -> list[Firing]:
        entities = pa.array(updates.values.keys(), pa.binary()).take(updates.rows)
        crossed: set[tuple[int, str]] = set()
        for rule, signals in zip(self._remembering.rules, self._remembering.signals(updates.columns), strict=True):
            self._count({rule.rule: signals.fires.null_count}, fired)
            crossed |= {(row, rule.rule) for row in self._crossings(rule, signals, entities, updates, fired)}
        if not crossed:
            return []
        rows = pa.array(sorted({row for row, _ in crossed}), pa.int64())
        evaluation = self._remembering.evaluate(updates.columns.take(rows))
        found = [Firing(rows[firing.row].as_py(), firing.rule, firing.values) for firing in evaluation.firings]
        return [firing for firing in found if (firing.row, firing.rule.rule) in crossed]

    def _crossings(
        self, rule: Rule, signals: Signals, entities: pa.Array, updates: _Updates, fired: Fired
    ) -> list[int]:
        """Return the rows where `rule` fires, and note in `fired` whose slots it takes and gives back."""
        digest, crossings = self._digests[rule.rule], []
        silent, ops = updates.columns["silent"], updates.columns["op"]
        for row in self._candidates(rule, signals, entities, updates):
            run, index = updates.place(row)
            if not self._is_of(rule, run, index, fired):
                continue
            place = rule.rule, entities[row].as_py()
            changed = fired.changes[run.assignment].slots
            slot = changed[place] if place in changed else state_of(run.assignment).slot(place)
            # Where nothing is remembered it is armed, unless it was beyond the bound before.
            remembered = place in changed or slot == digest
            armed = slot != digest if remembered else not signals.fired_before[row].as_py()
            # What armed it may lie below the rule's start, or in a time when the rule was not there. But a silent
            # insert may fill a Redis that was emptied: nobody says that the entity was away.
            came = ops[row].as_py() == "insert" and not silent[row].as_py()
            armed |= came or signals.armed_before[row].as_py() is True
            if signals.fires[row].as_py():
                if armed and not silent[row].as_py():
                    crossings.append(row)
                armed = False
            elif signals.rearms[row].as_py() or ops[row].as_py() == "delete":
                armed = True
            if (wanted := None if armed else digest) != slot:
                changed[place] = wanted
        return crossings

    def _candidates(self, rule: Rule, signals: Signals, entities: pa.Array, updates: _Updates) -> list[int]:
        """Return the rows of entities that are beyond the bound, were so before, or have a slot: mostly few."""
        beyond = pc.or_kleene(signals.fires, signals.fired_before).fill_null(False)
        touched = set(entities.filter(beyond).to_pylist())
        assignments = {run.assignment for run, _, _ in updates.values.spans()}
        slots = [state_of(assignment).of_rule(rule.rule) for assignment in assignments]
        if any(slots):
            here = set(entities.to_pylist())
            for taken in slots:
                touched |= taken.keys() & here
        if not touched:
            return []
        return list(pc.indices_nonzero(pc.is_in(entities, value_set=pa.array(touched, pa.binary()))).to_pylist())

    def _is_of(self, rule: Rule, run: Run, index: int, fired: Fired) -> bool:
        """Tell whether a record was read after the rule was applied."""
        start = self._starts.get(rule.rule)
        mine = start is None or offset_at(run, index) >= start.first(run.assignment.topic_id, run.partition)
        fired.counts["history_ignored"] += not mine
        return mine

    def _record(self, updates: _Updates, firing: Firing, fired: Fired) -> None:
        run, index = updates.place(firing.row)
        value = run.values()[index]
        assert value is not None, "a tombstone is no update"
        at_seconds = updates.columns["ts"][firing.row].cast(pa.int64()).as_py() / 1e6
        shared = self._view.entity_key is not None
        update = _DECODER.decode(value)
        alert = alert_of_update(update, firing, shared=shared, late=fired.is_late(firing, at_seconds))
        fired.add(run, alert, update.entity if shared else update.key)

    def _count(self, errors: Mapping[str, int], fired: Fired) -> None:
        for rule, count in errors.items():
            if count:
                fired.counts["rule_errors"] += count
                _log.warning("rule_failed", table=self._table, rule=rule, changes=count)


def state_of(assignment: Assignment) -> PartitionState:
    """Return what is remembered of a partition: read when it was assigned."""
    if assignment.state is None:
        assignment.state = PartitionState()
    state: PartitionState = assignment.state
    return state


def _view(spec: TableSpec, name: str) -> View:
    found = [view for view in spec.features if view.view == name]
    if not found:
        raise ConfigurationError(f"{spec.table} has no view {name}, which a rule reads", hint="apply the table again")
    return found[0]


def _digest(rule: Rule, view: View) -> str:
    """Return what tells a slot of this rule from one that it took when it said something else."""
    said = [rule.of, rule.above, rule.below, rule.rearm_below, rule.rearm_above, view.version]
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:16]
