"""The verification of one table: a pass over the source by chunks, then a second look at all that differed.

While changes flow, a row that differs may only be on its way. It counts as different once the source's row has stayed
as it is for `settle_seconds`, from one look to a later one, and a place still has another. What still changes when
three times that have passed is reported apart: it was never judged. A row that stands still is always judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from connectors.sources.base import SourceTable
from schemas.errors import ConfigurationError
from schemas.types import ColumnType, Kind
from streams.verify.behind_masks import MaskedSource
from streams.verify.compare import UNAVAILABLE, Differing, compare, empty
from streams.verify.places import EXTRAS_MAX, Place, bounds_of, key_texts, source_key_texts
from streams.verify.typed import compared_type, typed

KEY_KINDS = frozenset(Kind) - {Kind.BINARY, Kind.LIST, Kind.JSON, Kind.FLOAT, Kind.DOUBLE}
SOURCE = "source"
_SEEN = "_seen"  # the keys that the source showed; no table of the lake has such a name
_LOOK_AGAIN_SECONDS = 2.0
_PATIENCE = 3  # times the settling: so long a row may go on changing before it is left

Key = tuple[Any, ...]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How a verification goes about it."""

    chunk_rows: int = 2_000
    settle_seconds: float = 90.0
    rows_a_second: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A row that stays different. `place` is `source` where all places agree with each other against it."""

    place: str
    key: Key
    kind: str
    columns: tuple[str, ...]


@dataclass(slots=True)
class PlaceReport:
    """What the pass saw of one place; the checksums are of the same columns on both sides."""

    columns: list[str]
    rows: int = 0
    source_checksum: int = 0
    checksum: int = 0
    unavailable: int = 0
    looked_at_again: int = 0


@dataclass(slots=True)
class Report:
    """What is known of a table in the end; `unsettled` rows went on changing in the source, and were not judged."""

    table: str
    moment: str = ""
    rows: int = 0
    chunks: int = 0
    places: dict[str, PlaceReport] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    unsettled: int = 0
    too_many: bool = False
    not_compared: list[str] = field(default_factory=list)
    behind_masks: list[str] = field(default_factory=list)  # compared as their masks leave them
    unreadable: dict[str, int] = field(default_factory=dict)
    leaves_open: str = ""  # what at the source leaves the order of changes open

    @property
    def equal(self) -> bool:
        """Tell whether every row that was judged is the same everywhere, and that there are not too many to judge."""
        return not self.findings and not self.too_many


class Verification:
    """Compares one table of a source with its places."""

    def __init__(
        self,
        table: str,
        source: SourceTable | MaskedSource,
        places: Sequence[Place],
        workspace: duckdb.DuckDBPyConnection,
        options: Options,
        *,
        progress: Progress = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare; nothing is read yet.

        Raises:
            ConfigurationError: rows cannot be told apart by the key's types, or there is nothing to compare with.
        """
        self._source, self._places, self._workspace, self._options = source, places, workspace, options
        self._progress, self._clock, self._sleep = progress, clock, sleep
        self._key = list(source.key)
        self._report = Report(table, places={place.name: PlaceReport(list(place.columns)) for place in places})
        self._differing: dict[str, dict[Key, Differing]] = {place.name: {} for place in places}
        if bad := [name for name in self._key if source.columns[name].kind not in KEY_KINDS]:
            raise ConfigurationError(
                f"{table}: rows cannot be looked up by {', '.join(bad)}: not by values of that type"
            )
        if not places:
            raise ConfigurationError(f"{table} has neither a lake nor a view", hint="there is nothing to compare with")

    def run(self) -> Report:
        """Read, compare, look again, and return what is different.

        Raises:
            SourceUnavailable: the database does not answer.
            SinkUnavailable: Redis or the lake does not answer.
        """
        self._report.moment = self._source.session.moment()
        self._report.leaves_open = self._source.session.leaves_open()
        self._begin_seen()
        self._pass()
        self._look_for_extras()
        if self._report.too_many:  # something is wrong with all of it, or the load is not over: nothing to judge by row
            self._report.unsettled = len(self._pending())
        else:
            self._settle()
        return self._report

    # ── the pass ──

    def _pass(self) -> None:
        total, after = self._source.count(), None
        while (texts := self._source.rows_after(after, self._options.chunk_rows)).num_rows:
            began = self._clock()
            after = [texts[name][-1].as_py() for name in self._key]
            self._compare_chunk(texts)
            self._progress("compared", self._report.rows, max(total, self._report.rows))
            if self._options.rows_a_second:
                self._sleep(max(0.0, texts.num_rows / self._options.rows_a_second - (self._clock() - began)))
            if self._report.too_many:
                break

    def _compare_chunk(self, texts: pa.Table) -> None:
        rows, unreadable = typed(texts, self._source.columns)
        for name, count in unreadable.items():
            self._report.unreadable[name] = self._report.unreadable.get(name, 0) + count
        keys = rows.select(self._key)
        self._workspace.register("_chunk", keys.append_column("_entity", key_texts(keys)))
        self._workspace.execute(f"INSERT INTO {_SEEN} SELECT * FROM _chunk")  # noqa: S608  ours
        self._workspace.unregister("_chunk")
        self._report.rows += rows.num_rows
        self._report.chunks += 1
        for place in self._places:
            self._compare_with(place, rows, place.first_rows(keys))

    def _compare_with(self, place: Place, rows: pa.Table, theirs: pa.Table) -> None:
        found = compare(self._workspace, rows.select(list(place.columns)), theirs, self._key, list(place.columns))
        said = self._report.places[place.name]
        said.rows += theirs.num_rows
        said.source_checksum ^= found.source_checksum
        said.checksum ^= found.checksum
        said.unavailable += found.unavailable
        self._note(place, found.differing)

    def _look_for_extras(self) -> None:
        bounds = bounds_of(self._source.bounds, self._source.columns[self._key[0]])
        for place in self._places:
            self._note(place, [Differing(key, "extra") for key in rows_as_keys(place.others(_SEEN, bounds))])

    def _note(self, place: Place, differing: Iterable[Differing]) -> None:
        noted = self._differing[place.name]
        noted.update((each.key, each) for each in differing)
        self._report.places[place.name].looked_at_again = len(noted)
        self._report.too_many = self._report.too_many or len(noted) >= EXTRAS_MAX

    # ── the second look ──

    def _settle(self) -> None:
        """Look again and again until each row that differs is judged, or left because it goes on changing.

        What a look finds counts for the moment at which it read the source: the places are read behind it, however
        long that takes. So a row is judged by its second look at the earliest, and a slow look hurries no row.
        """
        patience_ends = self._clock() + self._options.settle_seconds * _PATIENCE
        since: dict[Key, float] = {}
        before: pa.Table | None = None
        while pending := self._pending():
            asked = self._clock()
            keys = keys_as_rows(pending, self._key, self._source.columns)
            rows = self._source_rows(keys)
            moved = pending if before is None else self._moved(pending, rows, before)
            since.update(dict.fromkeys(moved, self._clock()))
            self._compare_again(keys, rows)
            self._judge({key for key in pending - moved if asked - since[key] >= self._options.settle_seconds})
            if before is not None and asked >= patience_ends:
                self._leave(moved)
            before = rows
            if left := len(self._pending()):
                self._progress("waited for", left, left)
                self._sleep(min(_LOOK_AGAIN_SECONDS, max(self._options.settle_seconds / 5, 0.01)))

    def _pending(self) -> set[Key]:
        return {key for noted in self._differing.values() for key in noted}

    def _moved(self, pending: set[Key], rows: pa.Table, before: pa.Table) -> set[Key]:
        """Return which keys the source has another row of than it had before."""
        found = compare(self._workspace, rows, _as_place(before), self._key, list(self._source.columns))
        return pending & {each.key for each in found.differing}

    def _compare_again(self, keys: pa.Table, rows: pa.Table) -> None:
        for place in self._places:
            noted = self._differing[place.name]
            theirs = place.rows(keys)
            found = compare(self._workspace, rows.select(list(place.columns)), theirs, self._key, list(place.columns))
            self._differing[place.name] = {each.key: each for each in found.differing if each.key in noted}

    def _leave(self, keys: set[Key]) -> None:
        """Count rows that still differ as unsettled, and look at them no more."""
        self._report.unsettled += len(keys & self._pending())
        for name, noted in self._differing.items():
            self._differing[name] = {key: each for key, each in noted.items() if key not in keys}

    def _source_rows(self, keys: pa.Table) -> pa.Table:
        rows, _ = typed(self._source.rows_of(source_key_texts(keys)), self._source.columns)
        return rows

    def _judge(self, keys: Collection[Key]) -> None:
        """Report the rows of `keys` that still differ, and look at them no more."""
        found = {key: [n for n, noted in self._differing.items() if key in noted] for key in keys}
        alone = self._agreed_against_source(found)
        for key, names in found.items():
            kept = {name: self._differing[name].pop(key) for name in names}
            if key in alone:
                kind = next(iter(kept.values())).kind
                self._report.findings.append(Finding(SOURCE, key, kind, _columns_of(kept.values())))
            else:
                self._report.findings += [Finding(name, key, each.kind, each.columns) for name, each in kept.items()]

    def _agreed_against_source(self, found: Mapping[Key, Sequence[str]]) -> set[Key]:
        """Return the keys in which every place that could differ does, and all have the same there."""
        together: dict[tuple[str, ...], list[Key]] = {}
        for key, names in found.items():
            noted = [self._differing[name][key] for name in names]
            columns = set(_columns_of(noted))
            concerned = {p.name for p in self._places if not columns or columns & p.columns.keys()}
            if len(names) > 1 and concerned == set(names):
                together.setdefault(tuple(names), []).append(key)
        return {key for names, keys in together.items() for key in self._agreeing(names, keys)}

    def _agreeing(self, names: Collection[str], keys: Sequence[Key]) -> set[Key]:
        """Return which of `keys` these places have the same row of, in the columns that they share."""
        table = keys_as_rows(keys, self._key, self._source.columns)
        first, *others = ((place, place.rows(table)) for place in self._places if place.name in names)
        agreed = set(keys)
        for place, rows in others:
            shared = [name for name in place.columns if name in first[0].columns]
            ours = first[1].select(shared)
            agreed -= {each.key for each in compare(self._workspace, ours, rows, self._key, shared).differing}
        return agreed

    def _begin_seen(self) -> None:
        """Make the table of the keys that the source showed; it lies in the workspace, which spills to disk."""
        keys = empty({name: self._source.columns[name] for name in self._key}).drop_columns([UNAVAILABLE])
        self._workspace.register("_empty", keys.append_column("_entity", pa.array([], pa.string())))
        self._workspace.execute(f"CREATE TEMP TABLE {_SEEN} AS FROM _empty")
        self._workspace.unregister("_empty")


def keys_as_rows(keys: Iterable[Key], names: Sequence[str], columns: Mapping[str, ColumnType]) -> pa.Table:
    """Return keys as a table of their columns."""
    parts = list(zip(*keys, strict=True)) or [()] * len(names)
    arrays = [pa.array(part, compared_type(columns[name])) for name, part in zip(names, parts, strict=True)]
    return pa.Table.from_arrays(arrays, names=list(names))


def rows_as_keys(table: pa.Table) -> list[Key]:
    """Return the rows of a table of keys."""
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _columns_of(differing: Iterable[Differing]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column for each in differing for column in each.columns))


def _as_place(rows: pa.Table) -> pa.Table:
    lacking = pa.array([[]] * rows.num_rows, pa.list_(pa.string()))
    return rows.append_column(UNAVAILABLE, lacking)
