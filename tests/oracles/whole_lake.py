"""A table of the lake, batch by batch: each change in exactly one row, each row as the output topic must have it.

What is remembered is a bit per change; so it is the same question for a thousand rows and for millions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError

from tests.oracles.sequence import Expected
from tests.oracles.shape import Shape
from tests.oracles.values import from_python, row_from_contract
from tests.oracles.verdict import Verdict

Row = Mapping[str, Any]
NOTHING: Mapping[str, str] = {}
Of = Callable[[int, int], tuple[Expected, int | None] | None]
"""Return the change of a source partition and offset, with the offset before it; None: there is no such change."""


def rows_of(warehouse: Path, namespace: str, table: str, storage: Mapping[str, str] = NOTHING) -> Iterator[Row]:
    """Yield the rows of a table as they are now; nothing while there is no table.

    `warehouse` is where the catalogue's file lies; `storage` says how to read a lake that lies on S3.
    """
    for batch in _batches(warehouse, namespace, table, ("*",), storage):
        yield from batch.to_pylist()


def _batches(
    warehouse: Path, namespace: str, table: str, columns: tuple[str, ...], storage: Mapping[str, str]
) -> Iterator[Any]:
    address = {"uri": f"sqlite:///{warehouse}/catalog.db", "warehouse": f"file://{warehouse}"}
    catalog = load_catalog("headgate", type="sql", **address, **storage)
    try:
        found = catalog.load_table((namespace, table))
    except NoSuchTableError:
        return
    finally:
        catalog.close()
    yield from found.scan(selected_fields=columns).to_arrow_batch_reader()


class Offsets:
    """A set of partitions and offsets, in a byte each: there may be millions."""

    def __init__(self) -> None:
        self._bits: dict[int, bytearray] = {}

    def add(self, partition: int, offset: int) -> None:
        """Take one."""
        bits = self._bits.setdefault(partition, bytearray())
        if offset >= len(bits):
            bits.extend(bytes(2 * offset + 1024 - len(bits)))
        bits[offset] = 1

    def __contains__(self, place: object) -> bool:
        assert isinstance(place, tuple), "a place is a partition and an offset"
        bits = self._bits.get(place[0], b"")
        return place[1] < len(bits) and bits[place[1]] == 1


def origins_of(warehouse: Path, namespace: str, table: str, storage: Mapping[str, str] = NOTHING) -> Offsets:
    """Return the origins that a table holds now."""
    found = Offsets()
    for batch in _batches(warehouse, namespace, table, ("_hg_partition", "_hg_offset"), storage):
        columns = (batch.column(name).to_pylist() for name in ("_hg_partition", "_hg_offset"))
        for partition, offset in zip(*columns, strict=True):
            found.add(partition, offset)
    return found


def check_lake(
    shape: Shape, rows: Iterator[Row], sizes: Mapping[int, int], of: Of, *, due: Mapping[int, int], generation: int = 0
) -> Verdict:
    """Check `rows` against the changes of one generation of a source topic.

    `sizes` are the records of each source partition, `due` how many changes each must have in the lake.
    """
    verdict = Verdict(f"lake, each change of {shape.table} in one row")
    seen = {partition: bytearray(size) for partition, size in sizes.items()}
    for row in rows:
        partition, offset = row["_hg_partition"], row["_hg_offset"]
        place = (row["_hg_topic"], row["_hg_generation"], partition, offset)
        known = of(partition, offset) if place[:2] == (shape.topics[0], generation) and partition in seen else None
        if known is None:
            verdict.differ(f"{place}: too much, the source has no such change")
            continue
        if seen[partition][offset]:
            verdict.differ(f"{place}: doubled")
            continue
        seen[partition][offset] = 1
        _compare(verdict, shape, place, row, *known)
    for partition, bits in seen.items():
        if (count := sum(bits)) != due[partition]:
            first = next(n for n in range(len(bits)) if not bits[n] and of(partition, n) is not None)
            verdict.differ(f"partition {partition}: {due[partition] - count} changes missing, the first at {first}")
    verdict.figures = {"rows": sum(map(sum, seen.values()))}
    verdict.at_least("rows", 1)
    return verdict


def _compare(
    verdict: Verdict, shape: Shape, place: tuple[Any, ...], row: Row, change: Expected, previous: int | None
) -> None:
    own = {
        "op": row["_hg_op"],
        "position": row["_hg_position"],
        "unavailable": tuple(row["_hg_unavailable"]),
        "old_key": None if row["_hg_old_key"] is None else json.loads(row["_hg_old_key"]),
        "new_key": None if row["_hg_new_key"] is None else json.loads(row["_hg_new_key"]),
        "snapshot": row["_hg_snapshot"],
    }
    for name, value in own.items():
        if value != getattr(change, name):
            verdict.differ(f"{place}: {name} is {value!r}, {getattr(change, name)!r} in the source")
    if row["_hg_previous"] != previous:
        verdict.differ(f"{place}: previous is {row['_hg_previous']}, {previous} was before it")
    wanted = {
        **dict.fromkeys(shape.columns),
        **row_from_contract(shape.columns, {**change.key, **(change.after or {})}),
    }
    for name, type_text in shape.columns.items():
        if (value := from_python(type_text, row[name])) != wanted[name]:
            verdict.differ(f"{place}: {name} is {value!r}, {wanted[name]!r} in the source")
