"""Where a new assignment begins, and whether its topic is still the one that was read before.

The decisions are those of `history.py`; what they need is asked of `Lookups`, of the lane's book and of its `starts`,
with retry, while the partitions stand paused.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from connectors.transport.chunk import Assignment
from connectors.transport.commit_metadata import read_commit_metadata
from connectors.transport.history import (
    OFFSETS_LOST,
    Key,
    Known,
    beyond_gap,
    enter,
    first_offset,
    go_on,
    lacks_only_a_marker,
    moved,
)
from connectors.transport.lane import LaneSettings
from connectors.transport.settings import ConsumerSettings
from schemas.errors import SourceMoved, Unavailable

Apply = Callable[[Mapping[Assignment, "int | SourceMoved"]], Awaitable[None]]
Report = Callable[[str, Mapping[str, object]], None]
Sleep = Callable[[float], Awaitable[None]]

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


class Membership(Lookups, Protocol):
    """What is asked of the broker about the members of a group too."""

    async def divided(self, group: str) -> AbstractSet[str] | None:
        """Return the topics of which a member of the group has a partition; None while it is dividing them.

        Raises:
            SourceUnavailable: the broker does not answer.
            ConfigurationError: it refuses to.
        """
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


class Resolver:
    """Finds out where assignments begin, lane by lane, for as long as it takes."""

    def __init__(
        self,
        settings: ConsumerSettings,
        lookups: Lookups,
        commit_first: Apply,
        apply: Apply,
        report: Report,
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Ask `lookups`; hand what was found to `commit_first`, then to `apply`, which reads on or holds."""
        self.waiting: dict[str, str] = {}  # by lane: why its assignments are not resolved yet
        self._settings = settings
        self._lookups = lookups
        self._commit_first = commit_first
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
        kept = await self._kept(settings, known, committed)
        found: dict[Assignment, int | SourceMoved] = {}
        gone: dict[Assignment, SourceMoved] = {}
        for each in known:
            now_id = ids.get(each.topic, "")
            describe_assignment(each, committed[each.key], self._known.get(each.topic, now_id), logs[each.key])
            decisions = settings.decided(each.topic) if settings.decided is not None and now_id else ()
            trouble = enter(each, now_id, kept.get(each.topic, {}), decisions, rereads=settings.rereads)
            if trouble is not None:
                (gone if settings.goes_on else found)[each] = trouble
        # Also of those that are gone on with: the stage takes up there what it keeps of a partition.
        asked = [each for each in known if each not in found]
        regained = await self._regained(settings, gone)
        chosen = dict(await settings.starts(asked)) if settings.starts is not None and asked else {}
        chosen |= regained
        for each in asked:
            start = chosen.get(each)
            if each in gone and each not in regained and not isinstance(start, SourceMoved):
                found[each] = self._gone_on(each, gone[each], ids.get(each.topic, ""))
            else:
                found[each] = self._start_of(each, start, settings)
        await self._begin(settings, found, kept)
        return [each for each in assignments if each not in found]

    async def _regained(
        self, settings: LaneSettings, troubles: Mapping[Assignment, SourceMoved]
    ) -> Mapping[Assignment, int]:
        """Return where those stand whose offset Kafka has dropped, as far as the stage itself knows."""
        lost = [each for each, trouble in troubles.items() if trouble.reason == OFFSETS_LOST]
        if settings.regains is None or not lost:
            return {}
        regained = await settings.regains(lost)
        for each, offset in regained.items():
            self._report("offset_regained", {"topic": each.topic, "partition": each.partition, "offset": offset})
        return regained

    async def _kept(
        self, settings: LaneSettings, assignments: list[Assignment], committed: Mapping[Key, Committed]
    ) -> Mapping[str, Mapping[int, Known]]:
        """Return what the stage keeps of these partitions, read after the offsets: what it says is not older."""
        if settings.book is None or not self._settings.topic_ids or not assignments:
            return {}
        fresh = any(committed[each.key].offset is None for each in assignments)
        return await settings.book.of_topics({each.topic for each in assignments}, fresh=fresh)

    def _start_of(
        self, assignment: Assignment, chosen: int | SourceMoved | None, settings: LaneSettings
    ) -> int | SourceMoved:
        if isinstance(chosen, SourceMoved):
            return chosen
        offset = first_offset(assignment, chosen, settings.start)
        if settings.transactional and lacks_only_a_marker(offset, assignment.low, assignment.high):
            return assignment.high
        if (beyond := beyond_gap(assignment, offset)) is not None:
            where = {"topic": assignment.topic, "partition": assignment.partition}
            self._report("gap_accepted", {**where, "from": offset, "records": beyond - offset})
            offset = beyond
        trouble = moved(assignment, assignment.topic_id, offset)
        if trouble is not None and settings.goes_on:
            return self._gone_on(assignment, trouble, assignment.topic_id)
        return trouble or offset

    def _gone_on(self, assignment: Assignment, trouble: SourceMoved, topic_id: str) -> int:
        hint = "it is read on from where its log begins"
        self._report("source_moved", {"topic": assignment.topic, "reason": trouble.message, "hint": hint})
        return go_on(assignment, topic_id)

    async def _begin(
        self,
        settings: LaneSettings,
        found: Mapping[Assignment, int | SourceMoved],
        kept: Mapping[str, Mapping[int, Known]],
    ) -> None:
        """Commit where first starts begin, keep what is read from here on, then read."""
        begun = [each for each, start in found.items() if not isinstance(start, SourceMoved) and not each.lost]
        await self._commit_first(found)
        if settings.book is not None and self._settings.topic_ids:
            known = {each.key: Known(each.topic_id, each.generation) for each in begun}
            new = {key: each for key, each in known.items() if kept.get(key[0], {}).get(key[1]) != each}
            await settings.book.keep(new)
        for each in begun:
            self._known[each.topic] = each.topic_id
        await self._apply(found)
