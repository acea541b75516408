"""Specs of the tables of a DMS task, for tests of what reads them."""

from __future__ import annotations

from typing import Any

from schemas.table import TableSpec
from tests.workloads.dms_topic import dms_document


def dms_spec(table: str, topic: str, **changes: Any) -> TableSpec:
    """Return the spec of a table of the topic."""
    return TableSpec.model_validate(dms_document(table, topic, **changes))
