"""Own bytes of records of tables with masks: sealed in quarantine, on the way back and where they are parked.

Who has the key opens them.

What is sealed is `HGS1`, name and id of the key with blanks between, and AES-256-GCM of `packed` bytes. Where a table
with masks has no key, nothing of its records is kept: the source topic still has them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import msgspec

from connectors.transport.chunk import Assignment, Headers, Run
from schemas.change import HEADER_FIRST_ORIGIN, HEADER_MEMORY
from schemas.errors import ConfigurationError, PoisonRecord
from schemas.table import TableEntry, TableSpec
from sinks.quarantine import Packed, Quarantined, Seal, packed, unpacked
from streams.mask_keys import MISSING, MaskKeys
from streams.mask_values import Cipher
from streams.poison import time_header
from streams.tables import Readers

HEADER_SEALED = "headgate.sealed"  # of a record that was redriven or parked, and whose value is sealed
_MAGIC = b"HGS1"
_PARTS = 4
_OF_SEALED = ([HEADER_SEALED, HEADER_FIRST_ORIGIN], [HEADER_SEALED, HEADER_MEMORY, HEADER_FIRST_ORIGIN])


@dataclass(frozen=True, slots=True)
class TableSeal:
    """Seals the records of one table by its key; without a cipher there is none, and nothing may be kept."""

    name: str
    cipher: Cipher | None

    def __call__(self, clear: bytes) -> bytes | None:
        """Return sealed bytes, None where there is no key."""
        if self.cipher is None:
            return None
        return b" ".join([_MAGIC, self.name.encode(), self.cipher.id.encode(), self.cipher.sealed(clear)])

    def record(self, value: bytes | None, key: bytes | None, headers: Headers, time_ms: int) -> tuple[bytes, Headers]:
        """Return the value and the headers of a record that holds another one's own bytes sealed; it has no key."""
        sealed = self(packed(key, value, headers, time_ms))
        assert sealed is not None, "without a key nothing is kept"
        return sealed, [(HEADER_SEALED, b"1")]


class Sealing:
    """Which records are sealed, and with what."""

    def __init__(self, keys: MaskKeys) -> None:
        """Seal with these keys."""
        self._keys = keys
        self._last: tuple[Readers, str | None, TableSeal | None] | None = None

    def of(self, readers: Readers | None, table: str | None) -> TableSeal | None:
        """Return what seals a record of a topic's tables, None where it may be kept as it is.

        It is sealed where any table has masks that takes it: `table`, or one that stands beside it. A record that names
        none of them may be of any that has.
        """
        if readers is None:
            return None
        if self._last is None or self._last[0] is not readers or self._last[1] != table:
            self._last = readers, table, self._of(readers, table)
        return self._last[2]

    def _of(self, readers: Readers, table: str | None) -> TableSeal | None:
        entries = _taking_it(readers, table)
        masked = next((entry.spec for entry in entries if entry.spec.is_masked), None)
        return None if masked is None else self._seal(masked)

    def _seal(self, spec: TableSpec) -> TableSeal:
        name = spec.masks.key
        try:
            return TableSeal(name, self._keys.cipher(name))
        except ConfigurationError:  # a table whose masks need that key stands still, and says so
            return TableSeal(name, None)

    def opened(self, entry: Quarantined) -> Quarantined:
        """Return an entry with the own bytes of its record, where they are sealed and a key opens them."""
        found = self._open(base64.b64decode(entry.sealed)) if entry.sealed else None
        if found is None:
            return entry
        return msgspec.structs.replace(
            entry,
            key=_base64(found.key),
            value=_base64(found.value),
            headers=[(name, _base64(text)) for name, text in found.headers],
            sealed=msgspec.UNSET,
        )

    def of_read(self, run: Run | Opened, index: int, readers: Readers | None, table: str | None) -> Seal | None:
        """Return what seals one record of a run; one that is sealed already stays as it is."""
        sealed = run.sealed(index) if isinstance(run, Opened) else None
        return self.of(readers, table) if sealed is None else lambda _: sealed

    def opened_run(self, run: Run) -> Run | Opened:
        """Return the records of a run of the redrive topic, or of a parked one's, with the sealed ones opened."""
        sealed = {index: value for index in range(len(run)) if (value := sealed_value(run, index)) is not None}
        return Opened(run, {index: self._open(value) for index, value in sealed.items()}) if sealed else run

    def _open(self, raw: bytes) -> Packed | None:
        parts = raw.split(b" ", _PARTS - 1)
        if len(parts) != _PARTS or parts[0] != _MAGIC:
            return None
        cipher = self._keys.opening(*(part.decode("ascii", "replace") for part in parts[1:3]))
        clear = None if cipher is None else cipher.opened(parts[3])
        return None if clear is None else unpacked(clear)


def _taking_it(readers: Readers, table: str | None) -> list[TableEntry]:
    """Return the tables that a record of `table` is of, itself first; all of them where it names none."""
    own, every = readers.entries.get(table or ""), [*readers.entries.values(), *readers.beside]
    if own is None:
        return every
    name = own.spec.source_table
    return [own, *(each for each in every if each is not own and each.spec.source_table == name)]


class Opened:
    """Redriven or parked records of which some were sealed; None in `opened` are those that no key opens."""

    def __init__(self, run: Run, opened: dict[int, Packed | None]) -> None:
        """Keep both."""
        self.topic, self.partition = run.topic, run.partition
        self._run, self._opened = run, opened

    @property
    def assignment(self) -> Assignment:
        """The partition that they were read from."""
        return self._run.assignment

    def sealed(self, index: int) -> bytes | None:
        """Return the sealed bytes of a record, None where it was not sealed."""
        return self._run.values()[index] if index in self._opened else None

    def is_closed(self, index: int) -> bool:
        """Tell whether a record is sealed with a key that is not there."""
        return index in self._opened and self._opened[index] is None

    def values(self) -> list[bytes | None]:
        """Return the values, None of those that stay closed."""
        return [self._part(index, value, "value") for index, value in enumerate(self._run.values())]

    def keys(self) -> list[bytes | None]:
        """Return the keys, None of those that stay closed."""
        return [self._part(index, key, "key") for index, key in enumerate(self._run.keys())]

    def offsets(self) -> list[int]:
        """Return the offsets."""
        return self._run.offsets()

    def time_ms(self, index: int, /) -> int:
        """Return the time that one of them has here."""
        return self._run.time_ms(index)

    def headers(self, index: int, /) -> Headers:
        """Return the own headers of one record, and behind them ours, that say where and when it was read at first."""
        outer = list(self._run.headers(index))
        if index not in self._opened:
            return outer
        own = self._opened[index]
        return outer[1:] if own is None else [*own.headers, *time_header(own.time_ms), *outer[1:]]

    def _part(self, index: int, outer: bytes | None, name: str) -> bytes | None:
        if index not in self._opened:
            return outer
        own = self._opened[index]
        part: bytes | None = None if own is None else getattr(own, name)
        return part


def sealed_value(run: Run, index: int) -> bytes | None:
    """Return the sealed bytes of a record that was redriven or parked, None where it is not sealed.

    A source's record may have such a header, too: of ours there are no others than those that stand behind it.
    """
    names = [name for name, _ in run.headers(index)]
    if names not in _OF_SEALED:
        return None
    value = run.values()[index]
    return value if value is not None and value.startswith(_MAGIC + b" ") else None


def closed() -> PoisonRecord:
    """Return why a sealed record goes back."""
    return PoisonRecord(
        MISSING,
        "the record is sealed with a mask key that is not there",
        hint="`headgate masks keys` shows which there are; name it again under masks.keys, then redrive it again",
    )


def _base64(text: bytes | None) -> str | None:
    return None if text is None else base64.b64encode(text).decode()
