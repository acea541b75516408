"""What a worker of NORMALIZE found of its tables' columns, written beside their entries and then in force.

Promise: a topic that waits here is read again, from the record that it stopped at, once this worker decodes by a spec
that takes what was found; a broker that is away is waited for. Other tables go on meanwhile. What several partitions
find at once becomes one record, and a table that changes again and again waits a little longer each time, so that
more is found at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

import structlog

from schemas.errors import ConfigurationError, HeadgateError, TableStopped, Unavailable
from schemas.evolution import Evolved, Found, joined
from schemas.failpoints import failpoint
from streams.evolving import TableEvolves, named
from streams.tables import TableDirectory

REVISIONS_MAX = 1_000  # of one table by one worker: beyond it its source changes all the time, which no spec can follow
LATELY_SECONDS = 60.0
GATHER_SECONDS, GATHER_SECONDS_MAX = 0.25, 4.0
_LOOK_SECONDS = 0.05
_AGAIN_SECONDS, _AGAIN_SECONDS_MAX = 0.5, 8.0

log = structlog.get_logger("streams.evolutions")


class Consumer(Protocol):
    """What this asks of the transport."""

    async def pause(self, topic: str, reason: str | HeadgateError) -> None:
        """Read nothing of a topic until `resume`."""

    async def resume(self, topic: str) -> None:
        """Read a topic again, from its first unfinished offset."""


class Evolutions:
    """The columns that this worker found; `slot` names its records, `write` returns once one is durable."""

    def __init__(
        self,
        slot: str,
        tables: TableDirectory,
        consumer: Consumer,
        write: Callable[[Evolved], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Have found nothing; `tables` is followed by somebody else."""
        self._slot, self._tables, self._consumer, self._write, self._clock = slot, tables, consumer, write, clock
        self._found: dict[str, Mapping[str, list[Found]]] = {}
        self._topics: defaultdict[str, set[str]] = defaultdict(set)
        self._lately: defaultdict[str, deque[float]] = defaultdict(deque)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, topic: str, stop: TableEvolves) -> None:
        """Have a table take up what was found, and then its paused topic be read again; returns at once."""
        self._topics[stop.table].add(topic)
        self._take(stop)

    async def take_up(self, stop: TableEvolves) -> None:
        """Have a table take up what was found, and return once it has, or cannot."""
        await asyncio.shield(self._take(stop))

    def _take(self, stop: TableEvolves) -> asyncio.Task[None]:
        table, columns = stop.table, {name: [found] for name, found in stop.columns.items()}
        self._found[table] = joined(self._found.get(table, {}), columns)
        task = self._tasks.get(table)
        if task is None or task.done():
            task = self._tasks[table] = asyncio.get_running_loop().create_task(self._evolve(table))
        return task

    async def close(self) -> None:
        """Let go of what is under way: whoever reads those records next finds it again."""
        tasks = [task for task in self._tasks.values() if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _evolve(self, table: str) -> None:
        """Take up what was found until nothing is left; what comes meanwhile comes round once more."""
        await asyncio.sleep(self._gathering(table))
        while table in self._found or table in self._topics:
            stop = await self._all_in_force(table)
            for topic in sorted(self._topics.pop(table, set())):
                if stop is not None:
                    await self._consumer.pause(topic, stop)
                elif not any(topic in others for others in self._topics.values()):
                    await self._consumer.resume(topic)

    async def _all_in_force(self, table: str) -> TableStopped | None:
        """Take up what was found; return why the table has to wait for somebody instead, None if it may go on."""
        try:
            while table in self._found:
                await self._put_in_force(table)
        except HeadgateError as error:
            why, hint = error.message, error.hint
        except Exception as error:  # the table's pause says it, and whoever resumes the table has it tried again
            log.exception("cannot_evolve", table=table)
            why, hint = type(error).__name__, "look at the worker's log"
        else:
            return None
        self._found.pop(table, None)
        return TableStopped("cannot_evolve", f"{table} cannot take up columns: {why}", hint=hint)

    def _gathering(self, table: str) -> float:
        """Return how long to wait for more: not at all at first, then ever longer."""
        lately, now = self._lately[table], self._clock()
        while lately and lately[0] < now - LATELY_SECONDS:
            lately.popleft()
        before = len(lately)
        lately.append(now)
        return min(GATHER_SECONDS * float((1 << min(before, 10)) - 1), GATHER_SECONDS_MAX)

    async def _put_in_force(self, table: str) -> None:
        """Write what was found, and return once this worker's own tables have it."""
        found = self._found.pop(table)
        own = self._tables.evolved(table).get(self._slot)
        since = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        news = {name: [each.model_copy(update={"since": since}) for each in some] for name, some in found.items()}
        columns = joined(own.columns if own else {}, news)
        revision = own.revision + 1 if own else 1
        if table not in self._tables or (own and columns == own.columns):
            return
        if revision > REVISIONS_MAX:
            raise ConfigurationError(
                f"this worker has changed it {REVISIONS_MAX} times",
                hint="its source has other columns all the time: set unknown_columns and type_changes to quarantine",
            )
        failpoint("evolutions.before_write")
        await self._written(Evolved(table=table, slot=self._slot, revision=revision, columns=columns))
        failpoint("evolutions.after_write")
        # A removed table has nothing to wait for.
        while table in self._tables and not self._has(table, revision):  # noqa: ASYNC110 - the tables tell nobody
            await asyncio.sleep(_LOOK_SECONDS)
        if (entry := self._tables.get(table)) is not None:
            said = named({name: one for name, some in found.items() for one in some})
            log.info("table_evolved", table=table, columns=said, schema_version=entry.schema_version)

    def _has(self, table: str, revision: int) -> bool:
        own = self._tables.evolved(table).get(self._slot)
        return own is not None and own.revision >= revision

    async def _written(self, evolved: Evolved) -> None:
        seconds = _AGAIN_SECONDS
        while True:
            try:
                await _on_a_thread(lambda: self._write(evolved))
            except Unavailable as error:
                log.warning("waiting_to_evolve", table=evolved.table, error=error.message, hint=error.hint)
                await asyncio.sleep(seconds)
                seconds = min(seconds * 2, _AGAIN_SECONDS_MAX)
            else:
                return


async def _on_a_thread(call: Callable[[], None]) -> None:
    """Call on a thread that the end of the process does not wait for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def answer(error: BaseException | None) -> None:
        if not done.done():
            done.set_exception(error) if error is not None else done.set_result(None)

    def work() -> None:
        error: BaseException | None = None
        try:
            call()
        except BaseException as raised:  # noqa: BLE001 - whoever waits decides
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(answer, error)

    threading.Thread(target=work, name="evolutions", daemon=True).start()
    await done
