"""One partition as FEATURES sees it: how far it was read, what Redis lacks of it, which views are pending. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas.errors import SourceMoved, TableStopped
from sinks.redis.standing import Standing

Key = tuple[str, int]


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


def is_through(place: Place, lags: Mapping[Key, int | None]) -> bool:
    """Say whether a partition was read as far as it must; a log may end in markers, which are no records."""
    quiet = lags.get((place.assignment.topic, place.assignment.partition)) == 0
    return place.read_to >= place.target or quiet


def new_place(assignment: Any) -> Place:
    """Return the place of a new life of a partition: its target is what was done before, or else stood in the log."""
    committed = assignment.committed
    return Place(assignment, target=int(assignment.high if committed is None else committed), news=int(committed or 0))


def moved(assignment: Any) -> SourceMoved:
    """Return why a table stops whose offsets in Redis are of another topic."""
    return SourceMoved(
        "topic_id",
        f"{assignment.topic} is not the topic whose changes are in Redis: its id is another",
        hint="it was made anew: `headgate tables resume TABLE --anew` goes on with it, without what was lost",
    )


def history_gone(where: str, first: int, why: str) -> TableStopped:
    """Return why a table stops whose rows are neither in Redis nor in the log; `why` says so of the lake."""
    return TableStopped(
        "history_gone",
        f"Redis has lost rows of {where}, its log begins at {first}, and {why}",
        hint="let the table go to the lake, or give Redis a newer backup, then resume; with neither in reach a resume "
        "goes on without the rows that never change again",
    )
