"""One partition of an output topic against what its source partition demands, record by record, in any number of them.

Memory stays the same however long the topic is: what is expected comes as an iterator in the order of the source's
offsets, what is there in the order of the topic's. So each record is compared with the one that must stand there:
lost, doubled, out of order, a wrong value and a broken `previous` are told apart by their place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from kafka import TopicPartition

from tests.oracles.clients import independent_consumer
from tests.oracles.topic import Record
from tests.oracles.verdict import Verdict

POLL_MS = 500
Place = tuple[int, int]  # the offset of a record, and which of its changes


@dataclass(frozen=True, slots=True)
class Expected:
    """A change that must be on the output topic, in the contract's forms, and the offset of its origin.

    `row` says which change of its record it is, `rows` how many that made.
    """

    offset: int
    op: str
    key: dict[str, Any]
    after: dict[str, Any] | None
    position: str
    ts: str
    old_key: dict[str, Any] | None = None
    new_key: dict[str, Any] | None = None
    unavailable: tuple[str, ...] = ()
    snapshot: bool = False
    behind_gap: bool = False  # what was before it is gone: it must name none
    row: int = 0
    rows: int = 1

    @property
    def place(self) -> Place:
        """Where it stands in its origin stream."""
        return self.offset, self.row


class Mark(NamedTuple):
    """At one moment: the offset that a group had committed of the source partition, then the end of the output's."""

    committed: int
    end: int


Seen = Callable[[int, Expected], None]
"""Hears of each record that is right: where it stands on the output topic, and what it is."""


def read_partition(
    bootstrap: str, topic: str, partition: int, *, uncommitted: bool = False, timeout_ms: int = 60_000
) -> Iterator[Record]:
    """Yield the records of one partition, in order; with `uncommitted` also those of aborted transactions.

    Raises:
        TimeoutError: the broker did not give all of them in time.
    """
    isolation = "read_uncommitted" if uncommitted else "read_committed"
    settings: dict[str, Any] = {"isolation_level": isolation, "max_poll_records": 5_000, "auto_offset_reset": "none"}
    with independent_consumer(bootstrap, **settings) as consumer:
        place = TopicPartition(topic, partition)
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        end, idle_ms = consumer.end_offsets([place])[place], 0
        while consumer.position(place) < end:
            polled = consumer.poll(timeout_ms=POLL_MS)
            idle_ms = 0 if polled else idle_ms + POLL_MS
            if idle_ms > timeout_ms:
                raise TimeoutError(f"{topic}[{partition}] stands at {consumer.position(place)} of {end}")
            for messages in polled.values():
                for m in messages:
                    yield Record(m.topic, m.partition, m.offset, m.key, m.value, tuple(m.headers))


def check_sequence(
    verdict: Verdict,
    origin: tuple[str, int, int],
    expected: Iterator[Expected],
    found: Iterator[Record],
    *,
    marks: Sequence[Mark] = (),
    repeats: bool = False,
    seen: Sequence[Seen] = (),
) -> None:
    """Compare one partition; `origin` is topic, generation and partition of the source.

    `marks` check that no offset was committed above what was durable then. With `repeats` a record that is not above
    the highest one is dropped and counted, as the subscriber's rule says; without, it is doubled.
    """
    due = _Due(verdict, origin, expected, sorted(marks, key=lambda mark: mark.end))
    repeated = 0
    for record in found:
        due.pass_marks(record.offset)
        value = orjson.loads(record.value or b"null")
        source = (value or {}).get("source", {})
        place = source.get("origin")
        if not place or tuple(place[:3]) != origin:
            verdict.differ(f"{record.topic} {record.partition} {record.offset}: its origin is {place}, not of {origin}")
            continue
        here: Place = (place[3], place[4] if place[4:] else 0)
        if due.highest is not None and here <= due.highest:
            repeated += 1
            if not repeats:
                verdict.differ(f"{place}: comes after offset {due.highest[0]}: doubled or out of order")
            continue
        change = due.take(here)
        if change is None:
            verdict.differ(f"{place}: too much, the source has no such change")
            continue
        before = None if change.behind_gap else due.previous
        if source["previous"] != before:
            verdict.differ(f"{place}: previous is {source['previous']}, {before} was before it")
        _compare(verdict, place, change, value)
        for hear in seen:
            hear(record.offset, change)
    due.pass_marks(None)
    due.take(None)
    verdict.figures["changes"] = verdict.figures.get("changes", 0) + due.count
    verdict.figures["repeats"] = verdict.figures.get("repeats", 0) + repeated


class _Due:
    """What is still to come of one partition."""

    def __init__(
        self, verdict: Verdict, origin: tuple[str, int, int], expected: Iterator[Expected], marks: list[Mark]
    ) -> None:
        self._verdict, self._origin, self._expected, self._marks = verdict, origin, expected, marks
        self._next = next(expected, None)
        self.highest: Place | None = None
        self.previous: int | None = None
        self.count = 0

    def take(self, place: Place | None) -> Expected | None:
        """Return the change at `place`; those before it are missing. None takes all that is left."""
        while self._next is not None and (place is None or self._next.place < place):
            self._verdict.differ(f"missing: {(*self._origin, *self._next.place)} ({self._next.op} {self._next.key})")
            self._next = next(self._expected, None)
        self.previous = None if self.highest is None else self.highest[0]
        if self._next is None or self._next.place != place:
            return None
        change, self._next = self._next, next(self._expected, None)
        self.highest = place
        self.count += 1
        return change

    def pass_marks(self, offset: int | None) -> None:
        """Check the marks that end at or before the output's `offset`; None: all that are left."""
        while self._marks and (offset is None or self._marks[0].end <= offset):
            mark = self._marks.pop(0)
            if self._next is not None and self._next.offset < mark.committed:
                self._verdict.differ(
                    f"{self._origin}: offset {mark.committed} was committed while {self._next.offset} was not durable"
                )


def _compare(verdict: Verdict, place: list[Any], change: Expected, value: dict[str, Any]) -> None:
    for name in ("op", "key", "after", "position", "old_key", "new_key", "ts"):
        if value[name] != getattr(change, name):
            verdict.differ(f"{place}: {name} is {value[name]!r}, {getattr(change, name)!r} in the source")
    if value["source"].get("rows", 1) != change.rows:
        verdict.differ(f"{place}: of {value['source'].get('rows', 1)} changes, {change.rows} in the source")
    if tuple(value["unavailable"]) != change.unavailable or value["source"]["snapshot"] != change.snapshot:
        verdict.differ(f"{place}: unavailable {value['unavailable']}, snapshot {value['source']['snapshot']}")
