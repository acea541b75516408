"""Columns that records have and the spec does not: ignored, refused, or wanted in the table, as the spec says."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.formats.reasons import Rejection
from schemas.evolution import may_be_added
from schemas.table import TableSpec

NAMES_SHOWN = 5


def check_unknown(spec: TableSpec, filled: Sequence[str], unknown: Sequence[str]) -> None:
    """Check that a record may have the columns `unknown`, of which `filled` are those that are not null.

    With `unknown_columns: add` the record has to wait until its column is one of the table. A null does not say of
    what type the column is: it is passed over until there is a value, and so is a name that no column may have.

    Raises:
        Rejection: `unknown_column`.
    """
    match spec.unknown_columns:
        case "quarantine":
            names = list(unknown)
        case "add":
            names = list(filter(may_be_added, filled))
        case _:
            return
    if names:
        raise Rejection("unknown_column", f"columns not in the spec: {', '.join(names[:NAMES_SHOWN])}")
