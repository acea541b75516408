"""What LAKE holds between topic and lake: rows per table, and where each partition would stand with them. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.contract import ContractReader
from connectors.contract_wire import ChangeReader
from connectors.transport.chunk import Assignment
from schemas.change import NOTHING_SEEN, Height, Operation, is_for
from schemas.table import TableSpec
from sinks.lake import table as lake
from sinks.lake.commit import LakeBatch
from sinks.lake.rows import ROWS_READ, lake_rows
from sinks.lake.stand import Stand, Stream

_STREAM = (lake.TOPIC, lake.GENERATION, lake.PARTITION)


@dataclass(slots=True)
class Place:
    """Where the lake stands in one assignment, as its `Stand` says; `stored` is the next offset, None if it has none.

    Moved by commits only: what was read and not committed may be lost and come again.
    """

    stored: int | None = None
    topic_id: str = ""  # of the topic that this is an offset of; empty where ids are off
    highest: dict[Stream, Height] = field(default_factory=dict)
    first: int | None = None

    def reset(self, stand: Stand | None) -> None:
        """Stand where the lake stands."""
        self.stored = stand.next_offset if stand else None
        self.topic_id = stand.topic_id if stand else ""
        self.highest = dict(stand.highest) if stand else {}
        self.first = stand.first if stand else None

    def first_of(self, assignment: Assignment) -> int | None:
        """Return from which offset on the lake will have all of a partition, once what is read now is committed.

        It begins where reading began, unless that goes on where the lake stands.
        """
        goes_on = self.stored is not None and self.topic_id in ("", assignment.topic_id)
        return self.first if goes_on and assignment.gap is None else assignment.start


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one run."""

    run: Any
    rows: pa.Table
    nbytes: int


@dataclass(slots=True)
class TableBuffer:
    """The parts of one table that no commit has begun with, in the order in which they were read."""

    parts: list[Part] = field(default_factory=list)
    rows: int = 0
    nbytes: int = 0
    since: float | None = None  # when the oldest part came, by a clock that nobody sets

    def add(self, part: Part, now: float) -> None:
        """Append a part."""
        self.parts.append(part)
        self.rows += len(part.rows)
        self.nbytes += part.nbytes
        self.since = now if self.since is None else self.since

    def take(self) -> list[Part]:
        """Return all parts and be empty."""
        parts, self.parts = self.parts, []
        self.rows = self.nbytes = 0
        self.since = None
        return parts

    def drop(self, is_gone: Callable[[Part], bool]) -> list[Part]:
        """Take out the parts that are gone and return them."""
        gone = [part for part in self.parts if is_gone(part)]
        self.parts = [part for part in self.parts if not is_gone(part)]
        self.rows -= sum(len(part.rows) for part in gone)
        self.nbytes -= sum(part.nbytes for part in gone)
        self.since = self.since if self.parts else None
        return gone


class TableRuns:
    """A table that LAKE reads: its spec, the reader made for it, its buffer and its commit in progress."""

    def __init__(self, spec: TableSpec, changes: ChangeReader) -> None:
        self.spec, self._changes = spec, changes
        self.reader = ContractReader(spec, rows=ROWS_READ)
        self.buffer = TableBuffer()
        self.flush: asyncio.Task[None] | None = None

    def read(self, runs: Sequence[Any], ingested: datetime, *, older: bool) -> list[Any]:
        """Return the rows of each run; with `older` some may be of a schema version before the spec's."""
        return read_runs(self.spec, self.reader, runs, ingested, older=older, changes=self._changes)


def live_parts(parts: Sequence[Part]) -> list[Part]:
    """Return the parts whose runs are still ours."""
    return [part for part in parts if not part.run.lost]


def read_runs(
    spec: TableSpec, reader: ContractReader, runs: Sequence[Any], ingested: datetime, *, changes: ChangeReader,
    older: bool = False,
) -> list[Any]:  # fmt: skip
    """Return the rows of each run, read in one go, in either form.

    Tombstones have none, nor has what a replay left out for the lake.

    A floor stands in every partition of its topic; the lake has the one in the partition of its origin's number.
    """
    values = [[value for value in run.values() if value is not None] for run in runs]
    together = changes.as_json([value for of_run in values for value in of_run])
    rows = lake_rows(spec, reader.read(together, older=older), together, ingested=ingested)
    ends = [sum(map(len, values[: index + 1])) for index in range(len(values))]
    by_run = [rows.slice(end - len(of_run), len(of_run)) for end, of_run in zip(ends, values, strict=True)]
    by_run = [_for_the_lake(of_run, run) for of_run, run in zip(by_run, runs, strict=True)]
    if not _has_floors(rows):
        return by_run
    return [_without_copies(of_run, run.partition) for of_run, run in zip(by_run, runs, strict=True)]


def _for_the_lake(rows: pa.Table, run: Any) -> pa.Table:
    """Return the rows of a run without those of a replay that is for others; a replay has a generation of its own."""
    again = pc.not_equal(rows.column(lake.GENERATION), 0)
    if not pc.any(again).as_py():
        return rows
    present = [index for index, value in enumerate(run.values()) if value is not None]
    kept = [not each or is_for("lake", run.headers(i)) for each, i in zip(again.to_pylist(), present, strict=True)]
    return rows if all(kept) else rows.filter(pa.array(kept))


def _without_copies(rows: pa.Table, partition: int) -> pa.Table:
    """Return the rows of a partition without the floors that were read in others."""
    of_rows = pc.not_equal(rows.column(lake.OP), str(Operation.FLOOR))
    return rows.filter(pc.or_(of_rows, pc.equal(rows.column(lake.PARTITION), partition)))


def new_rows(rows: pa.Table, highest: Mapping[Stream, Height]) -> tuple[pa.Table, dict[Stream, Height]]:
    """Return the rows that the subscriber's rule lets through, and the highest changes with them.

    The rule: for each origin stream apart, drop what is not above the highest offset seen, and of one record's changes
    above the highest of them. A floor does not count; one that stands below what was seen came before it.
    """
    reached = dict(highest)
    if not len(rows):
        return rows, reached
    streams = rows.select(_STREAM).group_by(_STREAM).aggregate([]).to_pylist()
    several = rows.schema.get_field_index(lake.ROW) >= 0
    if len(streams) == 1 and not _has_floors(rows):
        stream: Stream = (streams[0][lake.TOPIC], streams[0][lake.GENERATION], streams[0][lake.PARTITION])
        offsets = rows.column(lake.OFFSET).combine_chunks()
        numbers = rows.column(lake.ROW).combine_chunks() if several else None
        if _height(offsets, numbers, 0) > reached.get(stream, NOTHING_SEEN) and _rising(offsets, numbers):
            reached[stream] = _height(offsets, numbers, -1)
            return rows, reached
    return _row_by_row(rows, reached, several=several)


def _row_by_row(
    rows: pa.Table, reached: dict[Stream, Height], *, several: bool
) -> tuple[pa.Table, dict[Stream, Height]]:
    """Apply the rule where several streams, floors or repeats are mixed: seldom, and a microsecond a row."""
    columns = [rows.column(name).to_pylist() for name in (*_STREAM, lake.OP, lake.OFFSET)]
    numbers = rows.column(lake.ROW).to_pylist() if several else [0] * len(rows)
    keep = []
    for topic, generation, partition, op, *height in zip(*columns, numbers, strict=True):
        stream, here = (topic, generation, partition), Height(*height)
        is_new = here > reached.get(stream, NOTHING_SEEN)
        keep.append(is_new)
        if is_new and op != Operation.FLOOR:
            reached[stream] = here
    return rows if all(keep) else rows.filter(pa.array(keep)), reached


def _height(offsets: pa.Array, numbers: pa.Array | None, at: int) -> Height:
    return Height(offsets[at].as_py(), 0 if numbers is None else numbers[at].as_py())


def _has_floors(rows: pa.Table) -> bool:
    return bool(pc.any(pc.equal(rows.column(lake.OP), str(Operation.FLOOR))).as_py())


def _rising(offsets: pa.Array, numbers: pa.Array | None) -> bool:
    rises = pc.greater(offsets[1:], offsets[:-1])
    if numbers is not None:
        goes_on = pc.and_(pc.equal(offsets[1:], offsets[:-1]), pc.greater(numbers[1:], numbers[:-1]))
        rises = pc.or_(rises, goes_on)
    return bool(pc.all(rises, min_count=0).as_py())


def lake_batch(table: str, parts: Sequence[Part], places: Mapping[Any, Place]) -> tuple[LakeBatch, int]:
    """Return what the lake is to write for `parts`, and how many repeats were left out; `places` are by assignment."""
    assert parts, "a batch has parts"
    before: dict[int, int | None] = {}
    after: dict[int, Stand] = {}
    rows: list[pa.Table] = []
    for part in parts:
        run, place = part.run, places[part.run.assignment]
        stand = after.get(run.partition)
        fresh, highest = new_rows(part.rows, stand.highest if stand else place.highest)
        rows.append(fresh)
        before[run.partition] = place.stored
        # Read again from before what is stored, a partition does not go back: its rows are repeats. What is stored of
        # another life of the topic is no offset of this one.
        stored = place.stored if place.topic_id in ("", run.assignment.topic_id) else None
        next_offset = max(run.next, stand.next_offset if stand else stored or 0)
        first = stand.first if stand else place.first_of(run.assignment)
        after[run.partition] = Stand(run.topic, run.assignment.topic_id, next_offset, highest, first)
    together = pa.concat_tables(rows, promote_options="default")  # not all may have the columns for several changes
    return LakeBatch(table, together, before, after), sum(len(part.rows) for part in parts) - len(together)
