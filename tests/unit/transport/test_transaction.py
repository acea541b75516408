"""The transactional writer: what it waits for is seen while it waits."""

import asyncio
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from connectors.transport import transaction
from connectors.transport.producer import Advance, Outbox
from connectors.transport.settings import ProducerSettings
from connectors.transport.transaction import TransactionalWriter
from connectors.transport.width import TransactionTooWide
from schemas.errors import SourceUnavailable, TransactionAborted, TransportFatal
from tests.unit.transport.fakes import run_of

SETTINGS = ProducerSettings(bootstrap="nowhere:1", transactional_id="normalize-a-0")


class Slow:
    """A producer whose first call to the broker times out, and whose next one is held until it is let go."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Begin held."""
        del settings
        self.calls = 0
        self.again, self.may_go = threading.Event(), threading.Event()

    def poll(self, seconds: float) -> int:
        """Hear nothing."""
        del seconds
        return 0

    def init_transactions(self, seconds: float) -> None:
        """Time out once, then return when it may."""
        self.calls += 1
        if self.calls == 1:
            error: Any = KafkaError(KafkaError._TIMED_OUT, "no answer", False, True)  # noqa: SLF001  its own form
            raise KafkaException(error)
        self.again.set()
        assert self.may_go.wait(seconds), "it was let go"


async def test_a_writer_whose_broker_does_not_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """For `status` as long as it waits, and once as an event."""
    made: queue.Queue[Slow] = queue.Queue()
    told: list[tuple[str, Mapping[str, object]]] = []

    def make(settings: Mapping[str, Any]) -> Slow:
        producer = Slow(settings)
        made.put(producer)
        return producer

    monkeypatch.setattr(transaction, "Producer", make)
    monkeypatch.setattr(transaction, "_AGAIN_SECONDS", 0.01)
    writer = TransactionalWriter(SETTINGS, NoGroup(), on_event=lambda event, fields: told.append((event, fields)))
    assert writer.waits_for() is None

    starting = asyncio.create_task(writer.start())
    producer = await asyncio.to_thread(made.get, timeout=30)
    assert await asyncio.to_thread(producer.again.wait, 30), "the call is repeated"
    waits = writer.waits_for()
    producer.may_go.set()
    await starting
    goes_on = writer.waits_for()
    await writer.close()

    assert isinstance(waits, SourceUnavailable)
    assert "a transaction waits for the broker: init: no answer" == waits.message
    assert goes_on is None
    assert [("transaction_waits", {"call": "init", "error": "no answer"})] == told


class NoGroup:
    """A consumer that has no group."""

    def group_metadata_now(self, *, fresh: bool = False) -> Any:
        """Return none."""
        del fresh


class Fencing:
    """A producer that the broker shuts out as it commits, if it is told to."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Begin as the owner."""
        del settings
        self.calls: list[str] = []
        self.is_fenced = self.is_refused = self.is_unknown = False

    def init_transactions(self, seconds: float) -> None:
        """Begin."""

    def poll(self, seconds: float) -> int:
        """Hear nothing."""
        del seconds
        return 0

    def begin_transaction(self) -> None:
        """Begin."""
        self.calls.append("begin")

    def produce(self, *record: Any) -> None:
        """Take a record, or refuse it as the client does of a topic that is gone."""
        if self.is_unknown:
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_TOPIC, "unknown topic"))  # noqa: SLF001  its own name
        self.calls.append(f"produce {record[0]}")

    def commit_transaction(self, seconds: float) -> None:
        """Refuse it, or not."""
        if self.is_fenced:
            error: Any = KafkaError(KafkaError._FENCED, "newer epoch", True)  # noqa: SLF001  its own form
            raise KafkaException(error)
        if self.is_refused:
            error = KafkaError(KafkaError._MSG_TIMED_OUT, "not delivered", False, False, True)  # noqa: SLF001  the same
            raise KafkaException(error)
        self.calls.append("commit")

    def abort_transaction(self, seconds: float) -> None:
        """Note it."""
        self.calls.append("abort")


async def _writer(
    monkeypatch: pytest.MonkeyPatch, timeout_seconds: float, *, refused_seconds: float = 10.0
) -> tuple[TransactionalWriter, Fencing]:
    producer = Fencing({})
    monkeypatch.setattr(transaction, "Producer", lambda _: producer)
    settings = ProducerSettings(
        bootstrap="nowhere:1",
        transactional_id="normalize-a-0",
        transaction_timeout_seconds=timeout_seconds,
        refused_seconds=refused_seconds,
    )
    writer = TransactionalWriter(settings, NoGroup())
    await writer.start()
    return writer, producer


def _to(partitions: int) -> Callable[[Outbox, Any], list[Advance]]:
    def work(outbox: Outbox, live: Any) -> list[Advance]:
        del live
        for number in range(partitions):
            outbox.produce("t", number, None, b"v")
        return []

    return work


@pytest.mark.parametrize(
    ("timeout_seconds", "says", "hint"),
    [
        (0.0, "fenced: a transaction over 7 output partitions was open for", "few partitions at first"),
        (600.0, "fenced: another worker has this slot: newer epoch", "starts the slot again"),
    ],
)
async def test_a_fenced_writer_says_whether_its_transaction_took_too_long(
    monkeypatch: pytest.MonkeyPatch, timeout_seconds: float, says: str, hint: str
) -> None:
    """Kafka says the same of both; what is to be done differs."""
    writer, producer = await _writer(monkeypatch, timeout_seconds)
    producer.is_fenced = True

    with pytest.raises(TransportFatal, match=says) as caught:
        await writer.write([run_of([1])], _to(7))
    await writer.close()

    assert hint in caught.value.hint


async def test_several_records_that_go_to_too_many_partitions_are_given_back_and_one_never_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of them is written; who cannot part them has them written as they are."""
    writer, producer = await _writer(monkeypatch, 600.0)
    most = writer.width.outputs_max

    with pytest.raises(TransactionTooWide):
        await writer.write([run_of([1, 2])], _to(most + 1), parted=True)
    refused, producer.calls = [call for call in producer.calls if not call.startswith("produce")], []
    reports = [
        await writer.write([run_of([1])], _to(most + 1), parted=True),
        await writer.write([run_of([1, 2])], _to(most), parted=True),
        await writer.write([run_of([1, 2])], _to(2 * most)),
    ]
    await writer.close()

    assert ["begin", "abort"] == refused
    assert [most + 1, most, 2 * most] == [report.partitions for report in reports]
    assert 3 == producer.calls.count("commit")


async def test_a_topic_that_the_client_refuses_by_itself_is_named_once_it_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is no delivery report of it: without its name its table could not be told from the others."""
    writer, producer = await _writer(monkeypatch, 600.0, refused_seconds=0.05)
    producer.is_unknown = True
    named: list[str | None] = []
    async with asyncio.timeout(30):
        while not any(named):
            with pytest.raises(TransactionAborted, match="unknown topic") as caught:
                await writer.write([run_of([1])], _to(1))
            named.append(caught.value.topic)
            await asyncio.sleep(0.01)
    producer.is_unknown = False
    await writer.write([run_of([1])], _to(1))
    producer.is_unknown = True
    with pytest.raises(TransactionAborted, match="unknown topic") as again:
        await writer.write([run_of([1])], _to(1))
    await writer.close()

    assert (None, "t", None) == (named[0], named[-1], again.value.topic)


@pytest.mark.parametrize(("timeout_seconds", "share"), [(0.0, 2), (600.0, 1)])
async def test_what_was_aborted_after_a_long_time_is_tried_again_narrower(
    monkeypatch: pytest.MonkeyPatch, timeout_seconds: float, share: int
) -> None:
    """The same group as often as it may be, it would take as long each time; one that was aborted at once stays."""
    writer, producer = await _writer(monkeypatch, timeout_seconds)
    producer.is_refused, before = True, writer.partitions_max()

    with pytest.raises(TransactionAborted, match="not delivered"):
        await writer.write([run_of([1])], _to(before))
    await writer.close()

    assert before // share == writer.partitions_max()
