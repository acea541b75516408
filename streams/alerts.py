"""ALERTS: changes of output topics and updates of views in, alerts of the tables' rules out.

Promise: alerts, what rules remember and input offsets of a group are one Kafka transaction, so a firing is on
`headgate.alerts` once, under an id that is the same on every replay. Snapshots, replays and floors fire nothing, nor
does what a topic held when the rule was applied.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import structlog

from connectors.transport.chunk import Assignment, Group, Run
from connectors.transport.transaction import Advance, Outbox
from schemas.change import HEADER_TABLE
from schemas.config import Config
from schemas.errors import ConfigurationError, HeadgateError, PoisonRecord, SourceMoved, TableStopped
from schemas.failpoints import failpoint
from schemas.table import TableEntry
from schemas.topics import TopicNames
from sinks.quarantine import reason_of
from streams.alert_state import STATE_BYTES_MAX, PartitionState
from streams.alerts_of_changes import WatchedTable, heights_of
from streams.alerts_of_updates import WatchedView, state_of
from streams.avro_outputs import reader_of
from streams.fired import Fired, last_of_each, partition_of
from streams.poison import quarantined
from streams.rule_starts import topic_of
from streams.rules import RuleEngine
from streams.schema_gate import LetIn, SchemaGate
from streams.settings import is_transactional
from streams.stage import MAIN_LANE, BaseStage

UPDATES_LANE = "updates"

LoadStates = Callable[[str, Sequence[int]], Awaitable[Mapping[int, PartitionState]]]

_log = structlog.get_logger(__name__)


class AlertsStage(BaseStage):
    """The stage; `writer` is the transport's, transactional or plain, `partitions` are those of `headgate.alerts`.

    `load_states` reads what is remembered of some partitions of a view.
    """

    name = "alerts"

    def __init__(
        self,
        config: Config,
        *,
        names: TopicNames,
        tables: Mapping[str, TableEntry],
        writer: Any,
        consumer: Any,
        load_states: LoadStates,
        partitions: int = 4,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Watch the tables that have rules; those whose rules are refused are paused when their records come."""
        super().__init__()
        assert partitions > 0, "a topic has partitions"
        self._config, self._names, self._tables = config, names, tables
        self._writer, self._consumer, self._partitions, self._clock = writer, consumer, partitions, clock
        self._load_states = load_states
        self._at_least_once = config.kafka.guarantee == "at_least_once"
        self._transactional = is_transactional(config)
        self._engine, self._changes = RuleEngine(), reader_of(config)
        self._engine_free = asyncio.Lock()  # DuckDB's connection serves one thread at a time
        self._watched: dict[str, WatchedTable | WatchedView] = {}  # by topic
        self._table_of: dict[str, str] = {}  # by topic
        self._refused: dict[str, TableStopped] = {}  # by table
        self._paused: set[str] = set()
        self._versions: dict[str, int] = {}  # by table: of the spec that its rules were compiled for
        self.gate = SchemaGate(names, self._versions.get)
        for table in tables:
            self._watch(table)

    async def start(self) -> None:
        """Open the producer; a predecessor of the same slot is fenced from here on."""
        await self._writer.start()

    async def stop(self) -> None:
        """Close the producer."""
        await self._writer.close()

    def waits_for(self) -> HeadgateError | None:
        """Return what the producer waits for, None if nothing."""
        found: HeadgateError | None = self._writer.waits_for()
        return found

    def topics(self) -> list[str]:
        """Return the topics that rules read; of a paused table what was emitted is still read."""
        return sorted(topic for entry in self._tables.values() for topic in self._topics_of(entry))

    def lane_of(self, topic: str) -> str:
        """Return the lane that reads `topic`: views' updates are not written by transactions, changes may be."""
        return UPDATES_LANE if topic.startswith(self._names.features("")) else MAIN_LANE

    async def starts(self, assignments: Sequence[Assignment]) -> dict[Assignment, int | SourceMoved]:
        """Take up what is remembered of partitions of views, and pass over what lies below the starts of all rules."""
        found: dict[Assignment, int | SourceMoved] = {}
        for assignment in assignments:
            if (start := self._start_of(assignment)) is not None:
                found[assignment] = start
        views: dict[str, list[Assignment]] = {}
        for assignment in assignments:
            if self.lane_of(assignment.topic) == UPDATES_LANE:
                views.setdefault(assignment.topic, []).append(assignment)
        for topic, those in views.items():
            found |= await self._take_up(topic, those)
        return found

    async def tables_changed(self, changed: set[str]) -> None:
        """Compile the rules of changed tables; each holds from where its topic ended when it was applied."""
        async with self._engine_free:
            for table in sorted(changed):
                self._watch(table)
            for topic in sorted(self._paused):
                if self._table_of.get(topic) not in self._refused:
                    self._paused.discard(topic)
                    await self._consumer.resume(topic)

    async def step(self, group: Group) -> None:
        """Evaluate the group's records, and write what fired and is remembered together with the offsets."""
        let_in = await self.gate.let_in(run for run in group.runs if self.lane_of(run.topic) == MAIN_LANE)
        runs, fired = await self._evaluated(group.runs, let_in)
        failpoint("alerts.after_decode")
        metadata = {run: fired.heights[run.assignment].to_text() for run in runs if run.assignment in fired.heights}
        for run in await self._write(runs, fired, metadata):  # of a run that was lost meanwhile nothing counts as seen
            if run.assignment in fired.heights:
                run.assignment.state = fired.heights[run.assignment]
            if (change := fired.changes.pop(run.assignment, None)) is not None:
                state_of(run.assignment).apply(change)
        self.counts.update(fired.counts)
        group.done(runs, metadata=metadata)

    async def _evaluated(self, runs: Sequence[Run], let_in: LetIn) -> tuple[list[Run], Fired]:
        """Return the runs whose tables can go on, and what they fire.

        Which can is asked under the lock: the tables may have changed while it was waited for. Updates say no schema
        version: one that is no update may be of an unknown one.
        """
        known = dict(self._versions)
        for learned in (False, True):
            fired = Fired(self._clock, self._config.kafka.message_bytes_max)
            try:
                async with self._engine_free:
                    runs = await self._readable(runs, let_in.stopped)
                    await asyncio.to_thread(self._evaluate, runs, fired, let_in.older)
            except PoisonRecord:
                if learned:
                    raise
                await self.gate.catch_up()
                if self._versions == known:
                    raise
            else:
                break
        return list(runs), fired

    async def on_poison(self, run: Run, error: BaseException) -> None:
        """Put one record in quarantine that is not what its topic holds; its successors go on."""

        def work(outbox: Outbox, live: Sequence[Run]) -> list[Advance]:
            for one in live:
                outbox.produce(self._names.quarantine, None, None, self._quarantined(one, error), None)
            return [Advance(one.assignment, one.next, self._metadata(one.assignment)) for one in live]

        await self._writer.write([run], work)
        self.counts[f"quarantined_{reason_of(error)}"] += 1
        self.quarantined[self._table_of.get(run.topic, run.topic), reason_of(error)] += 1

    # ── tables ──

    def _topics_of(self, entry: TableEntry) -> set[str]:
        return {topic_of(entry.spec, rule, self._names) for rule in entry.spec.rules}

    def _watch(self, table: str) -> None:
        self._refused.pop(table, None)
        for topic in [topic for topic, of in self._table_of.items() if of == table]:
            self._watched.pop(topic, None)
            del self._table_of[topic]
        entry = self._tables.get(table)
        if entry is None:
            self._versions.pop(table, None)
            return
        self._versions[table] = entry.schema_version
        for topic in sorted(self._topics_of(entry)):
            self._table_of[topic] = table
            try:
                self._watched[topic] = self._compiled(topic, entry)
            except ConfigurationError as exc:
                hint = exc.hint or "correct the rule and apply"
                self._refused[table] = TableStopped("rules_refused", exc.message, hint=hint)

    def _compiled(self, topic: str, entry: TableEntry) -> WatchedTable | WatchedView:
        if self.lane_of(topic) == UPDATES_LANE:
            return WatchedView(entry, topic.removeprefix(self._names.features("")), self._engine)
        return WatchedTable(entry, self._engine, self._changes, may_repeat=self._at_least_once)

    async def _readable(self, runs: Sequence[Run], unknown: Mapping[str, TableStopped]) -> list[Run]:
        """Return the runs to evaluate; those of a table that cannot go on are paused where they stand."""
        readable: list[Run] = []
        stopped: dict[Assignment, tuple[int, TableStopped]] = {}
        for run in runs:
            if (stop := unknown.get(run.topic) or self._stop_of(run.assignment)) is not None:
                first, _ = stopped.get(run.assignment, (run.first, stop))
                stopped[run.assignment] = min(run.first, first), stop
            else:
                readable.append(run)
        for assignment, (first, stop) in stopped.items():
            self.last_error = stop
            self._paused.add(assignment.topic)
            await self._consumer.pause(assignment.topic, stop)
            await self._consumer.seek(assignment, first)
        return readable

    def _stop_of(self, assignment: Assignment) -> TableStopped | None:
        refused = self._refused.get(self._table_of.get(assignment.topic, ""))
        if refused is not None or self.lane_of(assignment.topic) != UPDATES_LANE:
            return refused
        watched = self._watched.get(assignment.topic)
        if not isinstance(watched, WatchedView) or (nbytes := watched.remembered_bytes(assignment)) <= STATE_BYTES_MAX:
            return None
        return TableStopped(
            "state_full",
            f"rules remember {nbytes} bytes of {assignment.topic}[{assignment.partition}], {STATE_BYTES_MAX} are taken",
            hint="too many entities are beyond the bounds of threshold rules: take one away, or change its bounds; "
            "what such a rule remembered is given back",
        )

    # ── where reading begins ──

    def _start_of(self, assignment: Assignment) -> int | None:
        """Return where the first of the rules of a topic starts, if that lies ahead."""
        entry = self._tables.get(self._table_of.get(assignment.topic, ""))
        if entry is None or (self._at_least_once and self.lane_of(assignment.topic) == MAIN_LANE):
            return None  # where changes may repeat, those of the history must be known
        rules = [rule for rule in entry.spec.rules if topic_of(entry.spec, rule, self._names) == assignment.topic]
        starts = [entry.rules_from.get(rule.rule) for rule in rules]
        offsets = [start.first(assignment.topic_id, assignment.partition) if start else 0 for start in starts]
        first = min(offsets, default=0)
        if assignment.committed is None:
            return max(first, assignment.low) if first else None
        return first if first > assignment.committed else None

    async def _take_up(self, topic: str, assignments: Sequence[Assignment]) -> dict[Assignment, int | SourceMoved]:
        view = topic.removeprefix(self._names.features(""))
        try:
            states = await self._load_states(view, [each.partition for each in assignments])
        except ConfigurationError as exc:
            return dict.fromkeys(assignments, SourceMoved("state_unreadable", exc.message, hint=exc.hint))
        for assignment in assignments:
            assignment.state = states[assignment.partition]
        return {}

    # ── evaluation: on a thread of its own, so that a large group does not hold up the event loop ──

    def _evaluate(self, runs: Sequence[Run], fired: Fired, older: Collection[str]) -> None:
        by_topic: dict[str, list[Run]] = {}
        for run in runs:
            by_topic.setdefault(run.topic, []).append(run)
        for topic, those in by_topic.items():
            fired.counts["read"] += sum(map(len, those))
            watched = self._watched.get(topic)
            assert watched is not None or topic not in self._table_of, f"{topic} has rules that nobody evaluates"
            if watched is not None:
                watched.evaluate(those, fired, older=topic in older)

    # ── writing ──

    async def _write(self, runs: Sequence[Run], fired: Fired, metadata: Mapping[Run, str]) -> list[Run]:
        """Write alerts, state and offsets, and return the runs that were still ours.

        Without transactions the alerts are durable before the state is written that says that they fired.
        """
        written: list[Run] = []

        def alerts(outbox: Outbox, live: Sequence[Run]) -> list[Advance]:
            for run in live:
                for key, value, table in fired.records.get(run, ()):
                    place = partition_of(key, self._partitions)
                    outbox.produce(self._names.alerts, place, key, value, [(HEADER_TABLE, table)])
            return []

        def state(outbox: Outbox, live: Sequence[Run]) -> list[Advance]:
            written[:] = whole = _whole(live, runs)
            for assignment in dict.fromkeys(run.assignment for run in whole):
                if (change := fired.changes.get(assignment)) is not None:
                    topic = self._names.alerts_state(assignment.topic.removeprefix(self._names.features("")))
                    for key, value in change.records(assignment.partition):
                        outbox.produce(topic, assignment.partition, key, value)
            return [Advance(run.assignment, run.next, metadata.get(run, "")) for run in last_of_each(whole)]

        def both(outbox: Outbox, live: Sequence[Run]) -> list[Advance]:
            whole = _whole(live, runs)
            return [*alerts(outbox, whole), *state(outbox, whole)]

        if runs and fired.changes and not self._transactional:
            await self._writer.write(runs, alerts)
            await self._writer.write(runs, state)
        elif runs:
            await self._writer.write(runs, both, parted=True)
        failpoint("alerts.after_write")
        return written

    def _metadata(self, assignment: Assignment) -> str:
        may_repeat = self._at_least_once and self.lane_of(assignment.topic) == MAIN_LANE
        return heights_of(assignment).to_text() if may_repeat else ""

    def _quarantined(self, run: Run, error: BaseException) -> bytes:
        table = self._table_of.get(run.topic, run.topic)
        return quarantined(self._config, run, error, stage=self.name, table=table, at=self._clock())


def _whole(live: Sequence[Run], runs: Sequence[Run]) -> list[Run]:
    """Return the runs of the partitions of which none was lost: what is remembered of one is of all its runs."""
    alive = set(map(id, live))
    broken = {run.assignment for run in runs if id(run) not in alive}
    return [run for run in live if run.assignment not in broken]
