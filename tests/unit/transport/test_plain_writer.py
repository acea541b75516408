"""Writing without transactions, on the embedded broker."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from connectors.transport import lifeline, producer
from connectors.transport.chunk import Run
from connectors.transport.embedded import PARTITIONS, EmbeddedBroker, Record
from connectors.transport.producer import Advance, Outbox, PlainWriter, Work
from connectors.transport.settings import ProducerSettings
from schemas.errors import RecordTooLarge, SourceUnavailable
from tests.unit.transport.fakes import run_of


async def test_a_partition_that_the_client_does_not_know_yet_is_waited_for() -> None:
    """An output was enlarged a moment ago: the records are well, and do not belong in quarantine."""
    broker = EmbeddedBroker()
    broker.create_topics(["out"])
    writer = PlainWriter(ProducerSettings(bootstrap=broker.bootstrap, refused_seconds=3_600.0))
    await writer.start()

    def write_to(partition: int) -> Work:
        def work(outbox: Outbox, _: Sequence[Run]) -> list[Advance]:
            outbox.produce("out", partition, None, b"v")
            return []

        return work

    report = await writer.write([run_of([0])], write_to(PARTITIONS - 1))
    with pytest.raises(SourceUnavailable, match="out") as caught:
        await writer.write([run_of([1])], write_to(PARTITIONS))
    await writer.close()

    assert (1, None) == (report.records, caught.value.topic)


async def test_a_partition_that_the_client_never_comes_to_know_is_its_topic_s_fault() -> None:
    """It was made anew with fewer: who writes has to look for it again."""
    broker = EmbeddedBroker()
    broker.create_topics(["out"])
    writer = PlainWriter(ProducerSettings(bootstrap=broker.bootstrap, refused_seconds=0.0))
    await writer.start()

    await writer.put(lambda outbox: outbox.produce("out", 0, None, b"v"))  # so that it is known
    with pytest.raises(SourceUnavailable) as caught:
        await writer.put(lambda outbox: outbox.produce("out", PARTITIONS, None, b"v"))
    await writer.close()

    assert "out" == caught.value.topic


async def test_what_comes_from_no_run_is_written_too_or_nothing_of_it() -> None:
    """Durable when it returns; an error in the filling writes nothing, and the next one is well."""
    broker = EmbeddedBroker()
    broker.create_topics(["out"])
    writer = PlainWriter(ProducerSettings(bootstrap=broker.bootstrap, message_bytes_max=10_000))
    await writer.start()

    def fill(outbox: Outbox) -> None:
        outbox.produce("out", 0, b"k", b"v", [("view", b"name")])
        outbox.produce("out", 1, b"k", b"v")

    def overflow(outbox: Outbox) -> None:
        fill(outbox)
        outbox.produce("out", 0, b"k", b"v" * 10_000)

    with pytest.raises(RecordTooLarge):
        await writer.put(overflow)
    report = await writer.put(fill)
    await writer.close()

    reader, read = broker.reader(["out"]), list[Record]()
    ends_at = time.monotonic() + 30
    while len(read) < 2 and time.monotonic() < ends_at:  # the first answers may be empty: it has to connect
        read += reader.read(0.5)
    read += reader.read(0.5)  # and nothing more
    reader.close()
    assert 2 == report.records == len(read)


async def test_a_writer_that_has_nothing_to_write_hears_its_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come every five seconds, and would pile up in the client: two kilobytes a second, for ever."""
    heard, thrice = list[str](), threading.Event()

    def hear(_: lifeline.Brokers, text: str) -> None:
        heard.append(text)
        if len(heard) == 3:
            thrice.set()

    monkeypatch.setattr(lifeline, "HEAR_SECONDS", 0.02)
    monkeypatch.setattr(producer, "STATISTICS", {"statistics.interval.ms": 20})
    monkeypatch.setattr(lifeline.Brokers, "hear", hear)
    broker = EmbeddedBroker()
    writer = PlainWriter(ProducerSettings(bootstrap=broker.bootstrap))
    await writer.start()

    assert await asyncio.to_thread(thrice.wait, 20)
    await writer.close()
