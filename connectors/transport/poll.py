"""The thread that owns the Kafka consumer, and every offset.

One round: take what steps finished and the commands that came → look at the credit of the lanes → `poll`, then
`consume` what is there → runs by partition → one chunk for each lane. Rebalances arrive inside `poll` and `consume`,
on this thread; they drain and commit before they return. Nothing else ever calls the consumer: its methods share one
unfair lock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from time import monotonic
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from connectors.transport.chunk import Assignment, Run, chunks_of
from connectors.transport.committer import Committer, commit_first_starts
from connectors.transport.hearing import NOT_ALLOWED, made, not_allowed
from connectors.transport.history import TOPIC_MADE_ANEW, topic_made_anew
from connectors.transport.listener import Listener
from connectors.transport.partition import Partition, Status
from connectors.transport.partitions import Partitions
from connectors.transport.routes import Routes
from connectors.transport.settings import ConsumerSettings
from schemas.errors import HeadgateError, SourceMoved, TransportFatal

T = TypeVar("T")
Key = tuple[str, int]

_POLL_SECONDS = 0.1
_POLL_SECONDS_BUSY = 0.01  # while steps work: their answers and commands are waited for
_FEW_RECORDS = 50  # below it a round lingers for more
_HOUSEKEEPING_SECONDS = 1.0
_CRASHED_DRAIN_SECONDS = 2.0  # after a crash one step will never finish; the others get this long
_SUSPECT = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError.INCONSISTENT_TOPIC_ID,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - confluent-kafka's public names of local errors begin so
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - the same
    },
)
_OUT_OF_RANGE = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})  # noqa: SLF001 - the same


class PollThread(threading.Thread):
    """Owns the consumer from its creation to its end; everybody else speaks to it by `call`, `finished` and `wake`."""

    def __init__(self, settings: ConsumerSettings, routes: Routes, partitions: Partitions, listener: Listener) -> None:
        """Do nothing before `start`."""
        super().__init__(name="kafka-poll", daemon=True)
        self.settings = settings
        self.routes = routes
        self.partitions = partitions
        self.listener = listener
        self.committer = Committer(listener.report)
        self.finished: deque[tuple[list[Run], Mapping[Run, str] | None, bool]] = deque()
        self.waking = threading.Event()
        self.stopping = False  # set by stop(): drain, commit, leave
        self.crashed = False  # set by the service: do not wait long for steps
        self.group_metadata: Any = None  # as of the last rebalance or the last second
        self.records_total = 0
        self.rounds_total = 0
        self._commands: deque[tuple[Callable[[PollThread], Any], Future[Any]]] = deque()
        self._failure: BaseException | None = None  # raised in a callback, to be raised behind poll()
        self._gone: set[Key] = set()  # partitions given up since the last poll(), within consume()
        self._record_bytes = 512.0  # a moving mean
        self._closed = False
        self._last_count = 0
        self._due_commit = self._due_housekeeping = 0.0

    # -- for other threads -------------------------------------------------------------------------------------------

    def call(self, command: Callable[[PollThread], T]) -> Future[T]:
        """Run `command` on this thread, between rounds or within a drain; cancelled if the thread has ended."""
        future: Future[T] = Future()
        self._commands.append((command, future))
        self.waking.set()
        if self._closed:
            self._cancel_commands()
        return future

    def stop(self) -> None:
        """Ask for the orderly end: drain, commit, leave the group."""
        self.stopping = True
        self.waking.set()

    # -- the thread --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Live until asked to stop or until something must end the worker; then tell the listener."""
        error: BaseException | None = None
        try:
            self._live()
        except BaseException as caught:  # noqa: BLE001 - the listener decides: it ends the worker
            error = caught
        self._closed = True
        self.partitions.lose_all()
        self._cancel_commands()
        self.listener.ended(error)

    def _live(self) -> None:
        heard = {"stats_cb": self.partitions.hear_statistics, "error_cb": self.partitions.hear_error}
        own = self.settings.librdkafka(len(self.routes.subscription()))
        settings = {**own, "on_commit": self.committer.answered, **heard}
        self.consumer = made(lambda: Consumer(settings))
        clean = False
        try:
            self.subscribe()
            while not self.stopping:
                self._round()
            clean = self.give_up(list(self.partitions.keys()))
        finally:
            self._closed = True  # the revocation within close() finds nothing to do
            self.consumer.close()
        if not clean:
            raise TransportFatal(
                "stopped with unfinished or uncommitted work", hint="it is done again by the next worker"
            )

    def subscribe(self) -> None:
        """Subscribe to what the routes name now."""
        topics = self.routes.subscription()
        if not topics:
            self.consumer.unsubscribe()
            return
        self.consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def _round(self) -> None:
        self.waking.clear()
        self.settle()
        now = monotonic()
        self._tend(now)
        if self.partitions.withhold(self.consumer, now):
            self.waking.wait(0.02)
            return
        busy = self.partitions.busy
        first = self.consumer.poll(_POLL_SECONDS_BUSY if busy else _POLL_SECONDS)
        self._raise_failure()
        if first is None:
            self._last_count = 0
            return
        self._gone.clear()
        self.partitions.sought.clear()
        linger = self.settings.linger_seconds if self._last_count < _FEW_RECORDS else 0.0
        messages = self.consumer.consume(self._records_wanted() - 1, linger) if self._records_wanted() > 1 else []
        self._raise_failure()
        if (first.topic(), first.partition()) not in self._gone | self.partitions.sought:  # else it comes again
            messages.insert(0, first)
        self._last_count = len(messages)
        self._deliver(messages)

    def _records_wanted(self) -> int:
        """Return how many records fit into the roomiest lane, by the mean size of a record, a chunk's worth at most."""
        fitting = int(self.partitions.room / self._record_bytes)
        return max(1, min(self.settings.chunk_records_max, fitting))

    def _deliver(self, messages: list[Any]) -> None:
        quiet_seconds = self.settings.quiet_seconds if self.settings.topic_ids else None
        fine = self._without_errors(messages)
        runs, doubted = self.partitions.deliver(fine, now=monotonic(), quiet_seconds=quiet_seconds)
        for partition in self.partitions.went_back:
            self.listener.report("consumer_went_back", partition.bring_back())
            self.fetch_again(partition)
        if doubted:
            self.listener.suspected(doubted)
        self._hand_on(runs)

    def _hand_on(self, runs: list[Run]) -> None:
        """Give runs, one of a partition each, to their lanes."""
        if not runs:
            return
        chunks = chunks_of(runs)
        records_count = sum(chunk.records for chunk in chunks)
        self._record_bytes += 0.2 * (sum(chunk.nbytes for chunk in chunks) / records_count - self._record_bytes)
        self.records_total += records_count
        self.rounds_total += 1
        self.listener.delivered(chunks)

    def _without_errors(self, messages: list[Any]) -> list[Any]:
        # Not by comparing with None: a KafkaError compared with anything but an error or a number is a SystemError.
        if not any(map(Message.error, messages)):
            return messages
        for message in [each for each in messages if each.error() is not None]:
            self._on_error(message.error(), message)
        return [each for each in messages if each.error() is None]

    def settle(self) -> None:
        """Take what steps finished and the commands that came, each after what was finished before it was given."""
        while self.finished or self._commands:
            if self.finished:
                runs, metadata, durable = self.finished.popleft()
                for partition in self.partitions.settle(runs, metadata, durable=durable):
                    self.committer.want(partition)
                continue
            command, future = self._commands.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(command(self))
            except BaseException as error:  # noqa: BLE001 - who asked decides
                future.set_exception(error)

    def _tend(self, now: float) -> None:
        if now >= self._due_commit:
            self.committer.send(self.consumer, now)
            self._due_commit = now + self.settings.commit_interval_seconds
        if now >= self._due_housekeeping:
            self._due_housekeeping = now + _HOUSEKEEPING_SECONDS
            self.partitions.hear_ends(self.consumer)
            self.partitions.begin_moves(self.consumer, now)
            self.refresh_group_metadata()

    def _cancel_commands(self) -> None:
        while self._commands:
            try:
                _, future = self._commands.popleft()
            except IndexError:  # another thread was quicker
                return
            future.cancel()

    # -- commands: handed to `call` by other threads -----------------------------------------------------------------

    def commit_first_starts(self, found: Mapping[Assignment, int | SourceMoved]) -> None:
        """Commit where partitions without an offset begin, before a record of them is read.

        Raises:
            SourceUnavailable: that could not be done.
        """
        commit_first_starts(self.committer, self.consumer, self.partitions, found)

    def begin_at(self, found: Mapping[Assignment, int | SourceMoved]) -> None:
        """Read resolved assignments from their starts, hold those whose source moved."""
        for assignment, start in found.items():
            if self.partitions.current(assignment) is None or assignment.lost:  # it has left, or its topic is held
                continue
            if isinstance(start, SourceMoved):
                self.hold([assignment.topic], start)
            else:
                assignment.start = start
                self.partitions.start(self.consumer, assignment, start)

    def rewind(self, wanted: Mapping[Assignment, int | None], metadata: str | None = None) -> bool:
        """Read assignments again from an offset, or from the first unfinished one; False if one of them has left."""
        for assignment, offset in wanted.items():
            partition = self.partitions.current(assignment)
            if partition is None or partition.head is None or partition.status is not Status.RUNNING:
                return False
            self.partitions.rewind(self.consumer, partition, partition.head if offset is None else offset)
            if metadata is not None:
                assignment.metadata = metadata
            if partition.commits:
                self.committer.want(partition)  # backwards, if need be
        return True

    def pause_topic(self, topic: str, reason: str | HeadgateError, *, give_up: bool) -> None:
        """Read nothing of a topic; what no step began is lost, with `give_up` all that is unfinished."""
        self.partitions.paused_topics[topic] = reason
        mine = self.partitions.of_topic(topic)
        self.partitions.apply_pauses(self.consumer, mine)
        if give_up:
            self.rewind({each.assignment: None for each in mine if each.status is Status.RUNNING})
        else:
            self.partitions.drop_unbegun(mine)

    def resume_topic(self, topic: str) -> None:
        """Read a paused topic again."""
        self.partitions.paused_topics.pop(topic, None)
        self.partitions.apply_pauses(self.consumer, self.partitions.of_topic(topic))

    def compared(self, asked: Mapping[str, str], found: Mapping[str, str], asked_at: float) -> None:
        """Hold the topics that have another id than the one `asked`, read on in those that have it.

        Of a doubtful topic without an answer nothing is taken until there is one.
        """
        for topic in asked.keys() & found.keys():
            if asked[topic] != found[topic]:
                self.hold([topic], topic_made_anew(topic, asked[topic], found[topic]))
        for runs in self.partitions.clear(self.consumer, [t for t in asked if found.get(t) == asked[t]], asked_at):
            self._hand_on(runs)
        unknown = asked.keys() - found.keys()
        doubted = [each for each in self.partitions.all() if each.key[0] in unknown and each.doubted_at is not None]
        self.partitions.suspect(self.consumer, doubted)

    def fetch_again(self, partition: Partition) -> None:
        """Seek a silent partition, or one that is paused for nothing, to its own position."""
        if self.partitions.current(partition.assignment) is partition and not self.partitions.is_to_pause(partition):
            partition.paused = True
            self.partitions.apply_pauses(self.consumer, [partition])

    def refresh_group_metadata(self) -> Any:
        """Take the group's metadata anew, for the transactional producer, and return it."""
        self.group_metadata = self.consumer.consumer_group_metadata()
        return self.group_metadata

    # -- trouble -----------------------------------------------------------------------------------------------------

    def _on_error(self, error: KafkaError, message: Any) -> None:
        code = error.code()
        if code == KafkaError._FATAL or error.fatal():  # noqa: SLF001 - it may say _FATAL and deny being fatal
            raise TransportFatal(
                f"the consumer can not go on: {error.str()}", hint="the supervisor starts the worker again"
            )
        if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise not_allowed(error, f"group {self.settings.group}")
        if code == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the same
            return
        partition = self.partitions.get((message.topic(), message.partition())) if message.topic() else None
        if code in _OUT_OF_RANGE and partition is not None:
            if self.partitions.is_out_of_range(partition, message.offset()):
                self.hold([partition.key[0]], self.partitions.trouble_of(self.consumer, partition))
            return
        if code in _SUSPECT and message.topic():
            self.partitions.suspect(self.consumer, self.partitions.of_topic(message.topic()))
            self.listener.suspected({message.topic()})
        event = "consumer_refused" if code in NOT_ALLOWED else "consumer_error"
        self.listener.report(event, {"error": str(error), "topic": message.topic() or ""})

    def hold(self, topics: Iterable[str], trouble: SourceMoved) -> None:
        """Stop reading `topics` until somebody decides. What is unfinished is lost; the old id stays committed."""
        anew = 0 if trouble.reason == TOPIC_MADE_ANEW else None  # the broker dropped its offsets: leave a mark
        for topic in topics:
            for partition in self.partitions.of_topic(topic):
                if partition.assignment.lane in self.partitions.going_on:  # a new life begins where its log does
                    hint = "the supervisor starts the worker again, and it reads on from where the log begins"
                    self._failure = self._failure or TransportFatal(trouble.message, hint=hint)
                    continue
                if partition.status is Status.HELD:
                    if anew is not None:  # that its offset lies outside of the log was how it showed first
                        partition.trouble = trouble
                    continue
                if partition.commits or anew is not None:  # else it could set back what a transaction committed
                    self.committer.want(partition, offset=partition.head or partition.assignment.committed or anew)
                self.partitions.hold(self.consumer, partition, trouble)
            self.listener.report("source_moved", {"topic": topic, "reason": trouble.message, "hint": trouble.hint})

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    # -- rebalances: inside poll() and consume(), on this thread -----------------------------------------------------

    def _on_assign(self, consumer: Consumer, parts: list[TopicPartition]) -> None:
        try:
            assigned = self.partitions.assign(consumer, [(each.topic, each.partition) for each in parts])
            self.refresh_group_metadata()
            self.listener.assigned(assigned)
        except BaseException as error:  # noqa: BLE001 - raised again behind poll(), where it ends the thread
            self._failure = error

    def _on_revoke(self, consumer: Consumer, parts: list[TopicPartition]) -> None:
        if self._closed:
            return
        try:
            if not self.give_up([(each.topic, each.partition) for each in parts]):
                self.listener.report("gave_up_unfinished", {"partitions": len(parts)})
        except BaseException as error:  # noqa: BLE001 - raised again behind poll(), where it ends the thread
            self._failure = error

    def _on_lost(self, consumer: Consumer, parts: list[TopicPartition]) -> None:
        try:
            self._forget([(each.topic, each.partition) for each in parts], lost=True)
        except BaseException as error:  # noqa: BLE001 - raised again behind poll(), where it ends the thread
            self._failure = error

    def give_up(self, keys: list[Key]) -> bool:
        """Give partitions back: drop what no step began, wait (bounded) for what was begun, commit, forget.

        Returns whether all of it was finished and committed.
        """
        mine = [partition for key in keys if (partition := self.partitions.get(key)) is not None]
        self.partitions.drop_unbegun(mine)
        self.listener.leaving([partition.assignment for partition in mine])
        begun = monotonic()
        while True:
            self.waking.clear()
            self.settle()
            if all(partition.drained for partition in mine):
                break
            if monotonic() - begun > (_CRASHED_DRAIN_SECONDS if self.crashed else self.settings.drain_seconds):
                break
            self.waking.wait(0.02)
        finished = all(partition.drained for partition in mine)
        committed = self.committer.commit_now(self.consumer, keys)
        self.partitions.undo_pauses(self.consumer, mine)  # a pause outlives unassign
        self._forget(keys, lost=False)
        return finished and committed

    def _forget(self, keys: list[Key], *, lost: bool) -> None:
        self._gone.update(keys)
        self.committer.forget(keys)
        assignments = self.partitions.forget(keys)
        if assignments:
            self.listener.left(assignments, lost=lost)
