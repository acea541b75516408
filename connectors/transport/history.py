"""Whether a partition is the one that was read before, and what somebody decided where it is not.

Kafka forgets: it drops a group's offsets with a deleted topic, and after some idle days. A stage therefore keeps the
id and the generation of each partition that it has ever begun (`book.Book`), and a partition without an offset is a
first start only if nothing is kept of it. Pure decisions, but for what `Keeps` promises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from connectors.transport.chunk import Assignment
from schemas.errors import SourceMoved
from schemas.table import Decision

Key = tuple[str, int]
Decided = Callable[[str], Sequence[Decision]]  # by topic: those for each table that reads it

TOPIC_MADE_ANEW = "topic_made_anew"
OFFSETS_LOST = "offsets_lost"
BELOW_LOG = "offset_below_log"
ABOVE_LOG = "offset_above_log"
_ANEW = "`headgate tables resume TABLE --anew` reads it from its beginning, as a new generation"


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of a partition that was begun: its topic's id, and the generation reached."""

    topic_id: str
    generation: int


class Keeps(Protocol):
    """What remembers partitions where Kafka does not forget it; the promise of `book.Book`."""

    async def of_topics(self, topics: Iterable[str], *, fresh: bool) -> Mapping[str, Mapping[int, Known]]:
        """Return what is kept of these topics' partitions; with `fresh` also what others have kept meanwhile."""
        ...

    async def everything(self) -> Mapping[str, Mapping[int, Known]]:
        """Return all that is kept, by topic and partition."""
        ...

    async def keep(self, known: Mapping[Key, Known]) -> None:
        """Return once this is kept."""
        ...


def enter(
    assignment: Assignment, topic_id: str, kept: Mapping[int, Known], decisions: Iterable[Decision], *, rereads: bool
) -> SourceMoved | None:
    """Write into a described assignment which generation it is read in; return why it cannot be read, if so.

    `topic_id` is the topic's id now, `kept` what is kept of its partitions. Of the `decisions` about this life of it
    the one of the highest generation holds, and any may accept a gap. Without `rereads` none moves a partition that can
    be read on where it stands. A partition that was added to a topic begins where its log begins.
    """
    before = kept.get(assignment.partition)
    was_read = assignment.committed is not None or before is not None
    if assignment.committed is None and kept:
        # Of a partition of its own, else of the topic: one that was added is of the same life, and generation.
        last = before or max(kept.values(), key=lambda known: known.generation)
        assignment.topic_id, assignment.generation = last.topic_id, last.generation
    assignment.decisions = [each for each in decisions if each.topic_id == topic_id]
    decision = assignment.decision
    is_new = bool(kept) and not was_read
    trouble = _trouble(assignment, topic_id, was_read=was_read)
    if decision is not None and decision.generation > assignment.generation:
        assignment.generation = decision.generation
        if trouble is not None or rereads or not was_read:
            assignment.topic_id, assignment.committed, assignment.metadata = topic_id, None, ""
            assignment.decided_start = _decided_offset(assignment, decision)
        trouble = None
    if is_new and trouble is None:
        assignment.decided_start = assignment.low
    return trouble


def _trouble(assignment: Assignment, topic_id: str, *, was_read: bool) -> SourceMoved | None:
    if assignment.topic_id != topic_id:
        return topic_made_anew(assignment.topic, assignment.topic_id, topic_id)
    if was_read and assignment.committed is None:
        return offsets_lost(assignment)
    return None


def go_on(assignment: Assignment, topic_id: str) -> int:
    """Make a partition that moved one that is read from where its log begins, as a new generation; return where."""
    assignment.topic_id, assignment.generation = topic_id, assignment.generation + 1
    assignment.committed, assignment.metadata = None, ""
    assignment.decided_start = assignment.low
    return assignment.low


def first_offset(assignment: Assignment, chosen: int | None, start: str) -> int:
    """Return where to begin: the stage's choice, else the committed offset, else where a first start begins."""
    if chosen is not None:
        return chosen
    if assignment.committed is not None:
        return assignment.committed
    if assignment.decided_start is not None:
        return assignment.decided_start
    return assignment.low if start == "earliest" else assignment.high


def beyond_gap(assignment: Assignment, offset: int) -> int | None:
    """Return where to go on if `offset` was deleted before it was read and somebody accepted that, and note the gap.

    Where it was accepted for several tables of the topic, what any of them is to have is read.
    """
    accepted = [each for each in assignment.decisions if each.gaps.get(assignment.partition) == offset]
    if not accepted or offset >= assignment.low:
        return None
    start = max(min(_decided_offset(assignment, each) for each in accepted), assignment.low)
    assignment.gap = (offset, start)
    return start


def _decided_offset(assignment: Assignment, decision: Decision) -> int:
    match decision.start:
        case "earliest":
            return assignment.low
        case "latest":
            return assignment.high
        case offsets:
            return offsets.get(assignment.partition, assignment.low)


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
            BELOW_LOG,
            f"{where}: offset {offset} was deleted before it was read, the log begins at {assignment.low}: "
            f"{assignment.low - offset} records are gone",
            hint="`headgate tables resume TABLE --from earliest` goes on without them; "
            "or `headgate tables resync TABLE`",
        )
    if offset > assignment.high:
        return SourceMoved(
            ABOVE_LOG,
            f"{where}: offset {offset} lies beyond the log's end at {assignment.high}",
            hint=f"the topic lost records or was made anew: {_ANEW}; or `headgate tables resync TABLE`",
        )
    return None


def topic_made_anew(topic: str, known: str, found: str) -> SourceMoved:
    """Return the error of a topic that has another id than it had."""
    return SourceMoved(
        TOPIC_MADE_ANEW,
        f"{topic}: deleted and made anew (id {known} became {found})",
        hint=f"{_ANEW}; or `headgate tables resync TABLE`, or take it out of their specs",
    )


def offsets_lost(assignment: Assignment) -> SourceMoved:
    """Return the error of a partition that was read before, and of which the group has no offset any more."""
    return SourceMoved(
        OFFSETS_LOST,
        f"{assignment.topic}[{assignment.partition}]: was read before, and Kafka has dropped where to",
        hint="its group was idle for longer than the broker keeps offsets, or somebody deleted them: "
        f"{_ANEW}, `--from latest` or `--from PARTITION=OFFSET,…` from elsewhere",
    )


def out_of_range(assignment: Assignment, position: int) -> SourceMoved:
    """Return the error of a position that its log does not hold any more, or not yet."""
    return SourceMoved(
        "offset_out_of_range",
        f"{assignment.topic}[{assignment.partition}]: offset {position} is not in the log",
        hint="records were deleted before they were read, or the topic is shorter than it was: "
        "`headgate tables resume TABLE` looks again and says which",
    )
