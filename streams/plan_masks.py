"""What somebody should know of the masks of tables before they are applied. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from schemas.masked import mask_of
from schemas.table import TableSpec
from streams.source_topics import Notice

_SHOWN = 8


def notices_of_masks(
    specs: Mapping[str, TableSpec], wanted: Collection[str], keys: Collection[str]
) -> Iterator[Notice]:
    """Yield what is to be said of the tables `wanted`, among all `specs` there will be; `keys` are those there are."""
    of_several = {spec.beside for spec in specs.values()} - {None}
    for table in sorted(wanted):
        spec = specs[table]
        if spec.beside is not None and spec.beside in specs:
            yield from _left_out(spec, specs[spec.beside])
        if spec.is_masked and spec.template is None and spec.masks.key not in keys:
            yield _no_seal(spec, shared=spec.source_table is not None or bool({spec.beside, table} & of_several))


def _no_seal(spec: TableSpec, *, shared: bool) -> Notice:
    key = spec.masks.key
    what = f"there is no mask key {key!r} to seal its records with: quarantine keeps nothing of them"
    if shared:
        what += ", and where it is paused, its topic waits for all of its tables"
    return Notice(spec.table, "seal_key_missing", what, f"define masks.keys.{key}, or say in masks.key which one it is")


def _left_out(spec: TableSpec, other: TableSpec) -> Iterator[Notice]:
    """Yield that another version of the same records has masks that this one leaves out."""
    names = [name for name in spec.columns if mask_of(spec, name) is None and _masks(other, name)]
    if names:
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        what = f"{shown}: masked in {other.table}, which has the same records, and not in this table"
        yield Notice(spec.table, "mask_left_out", what, "give each the mask that it has there, if it is not on purpose")
    adds = spec.unknown_columns == "add" and spec.masks.unknown_columns is None
    if adds and other.masks.unknown_columns is not None:
        what = f"columns that nobody has named yet are masked in {other.table}, and not in this table"
        yield Notice(spec.table, "mask_left_out", what, "give it the same masks.unknown_columns, or the columns appear")


def _masks(spec: TableSpec, column: str) -> bool:
    if column in spec.columns:
        return mask_of(spec, column) is not None
    return spec.masks.unknown_columns is not None
