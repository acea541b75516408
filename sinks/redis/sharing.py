"""What rows tell the entities that share them, between the two calls of a view whose entity is not its row. Pure."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sinks.redis.layout import ENTITY, Layout
from sinks.redis.rows import ViewPlan, section_header

_POSITION = operator.itemgetter(8)  # of the change, where the view emits: what an entity showed in between counts


class Telling:
    """What one bucket's entities of one view are told."""

    def __init__(self, plan: ViewPlan) -> None:
        self.emits = plan.emits
        columns = [name for name in plan.columns if not name.startswith(".")] if plan.emits else []
        self._header = section_header(ENTITY, plan, columns)
        self._flat: list[Any] = []

    def add(self, entity: str, key: str, stamp: str, order: str, fields: Sequence[str], cause: str) -> None:
        """Tell `entity` what its row `key` is now; no fields: it is not there any more."""
        self._flat += (entity, key, stamp, order, len(fields), *fields)
        if self.emits:
            self._flat.append(cause)

    def arguments(self) -> list[Any]:
        """Return the section as `ledger.lua` reads it."""
        return [*self._header, len(self._flat), *self._flat]


def tellings(
    layout: Layout, told: Sequence[Sequence[Any]], plans: Mapping[str, ViewPlan]
) -> dict[int, dict[str, Telling]]:
    """Return what to send for the `told` part of the ledger's answers, by bucket of the entity and view.

    `plans` are those of the views, by id.

    The entity that a row names hears what the row is, those that it has left hear that it is gone; a deleted row has
    left its last one.
    """
    found: dict[int, dict[str, Telling]] = {}
    for row in sorted(told, key=_POSITION):  # as the source made them: they come bucket by bucket
        name, key, stamp, left, order, cause = (part.decode() for part in (*row[:3], *row[4:6], row[7]))
        here = None if row[3] is None else row[3].decode()
        fields = [part.decode() for part in row[6]]
        plan = plans[name]
        for text in msgspec.json.decode(left, type=list[str]) if left != "{}" else []:
            if text != here:
                _telling(found, layout, plan, text).add(text, key, stamp, "", (), cause)
        if here is not None:  # an empty text is an entity like any other
            _telling(found, layout, plan, here).add(here, key, stamp, order, fields, cause)
    return found


def _telling(found: dict[int, dict[str, Telling]], layout: Layout, plan: ViewPlan, entity: str) -> Telling:
    views = found.setdefault(layout.bucket(entity), {})
    if plan.id not in views:
        views[plan.id] = Telling(plan)
    return views[plan.id]
