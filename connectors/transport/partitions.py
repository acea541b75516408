"""All partitions that are assigned to this worker, their lanes' budgets and why any of them is paused.

Only the owning thread calls what changes them; `lock` is shared with `begin`, so that a run is either begun or
dropped, never both.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from time import monotonic
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from connectors.transport.chunk import Assignment, Run
from connectors.transport.ends import Ends
from connectors.transport.hearing import is_refusal, log_of
from connectors.transport.history import lacks_only_a_marker, moved, out_of_range
from connectors.transport.lifeline import Brokers, fetchers
from connectors.transport.loads import Loads
from connectors.transport.partition import Budget, Partition, Status, by_partition
from connectors.transport.rates import LimitOf
from connectors.transport.routes import Routes
from connectors.transport.turns import Turns
from schemas.errors import HeadgateError, SourceMoved, TransportFatal
from schemas.failpoints import failpoint

Key = tuple[str, int]

_SEEK_AGAIN_SECONDS = 0.2  # the client refuses a seek until it has begun to fetch
_BRIEF_SECONDS = 0.02  # some lanes are full: the others wait this long for it to pass
_BRIEF_SECONDS_ALL = 4.0  # all are: nobody waits for us but a rebalance, and a pause throws away what was fetched
# An assigned partition is paused there until its start is known. Not a number: the client may ask for it before the
# pause, and gives a partition up, for good, whose log begins above it.
_PLACEHOLDER = OFFSET_BEGINNING
_NO_ROOM = 64 * 1024


class Partitions:
    """The assigned partitions of one consumer."""

    def __init__(self, routes: Routes, *, incremental: bool) -> None:
        """Begin with none."""
        self.lock = threading.Lock()
        self.budgets: dict[str, Budget] = {}
        self.commits: dict[str, bool] = {}  # by lane: whether offsets are committed here, or with a transaction
        self.transactional: set[str] = set()  # lanes
        self.going_on: set[str] = set()  # lanes
        self.paused_topics: dict[str, str | HeadgateError] = {}  # by the stage, with its reason; outlives assignments
        self.went_back: list[Partition] = []  # of which the last round brought again what came before
        self.sought: set[Key] = set()  # partitions sought since the last poll(): what came before comes again
        self._routes = routes
        self._incremental = incremental
        self._by_key: dict[Key, Partition] = {}
        self._turns = Turns()
        self._loads = Loads(self.budgets)
        self._full_since: float | None = None
        self._ends = Ends()
        self._again_at: float | None = None  # a resume that failed is tried again
        self.brokers = Brokers()
        self.broker_away = False  # no broker of the cluster answers
        self.broker_says = ""  # why one does not let us in
        self.troubled_at: float | None = None  # when a topic or broker last was in trouble
        self.assigned_at = math.inf  # when the group last gave us something, or nothing

    def add_lane(
        self, lane: str, bytes_max: int, *, commits: bool, transactional: bool = False, goes_on: bool = False,
        loads: str = "", limit_of: LimitOf | None = None,
    ) -> None:  # fmt: skip
        """Let a lane hold so many bytes; the topics of a `transactional` one are written by transactions only.

        One that `goes_on` is not held where a topic moved: the worker begins it anew. `loads` is the lane of those of
        its partitions that are far behind, or over their limit.
        """
        self.budgets[lane] = Budget(lane, bytes_max)
        self.commits[lane] = commits
        if transactional:
            self.transactional.add(lane)
        if goes_on:
            self.going_on.add(lane)
        if loads:
            self._loads.pair(lane, loads, limit_of)

    def get(self, key: Key) -> Partition | None:
        """Return one partition, if it is ours."""
        return self._by_key.get(key)

    def keys(self) -> list[Key]:
        """Return what is ours; from any thread."""
        return list(self._by_key)

    def all(self) -> list[Partition]:
        """Return all partitions; from any thread."""
        return list(self._by_key.values())

    def of_topic(self, topic: str) -> list[Partition]:
        """Return the partitions of one topic."""
        return [each for each in self.all() if each.key[0] == topic]

    @property
    def busy(self) -> bool:
        """Steps hold something, so answers and commands are likely."""
        return any(budget.used for budget in self.budgets.values())

    @property
    def room(self) -> int:
        """The bytes left in the tightest lane that takes records, but not next to nothing: no lane may starve."""
        rooms = [budget.room for budget in self.budgets.values() if not budget.paused]
        return max(min(rooms, default=_NO_ROOM), _NO_ROOM)

    # -- life of an assignment ---------------------------------------------------------------------------------------

    def assign(self, consumer: Consumer, keys: Iterable[Key]) -> list[Assignment]:
        """Begin a new life of each partition, paused until its start is known."""
        now = monotonic()
        added = []
        for key in keys:
            lane = self._routes.lane_of(key[0])
            if lane is None:
                continue  # its topic was removed while the rebalance went on: the next one takes it away
            assert key not in self._by_key, f"{key} was assigned twice"
            added.append(Partition(Assignment(lane, *key), self.budgets[lane], commits=self.commits[lane], now=now))
        places = [TopicPartition(*each.key, _PLACEHOLDER) for each in added]
        if self._incremental:
            consumer.incremental_assign(places)
        else:
            consumer.assign(places)
        if places:
            consumer.pause(places)
        self._by_key.update({each.key: each for each in added})
        self.assigned_at = now
        failpoint("rebalance.assigned")
        return [each.assignment for each in added]

    def start(self, consumer: Consumer, assignment: Assignment, offset: int) -> Partition | None:
        """Read a resolved assignment from `offset`; None if it has left meanwhile."""
        partition = self.current(assignment)
        if partition is None:
            return None
        with self.lock:
            partition.start(offset)
        self._loads.place(partition, assignment.high - offset)
        partition.status, partition.trouble = Status.RUNNING, None
        partition.doubts, partition.suspect = [], False
        partition.committed = assignment.start if assignment.committed is None else assignment.committed
        self.apply_pauses(consumer, [partition])
        return partition

    def current(self, assignment: Assignment) -> Partition | None:
        """Return the partition of an assignment that is still ours."""
        partition = self._by_key.get(assignment.key)
        return partition if partition is not None and partition.assignment is assignment else None

    def rewind(self, consumer: Consumer, partition: Partition, offset: int) -> None:
        """Read again from `offset`: unfinished runs are lost, window and order check start anew."""
        with self.lock:
            partition.start(offset)
        if not partition.paused:
            partition.paused = True  # so that it is sought
        self.apply_pauses(consumer, [partition])

    def drop_unbegun(self, partitions: Iterable[Partition]) -> None:
        """Lose the runs that no step has begun."""
        with self.lock:
            for partition in partitions:
                partition.drop_unbegun()

    def hold(self, consumer: Consumer, partition: Partition, trouble: SourceMoved) -> None:
        """Read nothing more of a partition whose source moved; what is unfinished is lost."""
        with self.lock:
            partition.lose_runs()
            partition.assignment.lost = True
        partition.status, partition.trouble = Status.HELD, trouble
        partition.doubts, partition.suspect = [], False
        self.troubled_at = monotonic()
        self.apply_pauses(consumer, [partition])

    def deliver(self, messages: list[Any], *, now: float, quiet_seconds: float | None) -> tuple[list[Run], set[str]]:
        """Note what came. Return the runs to hand on, and the topics whose ids are to be compared at once.

        After `quiet_seconds` without records a topic may have been made anew. What comes then is kept back until the
        id was compared. It is not read a second time: the check must speak of the very records that came, else one
        that comes late each time would be doubted for ever. What does not go on from where its partition stands is
        left out, and its partition is in `went_back`.
        """
        self.went_back.clear()
        runs: list[Run] = []
        doubted: set[str] = set()
        for key, records in by_partition(messages).items():
            partition = self._by_key.get(key)
            if partition is None or not partition.running or partition.paused:
                continue  # given up or paused meanwhile: it is sought anew before it brings records again
            if not partition.is_next(records):
                self.went_back.append(partition)
                continue
            if quiet_seconds is not None and now - partition.last_arrival > quiet_seconds:
                partition.doubts.append(now)  # those before it end by themselves, however often this happens
                doubted.add(key[0])
            run = partition.deliver(records, now=now)
            (runs if partition.doubted_at is None else partition.withheld).append(run)
        return runs, doubted

    def clear(self, consumer: Consumer, topics: Iterable[str], asked_at: float) -> list[list[Run]]:
        """Read on in `topics`, whose ids were found unchanged when asked for at `asked_at`.

        Return what was kept back of them, in rounds with one run of a partition each.
        """
        chosen = set(topics)
        cleared = [each for each in self.all() if each.key[0] in chosen and each.clear(asked_at)]
        self.apply_pauses(consumer, cleared)
        rounds = zip_longest(*(each.take_cleared() for each in cleared))
        return [[run for run in some if run is not None] for some in rounds]

    def forget(self, keys: Iterable[Key]) -> list[Assignment]:
        """End the lives of partitions; they are lost from here on."""
        left = []
        with self.lock:
            for key in keys:
                partition = self._by_key.pop(key, None)
                if partition is not None:
                    partition.lose_runs()
                    partition.assignment.lost = True
                    left.append(partition.assignment)
        return left

    def lose_all(self) -> None:
        """End all lives: the consumer is gone."""
        self.forget(self.keys())

    def settle(self, runs: Iterable[Run], metadata: Mapping[Run, str] | None, *, durable: bool) -> list[Partition]:
        """Take runs that are done (`durable`) or only taken; return the partitions whose commit changed."""
        moved: dict[Key, Partition] = {}
        for run in runs:
            if run.lost:
                continue
            partition = self._by_key[run.assignment.key]
            if not durable:
                partition.budget.give_back(run, run.nbytes)
                if run.root.answered:  # its records were copied: what was read may go, its place in the window stays
                    run.release()
                    run.root.release()
            elif partition.finish(run, metadata.get(run) if metadata is not None else None) and partition.commits:
                moved[partition.key] = partition
        return list(moved.values())

    # -- pauses ------------------------------------------------------------------------------------------------------

    def suspect(self, consumer: Consumer, partitions: Iterable[Partition]) -> None:
        """Take no records of `partitions` until it is known whether their topic is still the one that we read.

        What was kept back of them is lost and comes again, so that it fills no lane meanwhile.
        """
        chosen = [each for each in partitions if each.running]
        self.troubled_at = monotonic()
        for partition in chosen:
            partition.suspect, partition.doubts = True, [self.troubled_at]
            partition.drop_withheld()
        self.apply_pauses(consumer, chosen)

    def apply_pauses(self, consumer: Consumer, partitions: Iterable[Partition]) -> None:
        """Bring the client's pauses in line with what is wanted.

        A resumed partition is always sought to its own position: after `resume` alone the client takes up to a second
        to fetch again.
        """
        for partition in partitions:
            wanted = self.is_to_pause(partition)
            if wanted and not partition.paused:
                consumer.pause([TopicPartition(*partition.key)])
                partition.paused = True
            elif partition.paused and not wanted:
                self._resume(consumer, partition)

    def is_to_pause(self, partition: Partition) -> bool:
        """Tell whether there is a reason to fetch nothing of a partition; from any thread."""
        full = partition.budget.paused or partition.waits or partition.moving_to is not None
        return not partition.running or full or partition.key[0] in self.paused_topics

    def is_out_of_range(self, partition: Partition, at: int | None) -> bool:
        """Tell whether what the client says of the offset `at` is said of what is to come.

        It stands further than we do where it has passed a transaction's marker.
        """
        return partition.running and not partition.paused and at is not None and at >= partition.position

    def trouble_of(self, consumer: Consumer, partition: Partition) -> SourceMoved:
        """Return why a partition cannot go on whose log does not hold what is to come.

        Raises:
            TransportFatal: retention took only the marker of the last transaction, so nothing is lost. The client seeks
                no partition that it has given up; a new one begins behind the marker (resolve.py).
        """
        log = log_of(consumer, partition.key)
        if log is None:
            return out_of_range(partition.assignment, partition.position)
        if partition.assignment.lane in self.transactional and lacks_only_a_marker(partition.position, *log):
            raise TransportFatal(
                f"{partition.key[0]}[{partition.key[1]}]: retention took the marker of its last transaction",
                hint="nothing is lost: the supervisor starts the worker again, and it reads on behind it",
            )
        mine = partition.assignment
        mine.low, mine.high = log
        return moved(mine, mine.topic_id, partition.position) or out_of_range(mine, partition.position)

    def _resume(self, consumer: Consumer, partition: Partition) -> None:
        consumer.resume([TopicPartition(*partition.key)])
        try:
            if partition.position == 0:
                # A seek to 0 alone asks the broker nothing, so it does not wake the client's fetcher. Only the
                # beginning may be asked for: librdkafka repeats a question that a second seek overtook, half a second
                # later, and goes where the answer says.
                consumer.seek(TopicPartition(*partition.key, OFFSET_BEGINNING))
            consumer.seek(TopicPartition(*partition.key, partition.position))
        except KafkaException:  # not fetching yet, or its topic is gone: tried again
            consumer.pause([TopicPartition(*partition.key)])
            self._again_at = monotonic() + _SEEK_AGAIN_SECONDS
            return
        partition.paused = False
        partition.last_arrival = monotonic()
        self.sought.add(partition.key)

    def begin_moves(self, consumer: Consumer, now: float) -> None:
        """Have partitions that are far behind, or no longer, leave their lane: once what a step has begun is done."""
        moving = self._loads.begin(self.all(), now)
        self.drop_unbegun(moving)
        self.apply_pauses(consumer, moving)

    def undo_pauses(self, consumer: Consumer, partitions: Iterable[Partition]) -> None:
        """Resume at the client what is about to be unassigned: a pause would outlive it."""
        failpoint("rebalance.committed")
        paused = [TopicPartition(*each.key) for each in partitions if each.paused]
        if paused:
            consumer.resume(paused)

    def withhold(self, consumer: Consumer, now: float) -> bool:
        """Pause lanes that stay full, resume those that have room again; True: fetch nothing in this round.

        A pause throws away what was prefetched, so a lane that is full briefly is waited for instead.
        """
        self.apply_pauses(consumer, self._loads.end(now))
        budgets = self.budgets.values()
        full = [budget for budget in budgets if budget.full and not budget.paused]
        changed = [budget for budget in budgets if budget.paused and budget.used <= budget.bytes_max // 2]
        for budget in changed:
            budget.paused = False
            self._turns.begin(budget, [each for each in self.all() if each.budget is budget and each.running], now)
        wait = False
        if not full:
            self._full_since = None
        else:
            self._full_since = now if self._full_since is None else self._full_since
            everything = all(budget.full or budget.paused for budget in budgets)
            wait = now - self._full_since < (_BRIEF_SECONDS_ALL if everything else _BRIEF_SECONDS)
            if not wait:
                for budget in full:
                    budget.paused = True
                    self._turns.end(budget)
                changed.extend(full)
                self._full_since = None
        self._apply_changed(consumer, changed, now)
        return wait

    def _apply_changed(self, consumer: Consumer, changed: list[Budget], now: float) -> None:
        again = self._again_at is not None and now >= self._again_at
        if again:
            self._again_at = None
        called = set(self._turns.next(now))
        if changed or again or called:
            self.apply_pauses(consumer, [e for e in self.all() if again or e.budget in changed or e in called])

    # -- what is heard of the logs -----------------------------------------------------------------------------------

    def hear_ends(self, consumer: Consumer) -> None:
        """Note some logs' ends, those of the others when it is their turn; no request is made."""
        self._ends.hear(consumer, self.all())

    def hear_error(self, error: KafkaError) -> None:
        """Note that no broker answers; librdkafka tells each broker's troubles too, which pass."""
        self.troubled_at = monotonic()
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - confluent-kafka's public name
            self.broker_away = True
        elif is_refusal(error):
            self.broker_says = error.str()

    def hear_statistics(self, text: str) -> None:
        """Note from librdkafka's statistics how far each fetcher is, transaction markers included."""
        said = orjson.loads(text)
        self.brokers.note(said)
        if any(broker["state"] == "UP" for broker in said.get("brokers", {}).values()):
            self.broker_away, self.broker_says = False, ""
        for topic, at in fetchers(said):
            partition = self._by_key.get((topic, at["partition"]))
            if partition is not None:
                partition.fetch_position, partition.fetch_end = at["next_offset"], at["ls_offset"]
