"""A view: a named, versioned set of features of one entity."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

from pydantic import Field

from schemas.document import Strict

# In front of a view of a tenant stands the tenant's name (schemas/tenant.py).
ViewName = Annotated[str, Field(pattern=r"^([a-z][a-z0-9-]{0,30}\.)?[a-z][a-z0-9_-]{0,62}$")]


class View(Strict):
    """Latest values of a table's columns, looked up by entity.

    `entity_key` are the columns that name the entity; left out, they are the table's key, and an entity is a row.
    Otherwise several rows share an entity, and its values are those of the row with the highest `event_time`, then the
    highest position.
    """

    view: ViewName
    version: Annotated[int, Field(ge=1)] = 1
    entity: ViewName
    entity_key: list[str] | None = None
    columns: Annotated[list[str], Field(min_length=1, max_length=1_000)]
    event_time: str | None = None
    emit: bool = False

    @property
    def id(self) -> str:
        """Return name and version, as keys in Redis have them."""
        return f"{self.view}.{self.version}"

    @property
    def read_by(self) -> str:
        """Return a short text that is another for a view of other columns, entities or order."""
        held = json.dumps([sorted(self.columns), self.entity_key, self.event_time])
        return hashlib.sha256(held.encode()).hexdigest()[:16]
