"""The transactional writer: what it waits for is seen while it waits."""

import asyncio
import queue
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from connectors.transport import transaction
from connectors.transport.settings import ProducerSettings
from connectors.transport.transaction import TransactionalWriter
from schemas.errors import SourceUnavailable

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
