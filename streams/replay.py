"""What a replay reads, decided before it begins: ranges of a table's source topics, up to where NORMALIZE stands.

Beyond that is NORMALIZE's to read, so a replay never runs ahead of the live changes. What was decided stands in the
table's entry until the replay is through (schemas/replay.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from connectors.transport.chunk import Assignment
from schemas.config import Config
from schemas.errors import ConfigurationError, SourceUnavailable, TableStopped
from schemas.replay import Replay, ReplayedTopic, Stage
from schemas.table import TableEntry
from streams.decide import Found, next_generation, read_start, survey
from streams.registration import open_admin
from streams.tables import TableDirectory

Key = tuple[str, int]
OffsetsAt = Callable[[Collection[Key], int], Mapping[Key, int]]  # of the first record at a time, by partition

OPEN_SECONDS_MAX = 20.0  # a transaction that a killed one left open is over by then
_LOOK_SECONDS = 0.2
_OFFSET_DIGITS_MAX = 18
_POSITION_DIGITS_MAX = 200
_PLACES = "earliest, a time as 2026-11-20T19:45Z, a position, an offset, or offsets of partitions as 0=4711,1=12"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replay begins or ends: all that there is, a time, a position, or offsets of some or all partitions."""

    at_ms: int | None = None
    position: str | None = None
    offset: int | None = None
    offsets: Mapping[int, int] | None = None

    @property
    def is_offset(self) -> bool:
        """Whether somebody named offsets: then they must be there."""
        return self.offset is not None or self.offsets is not None


def read_place(text: str) -> Place:
    """Return the place that `--from` or `--until` names; a time without a zone is UTC.

    Raises:
        ConfigurationError: it names none.
    """
    if text == "earliest":
        return Place()
    if text.isascii() and text.isdigit():
        if len(text) <= _OFFSET_DIGITS_MAX:
            return Place(offset=int(text))
        if len(text) <= _POSITION_DIGITS_MAX:
            return Place(position=text)
    elif "=" in text:
        offsets = read_start(text)
        assert isinstance(offsets, dict), "words have no ="
        return Place(offsets=offsets)
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            if moment.timestamp() >= 0:
                return Place(at_ms=int(moment.timestamp() * 1000))
    raise ConfigurationError(f"{text[:100]!r} is no place in a topic", hint=_PLACES)


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants replayed: from where, until where (None: where NORMALIZE stands), for whom, of which topics.

    `text` is all of it in words, by which a replay that was broken off is known again.
    """

    start: Place
    until: Place | None
    into: Sequence[Stage]
    topics: Collection[str]
    text: str


def surveyed(config: Config, entry: TableEntry, tables: TableDirectory) -> list[Found]:
    """Return what `survey` finds, of every partition: a transaction may be open on one for a moment.

    Raises:
        SourceUnavailable: Kafka does not answer, or one is open for long.
    """
    deadline = time.monotonic() + OPEN_SECONDS_MAX
    while True:
        found = survey(config, entry, tables)
        described = open_admin(config).describe([each.topic for each in found])
        unknown = [each.topic for each in found if len(each.partitions) < described[each.topic].partitions]
        if not unknown:
            return found
        if time.monotonic() > deadline:
            raise SourceUnavailable(f"where {unknown[0]} was read to is not known yet", hint="do it again in a moment")
        time.sleep(_LOOK_SECONDS)


def plan(entry: TableEntry, found: Sequence[Found], asked: Asked, offsets_at: OffsetsAt, *, at: str) -> Replay:
    """Return the replay that is asked for, as a new generation of the table.

    Raises:
        SourceMoved: a topic of the table is not as it was read: that must be decided first.
        TableStopped: there is nothing in these ranges, or retention took what they begin with.
    """
    for each in found:
        if each.troubles:
            raise next(iter(each.troubles.values()))
    chosen = _chosen(entry, found, asked.topics)
    keys = [(each.topic, number) for each in chosen for number in each.partitions]
    firsts = _offsets_of(asked.start, keys, offsets_at)
    ends = None if asked.until is None else _offsets_of(asked.until, keys, offsets_at)
    topics = {}
    for each in chosen:
        ranges = {}
        for number, mine in each.partitions.items():
            first, end = _range_of(mine, asked, firsts, ends)
            if first < end:
                ranges[number] = (first, end)
        if ranges:
            generation = max(mine.generation for mine in each.partitions.values())
            topics[each.topic] = ReplayedTopic(id=each.topic_id, generation=generation, ranges=ranges)
    if not topics:
        raise TableStopped(
            "nothing_to_replay",
            f"{entry.spec.table}: nothing that NORMALIZE has read lies there",
            hint=f"--from earliest begins where the logs begin; places are {_PLACES}",
        )
    return Replay(
        generation=next_generation(entry, found),
        asked=asked.text,
        at=at,
        topics=topics,
        first_position=asked.start.position,
        end_position=asked.until.position if asked.until is not None else None,
        into=list(asked.into),
    )


def _chosen(entry: TableEntry, found: Sequence[Found], topics: Collection[str]) -> list[Found]:
    if missing := sorted(set(topics) - {each.topic for each in found}):
        known = ", ".join(each.topic for each in found) or "none"
        raise TableStopped("no_such_topic", f"{entry.spec.table} has no topic {missing[0]}", hint=f"topics are {known}")
    return [each for each in found if not topics or each.topic in topics]


def _offsets_of(place: Place, keys: Sequence[Key], offsets_at: OffsetsAt) -> dict[Key, int | None]:
    """Return the offset of a place in each partition, None: at its end; what is left out is not meant.

    A position is looked for in all of it.
    """
    if place.at_ms is not None:
        found = offsets_at(keys, place.at_ms)
        return {key: found.get(key) for key in keys}
    if place.offsets is not None:
        return {key: place.offsets[key[1]] for key in keys if key[1] in place.offsets}
    return dict.fromkeys(keys, 0 if place.offset is None else place.offset)


def _range_of(
    mine: Assignment, asked: Asked, firsts: Mapping[Key, int | None], ends: Mapping[Key, int | None] | None
) -> tuple[int, int]:
    """Return the first offset of one partition that is meant, and the one behind the last."""
    read_to = mine.committed
    if read_to is None or mine.key not in firsts or (first := firsts[mine.key]) is None:
        return 0, 0  # nothing of it was read, or nothing is meant
    if asked.start.is_offset and first < mine.low:
        raise TableStopped(
            "below_log",
            f"{mine.topic}[{mine.partition}]: offset {first} is gone, the log begins at {mine.low}",
            hint="--from earliest begins there",
        )
    end = read_to
    if ends is not None and asked.until is not None and asked.until.position is None:
        until = ends.get(mine.key)
        end = read_to if until is None else min(until, read_to)
    return max(first, mine.low), end
