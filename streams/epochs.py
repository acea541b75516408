"""Which epoch the records of a run are of, and the run parted where another one begins. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from connectors.transport.chunk import Assignment, Run
from schemas.epoch import EpochStart, bounds, epoch_at, epoch_of_origin
from schemas.table import TableEntry
from streams.tables import Readers

Origin = tuple[str, int, int, int]


def of_epoch(entry: TableEntry, epoch: int) -> TableEntry:
    """Return the entry as records of one of its epochs are decoded by.

    A truncate of an earlier one stops nothing any more: its rows are below the floor of the later one, when that comes.
    """
    if epoch == entry.epoch:
        return entry
    spec = entry.spec
    if spec.truncate == "pause":
        spec = spec.model_copy(update={"truncate": "ignore"})
    return entry.model_copy(update={"epoch": epoch, "spec": spec})


def epoch_of(entry: TableEntry, run: Run) -> int:
    """Return the epoch that the records of a parted run are of, for one of its tables."""
    return epoch_in(entry, run.assignment, run.first)


def epoch_in(entry: TableEntry, assignment: Assignment, offset: int) -> int:
    """Return the epoch of a record at `offset` of a partition, for one of its tables."""
    starts = entry.epochs.get(assignment.topic)
    if not starts:
        return entry.epoch
    return epoch_at(starts, entry.epoch, assignment.topic_id, assignment.partition, offset)


def epoch_at_origin(entry: TableEntry, origin: Origin) -> int:
    """Return the epoch of a record of a table that was read there once."""
    topic, *place = origin
    decision = entry.decisions.get(topic)
    lives = [(decision.generation, decision.topic_id)] if decision is not None else []
    generation, partition, offset = place
    return epoch_of_origin(entry.epochs.get(topic, ()), entry.epoch, lives, (generation, partition, offset))


def start_of(entry: TableEntry, topic: str) -> EpochStart | None:
    """Return where the epoch that a table is in begins in a topic; None where it did not begin within it."""
    starts = entry.epochs.get(topic)
    return starts[-1] if starts and starts[-1].epoch == entry.epoch else None


def topics_of(entry: TableEntry) -> list[str]:
    """Return the topics in which the epoch of a table begins somewhere; none: it is under no resync."""
    return sorted(topic for topic in entry.epochs if start_of(entry, topic) is not None)


def parted(runs: Sequence[Run], readers: Mapping[str, Readers | None]) -> Sequence[Run]:
    """Return the runs in their order, so that no epoch of a table begins within one; those that are whole as they are.

    `readers` are by topic.
    """
    begins = {
        topic: starts
        for topic, fed in readers.items()
        if fed is not None
        and (starts := [start for entry in fed.entries.values() for start in entry.epochs.get(topic, ())])
    }
    return runs if not begins else [part for run in runs for part in _parts(run, begins.get(run.topic, ()))]


def _parts(run: Run, starts: Sequence[EpochStart]) -> Iterator[Run]:
    within = [at for at in bounds(starts, run.assignment.topic_id, run.partition) if run.first < at < run.next]
    if not within:
        yield run
        return
    offsets = run.offsets()
    places = [0, *(bisect_left(offsets, at) for at in within), len(run)]
    for low, high in pairwise(places):
        if low < high:
            yield run.slice(low, high)
