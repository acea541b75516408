"""The lake as a sink: batches of tables in, durable commits out, on a bounded pool, one commit per table at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog
from pyiceberg.catalog import Catalog

from schemas.config import LakeConfig
from schemas.errors import HeadgateError, TableStopped
from schemas.table import TableSpec
from sinks.base import Written
from sinks.lake.commit import LakeBatch, LakeTable
from sinks.lake.reasons import not_taken
from sinks.lake.storage import open_catalog
from sinks.lake.table import followed, open_table

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Lake:
    """The Iceberg tables of one warehouse, as one worker writes them. It is a `Sink[LakeBatch]`."""

    def __init__(self, config: LakeConfig, *, clock: Callable[[], float], threads: int = 2) -> None:
        self._config = config
        self._clock = clock
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="lake")
        self._opening = threading.Lock()
        self._catalog: Catalog | None = None
        self._tables: dict[str, tuple[TableSpec, LakeTable]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def open(self, spec: TableSpec, *, fresh: bool = False) -> LakeTable:
        """Return the table of `spec`, created or widened to it; `fresh` loads it anew although it is open.

        Raises:
            TableStopped: the lake's table cannot become what the spec says.
            SinkUnavailable: the catalogue or the storage does not answer.
        """
        async with self._lock(spec.table):
            return await self._run(lambda: self._open(spec, fresh=fresh), spec.table)

    async def write(self, batch: LakeBatch) -> Written:
        """Commit the batch and return once the table's snapshot holds it; the table must be open.

        Raises:
            OffsetsMoved: another worker has written its partitions; nothing was written.
            TableStopped: the table is not there any more, or has no column for one of the batch.
            SinkUnavailable: nothing is known of the batch; write the same one again.
        """
        async with self._lock(batch.table):
            _, table = self._tables[batch.table]
            return await self._run(lambda: _committed(table, batch), batch.table)

    async def close(self) -> None:
        """Give up the commits that wait; one that hangs in the storage ends by itself, and is fenced like any other."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        busy = any(lock.locked() for lock in self._locks.values())
        if self._catalog is not None and not busy:
            self._catalog.close()

    async def _run(self, work: Callable[[], T], table: str) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except HeadgateError:
            raise
        except Exception as exc:
            # Catalogues and file systems raise what they like; whatever it was, nothing is known of the write, and
            # writing it again is safe. The stage decides how long to go on.
            raise not_taken(table, exc) from exc

    def _open(self, spec: TableSpec, *, fresh: bool) -> LakeTable:
        known = self._tables.get(spec.table)
        if known is not None and known[0] == spec and (not fresh or _is_there(known[1], spec)):
            return known[1]
        config = self._config
        iceberg = open_table(self._connected(), config.namespace, spec, snapshots_kept=config.snapshots_kept)
        table = LakeTable(
            iceberg,
            snapshots_kept=config.snapshots_kept,
            sweep_grace_seconds=config.sweep_grace_seconds,
            clock=self._clock,
        )
        self._tables[spec.table] = (spec, table)
        return table

    def _connected(self) -> Catalog:
        with self._opening:
            if self._catalog is None:
                self._catalog = open_catalog(self._config)
            return self._catalog

    def _lock(self, table: str) -> asyncio.Lock:
        return self._locks.setdefault(table, asyncio.Lock())


def _is_there(table: LakeTable, spec: TableSpec) -> bool:
    """Load an open table anew; False where somebody has dropped it or moved it aside: it is made anew then."""
    try:
        table.load()
    except TableStopped:
        return False
    followed(table.iceberg, spec)  # somebody may have dropped a column
    return True


def _committed(table: LakeTable, batch: LakeBatch) -> Written:
    answer = table.commit(batch)
    try:
        table.sweep()
    except Exception as exc:  # noqa: BLE001 - decided here: the batch is durable, and what lies about is found again
        log.warning("lake.sweep_failed", table=batch.table, error=type(exc).__name__)
    return answer
