"""A lane: the chunks that wait for one step, and how they are gathered into groups. Lives on the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic

from connectors.transport.chunk import Assignment, Chunk, Run
from connectors.transport.history import Decided, Keeps
from connectors.transport.ladder import Ladder, OnPoison
from connectors.transport.rates import LimitOf
from schemas.errors import ConfigurationError, SourceMoved

MIB = 1024 * 1024

# Where to begin, or why not; an absent one begins at the committed offset.
Starts = Callable[[list[Assignment]], Awaitable[Mapping[Assignment, "int | SourceMoved"]]]
# Behind what a partition's records are done, as the stage itself keeps it; an absent one has none that it knows of.
Regains = Callable[[list[Assignment]], Awaitable[Mapping[Assignment, int]]]
OnAssignments = Callable[[list[Assignment]], Awaitable[None]]

FIRST_STARTS = ("earliest", "latest")


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneSettings:
    """Limits and hooks of one lane."""

    bytes_max: int = 16 * MIB
    group_records_max: int | Callable[[], int] = 2_000
    group_partitions_max: Callable[[], int | None] | None = None  # how many a group's runs may be of
    group_wait: float | Callable[[], float] = 0.0  # seconds to gather more before a group is begun
    start: str = "earliest"  # where a partition without a committed offset begins
    commits: bool = True  # False: offsets go with a transaction of the stage
    transactional: bool = False  # its topics are written by transactions only: behind the last record stands a marker
    on_poison: OnPoison | None = None
    starts: Starts | None = None
    regains: Regains | None = None  # asked where Kafka has dropped the offset of a partition that was read before
    book: Keeps | None = None  # what is kept of partitions that were begun, where the stage keeps it nowhere else
    decided: Decided | None = None  # what somebody decided about a topic that is not as it was
    goes_on: bool = False  # where a topic moved nobody has to decide: it is read from where its log begins, and said
    loads: str = ""  # the lane of its partitions that are far behind, with the same step
    limit_of: LimitOf | None = None  # those over it go there, too
    rereads: bool = False  # a decision moves also partitions that can be read on where they stand
    on_leaving: OnAssignments | None = None  # partitions are about to leave: finish or give up what was begun
    on_left: OnAssignments | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigurationError: naming the setting.
        """
        if self.start not in FIRST_STARTS:
            raise ConfigurationError(f"start: {self.start}", hint="earliest or latest")
        if self.bytes_max <= 0:
            raise ConfigurationError(f"bytes_max of a lane is {self.bytes_max}", hint="it must be above 0")


class Lane:
    """One step's chunks, from the consumer to the end of the step."""

    def __init__(self, name: str, settings: LaneSettings, ladder: Ladder, lock: threading.Lock) -> None:
        """Hold nothing yet; `lock` is what the owning thread takes to drop what was not begun."""
        self.name = name
        self.settings = settings
        self.ladder = ladder
        self.something = asyncio.Event()
        self.records_total = 0
        self.arrived_total = 0  # records, worked on or not
        self.groups_total = 0
        self._lock = lock
        self._waiting: deque[Chunk] = deque()  # bounded by the lane's bytes
        self._waiting_records = 0
        self._waiting_bytes = 0
        self._cut = False  # what waits was gathered already

    def receive(self, chunk: Chunk) -> None:
        """Take a chunk from the consumer."""
        self._waiting.append(chunk)
        self.arrived_total += chunk.records
        self._waiting_records += chunk.records
        self._waiting_bytes += chunk.nbytes
        self.something.set()

    async def work(self) -> None:
        """Work on groups until no chunk waits."""
        while self._waiting:
            await self._gather()
            runs = self._begin()
            if runs:
                self.groups_total += 1
                await self.ladder.climb(runs)
                self.records_total += sum(map(len, runs))

    async def _gather(self) -> None:
        """Wait for more to come, as long as the lane wants and no limit is reached."""
        if self._cut:
            return
        wait = self.settings.group_wait
        deadline = monotonic() + (wait() if callable(wait) else wait)
        while not self._enough() and (left := deadline - monotonic()) > 0:
            self.something.clear()
            try:
                async with asyncio.timeout(left):
                    await self.something.wait()
            except TimeoutError:
                return

    def _records_max(self) -> int:
        most = self.settings.group_records_max
        return most() if callable(most) else most

    def _enough(self) -> bool:
        # At half its bytes a lane's group is begun: the other half comes in meanwhile.
        return self._waiting_records >= self._records_max() or self._waiting_bytes >= self.settings.bytes_max // 2

    def _begin(self) -> list[Run]:
        """Take chunks up to the group's limits, at least one, and begin what of them is still ours."""
        chunks: list[Chunk] = []
        records, most = 0, self._records_max()
        while self._waiting and (not chunks or records + self._waiting[0].records <= most):
            chunk = self._waiting.popleft()
            self._waiting_records -= chunk.records
            self._waiting_bytes -= chunk.nbytes
            records += chunk.records
            chunks.append(chunk)
        now = monotonic()
        with self._lock:
            runs, left = self._within([run for chunk in chunks for run in chunk.live()])
            for run in runs:
                run.begun_at = now
        self._cut = bool(left)
        if left:
            self._put_back(Chunk(self.name, left))
        return runs

    def _within(self, runs: list[Run]) -> tuple[list[Run], list[Run]]:
        """Return the runs of the first partitions, as many as a group may be of, and those of the others.

        All runs of a partition stay together, so that they keep their order, and few transactions are made of them.
        """
        allowed = self.settings.group_partitions_max
        most = allowed() if allowed is not None else None
        if most is None or len(runs) <= most:
            return runs, []
        chosen: set[Assignment] = set()
        within: list[Run] = []
        left: list[Run] = []
        for run in runs:
            if len(chosen) < most:
                chosen.add(run.assignment)
            (within if run.assignment in chosen else left).append(run)
        return within, left

    def _put_back(self, chunk: Chunk) -> None:
        """Have a chunk wait before all others."""
        self._waiting.appendleft(chunk)
        self._waiting_records += chunk.records
        self._waiting_bytes += chunk.nbytes
