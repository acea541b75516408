"""The lake read with pyiceberg alone, folded to the latest row of each key by our own hand, and its origins counted.

Own columns by docs/lake.md: `_hg_op`, `_hg_position`, the origin, `_hg_previous`, `_hg_unavailable`, `_hg_old_key`, ….
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError

from tests.oracles.shape import Shape
from tests.oracles.topic import FLOOR, Change, Origin
from tests.oracles.values import from_contract, from_python, frozen
from tests.oracles.verdict import Verdict, compare

_OWN = "_hg_"
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class LakeChange:
    """One row of a table of the lake: canonical values of the source's columns, and what of ours an oracle needs."""

    op: str
    position: str
    origin: Origin
    previous: int | None
    unavailable: frozenset[str]
    old_key: Key | None
    new_key: Key | None
    row: dict[str, Any]


def read_lake(warehouse: Path, namespace: str, shape: Shape) -> list[LakeChange]:
    """Return all rows of a table; [] while there is none."""
    catalog = load_catalog(
        "headgate", type="sql", uri=f"sqlite:///{warehouse}/catalog.db", warehouse=f"file://{warehouse}"
    )
    try:
        table = catalog.load_table((namespace, shape.table))
    except NoSuchTableError:
        return []
    finally:
        catalog.close()
    return [_change(shape, row) for row in table.scan().to_arrow().to_pylist()]


def _change(shape: Shape, row: dict[str, Any]) -> LakeChange:
    return LakeChange(
        op=row["_hg_op"],
        position=row["_hg_position"],
        origin=(
            *(row[f"_hg_{name}"] for name in ("topic", "generation", "partition", "offset")),
            *([row["_hg_row"]] if row.get("_hg_row") else []),
        ),
        previous=row["_hg_previous"],
        unavailable=frozenset(row["_hg_unavailable"]),
        old_key=_key(shape, row["_hg_old_key"]),
        new_key=_key(shape, row["_hg_new_key"]),
        row={name: from_python(type_text, _value(row, name)) for name, type_text in shape.columns.items()},
    )


def _value(row: Mapping[str, Any], name: str) -> Any:
    """Return a column's value; what it was before it became a text is in a column `_hg_<name>__<type>`."""
    formers = [value for each, value in row.items() if each.startswith(f"{_OWN}{name}__") and value is not None]
    if not formers:
        return row[name]
    assert row[name] is None, f"{name} has one value"
    (former,) = formers
    assert type(former) is int, f"{name} was an integer: of other types nobody has said here what their texts are"
    return str(former)


def _key(shape: Shape, text: str | None) -> Key | None:
    return (
        None
        if text is None
        else tuple(from_contract(shape.columns[name], value) for name, value in json.loads(text).items())
    )


def latest_rows(shape: Shape, changes: Sequence[LakeChange]) -> dict[Key, dict[str, Any]]:
    """Fold changes to the rows that are there: the highest position wins, column by column.

    A column that was unavailable has what the highest older change says of it, unless a delete lies between; after a
    change of the key, what the old key's row had just before. A column that nobody sent is left out of its row. What is
    below the highest floor was never there.
    """
    by_key: dict[Key, list[LakeChange]] = defaultdict(list)
    floor = max((change.position for change in changes if change.op == FLOOR), default="")
    for change in changes:
        if change.op != FLOOR and change.position >= floor:
            by_key[shape.key_of(change.row)].append(change)
    for several in by_key.values():
        several.sort(key=lambda change: change.position)
    return {key: row for key in by_key if (row := _row_below(by_key, key, None)) is not None}


def _row_below(by_key: Mapping[Key, list[LakeChange]], key: Key, below: str | None) -> dict[str, Any] | None:
    """Return the row of `key` after all its changes with positions below `below` (None: after all)."""
    row: dict[str, Any] | None = None
    for change in by_key.get(key, ()):
        if below is not None and change.position >= below:
            break
        if change.op == "delete":
            row = None
            continue
        base = row
        if base is None and change.old_key is not None and change.unavailable:
            base = _row_below(by_key, change.old_key, change.position)
        kept = {name: base[name] for name in change.unavailable if base is not None and name in base}
        row = {**{name: value for name, value in change.row.items() if name not in change.unavailable}, **kept}
    return row


def _key_of(shape: Shape, change: LakeChange) -> Key | None:
    return None if change.op == FLOOR else shape.key_of(change.row)


def check_latest(
    shape: Shape, changes: Sequence[LakeChange], rows: Mapping[Key, Mapping[str, Any]], *, at_least: int = 1
) -> Verdict:
    """Check that the lake's latest rows are the source's, value by value."""
    verdict = Verdict(f"lake latest of {shape.table}")
    latest = latest_rows(shape, changes)
    compare(verdict, (frozen(dict(row)) for row in rows.values()), (frozen(row) for row in latest.values()))
    verdict.figures = {
        "changes": len(changes),
        "rows": len(latest),
        "rows of the source": len(rows),
        "unavailable values": sum(len(change.unavailable) for change in changes),
    }
    verdict.at_least("rows of the source", at_least)
    return verdict


def check_origins(
    shape: Shape, changes: Sequence[LakeChange], emitted: Sequence[Change], *, at_least: int = 1
) -> Verdict:
    """Check that each change of the output topic is in the lake once, as it was emitted.

    Of a floor, which is emitted to each partition, that of its origin's number.
    """
    emitted = [change for change in emitted if change.op != FLOOR or change.record.partition == change.origin[2]]
    verdict = Verdict(f"lake origins of {shape.table}", {"changes": len(changes), "emitted": len(emitted)})
    wanted = ((c.origin, c.previous, c.op, c.position, c.key, c.old_key, c.new_key, c.unavailable) for c in emitted)
    found = (
        (c.origin, c.previous, c.op, c.position, _key_of(shape, c), c.old_key, c.new_key, c.unavailable)
        for c in changes
    )
    compare(verdict, wanted, found)
    by_origin = {change.origin: change for change in emitted}
    for change in changes:
        twin = by_origin.get(change.origin)
        if twin is None or twin.after is None:
            continue
        differing = [name for name, value in twin.after.items() if change.row[name] != value]
        if differing:
            verdict.differ(f"{change.origin}: differs from the topic in {differing}")
    verdict.at_least("changes", at_least)
    return verdict
