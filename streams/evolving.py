"""Decoders of tables whose columns follow their source: they stop at a record that needs another spec.

Promise: what lies before that record is decoded as ever, and nothing of it or behind it goes to quarantine that the
table's policies let pass. The stop says what the spec needs, of all the records at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from connectors import wire
from connectors.formats.base import Decoder, PartitionMemory, Records
from connectors.inference.evolving import MENDABLE, Needs, may_evolve, needs_of
from connectors.inference.renaming import renames_in
from connectors.inference.rows import rows_of
from connectors.transport.chunk import Run
from schemas.batch import Batch, Decoded
from schemas.config import LimitsConfig
from schemas.errors import PoisonRecord, TableStopped
from schemas.evolution import Evolved, Found, joined
from schemas.table import TableEntry
from streams.apart import Picked
from streams.tables import TableDirectory

NAMES_SHOWN = 10
_HERE = "here"  # no slot of a worker: those begin with their stage


class TableEvolves(TableStopped):
    """A table goes on as soon as its spec has what its records need; nobody has to decide anything."""

    def __init__(self, table: str, columns: Mapping[str, Found]) -> None:
        """Keep what each of `columns` has to be."""
        super().__init__(
            "evolving",
            f"{table} takes up what its records have: {named(columns)}",
            hint="it goes on by itself, within seconds; docs/tables.md says what becomes of its columns",
        )
        self.table, self.columns = table, dict(columns)


def named(columns: Mapping[str, Found]) -> str:
    """Return columns with the types that they get, and no more of them than a line takes."""
    shown = [f"{name} {said_of(found)}" for name, found in sorted(columns.items())]
    more = len(shown) - NAMES_SHOWN
    return ", ".join(shown[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def said_of(found: Found) -> str:
    """Return what a column becomes, in a word or two."""
    if found.sent_as:
        return f"sent as {' or '.join(found.sent_as)}"
    if found.text:
        return f"string (was {found.type})"
    return f"{found.type}, the rest as text" if found.rest else str(found.type)


class EvolveFirst(Exception):
    """Inside the redrive lane, which stops no topic: an attempt is not gone on with before its table has evolved."""

    def __init__(self, entry: TableEntry, stop: TableEvolves) -> None:
        """Keep what the table needs, and the entry by which it was decoded."""
        super().__init__(stop.message)
        self.entry, self.stop = entry, stop


class ImpatientDecoder:
    """A decoder of one table that raises EvolveFirst where its table would stop to evolve."""

    def __init__(self, decoder: Decoder, entry: TableEntry) -> None:
        """Decode with `decoder`, that of `entry`."""
        self._decoder, self._entry = decoder, entry
        self.alone, self.fixed = decoder.alone, getattr(decoder, "fixed", decoder)

    def decode(self, records: Records, memory: PartitionMemory) -> Decoded:
        """Return what the records say.

        Raises:
            EvolveFirst: some need another spec; nothing was decoded.
            RegistryUnavailable: what the records say cannot be told now.
        """
        decoded = self._decoder.decode(records, memory)
        if isinstance(decoded.stop, TableEvolves):
            raise EvolveFirst(self._entry, decoded.stop)
        return decoded


class EvolvingDecoder:
    """The decoder of one table, and what its spec needs where that refuses records."""

    def __init__(self, decoder: Decoder, entry: TableEntry, limits: LimitsConfig, schemas: wire.Schemas | None) -> None:
        """Decode with `decoder`, that of `entry`; `fixed` is itself, for what must not change the table."""
        self.fixed, self._entry, self._limits, self._schemas = decoder, entry, limits, schemas

    @property
    def alone(self) -> bool:
        """Whether no run is decoded with others."""
        return self.fixed.alone

    def decode(self, records: Records, memory: PartitionMemory) -> Decoded:
        """Return what the records say, up to the first one that needs another spec, where the table then stops.

        Raises:
            RegistryUnavailable: what the records say cannot be told now.
        """
        before = memory.copy()
        decoded = self.fixed.decode(records, memory)
        stops = self._stops(records, decoded)
        if not stops:
            return decoded
        first = min(stops)
        memory.become(before)
        decoded = Decoded(Batch(self._entry.spec.table))
        if first:
            decoded = self.fixed.decode(_before(records, first), memory)
            assert decoded.stop is None, "it would have stopped before what came behind"
        decoded.stop, decoded.stop_index = stops[first], first
        return decoded

    def _stops(self, records: Records, decoded: Decoded) -> dict[int, TableStopped]:
        """Return where the table must stop, by index of the record; the first of them is right."""
        renames: dict[int, dict[str, Found]] = {}
        if decoded.definitions:
            values = records.values()
            renames = renames_in(self._entry, {index: values[index] for index in decoded.definitions})
        bad = [each.index for each in decoded.rejected if _is_mendable(each.error)]
        for start, end in pairwise([0, *renames, max(bad, default=0) + 1]):
            if stops := self._mended(records, [index for index in bad if start <= index < end], decoded):
                return stops
            if renames.get(end):
                return {end: TableEvolves(self._entry.spec.table, renames[end])}
        return {}

    def _mended(self, records: Records, bad: list[int], decoded: Decoded) -> dict[int, TableStopped]:
        """Return where the table must stop for records that were refused."""
        if not bad:
            return {}
        rows = rows_of(self._entry, Picked(records, bad, records.topic), self._limits, self._schemas)
        needs = needs_of(self._entry, rows, decoded.unknown_columns)
        return {bad[at]: stop for at, stop in _stops(self._entry, needs).items()}


def take_up_here(tables: TableDirectory, stop: TableEvolves) -> None:
    """Have tables that nobody else runs take up what one needs, as if a worker had found it; nothing is written."""
    own = tables.evolved(stop.table).get(_HERE)
    columns = joined(own.columns if own else {}, {name: [found] for name, found in stop.columns.items()})
    evolved = Evolved(table=stop.table, slot=_HERE, revision=own.revision + 1 if own else 1, columns=columns)
    tables.update({evolved.key: evolved.encoded()})


def evolving(decoder: Decoder, entry: TableEntry, limits: LimitsConfig, schemas: wire.Schemas | None) -> Decoder:
    """Return a decoder that stops where the table's spec may be bettered, itself where nothing of it may be."""
    return EvolvingDecoder(decoder, entry, limits, schemas) if may_evolve(entry.spec) else decoder


def _is_mendable(error: BaseException) -> bool:
    return isinstance(error, PoisonRecord) and error.reason in MENDABLE


def _stops(entry: TableEntry, needs: Needs) -> dict[int, TableStopped]:
    """Return the places at which the table must stop, and why."""
    table, stops = entry.spec.table, dict[int, TableStopped]()
    if needs.mended:
        stops[min(needs.mended)] = TableEvolves(table, needs.columns)
    if entry.spec.type_changes == "pause":
        for index, column in needs.misfits.items():
            stops[index] = TableStopped(
                "type_changed",
                f"column {column} of {table} has a value that {entry.spec.columns[column].type} does not hold",
                hint=f"say in the spec what the column is, or another `type_changes` (docs/tables.md), apply it, and "
                f"`headgate tables resume {table}`",
            )
    return stops


def _before(records: Records, stop: int) -> Records:
    """Return the records before one; a run's own slice knows more of them than a decoder must be told."""
    return records.slice(0, stop) if isinstance(records, Run) else Picked(records, range(stop), records.topic)
