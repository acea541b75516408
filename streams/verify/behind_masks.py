"""A table of the source behind the masks of its spec, so that both sides are compared as subscribers see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from connectors.sources.base import KeyRange, Session, SourceTable
from schemas.errors import ConfigurationError
from schemas.mask import DROP, NULL, masked_type
from schemas.masked import masks_of
from schemas.table import TableEntry, TableSpec
from schemas.types import ColumnType, Kind
from streams.mask_keys import MaskKeys
from streams.masking import column_masks

# What a database writes of these as text is what the contract writes: else a hash of it would be another one.
COMPARED = frozenset({Kind.STRING, Kind.INT, Kind.LONG, Kind.UUID, Kind.DATE})


def comparable(spec: TableSpec, wanted: Mapping[str, ColumnType]) -> dict[str, ColumnType]:
    """Return those of the wanted columns that can be compared behind the masks of their table.

    Raises:
        ConfigurationError: the key is masked: its rows cannot be looked up in the source.
    """
    masks = masks_of(spec)
    if masked := [name for name in spec.key if name in masks]:
        raise ConfigurationError(
            f"{spec.table}: its key is masked ({', '.join(masked)}), so no row of it is found again in the source",
            hint="`headgate lake verify` proves that the lake has every change of the topic",
        )
    return {name: type_ for name, type_ in wanted.items() if name not in masks or _is_compared(type_, masks[name].how)}


def _is_compared(type_: ColumnType, how: str) -> bool:
    return how == NULL or (how != DROP and type_.kind in COMPARED)


class MaskedSource:
    """A `SourceTable` whose masked columns hold what their masks leave; `columns` are the types of that."""

    def __init__(self, source: SourceTable, spec: TableSpec, keys: MaskKeys) -> None:
        """Mask what `source` reads.

        Raises:
            ConfigurationError: a key of the masks is not there.
        """
        self._source, masks = source, masks_of(spec)
        found = column_masks(TableEntry(spec=spec), keys)
        if not isinstance(found, Mapping):
            raise ConfigurationError(found.message, hint=found.hint)
        self.masked = sorted(masks.keys() & source.columns.keys())
        self._masks: dict[str, Callable[[list[Any]], list[Any]]] = {name: found[name] for name in self.masked}
        self.columns: dict[str, ColumnType] = {
            name: left
            for name, type_ in source.columns.items()
            if (left := masked_type(type_, masks.get(name))) is not None
        }

    @property
    def session(self) -> Session:
        """The session of the source."""
        return self._source.session

    @property
    def key(self) -> Sequence[str]:
        """The columns of the key."""
        return self._source.key

    @property
    def bounds(self) -> KeyRange:
        """The range that is read."""
        return self._source.bounds

    def count(self) -> int:
        """Return how many rows the range has now."""
        return self._source.count()

    def rows_after(self, after: Sequence[str] | None, limit: int) -> pa.Table:
        """Return up to `limit` rows of the range behind a key."""
        return self._masked(self._source.rows_after(after, limit))

    def rows_of(self, keys: Sequence[Sequence[str]]) -> pa.Table:
        """Return the rows that have one of `keys`."""
        return self._masked(self._source.rows_of(keys))

    def _masked(self, texts: pa.Table) -> pa.Table:
        for name, mask in self._masks.items():
            values = texts[name].to_pylist()
            if self._source.columns[name].kind is Kind.UUID:
                values = [None if value is None else value.lower() for value in values]
            at = texts.schema.get_field_index(name)
            texts = texts.set_column(at, name, pa.array(mask(values), pa.string()))
        return texts.select(list(self.columns))
