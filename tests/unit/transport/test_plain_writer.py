"""Writing without transactions, on the embedded broker."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from connectors.transport.chunk import Run
from connectors.transport.embedded import PARTITIONS, EmbeddedBroker
from connectors.transport.producer import Advance, Outbox, PlainWriter, Work
from connectors.transport.settings import ProducerSettings
from schemas.errors import SourceUnavailable
from tests.unit.transport.fakes import run_of


async def test_a_partition_that_the_client_does_not_know_yet_is_waited_for() -> None:
    """An output was enlarged a moment ago: the records are well, and do not belong in quarantine."""
    broker = EmbeddedBroker()
    broker.create_topics(["out"])
    writer = PlainWriter(ProducerSettings(bootstrap=broker.bootstrap))
    await writer.start()

    def write_to(partition: int) -> Work:
        def work(outbox: Outbox, _: Sequence[Run]) -> list[Advance]:
            outbox.produce("out", partition, None, b"v")
            return []

        return work

    report = await writer.write([run_of([0])], write_to(PARTITIONS - 1))
    with pytest.raises(SourceUnavailable, match="out"):
        await writer.write([run_of([1])], write_to(PARTITIONS))
    await writer.close()

    assert 1 == report.records
