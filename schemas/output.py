"""What is written of a table beside its plain changes, and the view that its latest topic is written from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from schemas.document import Strict, without_defaults
from schemas.tenant import begin_of, is_tenant

LATEST_COLUMNS_MAX = 1_000  # as many as a view has
SHOWN_MAX = 20
_NAME_MAX = 47  # of the table's name in its view's, so that the whole is one that a view may have
_NOT_IN_VIEWS = re.compile(r"[^a-z0-9_-]")


class Output(Strict):
    """What a table's outputs are like.

    `format`: changes are JSON, or Avro by a schema registry.
    `cloud_events`: changes have the headers of CloudEvents in binary mode.
    `latest`: its rows as they are now on a compacted topic, `latest_schema` with the schema block of Kafka Connect.
    """

    format: Literal["json", "avro"] = "json"
    cloud_events: bool = False
    latest: bool = False
    latest_schema: bool = False

    def check(self, key: Sequence[str], columns: Iterable[str]) -> None:
        """Check that a table with this key and these columns can be written so.

        Raises:
            ValueError: it says which key of `output` cannot be, and why.
        """
        if self.latest_schema and not self.latest:
            raise ValueError("output: latest_schema is of the latest topic: write `latest: true`, too")
        if not self.latest:
            return
        if not key:
            raise ValueError("output: latest: a table without a key has no latest rows")
        names = list(columns)
        if len(names) > LATEST_COLUMNS_MAX:
            raise ValueError(f"output: latest: a table has at most {LATEST_COLUMNS_MAX} columns then, not {len(names)}")
        if dotted := [name for name in names if name.startswith(".")]:
            raise ValueError(
                f"output: latest: fields that begin with a dot are ours in Redis: {', '.join(dotted[:SHOWN_MAX])}"
            )

    @model_serializer(mode="wrap")
    def _without_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, write(self), type(self).model_fields)


def latest_view_name(table: str) -> str:
    """Return the name of the view of all columns that a table's latest topic is written from.

    It is made of the table's name alone, so that who finds the topic finds the view; what stands in front of a dot, and
    may be a tenant's name, stands in front of it, too.
    """
    first, dot, rest = table.partition(".")
    begin, own = (begin_of(first), rest) if dot and is_tenant(first) else ("", table)
    digest = hashlib.sha256(table.encode()).hexdigest()[:8]
    return f"{begin}latest-{_NOT_IN_VIEWS.sub('-', own)[:_NAME_MAX]}-{digest}"
