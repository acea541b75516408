"""Rows that are JSON objects, typed by the spec: columns may be absent, in another row others than in this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import UNSET

from connectors.formats.inspection import check_names, inspect
from connectors.formats.keys import ESCAPED_COLON, wire_columns
from connectors.formats.placeholder import Placeholder
from connectors.formats.reasons import Rejection
from connectors.formats.rows import RowPlan, convert, row_plan, take_unavailable, text_colons
from connectors.formats.unknown import check_unknown
from schemas.config import LimitsConfig
from schemas.errors import ConfigurationError
from schemas.evolution import may_be_added
from schemas.table import TableSpec

IGNORED_MAX = 1_000  # unknown columns that are carried past; beyond it rows that have some are looked at in full


@dataclass(slots=True)
class Typed:
    """Rows in the contract's form, a column that one does not have being UNSET; the rest is by index.

    `unavailable` are the columns that held the placeholder, `unknown` those that the spec does not name. Outside
    `complete` some row may lack a column.
    """

    rows: list[Any]
    faults: dict[int, Rejection]
    unknown: set[str] = field(default_factory=set)
    unavailable: dict[int, list[str]] = field(default_factory=dict)
    complete: set[str] = field(default_factory=set)


class RawRows:
    """Reads the rows of one table; it learns the columns that the spec does not name."""

    def __init__(self, spec: TableSpec, limits: LimitsConfig, dialect: str, *, placeholder: bool = False) -> None:
        """Prepare for the spec's columns; with `placeholder`, its text stands for what the source did not send.

        Raises:
            ConfigurationError: an encoding is unknown or does not fit its column, or a name cannot be read.
        """
        self._spec, self._depth_max = spec, limits.record_depth_max
        self._columns = wire_columns(spec, list(spec.columns), dialect, None)
        self._placeholder = Placeholder(spec.unavailable_placeholder) if placeholder else None
        self._aliases = spec.sent_as()
        self._unknown: dict[str, None] = {}
        self._refused: set[str] = set()
        self._loose = False
        self._prepare()

    def _prepare(self) -> None:
        ignored = () if self._loose else tuple(self._unknown)
        nulls = frozenset(filter(may_be_added, ignored)) if self._spec.unknown_columns == "add" else frozenset()
        self.plan: RowPlan = row_plan(
            self._columns,
            placeholder=self._placeholder,
            ignored=ignored,
            nulls=nulls,
            aliases=self._aliases,
            loose=self._loose,
            optional=True,
        )
        typed = [column for column in self.plan.columns if column.form.wire is not msgspec.Raw]
        self._others = replace(self.plan, columns=typed, ignored=[])
        self._decode = msgspec.json.Decoder(self.plan.type).decode

    def read(self, raws: Sequence[Any]) -> Typed:
        """Return a row object for each JSON object that is not refused."""
        before, self._refused = self._known(), set()
        rows, faults = self._decoded(raws)
        while self._known() != before:  # rows read earlier are of another type
            before = self._known()
            rows, faults = self._decoded(raws)
        if self._aliases:
            there = [i for i in range(len(rows)) if i not in faults]
            faults |= {there[i]: fault for i, fault in _take_aliases(self.plan, [rows[i] for i in there]).items()}
        typed = Typed(rows, faults, unknown=self._refused)
        good = [i for i in range(len(rows)) if i not in faults]
        present = [rows[i] for i in good]
        if not present:
            return typed
        typed.complete = self._check_unique(raws, good, present, typed)
        typed.unknown |= self._seen(present)
        if self._placeholder is not None:
            typed.unavailable = self._taken(raws, good, rows)
            typed.complete.difference_update(*typed.unavailable.values())
        for i, (name, fault) in convert(self.plan, present).items():
            message = f"column {name}: {fault.message or 'the value has no form in its type'}"
            faults.setdefault(good[i], Rejection(fault.reason, message))
        return typed

    def _known(self) -> tuple[int, bool]:
        return len(self._unknown), self._loose

    def _taken(self, raws: Sequence[Any], places: list[int], rows: list[Any]) -> dict[int, list[str]]:
        """Remove placeholders from rows; a needle may be no more than a likeness, so the values decide."""
        needles = self.plan.needles
        if needles == ():
            return {}
        if needles is not None:
            places = [i for i in places if any(needle in bytes(raws[i]) for needle in needles)]
        found = {i: take_unavailable(self.plan, rows[i]) for i in places}
        return {i: names for i, names in found.items() if names}

    def _decoded(self, raws: Sequence[Any]) -> tuple[list[Any], dict[int, Rejection]]:
        rows: list[Any] = []
        faults: dict[int, Rejection] = {}
        rest = iter(raws)
        while True:
            try:
                rows.extend(map(self._decode, rest))
            except Exception as exc:  # noqa: BLE001 - whatever is wrong with this row: `_explained` decides
                try:
                    rows.append(self._again(raws[len(rows)], exc))
                except Rejection as fault:
                    faults[len(rows)] = fault
                    rows.append(None)
                continue
            return rows, faults

    def _again(self, raw: Any, error: Exception) -> Any:
        """Return the row if only columns that the spec does not name were at fault."""
        document = inspect(bytes(raw), depth_max=self._depth_max)
        if not isinstance(document, dict):
            raise Rejection("no_row", "the row is no JSON object")
        strange = self._strange(document)
        if strange and self._spec.unknown_columns != "ignore":
            self._refused |= strange
            check_unknown(self._spec, sorted(name for name in strange if document[name] is not None), sorted(strange))
        unknown = sorted(strange - self._unknown.keys())
        if self._loose or not unknown:
            raise _explained(error, self.plan)
        if len(self._unknown) + len(unknown) <= IGNORED_MAX:
            self._learn(unknown)
        elif self._spec.unknown_columns == "ignore" and not self._loose:
            self._loose, self._unknown = True, {}
            self._prepare()
        else:
            raise Rejection("unknown_column", f"more than {IGNORED_MAX} columns that are not in the spec")
        try:
            return self._decode(raw)
        except Exception as exc:  # noqa: BLE001 - the same as above
            raise _explained(exc, self.plan) from None

    def _strange(self, document: dict[str, Any]) -> set[str]:
        """Return the names of a row that the spec does not know; raise a Rejection where one is no text."""
        strange: set[str] = document.keys() - self._spec.columns.keys() - self._aliases.keys()
        check_names(strange)
        return strange

    def _learn(self, names: list[str]) -> None:
        known = self._unknown
        self._unknown = known | dict.fromkeys(names)
        try:
            self._prepare()
        except ConfigurationError as exc:  # a name that msgspec cannot hold, though the spec does not ask for it
            self._unknown = known
            self._prepare()
            raise Rejection("bad_schema", exc.message) from exc

    def _check_unique(self, raws: Sequence[Any], places: list[int], rows: list[Any], typed: Typed) -> set[str]:
        """Refuse rows that name a column twice: together they have a colon for each of their fields, and no more.

        Where they may have any column beside the spec's, note which those are. Return the columns that no row lacks,
        as far as is known.
        """
        joined = b"".join(raws) if len(places) == len(raws) else b"".join([raws[i] for i in places])
        complete: set[str] = set()
        if joined.count(b":") == self._colons(rows, complete) and ESCAPED_COLON not in joined:
            return complete
        for i in places:
            try:
                document = inspect(bytes(raws[i]), depth_max=self._depth_max)
                typed.unknown |= self._strange(document) if self._loose else set()
            except Rejection as fault:
                typed.faults[i] = fault
        return complete

    def _colons(self, rows: list[Any], complete: set[str]) -> int:
        """Return how many colons rows have: one for each field, and those inside their values.

        Add to `complete` the columns that all of them have.
        """
        same, each = text_colons(self._others, rows)
        found = same * len(rows) + sum(each or ())
        for column in self.plan.columns:
            values = list(map(column.read, rows))
            raw = column.form.wire is msgspec.Raw
            try:
                found += (b"".join(values) if raw else b"").count(b":")
            except TypeError:  # absent in some row
                values = [value for value in values if value is not UNSET]
                found += b"".join(values).count(b":")
            else:
                if raw:
                    complete.add(column.name)
                else:
                    found -= values.count(UNSET)
            found += len(values)
        for attribute in self.plan.ignored:
            values = [value for value in map(attrgetter(attribute), rows) if value is not UNSET]
            found += len(values) + b"".join([value for value in values if value is not None]).count(b":")
        return found

    def _seen(self, rows: list[Any]) -> set[str]:
        """Return the unknown columns that some row has."""
        names = zip(self.plan.ignored, self._unknown, strict=True)
        return {name for attribute, name in names if any(getattr(row, attribute) is not UNSET for row in rows)}


def _take_aliases(plan: RowPlan, rows: Sequence[Any]) -> dict[int, Rejection]:
    """Move what rows have under other names of columns to the columns; return what is refused, by index."""
    faults: dict[int, Rejection] = {}
    for attribute, column in plan.aliases:
        for index, row in enumerate(rows):
            value = getattr(row, attribute)
            if value is UNSET:
                continue
            if column.read(row) is not UNSET:
                faults[index] = Rejection("duplicate_keys", f"column {column.name} comes under two of its names")
                continue
            setattr(row, column.attribute, value)
            setattr(row, attribute, UNSET)
    return faults


def _explained(error: Exception, plan: RowPlan) -> Rejection:
    """Return what an error of msgspec means, with the column's name; its own text may hold a value."""
    if isinstance(error, RecursionError):
        return Rejection("too_deep", "nested deeper than the decoder reads")
    if not isinstance(error, msgspec.ValidationError):
        return Rejection("broken_json", "the JSON holds what no decoder reads, such as half of a surrogate pair")
    path = str(error).rpartition(" - at `$.")[2].removesuffix("`")
    column = plan.nearest(path)
    if column is None:
        return Rejection("bad_type", "the row is not the one that the spec describes")
    return Rejection("bad_type", f"column {column.name}: not what its type and encoding ask for")
