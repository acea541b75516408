"""What values say of a column whose encoding reads raw JSON, `plain` or `bson`: there a string takes any value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from connectors.formats.placeholder import Placeholder
from connectors.inference.choice import Choice, Sure
from connectors.inference.fitting import Way, exists, takes
from connectors.inference.values import Values
from schemas.errors import ConfigurationError
from schemas.types import ColumnType, Kind, parse_type

RAW = frozenset({"plain", "bson"})
_KINDS = (Kind.BOOLEAN, Kind.LONG, Kind.DOUBLE, Kind.TIMESTAMPTZ, Kind.UUID, Kind.BINARY, Kind.JSON)
_A_TIME, _A_UUID, _BYTES = "1970-01-01T00:00:00Z", "00000000-0000-4000-8000-000000000000", "AA=="
_EXPONENT_MAX = 18
# Texts that tools write for times without a zone; zero dates are none, and keep their column a text.
_TEMPORAL = {
    Kind.DATE: ("dates", re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)),
    Kind.TIMESTAMP: (
        "timestamps without a zone",
        re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,9})?", re.ASCII),
    ),
}
_TYPES_MAX = 20  # that one column is stated to have, one after the other


class RawValues:
    """The values of one column, or of the elements of its lists, so far."""

    def __init__(self, encoding: str, placeholder: Placeholder, *, zoneless: bool = False) -> None:
        """Have seen none; `encoding` is `plain` or `bson`. With `zoneless` texts may be dates and times without a zone.

        Who has few values does not ask for that: what looks like a date once may be a text of anything.
        """
        self._encoding, self._placeholder = encoding, placeholder
        self._shapes = Values(placeholder, None)
        self._open = [way for kind in _KINDS if exists(way := Way(ColumnType(kind), encoding))]
        self._stated: dict[str, bool] = {}
        self._temporal = list(_TEMPORAL) if zoneless and encoding == "plain" else []
        self._others = self._bytes = 0
        self._elements: RawValues | None = None

    def absorb(self, values: Sequence[Any], stated: str | None = None) -> None:
        """Take values, and the type that their source states, as a spec writes it, if it does."""
        if stated is not None and len(self._stated) < _TYPES_MAX:
            self._stated.setdefault(stated, True)
        for text, alive in self._stated.items():
            self._stated[text] = alive and self._fits(text, values)
        self._open = [way for way in self._open if takes(way, values)]
        shapes = [_shape(value) if self._encoding == "bson" else _whole(value) for value in values]
        self._bytes += sum(1 for shape in shapes if shape is _BYTES)
        self._others += sum(1 for shape in shapes if shape is not _BYTES and shape is not None)
        self._shapes.absorb(shapes)
        if lists := [value for value in values if isinstance(value, list)]:
            zoneless = bool(self._temporal)
            self._elements = self._elements or RawValues(self._encoding, self._placeholder, zoneless=zoneless)
            self._elements.absorb([element for value in lists for element in value])
        self._temporal = [kind for kind in self._temporal if self._are(kind, values)]

    def _are(self, kind: Kind, values: Sequence[Any]) -> bool:
        """Tell whether all values look like a kind of time, and are ones."""
        pattern = _TEMPORAL[kind][1]
        texts = [value for value in values if value is not None]
        looks = all(isinstance(value, str) and pattern.fullmatch(value) for value in texts)
        return looks and takes(Way(ColumnType(kind), self._encoding), texts)

    def _fits(self, text: str, values: Sequence[Any]) -> bool:
        try:
            way = Way(parse_type(text), self._encoding)
        except ConfigurationError:
            return False
        return exists(way) and takes(way, values)

    def choice(self, name: str = "") -> Choice:
        """Return how to read the column: as its source states it, where every value fits; else as the values look."""
        if self._stated and (last := next(reversed(self._stated))) and self._stated[last]:
            return Choice(Way(parse_type(last), self._encoding), Sure.HIGH, "stated by the source")
        found = self._shapes.choice(name)
        if self._bytes and not self._others:
            found = Choice(Way(ColumnType(Kind.BINARY), self._encoding), Sure.MEDIUM, "bytes")
        kind = found.way.type.kind
        if kind is Kind.LIST and self._elements is not None:
            inner = self._elements.choice()
            return Choice(inner.way.in_list(), inner.sure, f"lists; of their elements: {inner.why}", inner.warning)
        if kind is Kind.STRING and self._temporal and self._others:
            what = _TEMPORAL[self._temporal[0]][0]
            why = f"all texts are {what}; a later one that is none would be refused: then string"
            return Choice(Way(ColumnType(self._temporal[0]), self._encoding), Sure.MEDIUM, why)
        way = Way(ColumnType(kind), self._encoding)
        if way not in self._open:
            way = Way(ColumnType(Kind.STRING), self._encoding)
        return Choice(way, found.sure, found.why, found.warning)


def _whole(value: Any) -> Any:
    """Return an integer that is written with an exponent, as AWS DMS writes those of more than 16 digits, as one."""
    if isinstance(value, Decimal) and value.is_finite():
        exponent = value.as_tuple().exponent
        if isinstance(exponent, int) and 0 < exponent <= _EXPONENT_MAX:
            return int(value)
    return value


def _shape(value: Any) -> Any:
    """Return what a value of MongoDB is in plain JSON, by its wrapper; which value exactly does not matter."""
    if not isinstance(value, dict) or not next(iter(value), "").startswith("$"):
        return value
    match value:
        case {"$numberInt": str(text)} | {"$numberLong": str(text)}:
            return int(text) if text.lstrip("+-").isascii() and text.lstrip("+-").isdigit() else text
        case {"$numberDouble": text}:
            return _double(str(text))
        case {"$date": _} | {"$timestamp": _}:
            return _A_TIME
        case {"$uuid": _} | {"$binary": {"subType": ("03" | "04" | "3" | "4")}} | {"$type": ("03" | "04")}:
            return _A_UUID
        case {"$binary": _}:
            return _BYTES
        case {"$undefined": _}:
            return None
        case {"$oid": text} | {"$numberDecimal": text} | {"$symbol": text} | {"$code": text}:
            return f"text {text}"
        case _:
            return value


def _double(text: str) -> Any:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return number if number.is_finite() else "NaN"
