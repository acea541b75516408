"""A client that never comes back from a call, whatever time-out it was given: the worker must not wait for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.transport import transaction
from connectors.transport.producer import Advance
from connectors.transport.settings import ProducerSettings
from connectors.transport.transaction import TransactionalWriter
from schemas.errors import TransportFatal
from tests.unit.transport.fakes import run_of


class Hanging:
    """A producer whose offsets are never taken, until the test is over."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.calls: list[str] = []

    def init_transactions(self, seconds: float) -> None:
        self.calls.append("init")

    def begin_transaction(self) -> None:
        self.calls.append("begin")

    def produce(self, *record: Any) -> None:
        raise AssertionError(record)

    def poll(self, seconds: float) -> None:
        raise AssertionError(seconds)

    def send_offsets_to_transaction(self, offsets: Any, metadata: Any, seconds: float) -> None:
        self.calls.append("offsets")
        self.over.wait()

    def commit_transaction(self, seconds: float) -> None:
        self.calls.append("commit")


class NoGroup:
    """A consumer without a group."""

    def group_metadata_now(self, *, fresh: bool = False) -> Any:
        return None


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    """The producer that every writer of this test gets."""
    hanging = Hanging()
    monkeypatch.setattr(transaction, "Producer", lambda _: hanging)
    monkeypatch.setattr(transaction, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(transaction, "_BEYOND_SECONDS", 0.01)
    yield hanging
    hanging.over.set()


async def test_a_call_that_outlives_its_transaction_ends_the_worker(producer: Hanging) -> None:
    """And closing does not wait for it either."""
    settings = ProducerSettings(bootstrap="nowhere:1", transactional_id="slot", transaction_timeout_seconds=0.05)
    writer = TransactionalWriter(settings, NoGroup())
    await writer.start()
    run = run_of([4, 5])

    with pytest.raises(TransportFatal, match="does not come back"):
        await asyncio.wait_for(writer.write([run], lambda _, live: [Advance(live[0].assignment, 6)]), 30)
    await asyncio.wait_for(writer.close(), 30)

    assert ["init", "begin", "offsets"] == producer.calls


async def test_a_call_that_comes_back_in_time_is_waited_for(producer: Hanging) -> None:
    """However often it is looked at meanwhile."""
    settings = ProducerSettings(bootstrap="nowhere:1", transactional_id="slot")
    writer = TransactionalWriter(settings, NoGroup())
    await writer.start()
    run = run_of([4, 5])
    asyncio.get_running_loop().call_later(0.1, producer.over.set)
    report = await writer.write([run], lambda _, live: [Advance(live[0].assignment, 6)])
    await writer.close()

    assert [6] == [advance.next_offset for advance in report.advances]
    assert ["init", "begin", "offsets", "commit"] == producer.calls
