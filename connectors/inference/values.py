"""What values alone say of a column: the narrowest type that took them all, and why no narrower one.

Values come in portions and are not kept. A type is proposed only where every value had a form in it; where two would
do, the one that later values fit as well: an integer is a long, a number of any kind is no date.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from connectors.formats.placeholder import Placeholder
from connectors.inference.choice import Choice, Sure, of_nothing
from connectors.inference.fitting import ANY_JSON, ANY_TEXT, UNREADABLE, Way, is_of_a_double, is_unavailable, takes
from connectors.inference.unavailable import Unavailable
from schemas.types import ColumnType, Kind

_LONG = Way(ColumnType(Kind.LONG), "int")
_BIG = Way(ColumnType(Kind.STRING), "int")
_DOUBLE = Way(ColumnType(Kind.DOUBLE), "double")
_NUMBER = Way(ColumnType(Kind.STRING), "number")
_TEXT = Way(ColumnType(Kind.STRING), "string")
_BYTES = (Way(ColumnType(Kind.BINARY), "base64"), Way(ColumnType(Kind.BINARY), "base64url"))
_BYTES_AS_TEXT = Way(ColumnType(Kind.STRING), "base64")
_SCALED = Way(ColumnType(Kind.STRING), "data.VariableScaleDecimal")
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
_DOUBLE_WHOLE = 2**53
_JSON = "JSON documents"
_DAY = r"[+-]?\d{4,9}-\d\d-\d\d"
_HOUR = r"\d\d:\d\d:\d\d(?:\.\d{1,9})?"
# What texts may be: how they look, how they are read, how sure that is. The first that takes all of them.
_TEXTS: tuple[tuple[str, re.Pattern[str], Way], ...] = (
    (
        "timestamps in UTC",
        re.compile(rf"{_DAY}T{_HOUR}Z", re.ASCII),
        Way(ColumnType(Kind.TIMESTAMPTZ), "time.ZonedTimestamp"),
    ),
    ("dates as Debezium writes them", re.compile(rf"{_DAY}Z", re.ASCII), Way(ColumnType(Kind.DATE), "time.IsoDate")),
    ("times as Debezium writes them", re.compile(rf"{_HOUR}Z", re.ASCII), Way(ColumnType(Kind.TIME), "time.ZonedTime")),
    (
        "UUIDs",
        re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII),
        Way(ColumnType(Kind.UUID), "data.Uuid"),
    ),
    (_JSON, re.compile(r"\s*[{\[].*[}\]]\s*", re.DOTALL), Way(ColumnType(Kind.JSON), "data.Json")),
)
# Integers of these ranges lie between 1973 and 2096, and are rarely anything else.
_EPOCHS = ((10**11, "time.Timestamp"), (10**14, "time.MicroTimestamp"), (10**17, "time.NanoTimestamp"))
_EPOCH_SPAN = 40
_json = msgspec.json.Decoder().decode
_DATE_NAME = re.compile(r"(?:^|_)(?:date|day|born|birth\w*|dob|on)$", re.IGNORECASE)
_DAYS = (-36_525, 47_482)  # 1870 to 2100


def _all_json(texts: Sequence[str]) -> bool:
    try:
        for text in texts:
            _json(text)
    except UNREADABLE:
        return False
    return True


class Values:
    """The values of one column, or of the elements of its lists, so far."""

    def __init__(self, placeholder: Placeholder, unavailable: Unavailable) -> None:
        self._placeholder, self._forms = placeholder, unavailable
        self.counts: Counter[str] = Counter()
        self.nulls = 0
        self.unavailable: dict[str, Any] = {}  # one value of each form of the placeholder
        self.unavailable_count = 0
        self._low, self._high = 0, 0
        self._of_doubles = self._all_scaled = True
        self._bytes, self._padded = list(_BYTES), False
        self._texts = list(_TEXTS)
        self._not_finite = True
        self._elements: Values | None = None

    def absorb(self, values: Sequence[Any]) -> None:
        """Take values as msgspec decodes JSON, with `Decimal` for numbers that have a point."""
        apart: dict[type, list[Any]] = {}
        for type_ in set(map(type, values)):
            apart[type_] = [value for value in values if type(value) is type_]
        self.nulls += len(apart.pop(type(None), ()))
        for type_, some in apart.items():
            sent = some if type_ in {int, bool, Decimal} else self._sent(some)
            if sent:
                self.counts[_NAMES[type_]] += len(sent)
                _ABSORB[type_](self, sent)

    def _sent(self, values: list[Any]) -> list[Any]:
        """Return the values that are no placeholder."""
        found = self._forms.among(values)
        if not found:
            return values
        self.unavailable |= found
        sent = [value for value in values if self._forms.form(value) is None]
        self.unavailable_count += len(values) - len(sent)
        return sent

    def _integers(self, values: list[int]) -> None:
        low, high = min(values), max(values)
        if self.counts["integer"] > len(values):
            low, high = min(low, self._low), max(high, self._high)
        self._low, self._high = low, high

    def _numbers(self, values: list[Decimal]) -> None:
        self._of_doubles = self._of_doubles and all(map(is_of_a_double, values))

    def _strings(self, values: list[str]) -> None:
        if self._texts:
            self._texts = [
                (what, pattern, way)
                for what, pattern, way in self._texts
                if all(map(pattern.fullmatch, values)) and takes(way, values) and (what != _JSON or _all_json(values))
            ]
        self._not_finite = self._not_finite and _NOT_FINITE.issuperset(values)
        if self._bytes:
            self._bytes = [way for way in self._bytes if takes(way, values)]
            self._padded = self._padded or any(value.endswith("=") for value in values)

    def _lists(self, values: list[list[Any]]) -> None:
        if self._elements is None:
            self._elements = Values(self._placeholder, self._forms)
        self._elements.absorb([element for value in values for element in value])

    def _objects(self, values: list[dict[str, Any]]) -> None:
        self._all_scaled = (
            self._all_scaled
            and all(value.keys() == {"scale", "value"} for value in values)
            and takes(_SCALED, values)
        )

    def _nothing(self, values: list[Any]) -> None:
        """Booleans say nothing beyond that they are."""

    def choice(self, name: str = "") -> Choice:
        """Return how to read the column; it took every value, and knows every placeholder that was seen."""
        found = self.decided(name)
        forms = self.unavailable.values()
        if all(is_unavailable(found.way, value, self._placeholder) for value in forms):
            return found
        lists = self.counts["list"] or self.counts["object"] or any(not isinstance(value, str) for value in forms)
        return Choice(
            ANY_JSON if lists else ANY_TEXT,
            Sure.LOW,
            "the placeholder of values that were not sent stands where a value of this type would",
        )

    def decided(self, name: str = "") -> Choice:
        """Return how to read the values, whether or not the placeholder is known that way."""
        kinds = frozenset(kind for kind, count in self.counts.items() if count)
        if not kinds:
            return of_nothing(self.unavailable, self.nulls)
        if kinds == {"boolean"}:
            return Choice(Way(ColumnType(Kind.BOOLEAN), "boolean"), Sure.MEDIUM, "only true and false")
        if kinds == {"integer"}:
            return self._whole(name)
        if kinds <= {"integer", "number", "text"} and "text" not in kinds - {"text" if self._not_finite else ""}:
            if kinds != {"text"}:
                return self._number()
        if kinds == {"text"}:
            return self._text()
        if kinds == {"list"}:
            assert self._elements is not None, "lists were counted"
            if "list of bytes" in self.unavailable:
                self._elements.unavailable["base64"] = None  # the placeholder of such a list is one of its elements'
            inner = self._elements.decided()
            return Choice(inner.way.in_list(), inner.sure, f"lists; of their elements: {inner.why}", inner.warning)
        if kinds == {"object"} and self._all_scaled:
            return Choice(_SCALED, Sure.HIGH, "decimals that carry their own scale: a string keeps all digits")
        if kinds == {"object"}:
            return Choice(ANY_JSON, Sure.HIGH, "objects")
        way = ANY_JSON if kinds & {"list", "object"} else ANY_TEXT
        return Choice(way, Sure.LOW, f"values of several kinds: {', '.join(sorted(kinds))}", "values of several kinds")

    def _whole(self, name: str) -> Choice:
        if not (-(2**63) <= self._low and self._high < 2**63):
            return Choice(_BIG, Sure.MEDIUM, "integers beyond 64 bits: a string keeps all digits")
        why = "integers; long, since later ones may be larger than those that were seen"
        if (encoding := self._maybe_time(name)) is None:
            return Choice(_LONG, Sure.MEDIUM, why)
        return Choice(_LONG, Sure.LOW, why, f"may be a time: {encoding}; nothing but the source's type can tell")

    def _maybe_time(self, name: str) -> str | None:
        for start, encoding in _EPOCHS:
            if start <= self._low and self._high < start * _EPOCH_SPAN:
                return encoding
        days = _DAYS[0] <= self._low and self._high <= _DAYS[1]
        return "time.Date" if days and _DATE_NAME.search(name) else None

    def _number(self) -> Choice:
        exact = self._of_doubles and (
            not self.counts["integer"] or max(abs(self._low), abs(self._high)) <= _DOUBLE_WHOLE
        )
        if exact or self.counts["text"]:
            return Choice(_DOUBLE, Sure.MEDIUM, "numbers as binary floats are written")
        return Choice(
            _NUMBER,
            Sure.MEDIUM,
            "numbers with more digits than a binary float writes: decimals, whose precision is not known; "
            "a string keeps all digits",
        )

    def _text(self) -> Choice:
        if "base64" in self.unavailable:
            way = self._bytes[0] if self._bytes else _BYTES_AS_TEXT
            return Choice(way, Sure.MEDIUM, "the placeholder came in base64, so these are bytes")
        if self._texts:
            what, _, way = self._texts[0]
            return Choice(way, Sure.MEDIUM, f"all texts are {what}")
        if self._bytes and self._padded:
            return Choice(
                _TEXT, Sure.LOW, "texts", "may be base64 of bytes or of a decimal; nothing but the source's type can tell"
            )
        return Choice(_TEXT, Sure.MEDIUM, "texts")


_NAMES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    Decimal: "number",
    str: "text",
    list: "list",
    dict: "object",
}
_ABSORB: dict[type, Any] = {
    bool: Values._nothing,
    int: Values._integers,
    Decimal: Values._numbers,
    str: Values._strings,
    list: Values._lists,
    dict: Values._objects,
}
