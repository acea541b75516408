"""Writing to topics: the outbox that a stage's work fills, and the writer without transactions.

A record's size is checked before it is produced. A delivery that failed is never passed over: with `at_least_once`
the worker ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from connectors.transport.chunk import Assignment, Headers, Run
from connectors.transport.hearing import NOT_ALLOWED, made, not_allowed
from connectors.transport.lifeline import STATISTICS, Brokers, Hearing, cut_off, lifeline_of
from connectors.transport.refusals import Refusals
from connectors.transport.settings import ClientSettings, ProducerSettings
from connectors.transport.width import TransactionTooWide
from schemas.errors import RecordTooLarge, SourceUnavailable, TransportFatal
from schemas.failpoints import failpoint

RECORD_OVERHEAD_BYTES = (
    128  # of one record alone in a batch: batch header 61, lengths and timestamps, with room to spare
)
_HEADER_OVERHEAD_BYTES = 10
_FULL_SECONDS = 0.05
_FLUSH_SECONDS = 1.0
_SMALL_WRITE_SECONDS = 30.0
_ANY_PARTITION = -1


@dataclass(frozen=True, slots=True)
class Advance:
    """Up to where a write has read one partition, and the stage's own text to be committed beside it."""

    assignment: Assignment
    next_offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What one write did: output partitions touched, records, bytes before compression, and how long it took."""

    partitions: int
    records: int
    nbytes: int
    seconds: float
    advances: tuple[Advance, ...] = ()


# Fills the outbox from the runs that are still ours, on the writer's thread; called again after an abort.
Work = Callable[["Outbox", Sequence[Run]], Sequence[Advance]]


class Outbox:
    """Where a stage's work puts the records it wants written. Of one write, used by one thread."""

    __slots__ = ("_bytes_max", "_partitions_max", "_produce", "nbytes", "records", "touched")

    def __init__(self, produce: Callable[..., None], message_bytes_max: int, partitions_max: int | None = None) -> None:
        """Hand records to `produce`, its arguments in confluent-kafka's order, for so many partitions at most."""
        self._produce = produce
        self._partitions_max = partitions_max
        self._bytes_max = message_bytes_max
        self.records = 0
        self.nbytes = 0
        self.touched: set[tuple[str, int | None]] = set()

    def produce(
        self,
        topic: str,
        partition: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
    ) -> None:
        """Write one record; with `partition` None where its key belongs.

        Raises:
            RecordTooLarge: with its headers and overhead it is above `message_bytes_max`; nothing of it was written.
            TransactionTooWide: it goes to one partition more than allowed.
        """
        size = RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"") + _headers_bytes(headers or ())
        if size > self._bytes_max:
            raise _too_large(topic, size, self._bytes_max)
        if headers:
            self._produce(topic, value, key, _ANY_PARTITION if partition is None else partition, None, None, 0, headers)
        else:
            self._produce(topic, value, key, _ANY_PARTITION if partition is None else partition)
        self.records += 1
        self.nbytes += size
        self._touch(topic, partition)

    def produce_all(
        self, topic: str, partition: int, records: Sequence[tuple[bytes | None, bytes]], headers: Headers
    ) -> None:
        """Write the keys and values of `records`, in their order, to one partition, all with the same headers.

        Raises:
            RecordTooLarge: one is above `message_bytes_max`; those before it are in the outbox.
        """
        overhead = RECORD_OVERHEAD_BYTES + _headers_bytes(headers)
        produce, most, total = self._produce, self._bytes_max - overhead, 0
        for key, value in records:
            size = len(value) + (len(key) if key else 0)
            if size > most:
                raise _too_large(topic, size + overhead, self._bytes_max)
            produce(topic, value, key, partition, None, None, 0, headers)
            total += size
        self.records += len(records)
        self.nbytes += total + overhead * len(records)
        self._touch(topic, partition)

    def produce_each(
        self,
        topic: str,
        partition: int,
        records: Sequence[tuple[bytes | None, bytes]],
        headers: Sequence[Headers],
    ) -> None:
        """Write the keys and values of `records` as `produce_all` does, each with headers of its own.

        Raises:
            RecordTooLarge: one is above `message_bytes_max`; those before it are in the outbox.
        """
        for (key, value), of_record in zip(records, headers, strict=True):
            self.produce(topic, partition, key, value, of_record)

    def _touch(self, topic: str, partition: int | None) -> None:
        self.touched.add((topic, partition))
        if self._partitions_max is not None and len(self.touched) > self._partitions_max:
            raise TransactionTooWide(self._partitions_max)

    def room(self, headers: Headers) -> int:
        """Return how many bytes key and value of a record with these headers may take together."""
        return self._bytes_max - RECORD_OVERHEAD_BYTES - _headers_bytes(headers)

    def report(self, advances: Sequence[Advance], began: float) -> WriteReport:
        """Return what was written since `began`."""
        return WriteReport(len(self.touched), self.records, self.nbytes, monotonic() - began, tuple(advances))


def _headers_bytes(headers: Sequence[tuple[str, bytes | None]]) -> int:
    return sum([len(name) + len(text or b"") + _HEADER_OVERHEAD_BYTES for name, text in headers])


def _too_large(topic: str, size: int, most: int) -> RecordTooLarge:
    return RecordTooLarge(
        f"a record for {topic} takes {size} bytes, {most} are allowed",
        hint="raise kafka.message_bytes_max and the topic's max.message.bytes, or leave columns out",
        reason="output_too_large",
    )


def produce_into(producer: Producer, refused: Callable[[str, KafkaError], None] | None = None) -> Callable[..., None]:
    """Return a `produce` that waits while the producer's queue is full, in records or bytes.

    What the client refuses at once is told to `refused`, with its topic, and raised.
    """
    produce, poll = producer.produce, producer.poll

    def produce_or_wait(*record: Any) -> None:
        while True:
            try:
                produce(*record)
            except BufferError:
                poll(_FULL_SECONDS)
            except KafkaException as error:
                if refused is not None:
                    refused(record[0], error.args[0])
                raise
            else:
                return

    return produce_or_wait


class Deliveries:
    """The deliveries of one producer that failed; librdkafka tells them from within `poll` and `flush`."""

    def __init__(self) -> None:
        """Begin with none."""
        self.failures: list[tuple[str, KafkaError]] = []

    def failed(self, error: KafkaError | None, message: Any) -> None:
        """Take one delivery report."""
        if error is not None and len(self.failures) < 100:  # noqa: PLR2004 - the first ones say it
            self.failures.append((message.topic(), error))

    def take(self) -> list[tuple[str, KafkaError]]:
        """Return the failures since the last call."""
        taken, self.failures = self.failures, []
        return taken


class PlainWriter:
    """Writes without transactions: produce, flush, check every delivery. The caller then says `done`."""

    def __init__(self, settings: ProducerSettings) -> None:
        """Connect at `start`."""
        assert settings.transactional_id is None, "a transactional id belongs to a TransactionalWriter"
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, "plain-writer")
        self._deliveries = Deliveries()
        self._refusals = Refusals(settings.refused_seconds)
        self._brokers, self._lifeline = Brokers(), lifeline_of(settings.client)
        self._producer: Producer | None = None
        self._hearing = Hearing(self._thread, lambda: self._producer and self._producer.poll(0))
        self._closing = False

    async def start(self) -> None:
        """Make the producer; it connects by itself."""
        heard = {**STATISTICS, "stats_cb": self._brokers.hear, "on_delivery": self._deliveries.failed}
        settings = {**self._settings.librdkafka(), **heard}
        self._producer = made(lambda: Producer(settings))
        self._hearing.begin()

    async def close(self) -> None:
        """Stop waiting for deliveries, and let the thread go."""
        self._closing = True
        await self._hearing.end()
        await asyncio.to_thread(self._thread.shutdown)
        self._producer = None

    def waits_for(self) -> None:
        """Return what the writer waits for: nothing that its step does not tell."""

    def partitions_max(self) -> None:
        """Return how many output partitions a write may go to: nothing ends one that takes long."""

    async def write(self, runs: Sequence[Run], work: Work, *, parted: bool = False) -> WriteReport:
        """Write what `work` makes of those of `runs` that are still ours, and return once every record is durable.

        However many they are, they are not `parted`. What `work` raises is raised, and nothing of it is written.

        Raises:
            SourceUnavailable: the client does not know the partition yet. Write it again; some may be written twice. It
                names the topic once that has lasted.
            TransportFatal: a delivery failed. Going on would lose it.
        """
        del parted
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._write, runs, work)

    async def put(self, fill: Callable[[Outbox], None]) -> WriteReport:
        """Write what `fill` puts into an outbox, and return once every record is durable.

        What `fill` raises is raised, and nothing of it is written. Raises what `write` does.
        """

        def work(outbox: Outbox) -> Sequence[Advance]:
            fill(outbox)
            return ()

        return await asyncio.get_running_loop().run_in_executor(self._thread, self._put, work)

    def _write(self, runs: Sequence[Run], work: Work) -> WriteReport:
        live = [run for run in runs if not run.lost]
        return self._put(lambda outbox: work(outbox, live) if live else ())

    def _put(self, work: Callable[[Outbox], Sequence[Advance]]) -> WriteReport:
        assert self._producer is not None, "start() comes first"
        began = monotonic()
        records: list[tuple[Any, ...]] = []  # of one group: bounded by its lane's bytes
        outbox = Outbox(lambda *record: records.append(record), self._settings.message_bytes_max)
        advances = work(outbox)
        self._produce(records)
        failpoint("plain.before_flush")
        while len(self._producer) and not self._closing:
            self._producer.flush(_FLUSH_SECONDS)
            self._check()
            if self._lifeline.is_cut(self._brokers.alone_since):
                raise cut_off("the producer")
        self._check()
        if len(self._producer):
            raise TransportFatal(
                "closed with records that were not delivered", hint="they are written again by the next worker"
            )
        failpoint("plain.after_flush")
        self._refusals.written(topic for topic, _ in outbox.touched)
        return outbox.report(advances, began)

    def _produce(self, records: Sequence[tuple[Any, ...]]) -> None:
        assert self._producer is not None
        produce = produce_into(self._producer, self._refusals.note)
        for record in records:
            try:
                produce(*record)
            except KafkaException as error:  # of the client, not of the record: it must not end in quarantine
                cause = error.args[0]
                what = f"nothing can be written to {record[0]}: {cause.str()}"
                if cause.fatal():
                    raise TransportFatal(what, hint="the supervisor starts the worker again") from error
                topic = self._refusals.lasting(cause)
                hint = "is the topic there, with all its partitions?"
                raise SourceUnavailable(what, hint=hint, topic=topic) from error

    def _check(self) -> None:
        failures = self._deliveries.take()
        if failures:
            topic, error = failures[0]
            raise TransportFatal(
                f"{len(failures)} records were not delivered, the first to {topic}: {error.str()}",
                hint="the supervisor starts the worker again, which writes them again",
            )


@contextmanager
def plain_outbox(client: ClientSettings, *, message_bytes_max: int = 1024 * 1024) -> Iterator[Outbox]:
    """Give an outbox for a few records of the command line; leaving it returns once they are durable.

    Raises:
        SourceUnavailable: some were not delivered within 30 s. Send them again.
        ConfigurationError: this user may not write them.
    """
    deliveries = Deliveries()
    settings = ProducerSettings(
        bootstrap=client.bootstrap,
        security=client.security,
        client_id=client.client_id,
        message_bytes_max=message_bytes_max,
    )
    producer = made(lambda: Producer({**settings.librdkafka(), **client.overrides, "on_delivery": deliveries.failed}))
    try:
        yield Outbox(produce_into(producer), message_bytes_max)
        left = producer.flush(_SMALL_WRITE_SECONDS)
    except KafkaException as error:
        raise SourceUnavailable(f"not written: {error.args[0].str()}", hint="is the broker up?") from error
    failures = deliveries.take()
    if failures:
        topic, cause = failures[0]
        if cause.code() in NOT_ALLOWED:
            raise not_allowed(cause, f"writing to {topic}")
        raise SourceUnavailable(f"{topic}: {cause.str()}", hint="nothing is known of the records, send them again")
    if left:
        producer.purge()
        raise SourceUnavailable(f"{left} records were not delivered", hint="is the broker up? send them again")
