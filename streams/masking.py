"""Masks applied: a decoder whose changes hold of masked columns what the mask leaves, and nothing else.

Promise: no value of a masked column leaves it, in rows, keys, old and new keys and images before; where a key of the
masks cannot be had, the table stops at its first record instead. A table without masks has its own decoder, untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from operator import attrgetter
from typing import Any

from msgspec import UNSET

from connectors.formats.base import Decoder, PartitionMemory, Records
from schemas.batch import Batch, Decoded
from schemas.errors import TableStopped
from schemas.mask import DROP, Mask
from schemas.masked import key_of, masks_of
from schemas.table import TableEntry
from schemas.types import ColumnType
from streams.mask_keys import MaskKeys
from streams.mask_values import Each, hashed, tokens, truncated

_Column = Callable[[list[Any]], list[Any]]  # values as they are, null and absent among them


class MaskingDecoder:
    """The decoder of a table with masks; `masks` are by column, or why there are none."""

    def __init__(self, decoder: Decoder, entry: TableEntry, masks: Mapping[str, _Column] | TableStopped) -> None:
        """Mask what `decoder`, that of `entry`, says."""
        self._decoder, self._table, self._masks = decoder, entry.spec.table, masks
        self._dropped = frozenset(name for name, mask in masks_of(entry.spec).items() if mask.how == DROP)
        self._plans: dict[type[Any], list[tuple[str, _Column]]] = {}

    @property
    def alone(self) -> bool:
        """Whether no run is decoded with others."""
        return self._decoder.alone

    def decode(self, records: Records, memory: PartitionMemory) -> Decoded:
        """Return what the records say, behind the masks; without a key nothing, and the table stops at the first.

        Raises:
            RegistryUnavailable: what the records say cannot be told now.
        """
        if isinstance(self._masks, TableStopped):
            return Decoded(Batch(self._table), stop=self._masks, stop_index=0)
        decoded = self._decoder.decode(records, memory)
        self._mask(decoded.batch)
        return decoded

    def _mask(self, batch: Batch) -> None:
        rows = chain(batch.keys, batch.old_keys, batch.new_keys, batch.befores, batch.afters)
        for type_, some in _by_type(rows).items():
            for attribute, mask in self._plan(type_):
                values = mask(list(map(attrgetter(attribute), some)))
                for row, value in zip(some, values, strict=True):
                    setattr(row, attribute, value)
        if self._dropped and any(batch.unavailable):
            batch.unavailable = [
                [name for name in names if name not in self._dropped] if names else names for names in batch.unavailable
            ]

    def _plan(self, type_: type[Any]) -> list[tuple[str, _Column]]:
        """Return what is done to rows of one type, by attribute; rows of a table have few types."""
        if type_ not in self._plans:
            assert not isinstance(self._masks, TableStopped), "without a key nothing is decoded"
            names = dict(zip(type_.__struct_encode_fields__, type_.__struct_fields__, strict=True))
            self._plans[type_] = [(names[name], mask) for name, mask in self._masks.items() if name in names]
        return self._plans[type_]


def _by_type(rows: Iterable[Any]) -> dict[type[Any], list[Any]]:
    """Return rows by their type, each object once: masked twice it would be something else."""
    found: dict[type[Any], list[Any]] = {}
    for row in {id(row): row for row in rows if row is not None}.values():
        found.setdefault(type(row), []).append(row)
    return found


def masking(decoder: Decoder, entry: TableEntry, keys: MaskKeys) -> Decoder:
    """Return a decoder that masks what `decoder` says; itself where the table has no masks."""
    if not masks_of(entry.spec):
        return decoder
    return MaskingDecoder(decoder, entry, column_masks(entry, keys))


def column_masks(entry: TableEntry, keys: MaskKeys) -> dict[str, _Column] | TableStopped:
    """Return what masks the values of each masked column of a table, or why it must stop."""
    if (stop := keys.stop_of(entry)) is not None:
        stop.hint += f"; then `headgate tables resume {entry.spec.table}`"
        return stop
    masks = masks_of(entry.spec).items()
    return {name: _column(mask, entry.spec.columns[name].type, entry, keys) for name, mask in masks}


def _column(mask: Mask, type_: ColumnType, entry: TableEntry, keys: MaskKeys) -> _Column:
    """Return what a mask does to the values of a column."""
    name = key_of(entry.spec, mask)
    match mask.how:
        case "drop":
            return lambda values: [UNSET] * len(values)
        case "null":
            return lambda values: [value if value is UNSET else None for value in values]
        case "hash":
            return _of_values(hashed(keys.secret(name)))
        case "token":
            return _of_values(tokens(keys.secret(name), type_))
        case "encrypt":
            return _of_values(keys.cipher(name).encrypted)
        case _:
            return _of_values(truncated(mask, type_))


def _of_values(each: Each) -> _Column:
    def column(values: list[Any]) -> list[Any]:
        return [value if value is None or value is UNSET else each(value) for value in values]

    return column
