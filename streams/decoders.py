"""The decoders of tables, each made when it is first needed, and anew where the table's entry is another."""

from __future__ import annotations

from connectors.formats import format_of
from connectors.formats.base import Decoder
from connectors.registry import registry_of
from schemas.config import Config
from schemas.table import TableEntry
from streams.evolving import evolving
from streams.mask_keys import mask_keys_of
from streams.masking import masking


class Decoders:
    """The decoders of one thread, behind their tables' masks: they learn from what they read, so nobody else may."""

    def __init__(self, config: Config, *, evolve: bool = False) -> None:
        """Have none yet; those that `evolve` stop their table where its spec may be bettered (evolving.py).

        Raises:
            ConfigurationError: a certificate or key of the schema registry cannot be read.
        """
        self._limits, self._registry, self._evolve = config.limits, registry_of(config.registry), evolve
        self._mask_keys = mask_keys_of(config.masks)
        self._known: dict[str, tuple[TableEntry, Decoder]] = {}

    def of(self, entry: TableEntry) -> Decoder:
        """Return the decoder of a table.

        Raises:
            ConfigurationError: its spec asks for what its format cannot read.
        """
        known = self._known.get(entry.spec.table)
        if known is None or known[0] is not entry:
            decoder: Decoder = format_of(entry.spec.format, self._registry).decoder(entry, self._limits)
            decoder = masking(decoder, entry, self._mask_keys)
            if self._evolve:
                decoder = evolving(decoder, entry, self._limits, self._registry)
            known = self._known[entry.spec.table] = (entry, decoder)
        return known[1]

    def forget(self, table: str) -> None:
        """Make a table's decoder anew when it is needed."""
        self._known.pop(table, None)
