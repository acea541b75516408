"""Small writes of the command line, some records at a time, each time all of them or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException, Producer

from connectors.transport.answers import translated
from connectors.transport.hearing import made
from connectors.transport.producer import Deliveries, Outbox, produce_into
from connectors.transport.settings import ProducerSettings
from schemas.errors import SourceUnavailable

_SECONDS = 30.0
_OVERTAKEN = frozenset(
    {
        KafkaError._FENCED,  # noqa: SLF001 - confluent-kafka's public names of local errors begin so
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
    },
)


class Overtaken(SourceUnavailable):
    """Somebody else has begun to write under the same id since: nothing was written."""


class SmallTransactions:
    """Transactions of one producer. Whoever opens another one under the same id ends this one's right to write."""

    def __init__(self, settings: ProducerSettings) -> None:
        """Fence off whoever came before under the same transactional id, and end what it left open.

        Raises:
            SourceUnavailable: the broker does not answer.
            ConfigurationError: it refuses to.
        """
        assert settings.transactional_id is not None, "a transaction needs a transactional id"
        self._bytes_max = settings.message_bytes_max
        self._deliveries = Deliveries()
        self._producer = made(lambda: Producer({**settings.librdkafka(), "on_delivery": self._deliveries.failed}))
        try:
            self._producer.init_transactions(_SECONDS)
        except KafkaException as error:
            raise translated(error.args[0], f"transactional id {settings.transactional_id}") from error

    @contextmanager
    def transaction(self) -> Iterator[Outbox]:
        """Give an outbox; leaving it returns once all of it can be read, or raises, and then none of it can.

        Raises:
            Overtaken: somebody else has begun to write under the same id.
            SourceUnavailable: it was not written.
        """
        producer = self._producer
        try:
            producer.begin_transaction()
            try:
                yield Outbox(produce_into(producer), self._bytes_max)
            except BaseException:  # not ours to decide: only that nothing of it is written
                producer.abort_transaction(_SECONDS)
                raise
            producer.commit_transaction(_SECONDS)
        except KafkaException as error:
            kind = Overtaken if error.args[0].code() in _OVERTAKEN else SourceUnavailable
            raise kind(
                f"not written: {error.args[0].str()}",
                hint="does the broker answer, and does nobody else do the same? Do it again: what is done is known",
            ) from error
