"""The subscriber's rule, and how far a subscriber is in one partition of the output topic.

Promise: a change is told as a repeat, as behind a gap, or as the next one, by what was seen of its origin stream. A
`Place` written as text and read back says the same; text is never above what Kafka takes beside an offset.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

import msgspec

from headgate.client.events import Gap, Origin
from schemas import versions

PLACE_BYTES_MAX = 4_095  # offset.metadata.max.bytes of the broker, and the client puts a NUL behind it
_PLACE = re.compile(r"v(\d{1,9}) (\d{1,19}) (.*)", re.DOTALL)
_WRITES = versions.CLIENT_PLACE.writes

Stream = tuple[str, int, int]


class Height(NamedTuple):
    """The highest change seen of a stream, and how many its record made."""

    offset: int
    row: int
    rows: int


class Told(Enum):
    """What the rule says of a change."""

    NEXT = "next"
    REPEAT = "repeat"


class Place:
    """How far a subscriber is in one partition: the next offset to read, and the highest change seen by origin stream.

    `offset` is None until it is known.
    """

    __slots__ = ("_seen", "offset")

    def __init__(self, offset: int | None = None, seen: dict[Stream, Height] | None = None) -> None:
        """Begin there."""
        self.offset, self._seen = offset, dict(seen or {})

    def judge(self, origin: Origin, previous: int | None, rows: int) -> Told | Gap:
        """Tell what a change is, without taking it. A stream of which nothing was seen begins anywhere."""
        highest = self._seen.get(origin.stream)
        if highest is None:
            return Told.NEXT
        if (origin.offset, origin.row) <= (highest.offset, highest.row):
            return Told.REPEAT
        if origin.row:
            follows = (origin.offset, origin.row - 1) == (highest.offset, highest.row)
        else:
            follows = previous == highest.offset and highest.row == highest.rows - 1
        return Told.NEXT if follows else Gap(Origin(*origin.stream, highest.offset, highest.row), previous, origin)

    def take(self, origin: Origin, rows: int) -> None:
        """Note a change as seen; the stream is the one that was seen last."""
        self._seen.pop(origin.stream, None)
        self._seen[origin.stream] = Height(origin.offset, origin.row, rows)

    def text(self) -> str:
        """Return it as text; where not all streams have room, those go that were seen the longest ago.

        A stream that went begins anew: its next change is taken, whatever it names as the one before it.
        """
        assert self.offset is not None, "nothing is kept of a place that is not known"
        streams = [(*stream, *height) for stream, height in self._seen.items()]
        while len((text := _text(self.offset, streams)).encode()) > PLACE_BYTES_MAX:
            del streams[0]
        return text


def _text(offset: int, streams: list[tuple[str, int, int, int, int, int]]) -> str:
    """Return the text of a place; each topic stands in it once."""
    by_topic: dict[str, list[list[int]]] = {}
    for topic, *numbers in streams:
        by_topic.setdefault(topic, []).append(numbers)
    return f"v{_WRITES} {offset} {msgspec.json.encode(by_topic).decode()}"


def read_place(text: str | None, offset: int | None = None) -> Place:
    """Return the place that a text says; one at `offset` of which nothing is known where it is none, or of another.

    Raises:
        VersionRefused: a newer release wrote it.
    """
    match = _PLACE.fullmatch(text or "")
    if match is None:
        return Place(offset)
    version, at, streams = match.groups()
    versions.CLIENT_PLACE.check(version, "where this subscriber stands")
    if offset is not None and int(at) != offset:  # somebody moved the offset, and kept the text
        return Place(offset)
    try:
        found = msgspec.json.decode(streams, type=dict[str, list[tuple[int, int, int, int, int]]])
    except (msgspec.MsgspecError, RecursionError):
        return Place(offset)
    seen = {
        (topic, generation, partition): Height(*height)
        for topic, some in found.items()
        for generation, partition, *height in some
    }
    return Place(int(at), seen)
