"""Tables as everybody sees them who stands behind NORMALIZE: of masked columns what the mask leaves, and its type.

NORMALIZE alone reads by the spec that people wrote; output topics, views, rules, lake and subscribers know this one.
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas.evolution import EvolvedEntry, read_rest_of
from schemas.mask import KEYED, PINNED, Mask, Masks, masked_type
from schemas.table import Column, TableEntry, TableSpec


def mask_of(spec: TableSpec, column: str) -> Mask | None:
    """Return the mask of a column; what takes the values that another column's type does not hold has its mask."""
    own = spec.columns[column]
    of = read_rest_of(own.encoding)
    if own.mask is None and of is not None and of in spec.columns:
        return spec.columns[of].mask
    return own.mask


def masks_of(spec: TableSpec) -> dict[str, Mask]:
    """Return the masks of a spec's columns, by column."""
    found = {name: mask_of(spec, name) for name in spec.columns}
    return {name: mask for name, mask in found.items() if mask is not None}


def key_of(spec: TableSpec, mask: Mask) -> str:
    """Return the name of the key that a mask of this table is made with."""
    return mask.key or spec.masks.key


def keys_of(spec: TableSpec, *, pinned: bool = False) -> set[str]:
    """Return the names of the keys that a table's masks need; where `pinned`, of those that must not change unseen."""
    some = PINNED if pinned else KEYED
    return {key_of(spec, mask) for mask in _every(spec) if mask.how in some}


def _every(spec: TableSpec) -> Iterator[Mask]:
    yield from masks_of(spec).values()
    if spec.masks.unknown_columns is not None:
        yield spec.masks.unknown_columns


def masked_spec(spec: TableSpec) -> TableSpec:
    """Return a spec as it is behind its masks: without them, without what they drop, with the types that they leave."""
    if not spec.is_masked:
        return spec
    columns: dict[str, Column] = {}
    for name, column in spec.columns.items():
        mask = mask_of(spec, name)
        type_ = masked_type(column.type, mask)
        if mask is None:
            columns[name] = column
        elif type_ is not None:
            columns[name] = Column(type=type_)
    return spec.model_copy(update={"columns": columns, "masks": Masks()})


def masked_entry(entry: TableEntry) -> TableEntry:
    """Return an entry with its spec as it is behind its masks; where there are none, the entry itself."""
    spec = masked_spec(entry.spec)
    if spec is entry.spec:
        return entry
    changed: dict[str, object] = {"spec": spec}
    if isinstance(entry, EvolvedEntry):
        registered = masked_entry(entry.registered)
        changed |= {"registered": registered, "since": {n: at for n, at in entry.since.items() if n in spec.columns}}
    return entry.model_copy(update=changed)
