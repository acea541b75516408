"""How verbs of the command line write many records: by transactions where there are any, each time all or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

from connectors.transport.producer import Outbox, plain_outbox
from connectors.transport.small_writes import SmallTransactions
from schemas.config import Config
from streams.settings import client_settings, is_transactional, producer_settings

BATCH_RECORDS, BATCH_BYTES = 200, 8 * 1024 * 1024  # of one transaction

T = TypeVar("T")


def small_writer(config: Config, slot: str) -> Callable[[], AbstractContextManager[Outbox]]:
    """Return what opens one write after the other; from here on nobody else writes under this slot's name.

    Raises:
        SourceUnavailable: the broker does not answer.
    """
    if is_transactional(config):
        return SmallTransactions(producer_settings(config, slot, transactional=True)).transaction
    return lambda: plain_outbox(client_settings(config), message_bytes_max=config.kafka.message_bytes_max)


def batches(those: Iterable[T], nbytes: Callable[[T], int], *, records: int = BATCH_RECORDS) -> Iterator[list[T]]:
    """Yield them in their order, as many at a time as one transaction should have."""
    batch: list[T] = []
    size = 0
    for each in those:
        batch.append(each)
        size += nbytes(each)
        if len(batch) == records or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
