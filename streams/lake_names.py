"""Which names tables have in the lake: beside each stands that of its latest rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.table import LATEST, TableEntry, TableSpec
from streams.specs import SpecMistake


def check_lake_names(registered: Mapping[str, TableEntry], specs: Mapping[str, TableSpec]) -> None:
    """Check that no table comes into the lake under the name of another one's latest rows, or the other way round.

    Raises:
        SpecMistake: the first that does. Two that are there already stay: `headgate lake sql` shows the table then.
    """
    before = {table: entry.spec for table, entry in registered.items()}
    after = {**before, **specs}
    for table in specs:
        for rows, latest in ((table, table + LATEST), (table.removesuffix(LATEST), table)):
            if _clash(rows, latest, after) and not _clash(rows, latest, before):
                raise SpecMistake(
                    table,
                    ["table"],
                    f"two in the lake would be called {latest}: the table, and the latest rows of {rows}",
                    hint="give the table another name, or keep one of them out of the lake: `lake: {enabled: false}`",
                )


def _clash(rows: str, latest: str, specs: Mapping[str, TableSpec]) -> bool:
    """Tell whether both are in the lake; a table without a key has no latest rows."""
    if rows == latest or rows not in specs or latest not in specs:
        return False
    return bool(specs[rows].key) and specs[rows].lake.enabled and specs[latest].lake.enabled
