"""What a table's columns must become so that records are taken which its spec refuses, by the spec's own policies.

Pure: asked of the very forms that decoders read with. A column is widened where a promotion of Iceberg's holds the
value; what none holds, and columns that are new, are the policies' business (docs/tables.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from connectors.formats.keys import wire_columns
from connectors.formats.placeholder import Placeholder
from connectors.formats.reasons import Rejection
from connectors.inference.columns import ColumnSamples
from connectors.inference.connect import column_of
from connectors.inference.fitting import Way, exists, is_unavailable, takes
from connectors.inference.raw_values import RAW
from connectors.inference.rows import Row
from connectors.inference.unavailable import Unavailable
from schemas.evolution import (
    NAME_CHARACTERS_MAX,
    TEXT_SUFFIX,
    EvolvedEntry,
    Found,
    may_be_added,
    read_rest_of,
    read_text_of,
)
from schemas.table import COLUMNS_MAX, TableEntry, TableSpec
from schemas.types import DECIMAL_PRECISION_MAX, ColumnType, Kind

# Why records are refused that another spec might take.
MENDABLE = frozenset({"bad_type", "out_of_range", "bad_schema", "bad_key", "unknown_column"})
_FEW = 4  # values that are looked at one by one
_WIDENED = frozenset({Kind.INT, Kind.FLOAT, Kind.DECIMAL})


@dataclass(slots=True)
class Needs:
    """What was found. `mended` are the records that go through with `columns`.

    `misfits` are the columns of those that do not because of a type that no promotion holds and no policy lets pass.
    """

    columns: dict[str, Found] = field(default_factory=dict)
    mended: set[int] = field(default_factory=set)
    misfits: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """A value that its column does not take: `way` is how it was read, None where the spec has no such column."""

    index: int
    value: Any
    way: Way | None
    row: Row


def may_evolve(spec: TableSpec) -> bool:
    """Tell whether anything could come of looking at what was refused."""
    if spec.unknown_columns == "add" or spec.type_changes in {"text", "new_column", "pause"}:
        return True
    return spec.type_changes == "widen" and any(_widened(column.type) for column in spec.columns.values())


def needs_of(entry: TableEntry, rows: Iterable[Row], unknown: Collection[str]) -> Needs:
    """Return what the refused records need whose rows and keys these are; `unknown` are columns that were refused."""
    spec = entry.spec
    cases, refused = _Reader(spec, unknown).cases(rows), dict[int, str]()
    for name, some in cases.items():
        for index in _refused(spec, name, some, unknown):
            refused.setdefault(index, name)
    for index in _beyond(spec, cases):
        refused.setdefault(index, "")
    needs = Needs(misfits={index: name for index, name in refused.items() if name in spec.columns})
    for name, some in cases.items():
        if kept := [case for case in some if case.index not in refused]:
            needs.columns[name] = _found(entry, name, kept)
            needs.mended.update(case.index for case in kept)
    return needs


def _widened(type_: ColumnType) -> bool:
    if type_.kind is Kind.LIST:
        assert type_.element is not None, "a list has an element type"
        return _widened(type_.element)
    return type_.kind in _WIDENED


class _Reader:
    """Finds the values that a spec does not take."""

    def __init__(self, spec: TableSpec, unknown: Collection[str]) -> None:
        self._spec, self._unknown, self._widens = spec, unknown, spec.type_changes != "quarantine"
        self._placeholder = Placeholder(spec.unavailable_placeholder)
        self._ways: dict[tuple[str, int, str], tuple[Row, Way | None]] = {}
        # What has a rest, or is a text of anything, takes all; and what may become null does that instead.
        rests = {read_rest_of(column.encoding) for column in spec.columns.values()}
        self._takes_all = {
            name
            for name, column in spec.columns.items()
            if name in rests or column.unrepresentable == "null" or read_text_of(column.encoding) is not None
        }

    def cases(self, rows: Iterable[Row]) -> dict[str, list[_Case]]:
        """Return those values by column; values of one column that are read the same way are looked at together."""
        found: defaultdict[str, list[_Case]] = defaultdict(list)
        read: defaultdict[tuple[str, Way | None], list[_Case]] = defaultdict(list)
        for row in rows:
            for name, value in row.values.items():
                if name not in self._spec.columns:
                    if self._is_new(name, value, row):
                        found[name].append(_Case(row.index, value, None, row))
                elif self._widens and name not in self._takes_all:
                    way = self._way(name, row)
                    read[name, way].append(_Case(row.index, value, way, row))
        for (name, way), some in read.items():
            if failing := self._failing(way, some):
                found[name] += failing
        return found

    def _is_new(self, name: str, value: Any, row: Row) -> bool:
        """Tell whether a column is why a record was refused: what is passed over, as `check_unknown` says, is not."""
        if row.is_key or name not in self._unknown:
            return False
        match self._spec.unknown_columns:
            case "ignore":
                return False
            case "quarantine":
                return True
            case "add":
                stated = row.fields is not None and name in row.fields
                return may_be_added(name) and (value is not None or stated)

    def _failing(self, way: Way | None, cases: list[_Case]) -> list[_Case]:
        """Return those that are not taken; all of a way that there is not: its schema block comes with a null too."""
        if way is not None and not exists(way):
            return cases
        filled = [case for case in cases if case.value is not None]
        if way is None or not filled or takes(way, [case.value for case in filled]):
            return filled if way is None else []
        if len(filled) > _FEW:
            half = len(filled) // 2
            return self._failing(way, filled[:half]) + self._failing(way, filled[half:])
        return [case for case in filled if not self._takes(way, case.value)]

    def _takes(self, way: Way, value: Any) -> bool:
        return takes(way, [value]) or is_unavailable(way, value, self._placeholder)

    def _way(self, name: str, row: Row) -> Way | None:
        key = (name, id(row.fields), row.dialect)
        if key not in self._ways:
            try:
                (column,) = wire_columns(self._spec, [name], row.dialect, dict(row.fields) if row.fields else None)
                way = Way(column.type, column.encoding, column.scale)
            except Rejection:  # a schema block with a type that is none
                way = None
            self._ways[key] = row, way  # with the row, for the fields' id holds while they live
        return self._ways[key][1]


def _refused(spec: TableSpec, name: str, cases: Sequence[_Case], unknown: Collection[str]) -> set[int]:
    """Return the records of those cases that nothing mends."""
    if name not in spec.columns:
        return set() if spec.unknown_columns == "add" else {case.index for case in cases}
    promoted = set(_promoted(spec.columns[name].type, cases)[1])
    strangers = {case.index for case in cases if case not in promoted}
    if name in spec.key or spec.type_changes not in {"text", "new_column"}:
        return strangers
    rest = f"{name}{TEXT_SUFFIX}"
    taken = rest in unknown or rest in spec.columns or len(rest) > NAME_CHARACTERS_MAX
    return strangers if spec.type_changes == "new_column" and _has_rest(spec.columns[name].type) and taken else set()


def _has_rest(type_: ColumnType) -> bool:
    """Tell whether a type's rest goes to a column of its own: a text is one already."""
    return type_.kind is not Kind.STRING


def _beyond(spec: TableSpec, cases: dict[str, list[_Case]]) -> set[int]:
    """Return the records of columns for which the table has no room."""
    room = COLUMNS_MAX - len(spec.columns)
    if spec.type_changes == "new_column":
        room -= sum(name in spec.columns for name in cases)
    new = sorted(name for name in cases if name not in spec.columns)
    return {case.index for name in new[max(room, 0) :] for case in cases[name]}


def _found(entry: TableEntry, name: str, cases: Sequence[_Case]) -> Found:
    """Return what a column must be that takes these."""
    spec = entry.spec
    if name not in spec.columns:
        column = _new(name, cases, Placeholder(spec.unavailable_placeholder))
        return Found(type=column.type, encoding=column.encoding)
    column = spec.columns[name]
    type_, promoted = _promoted(column.type, cases)
    has_strangers = len(promoted) < len(cases)
    rest = has_strangers and spec.type_changes == "new_column" and _has_rest(column.type)
    registered = entry.registered if isinstance(entry, EvolvedEntry) else entry
    own = registered.spec.columns.get(name)
    return Found(
        type=type_,
        encoding=column.encoding if own is None else None,
        under=None if own is None else own.type,
        text=has_strangers and not rest,
        rest=rest,
    )


def _promoted(type_: ColumnType, cases: Sequence[_Case]) -> tuple[ColumnType, list[_Case]]:
    """Return the narrowest type that takes all that any promotion takes, and the cases that it takes."""
    wider = list(_promotions(type_))
    if not wider:
        return type_, []
    fitting = [case for case in cases if _fits(wider[-1], case)]
    if not fitting:
        return type_, []
    return next(wide for wide in wider if all(_fits(wide, case) for case in fitting)), fitting


def _promotions(type_: ColumnType) -> Iterator[ColumnType]:
    """Yield what Iceberg promotes a type to, the narrowest first."""
    match type_.kind:
        case Kind.INT:
            yield ColumnType(Kind.LONG)
        case Kind.FLOAT:
            yield ColumnType(Kind.DOUBLE)
        case Kind.DECIMAL:
            for precision in range(type_.precision + 1, DECIMAL_PRECISION_MAX + 1):
                yield replace(type_, precision=precision)
        case Kind.LIST:
            assert type_.element is not None, "a list has an element type"
            for element in _promotions(type_.element):
                yield replace(type_, element=element)


def _fits(type_: ColumnType, case: _Case) -> bool:
    if case.way is None:
        return False
    way = Way(type_, case.way.encoding, case.way.scale)
    return exists(way) and takes(way, [case.value])


def _new(name: str, cases: Sequence[_Case], placeholder: Placeholder) -> Any:
    """Return the column that the records' schema states, else that their values propose."""
    samples = ColumnSamples(name, placeholder, Unavailable(placeholder))
    dialects: dict[str, None] = {}
    for case in cases:
        dialects[case.row.dialect] = None
        if case.row.dialect in RAW:
            samples.absorb_raw([case.value], case.row.dialect, None)
        else:
            samples.absorb([case.value], None if case.row.fields is None else case.row.fields.get(name))
    return column_of(samples.choice().way, list(dialects))
