"""A view's version says what its rows hold: of other columns under the same version, rows of before would stay."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.feature import View
from schemas.removed import Removed
from schemas.table import TableEntry, TableSpec
from schemas.views_left import declared
from streams.specs import SpecMistake


def check_versions(
    entries: Mapping[str, TableEntry], specs: Mapping[str, TableSpec], removed: Mapping[str, Removed]
) -> None:
    """Check that a view of other columns, or of another table, than before has another version.

    So has one that was taken out meanwhile, or whose table was removed: what it left in Redis may still be there.

    Raises:
        ConfigurationError: the first such view, with the version to give it.
    """
    left = _left(entries, removed)
    for table, spec in specs.items():
        known = {view.view: view for view in entries[table].spec.features} if table in entries else {}
        for at, view in enumerate(declared(spec)):
            old = known.get(view.view)
            if old is not None and old.version == view.version and old.read_by != view.read_by:
                raise _taken(table, at, view, "is not as it was registered")
            if old is None and (was := left.get(view.id, _NOWHERE)) not in {_NOWHERE, (table, view.read_by)}:
                raise _taken(table, at, view, f"was one of {was[0]}, and is not as it was")


_NOWHERE = ("", "")


def _left(entries: Mapping[str, TableEntry], removed: Mapping[str, Removed]) -> dict[str, tuple[str, str]]:
    """Return by id the table that had a view which nobody has now, and what it was read by."""
    left = {table: was.views_left for table, was in removed.items()}
    left |= {table: entry.views_left for table, entry in entries.items()}
    return {id_: (table, read_by) for table, views in left.items() for id_, read_by in views.items()}


def _taken(table: str, at: int, view: View, what: str) -> SpecMistake:
    return SpecMistake(
        table,
        ["features", at],
        f"view {view.view} {what}, and has the same version {view.version}",
        hint=f"write version: {view.version + 1}; it is filled anew, and read under that version",
    )
