"""A truncate in a run of changes: by its table's policy it stops the table, is skipped, or becomes a floor.

A floor is a change without a key: the rows of its table that stand below its position are dead.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.batch import Decoded, some_of
from schemas.change import Operation
from schemas.errors import TableStopped
from schemas.table import TableSpec

CODE = "t"
SKIPPED = "truncate"
_FLOOR = Operation.FLOOR.value


def stop_at_truncate() -> TableStopped:
    """Return why a table stops that has not said what a truncate means."""
    return TableStopped(
        "truncate",
        "the table was truncated at its source",
        hint="write `truncate: apply` into its spec, which takes all rows away that stand below the truncate, or "
        "`truncate: ignore`, which keeps them; or `headgate tables resync TABLE`, which goes on without them this once",
    )


def stops(spec: TableSpec, codes: Sequence[str]) -> bool:
    """Tell whether there is a truncate among operations of a table that it stops."""
    return spec.truncate == "pause" and CODE in codes


def leave_out_ignored(spec: TableSpec, decoded: Decoded) -> None:
    """Take the floors out of a batch, and count them as skipped, where the table ignores truncates."""
    operations = decoded.batch.operations
    if spec.truncate != "ignore" or _FLOOR not in operations:
        return
    kept = [at for at, operation in enumerate(operations) if operation != _FLOOR]
    decoded.skipped[SKIPPED] = len(operations) - len(kept)
    decoded.batch = some_of(decoded.batch, kept)
