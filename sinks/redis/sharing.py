"""What rows tell the entities that share them, between the two calls of a view whose entity is not its row. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from sinks.redis.layout import ENTITY, Layout


class Telling:
    """What one bucket's entities of one view are told."""

    def __init__(self, view: str) -> None:
        self._view = view
        self._flat: list[Any] = []

    def add(self, entity: str, key: str, stamp: str, order: str, fields: Sequence[str]) -> None:
        """Tell `entity` what its row `key` is now; no fields: it is not there any more."""
        self._flat += (entity, key, stamp, order, len(fields), *fields)

    def arguments(self) -> list[Any]:
        """Return the section as `ledger.lua` reads it."""
        return [ENTITY, self._view, 0, len(self._flat), *self._flat]


def tellings(layout: Layout, told: Sequence[Sequence[Any]]) -> dict[int, dict[str, Telling]]:
    """Return what to send for the `told` part of the ledger's answers, by bucket of the entity and view.

    The entity that a row names hears what the row is, those that it has left hear that it is gone; a deleted row has
    left its last one.
    """
    found: dict[int, dict[str, Telling]] = {}
    for row in told:
        name, key, stamp, left, order = (part.decode() for part in (*row[:3], *row[4:6]))
        here = None if row[3] is None else row[3].decode()
        fields = [part.decode() for part in row[-1]]
        for text in msgspec.json.decode(left, type=list[str]) if left != "{}" else []:
            if text != here:
                _telling(found, layout, name, text).add(text, key, stamp, "", ())
        if here is not None:  # an empty text is an entity like any other
            _telling(found, layout, name, here).add(here, key, stamp, order, fields)
    return found


def _telling(found: dict[int, dict[str, Telling]], layout: Layout, view: str, entity: str) -> Telling:
    views = found.setdefault(layout.bucket(entity), {})
    if view not in views:
        views[view] = Telling(view)
    return views[view]
