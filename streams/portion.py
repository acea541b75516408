"""A bounded part of a group that NOTIFY works on at once, and what of it is settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from connectors.transport.chunk import Run
from schemas.rule import Alert
from streams.retry import Waiting

PORTION_RECORDS_MAX = 256  # what is sent again at most after a crash


@dataclass(frozen=True, slots=True)
class Record:
    """A record to write for an alert that was not delivered."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes | None]]


@dataclass(slots=True, eq=False)
class Item:
    """One alert to send: where it was read, and, on the retry topic, since when it waits."""

    run: Run
    index: int
    key: bytes | None
    alert: Alert
    waiting: Waiting | None
    postponed: bool = False  # the last try came to nothing: it stays open


@dataclass(slots=True)
class Portion:
    """Some runs; a record is settled unless it was added and is not finished."""

    runs: list[Run]
    _open: dict[tuple[int, int], Item] = field(default_factory=dict)
    _records: list[tuple[Run, Record]] = field(default_factory=list)
    _said: set[tuple[int, int]] = field(default_factory=set)

    def records(self) -> Iterator[tuple[Run, int, bytes | None, bytes | None]]:
        """Give run, index, key and value of every record."""
        for run in self.runs:
            for index, (key, value) in enumerate(zip(run.keys(), run.values(), strict=True)):
                yield run, index, key, value

    def add(self, item: Item) -> None:
        """Take an alert that is to be sent."""
        self._open[id(item.run), item.index] = item

    def open(self) -> list[Item]:
        """Return what is not settled, in the order in which it was added."""
        return list(self._open.values())

    def finish(self, item: Item, record: Record | None) -> None:
        """Settle an alert: it was delivered, or becomes `record`."""
        del self._open[id(item.run), item.index]
        if record is not None:
            self._records.append((item.run, record))

    def take_records(self) -> list[tuple[Run, Record]]:
        """Return what is to be written, once."""
        taken, self._records = self._records, []
        return taken

    def take_settled(self) -> list[Run]:
        """Return slices of what is settled and was not yet returned."""
        assert not self._records, "what becomes of an alert is written before it is done"
        return [part for run in self.runs if not run.lost for part in self._settled_slices(run)]

    def _settled_slices(self, run: Run) -> Iterator[Run]:
        start: int | None = None
        for index in range(len(run) + 1):
            at = (id(run), index)
            fresh = index < len(run) and at not in self._open and at not in self._said
            if fresh:
                self._said.add(at)
                start = index if start is None else start
            elif start is not None:
                yield run if (start, index) == (0, len(run)) else run.slice(start, index)
                start = None


def portions(runs: Sequence[Run]) -> Iterator[Portion]:
    """Cut runs into portions of at most `PORTION_RECORDS_MAX` records, lazily: what comes later may be lost by then."""
    gathered: list[Run] = []
    room = PORTION_RECORDS_MAX
    for run in runs:
        at = 0
        while at < len(run) and not run.lost:
            count = min(len(run) - at, room)
            gathered.append(run if count == len(run) else run.slice(at, at + count))
            at, room = at + count, room - count
            if not room:
                yield Portion(gathered)
                gathered, room = [], PORTION_RECORDS_MAX
    if gathered:
        yield Portion(gathered)
