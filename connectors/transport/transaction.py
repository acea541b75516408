"""Outputs and input offsets in one Kafka transaction (KIP-447), by one producer with one thread of its own.

The group's metadata is taken first, then what is still live: a rebalance in between makes the broker refuse the
offsets, and the whole transaction with them. Nothing is rewound after an abort: the chunk is still in memory.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, NoReturn, Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from connectors.transport.chunk import Run
from connectors.transport.commit_metadata import CommitMetadata
from connectors.transport.hearing import RIGHTS_HINT, made
from connectors.transport.lifeline import STATISTICS, Brokers, Hearing, cut_off, lifeline_of
from connectors.transport.producer import Advance, Deliveries, Outbox, Work, WriteReport, produce_into
from connectors.transport.refusals import TOPIC_AT_FAULT, Refusals
from connectors.transport.settings import ProducerSettings
from connectors.transport.width import Width
from schemas.errors import ConfigurationError, SourceUnavailable, TransactionAborted, TransportFatal
from schemas.failpoints import failpoint

T = TypeVar("T")
Report = Callable[[str, Mapping[str, object]], None]

_AGAIN_SECONDS = 0.5
_AGAIN_SECONDS_MAX = 5.0
_LOOK_SECONDS = 1.0
_BEYOND_SECONDS = 5.0
_FENCED = frozenset(
    {
        KafkaError._FENCED,  # noqa: SLF001 - confluent-kafka's public names of local errors begin so
        KafkaError._FATAL,  # noqa: SLF001 - the same
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
    },
)
_NOT_ALLOWED = frozenset({KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED})


class GroupMetadata(Protocol):
    """The consumer, as far as a transaction needs it."""

    def group_metadata_now(self, *, fresh: bool = False) -> Any:
        """Return the group's metadata, as last known or asked for anew."""


class TransactionalWriter:
    """One transactional producer of one worker's slot."""

    def __init__(self, settings: ProducerSettings, consumer: GroupMetadata, *, on_event: Report | None = None) -> None:
        """Connect at `start`; `settings` names the slot's stable transactional id."""
        assert settings.transactional_id is not None, "a transaction needs a transactional id"
        self.aborts_total = 0
        self.transactions_total = 0
        self.waiting = ""  # why the writer does not go on, for `status`
        self.width = Width(settings.transaction_timeout_seconds)
        self._settings = settings
        self._consumer = consumer
        self._on_event = on_event
        self._thread = ThreadPoolExecutor(1, "transactions")
        self._deliveries = Deliveries()
        self._refusals = Refusals(settings.refused_seconds)
        self._brokers, self._lifeline = Brokers(), lifeline_of(settings.client)
        self._producer: Producer | None = None
        self._hearing = Hearing(self._thread, lambda: self._producer and self._producer.poll(0))
        self._closing = threading.Event()
        self._metadata_refused = False
        self._offsets_since: float | None = None  # when the call began that is under way

    async def start(self) -> None:
        """Return once the broker has ended what a dead predecessor of this slot left open, and fenced it off.

        A broker that is away is waited for.

        Raises:
            TransportFatal: it cannot be.
            ConfigurationError: the broker does not allow this transactional id.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._start)
        self._hearing.begin()

    async def close(self) -> None:
        """End the thread; a transaction under way comes to its end first, unless the broker is away."""
        self._closing.set()
        await self._hearing.end()
        await asyncio.to_thread(self._thread.shutdown, wait=not self._hangs())
        self._producer = None

    def waits_for(self) -> SourceUnavailable | None:
        """Return what the writer waits for, None where it goes on."""
        if not (waiting := self.waiting):
            return None
        return SourceUnavailable(f"a transaction waits for the broker: {waiting}", hint="it goes on by itself")

    def partitions_max(self) -> int:
        """Return how many output partitions the next transaction may go to."""
        return self.width.partitions

    async def write(self, runs: Sequence[Run], work: Work, *, parted: bool = False) -> WriteReport:
        """Write what `work` makes of those of `runs` that are still ours together with its advances, or nothing at all.

        What `work` raises is raised, after an abort. With `parted` the caller comes again with parts of `runs` where
        they are too many; one record is never.

        Raises:
            TransactionAborted: nothing was written; it names the topic at fault if there is one. Try again: one that
                the client refuses by itself is named once that has lasted.
            TransactionTooWide: nothing was written, `runs` have several records, and are to be parted.
            TransportFatal: the worker must end: fenced, or a state that cannot be known.
        """
        return await self._answer(
            asyncio.get_running_loop().run_in_executor(self._thread, self._write, runs, work, parted)
        )

    async def stand(self, advances: Sequence[Advance]) -> None:
        """Commit where the group stands, in a transaction that writes nothing else; raises what `write` does."""
        await self._answer(asyncio.get_running_loop().run_in_executor(self._thread, self._stand, advances))

    async def _answer(self, writing: asyncio.Future[T]) -> T:
        try:
            while not (await asyncio.wait([writing], timeout=_LOOK_SECONDS))[0]:
                if self._hangs():
                    raise TransportFatal(
                        "the client does not come back from handing over offsets, and the transaction is over",
                        hint="the supervisor starts the worker again, which does it again",
                    )
        except asyncio.CancelledError:
            writing.cancel()
            raise
        return writing.result()

    def _hangs(self) -> bool:
        """Say whether librdkafka has forgotten its time-out, as it may where a coordinator goes (librdkafka #5456).

        The broker has aborted the transaction by then: the call can no longer come to anything.
        """
        since = self._offsets_since
        return since is not None and monotonic() - since > self._settings.transaction_timeout_seconds + _BEYOND_SECONDS

    # -- on the writer's thread --------------------------------------------------------------------------------------

    def _start(self) -> None:
        heard = {**STATISTICS, "stats_cb": self._brokers.hear, "on_delivery": self._deliveries.failed}
        settings = {**self._settings.librdkafka(), **heard}
        producer = self._producer = made(lambda: Producer(settings))
        try:
            self._until_known("init", lambda: producer.init_transactions(self._settings.request_seconds))
        except KafkaException as error:
            cause = error.args[0]
            if cause.code() in _NOT_ALLOWED:
                raise ConfigurationError(
                    f"transactional id {self._settings.transactional_id}: {cause.str()}",
                    hint=f"{RIGHTS_HINT}; or set kafka.guarantee: at_least_once",
                ) from error
            raise _fatal("the transactional producer cannot start", cause) from error

    def _write(self, runs: Sequence[Run], work: Work, parted: bool) -> WriteReport:  # noqa: FBT001 - as `write` has it
        assert self._producer is not None, "start() comes first"
        metadata = self._group_metadata()
        live = [run for run in runs if not run.lost]
        most = self.width.outputs_max if parted and sum(map(len, live)) > 1 else None
        produce = produce_into(self._producer, self._refusals.note)
        outbox = Outbox(produce, self._settings.message_bytes_max, most)
        if not live:
            return outbox.report((), monotonic())
        began = monotonic()
        advances = self._through(lambda: list(work(outbox, live)), metadata, outbox.touched)
        self._refusals.written(topic for topic, _ in outbox.touched)
        report = outbox.report(advances, began)
        self.width.took(report.partitions, report.seconds)
        return report

    def _stand(self, advances: Sequence[Advance]) -> None:
        self._through(lambda: advances, self._group_metadata())

    def _through(
        self, fill: Callable[[], Sequence[Advance]], metadata: Any, touched: Collection[Any] = ()
    ) -> Sequence[Advance]:
        """Return what `fill` returns, once that is committed with what it wrote to the partitions in `touched`."""
        began = monotonic()
        self._begin()
        try:
            advances = fill()
            self._commit(advances, metadata)
        except KafkaException as error:
            self._abort_because(error, len(touched), monotonic() - began)
        except BaseException:
            self._abort()
            raise
        self.transactions_total += 1
        return advances

    def _group_metadata(self) -> Any:
        try:
            metadata = self._consumer.group_metadata_now(fresh=self._metadata_refused)
        except Exception as error:
            raise SourceUnavailable("the consumer's thread does not answer", hint="is the worker ending?") from error
        self._metadata_refused = False
        return metadata

    def _begin(self) -> None:
        assert self._producer is not None
        self._deliveries.take()
        try:
            self._producer.begin_transaction()
        except KafkaException as error:
            raise _fatal("a transaction cannot begin", error.args[0]) from error

    def _commit(self, advances: Sequence[Advance], metadata: Any) -> None:
        assert self._producer is not None
        producer, seconds = self._producer, self._settings.request_seconds
        lost = [each.assignment for each in advances if each.assignment.lost]
        if lost:
            raise TransactionAborted(f"{lost[0]!r} left in the middle of a transaction", hint="its next owner does it")
        offsets = [offset_of(each) for each in advances]
        if offsets:
            failpoint("transaction.before_offsets")
            self._until_known("offsets", lambda: self._send_offsets(offsets, metadata))
        failpoint("transaction.before_commit")
        self._until_known("commit", lambda: producer.commit_transaction(seconds))
        failpoint("transaction.after_commit")

    def _send_offsets(self, offsets: Sequence[TopicPartition], metadata: Any) -> None:
        assert self._producer is not None
        self._offsets_since = monotonic()
        try:
            self._producer.send_offsets_to_transaction(list(offsets), metadata, self._settings.request_seconds)
        finally:
            self._offsets_since = None

    def _until_known(self, what: str, call: Callable[[], object]) -> None:
        """Repeat a call for as long as librdkafka says that it can be: until then its outcome is not known."""
        wait = _AGAIN_SECONDS
        try:
            while True:
                try:
                    call()
                except KafkaException as error:
                    cause = error.args[0]
                    if not cause.retriable() or cause.txn_requires_abort() or cause.fatal():
                        raise
                    self._say_waiting(what, cause)
                    self._check_brokers()
                    if self._closing.wait(wait):
                        raise _fatal(f"closed while the broker did not answer ({what})", cause) from error
                    wait = min(wait * 2, _AGAIN_SECONDS_MAX)
                else:
                    return
        finally:
            self.waiting = ""

    def _check_brokers(self) -> None:
        assert self._producer is not None
        self._producer.poll(0)  # statistics are heard in it
        if self._lifeline.is_cut(self._brokers.alone_since):
            raise cut_off("the producer")

    def _say_waiting(self, what: str, cause: KafkaError) -> None:
        if not self.waiting and self._on_event is not None:
            self._on_event("transaction_waits", {"call": what, "error": cause.str()})
        self.waiting = f"{what}: {cause.str()}"

    def _abort_because(self, error: KafkaException, partitions: int, seconds: float) -> NoReturn:
        cause = error.args[0]
        if cause.fatal() or cause.code() in _FENCED:
            raise _fenced(cause, partitions, seconds, self._settings.transaction_timeout_seconds) from error
        self.width.took(0, seconds)  # a long one is tried again narrower; that this was short says nothing
        self._metadata_refused = True  # the refusal may be of the group's generation: ask for it anew
        failures = self._deliveries.take()
        self._abort()
        failures += self._deliveries.take()
        named = (name for name, failure in failures if failure.code() in TOPIC_AT_FAULT)
        topic = next(named, None) or self._refusals.lasting(cause)
        why = next((failure.str() for name, failure in failures if name == topic), cause.str())
        raise TransactionAborted(f"the transaction was aborted: {why}", topic=topic, hint=_hint(topic)) from error

    def _abort(self) -> None:
        assert self._producer is not None
        producer = self._producer
        self.aborts_total += 1
        try:
            self._until_known("abort", lambda: producer.abort_transaction(self._settings.request_seconds))
        except KafkaException as error:
            raise _fatal("a transaction could not be aborted", error.args[0]) from error


def offset_of(advance: Advance) -> TopicPartition:
    """Return what is committed of an advance."""
    mine = advance.assignment
    text = CommitMetadata(mine.topic_id, mine.generation, advance.metadata).text()
    return TopicPartition(mine.topic, mine.partition, advance.next_offset, text)


def _hint(topic: str | None) -> str:
    return (
        f"look at topic {topic}: does it exist, may this client write to it, how large may a record be?"
        if topic
        else ""
    )


def _fenced(cause: KafkaError, partitions: int, seconds: float, timeout_seconds: float) -> TransportFatal:
    """Return why the producer is shut out, by how long its transaction was open: Kafka says the same of both."""
    if seconds < timeout_seconds:
        return _fatal("fenced: another worker has this slot", cause)
    return TransportFatal(
        f"fenced: a transaction over {partitions} output partitions was open for {seconds:.1f} s, the broker ends one "
        f"after {timeout_seconds:g} s: {cause.str()}",
        hint="the worker ends; started again, its transactions go to few partitions at first. If it comes again, the "
        "broker is too slow: look at its load and disks",
    )


def _fatal(what: str, cause: KafkaError) -> TransportFatal:
    return TransportFatal(f"{what}: {cause.str()}", hint="the worker ends, its supervisor starts the slot again")


__all__ = ["Advance", "GroupMetadata", "Outbox", "TransactionalWriter", "Work", "WriteReport"]
