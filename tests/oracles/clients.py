"""Clients of the broker for oracles: kafka-python's, which share no code with the product's own."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer

FETCH_BYTES_MAX = 64 * 1024 * 1024


@contextmanager
def independent_consumer(bootstrap: str, **settings: Any) -> Iterator[Any]:
    """Give a consumer of committed records that commits nothing itself; it is closed and gone afterwards."""
    ours = {
        "bootstrap_servers": bootstrap,
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "max_partition_fetch_bytes": FETCH_BYTES_MAX,
        "fetch_max_bytes": FETCH_BYTES_MAX,
        "receive_message_max_bytes": 2 * FETCH_BYTES_MAX,
    }
    consumer = KafkaConsumer(**{**ours, **settings})
    try:
        yield weakref.proxy(consumer)  # so that nobody else keeps it
    finally:
        consumer.close()
        del consumer
        _collect_sockets()


@contextmanager
def independent_admin(bootstrap: str) -> Iterator[Any]:
    """Give an administration client; it is closed and gone afterwards."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        yield weakref.proxy(admin)
    finally:
        admin.close()
        del admin
        _collect_sockets()


def _collect_sockets() -> None:
    """Collect at once what a client left behind: later, its warning would fail whatever test runs then.

    kafka-python 3.0 leaves a socket open where it is closed while a request is being written or a connection made.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
