"""What texts may be: timestamps, UUIDs, JSON, bytes, or nothing but texts; told by all of them together."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from connectors.inference.choice import Choice, Sure
from connectors.inference.fitting import ANY_TEXT, UNREADABLE, Way, takes
from schemas.types import ColumnType, Kind

_TEXT = Way(ColumnType(Kind.STRING), "string")
_BYTES = (Way(ColumnType(Kind.BINARY), "base64"), Way(ColumnType(Kind.BINARY), "base64url"))
_BYTES_AS_TEXT = Way(ColumnType(Kind.STRING), "base64")
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
_DAY = r"[+-]?\d{4,9}-\d\d-\d\d"
_HOUR = r"\d\d:\d\d:\d\d(?:\.\d{1,9})?"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_JSON = "JSON documents"
# How texts look, and how they are then read; the first that fits all of them.
_LOOKS: tuple[tuple[str, str, Way], ...] = (
    ("timestamps in UTC", rf"{_DAY}T{_HOUR}Z", Way(ColumnType(Kind.TIMESTAMPTZ), "time.ZonedTimestamp")),
    ("dates as Debezium writes them", rf"{_DAY}Z", Way(ColumnType(Kind.DATE), "time.IsoDate")),
    ("times as Debezium writes them", rf"{_HOUR}Z", Way(ColumnType(Kind.TIME), "time.ZonedTime")),
    ("UUIDs", _UUID, Way(ColumnType(Kind.UUID), "data.Uuid")),
    (_JSON, r"(?s:\s*[{\[].*[}\]]\s*)", Way(ColumnType(Kind.JSON), "data.Json")),
)
_PATTERNS = {what: re.compile(pattern, re.ASCII) for what, pattern, _ in _LOOKS}
_json = msgspec.json.Decoder().decode


class Texts:
    """The texts of one column, so far."""

    def __init__(self) -> None:
        """Have seen none, so that they may be anything."""
        self._looks = [(what, way) for what, _, way in _LOOKS]
        self._bytes = list(_BYTES)
        self._padded = False
        self.not_finite = True  # all of them are words for numbers that are none

    def absorb(self, texts: Sequence[str]) -> None:
        """Take texts."""
        self._looks = [(what, way) for what, way in self._looks if _look_like(what, way, texts)]
        self._bytes = [way for way in self._bytes if takes(way, texts)]
        self._padded = self._padded or any(text.endswith("=") for text in texts)
        self.not_finite = self.not_finite and _NOT_FINITE.issuperset(texts)

    def choice(self, *, are_bytes: bool) -> Choice:
        """Return how to read them; `are_bytes` where something else says that they are bytes in base64."""
        if are_bytes:
            way = self._bytes[0] if self._bytes else _BYTES_AS_TEXT
            return Choice(way, Sure.MEDIUM, "the placeholder came in base64, so these are bytes")
        if self.not_finite:
            return Choice(ANY_TEXT, Sure.LOW, "only words for what is no number: numbers may follow")
        if self._looks:
            what, way = self._looks[0]
            risk = "" if what == _JSON else "; a later one that is none would be refused: then string"
            return Choice(way, Sure.MEDIUM, f"all texts are {what}{risk}")
        if self._bytes and self._padded:
            warning = "may be base64 of bytes or of a decimal; nothing but the source's type can tell"
            return Choice(_TEXT, Sure.LOW, "texts", warning)
        return Choice(_TEXT, Sure.MEDIUM, "texts")


def _look_like(what: str, way: Way, texts: Sequence[str]) -> bool:
    return all(map(_PATTERNS[what].fullmatch, texts)) and takes(way, texts) and (what != _JSON or _are_json(texts))


def _are_json(texts: Sequence[str]) -> bool:
    try:
        for text in texts:
            _json(text)
    except UNREADABLE:
        return False
    return True
