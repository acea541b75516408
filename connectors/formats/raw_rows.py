"""Rows that are JSON objects, typed by the spec: columns may be absent, in another row others than in this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from connectors.formats.inspection import inspect
from connectors.formats.keys import ESCAPED_COLON, wire_columns
from connectors.formats.reasons import Rejection
from connectors.formats.rows import RowPlan, convert, row_plan, text_colons
from schemas.config import LimitsConfig
from schemas.table import TableSpec

IGNORED_MAX = 1_000  # unknown columns that are carried past
NAMES_SHOWN = 5


class RawRows:
    """Reads the rows of one table; it learns the columns that the spec does not name."""

    def __init__(self, spec: TableSpec, limits: LimitsConfig, dialect: str) -> None:
        """Prepare for the spec's columns.

        Raises:
            ConfigurationError: an encoding is unknown or does not fit its column, or a name cannot be read.
        """
        self._spec, self._depth_max = spec, limits.record_depth_max
        self._columns = wire_columns(spec, list(spec.columns), dialect, None)
        self._unknown: dict[str, None] = {}
        self._prepare()

    def _prepare(self) -> None:
        self.plan: RowPlan = row_plan(self._columns, placeholder=None, ignored=tuple(self._unknown), optional=True)
        self._decode = msgspec.json.Decoder(self.plan.type).decode

    def read(self, raws: Sequence[Any]) -> tuple[list[Any], dict[int, Rejection], set[str]]:
        """Return a row object for each JSON object, which rows are refused, by index, and the columns that are unknown.

        A row is in the contract's form; a column that it does not have is UNSET.
        """
        before = len(self._unknown)
        rows, faults = self._decoded(raws)
        while len(self._unknown) != before:  # rows read earlier are of another type
            before = len(self._unknown)
            rows, faults = self._decoded(raws)
        good = [i for i in range(len(rows)) if i not in faults]
        present = [rows[i] for i in good]
        if present:
            self._check_unique(raws, good, present, faults)
            unknown = self._seen(present)
            for i, (name, fault) in convert(self.plan, present).items():
                message = f"column {name}: {fault.message or 'the value has no form in its type'}"
                faults.setdefault(good[i], Rejection(fault.reason, message))
            return rows, faults, unknown
        return rows, faults, set()

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
        unknown = sorted(document.keys() - self._spec.columns.keys() - self._unknown.keys())
        if not unknown:
            raise _explained(error, self.plan)
        if self._spec.unknown_columns == "quarantine":
            raise Rejection("unknown_column", f"columns not in the spec: {', '.join(unknown[:NAMES_SHOWN])}")
        if len(self._unknown) + len(unknown) > IGNORED_MAX:
            raise Rejection("unknown_column", f"more than {IGNORED_MAX} columns that are not in the spec")
        self._unknown |= dict.fromkeys(unknown)
        self._prepare()
        try:
            return self._decode(raw)
        except Exception as exc:  # noqa: BLE001 - the same as above
            raise _explained(exc, self.plan) from None

    def _check_unique(
        self, raws: Sequence[Any], places: list[int], rows: list[Any], faults: dict[int, Rejection]
    ) -> None:
        """Refuse rows that name a column twice: together they have a colon for each of their fields, and no more."""
        joined = b"".join(raws) if len(places) == len(raws) else b"".join([raws[i] for i in places])
        same, each = text_colons(self.plan, rows)
        inside = same * len(rows) + sum(each or ())
        fields = sum(len(rows) - list(map(column.read, rows)).count(UNSET) for column in self.plan.columns)
        fields += sum(list(map(_reader(name), rows)).count(UNSET) * -1 + len(rows) for name in self.plan.ignored)
        if joined.count(b":") == inside + fields and ESCAPED_COLON not in joined:
            return
        for i in places:
            try:
                inspect(bytes(raws[i]), depth_max=self._depth_max)
            except Rejection as fault:
                faults[i] = fault

    def _seen(self, rows: list[Any]) -> set[str]:
        """Return the unknown columns that some row has."""
        names = zip(self.plan.ignored, self._unknown, strict=True)
        return {name for attribute, name in names if any(getattr(row, attribute) is not UNSET for row in rows)}


def _reader(attribute: str) -> Any:
    return lambda row: getattr(row, attribute)


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
