"""Where things lie in Redis: layout 2, frozen in docs/redis.md. Pure: names and numbers, no client.

Every key but `<prefix>:layout` begins with `<prefix>:{b<n>}:`; the braces are the hash tag of Redis Cluster, so that
all keys of one call are in one slot.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ROW = "f"  # latest values of a row that is its own entity: values and ledger in one hash
SHARING_ROW = "r"  # the ledger of a row of a view whose entities several rows share
ENTITY = "e"  # what each row that names an entity told it
RANKS = "z"  # those of them that are there, in the order in which it would show them
GONE = "g"  # when rows left entities, so that these need not keep it for ever
LEFT = "m"  # the entities that a row has left
TOMBSTONES = "x"
HANDOVERS = "k"  # what waits for rows from their old keys, and where rows have gone that did not know all
OFFSETS = "at"
OUTBOX = "out"  # feature updates that are not relayed yet
COUNTER = "in"  # their incarnation and last number
STANDINGS = "view"
FLOORS = "floor"
FLOOR = "l"  # no key: the kind of a section that raises a view's floor
# Kept free for what comes later: windows.
RESERVED = ("w",)


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of keys of one installation."""

    prefix: str
    buckets: int

    @property
    def marker(self) -> str:
        """The key that holds the layout's version and number of buckets."""
        return f"{self.prefix}:layout"

    def bucket(self, entity: str) -> int:
        """Return the bucket of an entity: CRC-32 of its text in UTF-8, modulo the number of buckets."""
        return zlib.crc32(entity.encode()) % self.buckets

    def base(self, bucket: int) -> str:
        """Return what every key of a bucket begins with."""
        return f"{self.prefix}:{{b{bucket}}}:"

    def offsets(self, bucket: int) -> str:
        """Return the hash of how far each view has come in this bucket."""
        return self.base(bucket) + OFFSETS

    def outbox(self, bucket: int) -> str:
        """Return the stream of feature updates of a bucket."""
        return self.base(bucket) + OUTBOX

    def counter(self, bucket: int) -> str:
        """Return the key that holds incarnation and last number of a bucket's feature updates."""
        return self.base(bucket) + COUNTER

    def standings(self, bucket: int) -> str:
        """Return the hash of how each view stands in this bucket: pending or complete."""
        return self.base(bucket) + STANDINGS

    def floors(self, bucket: int) -> str:
        """Return the hash of the floors of views in this bucket."""
        return self.base(bucket) + FLOORS

    def ledger(self, kind: str, view: str, key: str) -> str:
        """Return the hash that holds a row's ledger; `kind` is that of its view's plan."""
        return f"{self.base(self.bucket(key))}{kind}:{view}:{key}"

    def values(self, view: str, entity: str) -> str:
        """Return the hash of latest values of an entity; `view` is its id, `<name>.<version>`."""
        return f"{self.base(self.bucket(entity))}{ROW}:{view}:{entity}"

    def tombstones(self, view: str, bucket: int) -> str:
        """Return the hash of deleted rows of a view in a bucket."""
        return f"{self.base(bucket)}{TOMBSTONES}:{view}"

    def handovers(self, view: str, bucket: int) -> str:
        """Return the hash of what changes of keys still wait for, of a view in a bucket."""
        return f"{self.base(bucket)}{HANDOVERS}:{view}"

    def bucket_patterns(self) -> list[str]:
        """Return patterns, as Redis has them, of what keys of the buckets begin with, each of them once.

        A star in the place of the number would read on over the text of an entity that holds `}:`.
        """
        digits = range(1, len(str(self.buckets - 1)) + 1)
        return [f"{self.prefix}:{{b{'[0-9]' * many}}}:" for many in digits]

    def of_view(self, keys: Iterable[bytes], kinds: str, view: str) -> list[bytes]:
        """Return those of some keys, as SCAN found them, that are rows or entities of a view, given by its id.

        A pattern of SCAN finds more: its star in the place of the bucket's number also reads over the text of an
        entity of another view, which may be anything. `kinds` are letters.
        """
        begin = rf"{re.escape(self.prefix)}:\{{b[0-9]+\}}:[{kinds}]:{re.escape(view)}:"
        return list(filter(re.compile(begin.encode()).match, keys))


def entity_text(parts: Sequence[str]) -> str:
    """Return the text that names an entity: of one column as it is, of several joined by colons.

    Of several, `%` and `:` inside a part are written `%25` and `%3A`, so that two keys never share a text.
    """
    if len(parts) == 1:
        return parts[0]
    return ":".join(part.replace("%", "%25").replace(":", "%3A") for part in parts)


def offset_field(view: str, topic: str, partition: int) -> str:
    """Return the field of `Layout.offsets` for one view and partition."""
    return f"{view}|{topic}|{partition}"


def view_of(field: str) -> str:
    """Return the view's id in what `offset_field` made."""
    return field.partition("|")[0]


def offset_text(topic_id: str, next_offset: int) -> str:
    """Return what such a field holds."""
    return f"{topic_id}:{next_offset}"


def read_offset(text: str) -> tuple[str, int]:
    """Return topic id and next offset of what `offset_text` wrote."""
    topic_id, _, number = text.rpartition(":")
    return topic_id, int(number)
