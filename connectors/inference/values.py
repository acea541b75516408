"""What values alone say of a column: the narrowest type that took them all, and why no narrower one.

Values come in portions and are not kept. A type is proposed only where every value had a form in it; where two would
do, the one that later values fit as well: an integer is a long, a number of any kind is no date.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from connectors.formats.placeholder import Placeholder
from connectors.inference.choice import Choice, Sure, of_nothing
from connectors.inference.fitting import ANY_JSON, ANY_TEXT, Way, is_unavailable, takes
from connectors.inference.numbers import Numbers
from connectors.inference.texts import Texts
from connectors.inference.unavailable import Unavailable
from schemas.types import ColumnType, Kind

_BOOLEAN = Way(ColumnType(Kind.BOOLEAN), "boolean")
_SCALED = Way(ColumnType(Kind.STRING), "data.VariableScaleDecimal")
_NAMES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    Decimal: "number",
    str: "text",
    list: "list",
    dict: "object",
}
_NEVER_PLACEHOLDERS = frozenset({bool, int, Decimal})
_MISPLACED = "the placeholder of values not sent stands where a value of the type would"


class Values:
    """The values of one column, or of the elements of its lists, so far."""

    def __init__(self, placeholder: Placeholder, unavailable: Unavailable | None) -> None:
        """Have seen none; without `unavailable`, as in lists, nothing stands for a value that was not sent."""
        self._placeholder, self._forms = placeholder, unavailable
        self.counts: Counter[str] = Counter()
        self.nulls = 0
        self.unavailable: dict[str, Any] = {}  # one value of each form of the placeholder
        self.unavailable_count = 0
        self._numbers, self._texts = Numbers(), Texts()
        self._all_scaled = True
        self._elements: Values | None = None

    def absorb(self, values: Sequence[Any]) -> None:
        """Take values as msgspec decodes JSON, with `Decimal` for numbers that have a point."""
        for type_ in set(map(type, values)):
            some = [value for value in values if type(value) is type_]
            if type_ is type(None):
                self.nulls += len(some)
                continue
            sent = some if type_ in _NEVER_PLACEHOLDERS else self._sent(some)
            if sent:
                self.counts[_NAMES[type_]] += len(sent)
                self._take(type_, sent)

    def _sent(self, values: list[Any]) -> list[Any]:
        """Return the values that are no placeholder."""
        if self._forms is None or not (found := self._forms.among(values)):
            return values
        self.unavailable |= found
        sent = [value for value in values if self._forms.form(value) is None]
        self.unavailable_count += len(values) - len(sent)
        return sent

    def _take(self, type_: type, values: list[Any]) -> None:
        match _NAMES[type_]:
            case "integer":
                self._numbers.absorb_integers(values)
            case "number":
                self._numbers.absorb_decimals(values)
            case "text":
                self._texts.absorb(values)
            case "list":
                self._elements = self._elements or Values(self._placeholder, None)
                self._elements.absorb([element for value in values for element in value])
            case "object":
                self._all_scaled = self._all_scaled and _are_scaled(values)

    def choice(self, name: str = "") -> Choice:
        """Return how to read the column; it takes every value, and knows every placeholder that was seen."""
        found = self._of_values(name)
        forms = self.unavailable.values()
        if all(is_unavailable(found.way, value, self._placeholder) for value in forms):
            return found
        nested = self.counts["list"] or self.counts["object"] or not all(isinstance(value, str) for value in forms)
        return Choice(ANY_JSON if nested else ANY_TEXT, Sure.LOW, _MISPLACED, _MISPLACED)

    def _of_values(self, name: str = "", *, are_bytes: bool = False) -> Choice:
        """Return how to read what is no placeholder."""
        kinds = frozenset(kind for kind, count in self.counts.items() if count)
        are_bytes = are_bytes or "base64" in self.unavailable
        if not kinds:
            return of_nothing(self.unavailable, self.nulls)
        if len(kinds) == 1:
            return self._of_one_kind(*kinds, name=name, are_bytes=are_bytes)
        if kinds <= {"integer", "number"}:
            return self._numbers.of_all(have_words=False)
        if kinds <= {"integer", "number", "text"} and self._texts.not_finite:
            return self._numbers.of_all(have_words=True)
        way = ANY_JSON if kinds & {"list", "object"} else ANY_TEXT
        return Choice(way, Sure.LOW, f"values of several kinds: {', '.join(sorted(kinds))}", "values of several kinds")

    def _of_one_kind(self, kind: str, *, name: str, are_bytes: bool) -> Choice:
        match kind:
            case "boolean":
                return Choice(_BOOLEAN, Sure.MEDIUM, "only true and false")
            case "integer":
                return self._numbers.of_integers(name)
            case "number":
                return self._numbers.of_all(have_words=False)
            case "text":
                return self._texts.choice(are_bytes=are_bytes)
            case "list":
                return self._of_lists()
            case _ if self._all_scaled:
                return Choice(_SCALED, Sure.HIGH, "decimals that carry their own scale: a string keeps all digits")
            case _:
                return Choice(ANY_JSON, Sure.HIGH, "objects")

    def _of_lists(self) -> Choice:
        assert self._elements is not None, "lists were counted"
        inner = self._elements._of_values(are_bytes="list of bytes" in self.unavailable)  # noqa: SLF001 - of its own kind
        return Choice(inner.way.in_list(), inner.sure, f"lists; of their elements: {inner.why}", inner.warning)


def _are_scaled(values: list[dict[str, Any]]) -> bool:
    return all(value.keys() == {"scale", "value"} for value in values) and takes(_SCALED, values)
