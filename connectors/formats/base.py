"""What a format is: it makes typed changes of the records of one topic partition.

A format is one module that ends in an object with the two members of `Format`, and one line in
`connectors/formats/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from connectors import wire
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.table import TableEntry

MEMORY_BYTES_MAX = 1024
_ENCODER = msgspec.json.Encoder(decimal_format="string")


class Records(Protocol):
    """Consecutive records of one topic partition, as the transport hands them out."""

    @property
    def topic(self) -> str:
        """The topic they were read from."""

    @property
    def partition(self) -> int:
        """Its partition."""

    def values(self) -> list[bytes | None]:
        """Return the values, in the order of offsets."""

    def keys(self) -> list[bytes | None]:
        """Return the keys, as many as values."""

    def offsets(self) -> list[int]:
        """Return the offsets, rising; not always without gaps."""

    def time_ms(self, index: int, /) -> int:
        """Return the time that Kafka has of one record, in milliseconds since 1970, -1 where it has none.

        Of a record that was redriven or parked, it is the one that it had where it was read at first.
        """

    def headers(self, index: int, /) -> Sequence[tuple[str, bytes | None]] | None:
        """Return the headers of one record; slow, so it is asked for only where one can matter."""


def origin_offsets(records: Records) -> list[int]:
    """Return the offsets that the records have in their partitions: those that may become part of a position.

    Records of several partitions that are decoded side by side have others to be known by, and these apart.
    """
    own: list[int] = getattr(records, "origin_offsets", records.offsets)()
    return own


class PartitionMemory(msgspec.Struct, omit_defaults=True):
    """What a decoder remembers of a table in one origin partition; it travels in the metadata of the committed offset.

    `decode` changes it: give it a `copy()`, and keep that only if the records' offsets are committed.
    """

    streamed: bool = False  # a change (not a snapshot's row) was seen in this epoch
    last: str = ""  # the highest position of such a change
    epoch: int = 0
    loaded: int = 0  # rows of the snapshot that an epoch above 0 begins with
    ended: bool = False  # the snapshot's last row was seen, or a change behind its rows
    floored: bool = False  # the floor of the epoch was written by who has this partition

    def copy(self) -> PartitionMemory:
        """Return an equal memory that changes apart."""
        return msgspec.structs.replace(self)

    def become(self, other: PartitionMemory) -> None:
        """Remember what `other` does, and nothing else."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(other, name))

    def enter(self, epoch: int) -> None:
        """Forget what was seen before a resync: a new epoch begins with a snapshot."""
        if epoch != self.epoch:
            self.become(PartitionMemory(epoch=epoch))

    def again(self) -> PartitionMemory:
        """Return what stays true where records of the same life of the topic are read once more, from anywhere.

        What the epoch has come to: that there were rows, not how many, for some may be counted again.
        """
        return msgspec.structs.replace(self, streamed=False, last="", loaded=min(self.loaded, 1))

    def saw_load(self, rows: int, *, ended: bool) -> None:
        """Remember rows of the snapshot that this epoch began with, and whether its end was among them or behind."""
        self.loaded += rows
        self.ended = self.ended or ended

    def saw(self, position: str) -> None:
        """Remember a streamed change at `position`."""
        self.streamed = True
        self.last = max(self.last, position)

    def to_text(self) -> str:
        """Return a text under 1 KB that `from_text` reads."""
        text = msgspec.json.encode(self).decode()
        assert len(text) < MEMORY_BYTES_MAX, "a memory holds one position"
        return text

    @classmethod
    def from_text(cls, text: str) -> PartitionMemory:
        """Return the memory that `to_text` wrote; of an empty text, that of a partition never read.

        Raises:
            msgspec.MsgspecError: the text was not written by `to_text`.
        """
        return msgspec.json.decode(text, type=cls) if text else cls()


class Decoder(Protocol):
    """Decodes the records of a table; it may learn from them, but returns what records and memory say, no more."""

    @property
    def alone(self) -> bool:
        """Whether no run is decoded with others, for what was seen of its partition decides about ordinary changes.

        Not so where that is the end of a load, or less order than the highest `last` of all has: both are looked at
        before, and only then is each run decoded by itself.
        """

    def decode(self, records: Records, memory: PartitionMemory) -> Decoded:
        """Return what the records say, each in exactly one place of `Decoded`; never raises for a record.

        Raises:
            RegistryUnavailable: what the records say cannot be told now, for formats that ask a registry.
        """


class Format(Protocol):
    """A way to write changes on a topic."""

    @property
    def name(self) -> str:
        """What `format:` of a table's spec calls it."""

    def decoder(self, entry: TableEntry, limits: LimitsConfig) -> Decoder:
        """Return a decoder for the table.

        Raises:
            ConfigurationError: the spec asks for what this format cannot read.
        """


@runtime_checkable
class Asking(Protocol):
    """A format whose records name their schema by an id."""

    def asking(self, schemas: wire.Schemas) -> Format:
        """Return the format with its registry."""


def encode_row(row: Any) -> bytes:
    """Return the contract's JSON of a row object of a `Batch`; any plain msgspec encoder gives the same."""
    return _ENCODER.encode(row)
