"""Records kept in a file: a JSON object per line, with the exact bytes of key and value as base64.

A line holds `topic`, `partition`, `offset`, `headers` (a list of `[name, text]`), `key` and `value`; a header that is
no text is `{"base64": …}`. What else it holds is passed over.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import msgspec

from schemas.errors import ConfigurationError

Headers = Sequence[tuple[str, bytes | None]]
_Natural = Annotated[int, msgspec.Meta(ge=0)]


class _Bytes(msgspec.Struct):
    base64: bytes


class _Line(msgspec.Struct):
    topic: str
    partition: _Natural
    offset: _Natural
    timestamp: int | None = None
    headers: list[tuple[str, str | _Bytes | None]] | None = None
    key: bytes | None = None
    value: bytes | None = None


class OneRecord:
    """One record of a topic; it is what a format calls `Records`, for there is nothing beside it."""

    __slots__ = ("_headers", "key", "offset", "partition", "timestamp", "topic", "value")

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        timestamp: int = -1,
    ) -> None:
        self.topic, self.partition, self.offset = topic, partition, offset
        self.key, self.value, self._headers, self.timestamp = key, value, headers, timestamp

    def values(self) -> list[bytes | None]:
        """Return its value."""
        return [self.value]

    def keys(self) -> list[bytes | None]:
        """Return its key."""
        return [self.key]

    def offsets(self) -> list[int]:
        """Return its offset."""
        return [self.offset]

    def time_ms(self, index: int, /) -> int:
        """Return its time in milliseconds since 1970, -1 for none; `index` is 0."""
        assert index == 0, "there is one record"
        return self.timestamp

    def headers(self, index: int, /) -> Headers:
        """Return its headers; `index` is 0."""
        assert index == 0, "there is one record"
        return self._headers


def read_captured(lines: Iterable[bytes], *, name: str) -> Iterator[OneRecord]:
    """Yield the record of each line that is not empty; `name` is how errors call the file.

    Raises:
        ConfigurationError: a line is no such object; with its number.
    """
    decode = msgspec.json.Decoder(_Line).decode
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            read = decode(line)
        except (msgspec.MsgspecError, binascii.Error, UnicodeDecodeError) as exc:
            place = str(exc).rpartition(" - at ")[2] if " - at " in str(exc) else "the line"
            raise ConfigurationError(
                f"{name}:{number}: not a record: {place}",
                hint='a line is {"topic", "partition", "offset", "headers", "key", "value"}, the last two in base64',
            ) from None
        headers = [(key, _bytes(value)) for key, value in read.headers or ()]
        at = -1 if read.timestamp is None else read.timestamp
        yield OneRecord(read.topic, read.partition, read.offset, read.key, read.value, headers, at)


def _bytes(value: str | _Bytes | None) -> bytes | None:
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else value.base64
