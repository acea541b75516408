"""Views that were taken out of a table, or whose table was removed: their rows may be in Redis for as long."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.feature import View
from schemas.output import latest_view_name
from schemas.table import TableSpec, own_view_name


def declared(spec: TableSpec) -> list[View]:
    """Return the views that people name; the version of any other is made of what it holds."""
    own = {latest_view_name(spec.table), *(own_view_name(spec, rule.rule) for rule in spec.rules)}
    return [view for view in spec.features if view.view not in own]


def views_left(left: Mapping[str, str], had: TableSpec, has: TableSpec | None) -> dict[str, str]:
    """Return what is left, by id with `View.read_by`, once a table has another spec (None: it is removed)."""
    all_of_it = dict(left) | {view.id: view.read_by for view in declared(had)}
    kept = {view.id for view in has.features} if has is not None else set()
    return {id_: read_by for id_, read_by in all_of_it.items() if id_ not in kept}
