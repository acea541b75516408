"""What a stage is: one object that the transport hands groups of records to, and that says when they are durable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from schemas.errors import HeadgateError, SourceMoved

MAIN_LANE = "main"


@runtime_checkable
class Stage(Protocol):
    """A stage of the way of the data.

    Promise: `step` calls `group.done()` only after every write of these runs is durable, or `group.taken()` once they
    are copied into a buffer of its own that has a limit in bytes. It raises what it cannot settle; the transport then
    retries, pauses or bisects by the error's kind. It never loops over Faust events and never awaits per record.
    """

    name: str

    async def start(self) -> None:
        """Open what the stage writes to; raises `Unavailable` where it does not answer."""

    async def stop(self) -> None:
        """Finish or give up what is open, within the drain limit; called before the consumer leaves its group."""

    def topics(self) -> list[str]:
        """Return the topics to read: names, or regular expressions that begin with ^."""

    async def step(self, group: Any) -> None:
        """Work on one group of runs; see the promise."""

    async def starts(self, assignments: Sequence[Any]) -> Mapping[Any, int | SourceMoved]:
        """Return where to begin reading, for the partitions where the sink knows better than Kafka's commit."""

    async def tables_changed(self, changed: set[str]) -> None:
        """Take up tables that were added, changed or removed; the mapping of tables already holds them."""

    def counters(self) -> dict[str, float]:
        """Return what was counted since the start, by name, for `status` and the metrics."""


class BaseStage:
    """What most stages share: nothing to open, offsets in Kafka, a counter."""

    name = ""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self.counts: Counter[str] = Counter()
        self.quarantined: Counter[tuple[str, str]] = Counter()  # by table ("" for none) and reason
        self.emitted: Counter[tuple[str, str]] = Counter()  # changes on output topics, by table and operation
        self.last_error: HeadgateError | None = None

    async def start(self) -> None:
        """Open nothing."""

    async def stop(self) -> None:
        """Close nothing."""

    def lane_of(self, topic: str) -> str:
        """Return the lane that a topic added at run time is read by."""
        del topic
        return MAIN_LANE

    async def starts(self, assignments: Sequence[Any]) -> Mapping[Any, int | SourceMoved]:
        """Leave the start of all `assignments` to Kafka's commit."""
        del assignments
        return {}

    async def tables_changed(self, changed: set[str]) -> None:
        """Keep nothing per table."""

    def waits_for(self) -> HeadgateError | None:
        """Return what the stage waits for outside of its steps, None if nothing."""
        return None

    def counters(self) -> dict[str, float]:
        """Return a copy of the counts."""
        return dict(self.counts)
