"""The decoders of tables, each made when it is first needed, and anew where the table's entry is another."""

from __future__ import annotations

from connectors.formats import format_of
from connectors.formats.base import Decoder
from connectors.registry import registry_of
from schemas.config import Config
from schemas.table import TableEntry
from streams.epochs import of_epoch
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
        self._known: dict[str, dict[int, tuple[TableEntry, Decoder]]] = {}  # by table and epoch
        self._mask_keys = mask_keys_of(config.masks)

    def of(self, entry: TableEntry, epoch: int | None = None) -> Decoder:
        """Return the decoder of a table, for records of its epoch, or of an earlier one.

        Raises:
            ConfigurationError: its spec asks for what its format cannot read.
        """
        by_epoch = self._known.setdefault(entry.spec.table, {})
        wanted = entry.epoch if epoch is None else epoch
        known = by_epoch.get(wanted)
        if known is None or known[0] is not entry:
            theirs = of_epoch(entry, wanted)
            decoder: Decoder = format_of(entry.spec.format, self._registry).decoder(theirs, self._limits)
            decoder = masking(decoder, theirs, self._mask_keys)
            if self._evolve:
                decoder = evolving(decoder, theirs, self._limits, self._registry)
            known = by_epoch[wanted] = (entry, decoder)
        return known[1]

    def forget(self, table: str) -> None:
        """Make a table's decoders anew when they are needed."""
        self._known.pop(table, None)
