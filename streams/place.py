"""One partition as FEATURES sees it: how far it was read, what Redis or the log lacks of it, what is pending. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from connectors.transport.history import lacks_only_a_marker
from schemas.errors import SourceMoved, TableStopped
from sinks.redis.standing import Standing

if TYPE_CHECKING:
    from sinks.lake.stand import Stand

Key = tuple[str, int]


class Log(Protocol):
    """The log of a partition of an output topic, as it is now: an assignment, or what was asked for."""

    topic: str
    partition: int
    topic_id: str
    low: int
    high: int


@dataclass(slots=True, eq=False)
class Place:
    """One partition: behind `read_to` nothing was read yet; a pending view is complete once `target` is reached.

    What lies below `news` was read before, so it is told a second time.
    """

    assignment: Any
    read_to: int = -1
    target: int = 0
    news: int = 0
    back: int | None = None  # must be read again from here; until it is, its offsets stand still
    held: bool = False  # the log does not reach what Redis lacks: its offsets stand still until a rebuild is through
    losses: int = 0  # how often Redis has lost something of it: a rebuild that was begun before is no good
    fallen: dict[str, int] = field(default_factory=dict)  # what Redis holds less of, and nothing was done about yet
    pending: set[str] = field(default_factory=set)  # fields of views that are not complete
    done: int = 0  # rows of the lake that were sent, of `total`
    total: int = 0

    def read_before(self) -> None:
        """Note that what was read up to now comes again."""
        self.target, self.news = max(self.target, self.read_to), max(self.news, self.read_to)

    def stands(self) -> bool:
        """Say whether its offsets may move with what is read."""
        return not self.held and self.back is None and not self.fallen

    def standing(self) -> Standing:
        """Return how its pending views stand."""
        done, total = (self.done, self.total) if self.held else (min(self.read_to, self.target), self.target)
        return Standing(True, self.target, max(done, 0), total)


class TakenUp(NamedTuple):
    """What Redis holds of a partition: the lowest offset of each field, and the fields that the log does not reach."""

    place: Place
    offsets: dict[str, int]
    gone: set[str]

    def reachable(self) -> list[int]:
        """Return the offsets that the log holds what comes after."""
        return [offset for name, offset in self.offsets.items() if name not in self.gone]


def is_gone(log: Log, offset: int, *, transactional: bool) -> bool:
    """Say whether a log no longer holds what comes at `offset`; a last transaction's marker is no loss."""
    only_a_marker = transactional and lacks_only_a_marker(offset, log.low, log.high)
    return offset < log.low and not only_a_marker


def lake_lacks(log: Log, stand: Stand | None, *, transactional: bool) -> str:
    """Return why the lake does not reach a log, given where it stands in that partition; empty if it does."""
    if stand is None:
        return "" if log.low <= 0 else "the lake has nothing of it"
    same = not stand.topic_id or not log.topic_id or stand.topic_id == log.topic_id
    if stand.topic != log.topic or not same:
        return "the lake has read another topic"
    if is_gone(log, stand.next_offset, transactional=transactional):
        return f"the lake ends at {stand.next_offset}"
    return ""


def begins_late(stand: Stand | None) -> str:
    """Return why the lake lacks what a partition held first; empty where it does not, or does not know."""
    return f"the lake begins at {stand.first}" if stand is not None and (stand.first or 0) > 0 else ""


def is_through(place: Place, lags: Mapping[Key, int | None]) -> bool:
    """Say whether a partition was read as far as it must; a log may end in markers, which are no records."""
    quiet = lags.get((place.assignment.topic, place.assignment.partition)) == 0
    return place.read_to >= place.target or quiet


def new_place(assignment: Any) -> Place:
    """Return the place of a new life of a partition: its target is what was done before, or else stood in the log."""
    committed = assignment.committed
    return Place(assignment, target=int(assignment.high if committed is None else committed), news=int(committed or 0))


def moved(topic: str) -> SourceMoved:
    """Return why a table stops whose offsets in Redis are of another topic."""
    return SourceMoved(
        "topic_id",
        f"{topic} is not the topic whose changes are in Redis: its id is another",
        hint="it was made anew: `headgate tables resume TABLE --anew` goes on with it, without what was lost",
    )


def history_gone(where: str, first: int, why: str) -> TableStopped:
    """Return why a table stops whose rows are neither in Redis nor in the log; `why` says so of the lake."""
    return TableStopped(
        "history_gone",
        f"Redis has lost rows of {where}, its log begins at {first}, and {why}",
        hint="give Redis a newer backup, or have the source's rows read again (`headgate tables replay`, or a new "
        "snapshot), then resume; with neither in reach a resume goes on without the rows that never change again",
    )
