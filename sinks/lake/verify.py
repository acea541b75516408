"""Whether the lake holds every change exactly once, by the chain that the changes themselves carry.

Each change names the origin offset of the one before it (`_hg_previous`), for each origin topic, generation and
partition apart. A file is read once, in batches; what is kept are its unbroken stretches of the chain, not its rows,
and a healthy file has one per origin stream. Stretches that follow on each other prove that nothing is missing;
stretches that reach into each other, that something is there twice. Where a stream ends the table itself says: its
partitions' properties hold the highest offset of each.

Of a record of several changes each names the record's own offset but the first, says which one it is (`_hg_row`), and
how many there are (`_hg_rows`): they follow on each other by number, and the next record on the last of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.table import Table

from schemas.change import Height
from schemas.errors import TableStopped
from sinks.lake import table as lake
from sinks.lake.files import live_files
from sinks.lake.stand import Stream, read_stands

FINDINGS_SHOWN = 5
STRETCHES_MAX = 5_000_000  # about a gigabyte: a table that is broken everywhere, or files of single rows
_BATCH_ROWS = 64 * 1024
_STREAM = (lake.TOPIC, lake.GENERATION, lake.PARTITION)
_COLUMNS = (*_STREAM, lake.OFFSET, lake.PREVIOUS, lake.OP)


class Stretch(NamedTuple):
    """A part of a chain without a break: `previous` is what its first change names, `file` where it stands.

    `left` is how many changes the record of its last one made beyond that.
    """

    first: int
    last: int
    previous: int | None
    file: int
    first_row: int = 0
    last_row: int = 0
    left: int = 0

    @property
    def begin(self) -> Height:
        """The first change."""
        return Height(self.first, self.first_row)

    @property
    def end(self) -> Height:
        """The last change."""
        return Height(self.last, self.last_row)

    def follows(self, before: Stretch) -> bool:
        """Tell whether nothing is missing between `before` and this."""
        if self.first_row:
            return self.begin == Height(before.last, before.last_row + 1)
        return self.previous == before.last < self.first and before.left <= 0


@dataclass(frozen=True, slots=True)
class Finding:
    """A place where the chain breaks: changes between two offsets are missing, or some from `offset` on are doubled."""

    kind: str  # gap | overlap
    topic: str
    generation: int
    partition: int
    offset: int  # of the change at which it shows
    expected: int | None  # the offset of the change before it, as the lake has it
    previous: int | None  # the same, as the change itself says
    file: str
    row: int = 0  # which change of its record
    expected_row: int = 0


@dataclass(slots=True)
class Report:
    """What `verify` saw. `late_starts` are streams whose first change names one before it, or that have none left."""

    table: str
    rows: int = 0
    files: int = 0
    streams: int = 0
    gaps: int = 0
    overlaps: int = 0
    late_starts: int = 0
    findings: list[Finding] = field(default_factory=list)  # the first five

    @property
    def ok(self) -> bool:
        """Say whether every change is there exactly once."""
        return not self.gaps and not self.overlaps


Progress = Callable[[int, int, int], None]  # files read, files in all, rows read


def verify(table: Table, *, progress: Progress | None = None) -> Report:
    """Read the chain columns of every file of the table's current snapshot and return what was found.

    Memory holds one batch of rows and the stretches.

    Raises:
        TableStopped: the chain breaks in millions of places, or the table has row-level deletes.
    """
    report = Report(str(table.name()[-1]))
    paths = [file.file_path for file in live_files(table)]
    stretches: defaultdict[Stream, list[Stretch]] = defaultdict(list)
    kept = 0
    for number, path in enumerate(paths):
        for stream, found in _stretches_of_file(_batches(table, path, report), number):
            stretches[stream] += found
            kept += len(found)
        if kept > STRETCHES_MAX:
            raise TableStopped("lake_broken", f"the chain of {report.table} breaks in more than {STRETCHES_MAX} places")
        report.files += 1
        if progress is not None:
            progress(report.files, len(paths), report.rows)
    report.streams = len(stretches)
    for stream in sorted(stretches):
        judge(stream, stretches[stream], paths, report)
    for stand in read_stands(table.properties).values():
        for stream, highest in stand.highest.items():
            _judge_end(stream, stretches.get(stream, []), highest, report)
    return report


def judge(stream: Stream, stretches: list[Stretch], paths: list[str], report: Report) -> None:
    """Add to the report where the stretches of one stream do not follow on each other."""
    stretches.sort(key=attrgetter("first", "first_row", "last", "last_row"))
    highest: Stretch | None = None
    for one in stretches:
        if highest is None:
            report.late_starts += one.previous is not None
        elif one.begin <= highest.end:
            _found(report, _finding("overlap", stream, one, highest, paths))
        elif not one.follows(highest):
            _found(report, _finding("gap", stream, one, highest, paths))
        if highest is None or one.end >= highest.end:
            highest = one


def _finding(kind: str, stream: Stream, one: Stretch, before: Stretch, paths: list[str]) -> Finding:
    file = paths[one.file]
    return Finding(kind, *stream, one.first, before.last, one.previous, file, one.first_row, before.last_row)


def _judge_end(stream: Stream, stretches: list[Stretch], highest: Height, report: Report) -> None:
    """Add to the report where a stream ends before `highest`, which the lake says it has."""
    last = max((one.end for one in stretches), default=None)
    if last is None:
        report.late_starts += 1
    elif last < highest:
        _found(report, Finding("gap", *stream, highest.offset, last.offset, None, "", highest.row, last.row))


def _found(report: Report, finding: Finding) -> None:
    report.gaps += finding.kind == "gap"
    report.overlaps += finding.kind == "overlap"
    if len(report.findings) < FINDINGS_SHOWN:
        report.findings.append(finding)


def _batches(table: Table, path: str, report: Report) -> Iterator[pa.RecordBatch]:
    with table.io.new_input(path).open() as stream:
        file = pq.ParquetFile(stream)
        columns = [*_COLUMNS, *(name for name in lake.ROW_COLUMNS if name in file.schema_arrow.names)]
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
            report.rows += len(batch)
            yield batch


def _stretches_of_file(batches: Iterable[pa.RecordBatch], file: int) -> Iterator[tuple[Stream, list[Stretch]]]:
    """Yield the stretches of one file per stream, joined over the borders of its batches."""
    found: defaultdict[Stream, list[Stretch]] = defaultdict(list)
    for batch in batches:
        rows = pa.Table.from_batches([batch])
        rows = rows.filter(pc.not_equal(rows.column(lake.OP), "floor"))  # floors stand outside the rule
        for values in rows.select(_STREAM).group_by(_STREAM).aggregate([]).to_pylist():
            stream: Stream = (values[lake.TOPIC], values[lake.GENERATION], values[lake.PARTITION])
            for stretch in _stretches(_rows_of(rows, stream), file):
                _append(found[stream], stretch)
    yield from found.items()


def _rows_of(rows: pa.Table, stream: Stream) -> pa.Table:
    mask = None
    for name, value in zip(_STREAM, stream, strict=True):
        here = pc.equal(rows.column(name), value)
        mask = here if mask is None else pc.and_(mask, here)
    return rows.filter(mask)


def _stretches(rows: pa.Table, file: int) -> list[Stretch]:
    """Return the stretches of one stream's rows, in their order; only the borders are looked at one by one."""
    offsets = rows.column(lake.OFFSET).combine_chunks()
    previous = rows.column(lake.PREVIOUS).combine_chunks()
    follows = pc.and_(pc.equal(previous[1:], offsets[:-1]), pc.greater(offsets[1:], offsets[:-1]))
    several = _of_records(rows) if lake.ROW in rows.column_names else None
    if several is not None:
        numbers, lefts = several
        follows = pc.and_(follows, pc.less_equal(lefts[:-1], 0))
        goes_on = pc.and_(pc.equal(offsets[1:], offsets[:-1]), pc.equal(numbers[1:], pc.add(numbers[:-1], 1)))
        follows = pc.if_else(pc.equal(numbers[1:], 0), follows, goes_on)
    breaks = pc.indices_nonzero(pc.invert(pc.fill_null(follows, False))).to_pylist()
    starts = [0, *(index + 1 for index in breaks)]
    ends = [*breaks, len(rows) - 1]
    stretches = [
        Stretch(offsets[start].as_py(), offsets[end].as_py(), previous[start].as_py(), file)
        for start, end in zip(starts, ends, strict=True)
    ]
    if several is None:
        return stretches
    return [
        one._replace(first_row=numbers[start].as_py(), last_row=numbers[end].as_py(), left=lefts[end].as_py())
        for one, start, end in zip(stretches, starts, ends, strict=True)
    ]


def _of_records(rows: pa.Table) -> tuple[pa.Array, pa.Array]:
    """Return which change of its record each row is, and how many the record made beyond it."""
    numbers = pc.fill_null(rows.column(lake.ROW).combine_chunks(), 0)
    counts = pc.fill_null(rows.column(lake.ROWS).combine_chunks(), 1)
    return numbers, pc.subtract(pc.subtract(counts, numbers), 1)


def _append(stretches: list[Stretch], stretch: Stretch) -> None:
    """Add a stretch, or lengthen the last one by it where it follows on."""
    if stretches and stretch.follows(stretches[-1]):
        stretches[-1] = stretches[-1]._replace(last=stretch.last, last_row=stretch.last_row, left=stretch.left)
    else:
        stretches.append(stretch)
