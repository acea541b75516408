"""Where a new assignment begins, and whether its topic is still the one that was read before.

Pure decisions; the questions are asked by `Lookups` and by the lane's `starts`, with retry, while the partitions
stand paused.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from connectors.transport.chunk import Assignment
from connectors.transport.commit_metadata import read_commit_metadata
from connectors.transport.lane import LaneSettings
from connectors.transport.settings import ConsumerSettings
from schemas.errors import SourceMoved, Unavailable

Key = tuple[str, int]
Apply = Callable[[Mapping[Assignment, "int | SourceMoved"]], Awaitable[None]]
Report = Callable[[str, Mapping[str, object]], None]
Sleep = Callable[[float], Awaitable[None]]

TOPIC_MADE_ANEW = "topic_made_anew"
_BACKOFF_SECONDS = 0.1
_BACKOFF_SECONDS_MAX = 5.0


@dataclass(frozen=True, slots=True)
class Committed:
    """What the group committed for one partition."""

    offset: int | None
    metadata: str = ""


class Lookups(Protocol):
    """What is asked of the broker about topics and groups; the promise of `topics.TopicAdmin`.

    Every method raises SourceUnavailable where the broker does not answer; what does not exist is left out of the
    answer.
    """

    async def committed(self, group: str, keys: Iterable[Key]) -> Mapping[Key, Committed]:
        """Return what the group committed; what an open transaction may still change is left out."""
        ...

    async def ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        """Return the topics' ids."""
        ...

    async def watermarks(self, keys: Iterable[Key]) -> Mapping[Key, tuple[int, int]]:
        """Return the first and the next offset of each log."""
        ...


def describe_assignment(assignment: Assignment, committed: Committed, topic_id: str, log: tuple[int, int]) -> None:
    """Write what was found into an assignment."""
    said = read_commit_metadata(committed.metadata)
    assignment.committed = committed.offset
    assignment.low, assignment.high = log
    assignment.topic_id = topic_id
    if said is not None and committed.offset is not None:
        assignment.generation = said.generation
        assignment.metadata = said.stage
        assignment.topic_id = said.topic_id or topic_id


def first_offset(assignment: Assignment, chosen: int | None, start: str) -> int:
    """Return where to begin: the stage's choice, else the committed offset, else where a first start begins."""
    if chosen is not None:
        return chosen
    if assignment.committed is not None:
        return assignment.committed
    return assignment.low if start == "earliest" else assignment.high


def lacks_only_a_marker(offset: int, low: int, high: int) -> bool:
    """Tell whether all that is gone at `offset` of a log written by transactions is the marker of the last one.

    Retention takes it from a quiet topic with the records before it. The one missing offset cannot have been a
    record's: that has a marker of its own behind it.
    """
    return low == high == offset + 1


def moved(assignment: Assignment, topic_id: str, offset: int) -> SourceMoved | None:
    """Return why `offset` cannot be read on in the topic that now has `topic_id`; None if it can."""
    where = f"{assignment.topic}[{assignment.partition}]"
    if assignment.topic_id and topic_id and assignment.topic_id != topic_id:
        return topic_made_anew(assignment.topic, assignment.topic_id, topic_id)
    if offset < assignment.low:
        return SourceMoved(
            "offset_below_log",
            f"{where}: offset {offset} was deleted before it was read, the log begins at {assignment.low}",
            hint=f"{assignment.low - offset} records are gone: resync its tables, or go on from the log's beginning",
        )
    if offset > assignment.high:
        return SourceMoved(
            "offset_above_log",
            f"{where}: offset {offset} lies beyond the log's end at {assignment.high}",
            hint="the topic lost records or was made anew: resync its tables, or go on from the log's beginning or end",
        )
    return None


def topic_made_anew(topic: str, known: str, found: str) -> SourceMoved:
    """Return the error of a topic that has another id than it had."""
    return SourceMoved(
        TOPIC_MADE_ANEW,
        f"{topic}: deleted and made anew (id {known} became {found})",
        hint="read it from its beginning as a new generation, resync its tables, or take it out of their specs",
    )


def out_of_range(assignment: Assignment, position: int) -> SourceMoved:
    """Return the error of a position that its log does not hold any more, or not yet."""
    return SourceMoved(
        "offset_out_of_range",
        f"{assignment.topic}[{assignment.partition}]: offset {position} is not in the log",
        hint="records were deleted before they were read, or the topic is shorter than it was: "
        "resync its tables, or go on from where the log begins or ends",
    )


class Resolver:
    """Finds out where assignments begin, lane by lane, for as long as it takes."""

    def __init__(
        self,
        settings: ConsumerSettings,
        lookups: Lookups,
        apply: Apply,
        report: Report,
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Ask `lookups`; hand what was found to `apply`, which reads on or holds."""
        self.waiting: dict[str, str] = {}  # by lane: why its assignments are not resolved yet
        self._settings = settings
        self._lookups = lookups
        self._apply = apply
        self._report = report
        self._sleep = sleep
        self._known: dict[
            str, str
        ] = {}  # topic ids seen by this process: the broker drops the offsets of a deleted topic

    async def resolve(self, lane: str, settings: LaneSettings, assignments: list[Assignment]) -> None:
        """Return once each of `assignments` has started, is held, or was lost.

        Raises:
            HeadgateError: what must end the worker; a broker or sink that is away is waited for.
        """
        left = assignments
        for attempt in itertools.count():
            left = [each for each in left if not each.lost]
            if not left:
                break
            try:
                left = await self._once(settings, left)
            except Unavailable as error:
                if self.waiting.get(lane) != error.message:
                    self._report("resolving_waits", {"lane": lane, "error": error.message})
                self.waiting[lane] = error.message
            if left:
                await self._sleep(min(_BACKOFF_SECONDS * 2 ** min(attempt, 6), _BACKOFF_SECONDS_MAX))
        self.waiting.pop(lane, None)

    async def ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        """Return the topics' ids, none of them where the broker has none."""
        return await self._lookups.ids(topics) if self._settings.topic_ids else {}

    async def _once(self, settings: LaneSettings, assignments: list[Assignment]) -> list[Assignment]:
        """Resolve what can be; return the assignments whose topic the broker does not know yet."""
        keys = [each.key for each in assignments]
        ids, committed, logs = await asyncio.gather(
            self.ids({topic for topic, _ in keys}),
            self._lookups.committed(self._settings.group, keys),
            self._lookups.watermarks(keys),
        )
        known = [
            each
            for each in assignments
            if each.key in logs and each.key in committed and (each.topic in ids or not self._settings.topic_ids)
        ]
        found: dict[Assignment, int | SourceMoved] = {}
        for each in known:
            now_id = ids.get(each.topic, "")
            describe_assignment(each, committed[each.key], self._known.get(each.topic, now_id), logs[each.key])
            if each.topic_id != now_id:
                found[each] = topic_made_anew(each.topic, each.topic_id, now_id)
        asked = [each for each in known if each not in found]
        chosen = await settings.starts(asked) if settings.starts is not None and asked else {}
        for each in asked:
            answer = chosen.get(each)
            if isinstance(answer, SourceMoved):
                found[each] = answer
                continue
            offset = first_offset(each, answer, settings.start)
            if settings.transactional and lacks_only_a_marker(offset, each.low, each.high):
                offset = each.high
            found[each] = moved(each, ids.get(each.topic, ""), offset) or offset
            self._known.setdefault(each.topic, each.topic_id)
        await self._apply(found)
        return [each for each in assignments if each not in found]
