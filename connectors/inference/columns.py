"""One column of a table: what schema blocks state of it, what values say, and the one type that all of it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from connectors.formats.placeholder import Placeholder
from connectors.formats.reasons import Rejection
from connectors.inference.choice import Choice, Sure
from connectors.inference.connect import ways_of
from connectors.inference.definitions import Declared
from connectors.inference.fitting import ANY_JSON, ANY_TEXT, Way, is_unavailable, takes
from connectors.inference.raw_values import RawValues
from connectors.inference.unavailable import Unavailable
from connectors.inference.values import Values
from schemas.types import DECIMAL_PRECISION_MAX, ColumnType, Kind

_VARIANTS_MAX = 50  # ways that blocks state one column, such as enums that grow


class _Stated:
    """A column as one schema block states it: the narrowest of its ways that took every value so far."""

    def __init__(self, ways: list[Way]) -> None:
        self.ways = ways
        self.at = 0

    def absorb(self, values: Sequence[Any]) -> None:
        while self.at < len(self.ways) - 1 and not takes(self.ways[self.at], values):
            self.at += 1

    @property
    def open(self) -> list[Way]:
        """What may still be proposed."""
        return self.ways[self.at :]


class ColumnSamples:
    """What was seen of one column."""

    def __init__(self, name: str, placeholder: Placeholder, unavailable: Unavailable) -> None:
        """Know nothing yet."""
        self._name, self._placeholder, self._forms = name, placeholder, unavailable
        self._stated: dict[bytes, _Stated] = {}
        self._values: Values | None = None
        self._raw: RawValues | None = None
        self._unavailable: dict[str, Any] = {}
        self._declared: Declared | None = None
        self.seen = self.nulls = self.unavailable = 0  # of rows; keys repeat them

    def define(self, ways: Sequence[Way]) -> None:
        """Take the ways in which the column may arrive, as its table's definition says; before any value."""
        self._declared = Declared(ways)

    def absorb_raw(self, values: Sequence[Any], encoding: str, stated: str | None, *, zoneless: bool = False) -> None:
        """Take values of an encoding that reads raw JSON, and the type that their source states, if it does.

        With `zoneless` texts may be dates and times without a zone.
        """
        if self._raw is None:
            self._raw = RawValues(encoding, self._placeholder, zoneless=zoneless)
        self._raw.absorb(values, stated)

    def absorb(self, values: Sequence[Any], field: Mapping[str, Any] | None) -> None:
        """Take values, and the field of the schema block that they came behind, if they did."""
        nulls = values.count(None)
        stated = self._last() if field is None else self._stated_as(field)
        if stated is None:
            if self._values is None:
                self._values = Values(self._placeholder, self._forms)
            before = self._values.unavailable_count
            self._values.absorb(values)
            self.unavailable += self._values.unavailable_count - before
            if self._declared is not None:
                self._declared.absorb([value for value in values if self._forms.form(value) is None])
            return
        odd = [value for value in values if value.__class__ in {str, list, dict}]
        if odd and (found := self._forms.among(odd)):
            self._unavailable |= found
            kept = [value for value in values if value is not None and self._forms.form(value) is None]
            self.unavailable += len(values) - nulls - len(kept)
            values = kept
        stated.absorb(values)

    def _stated_as(self, field: Mapping[str, Any]) -> _Stated | None:
        signature = msgspec.json.encode({name: field[name] for name in field.keys() - _SAYS_NOTHING})
        if signature not in self._stated and len(self._stated) < _VARIANTS_MAX:
            try:
                self._stated[signature] = _Stated(ways_of(field))
            except Rejection:
                return None
        return self._stated.get(signature) or self._last()

    def _as_defined(self, values: Values) -> Choice | None:
        """Return the choice that the table's definition makes, None where the values are none of it."""
        way = None if self._declared is None else self._declared.way()
        if way is None:
            return None
        forms = values.unavailable.values()
        known = all(is_unavailable(way, value, self._placeholder) for value in forms)
        return Choice(way, Sure.HIGH, "stated by the schema-change topic") if known else None

    def _last(self) -> _Stated | None:
        """Return what was stated last: a key's converter may leave out the block that the value's writes."""
        return next(reversed(self._stated.values()), None)

    def choice(self) -> Choice:
        """Return how to read the column: every value fits, and every placeholder is known."""
        if self._raw is not None:
            return self._raw.choice(self._name)
        if not self._stated:
            values = self._values or Values(self._placeholder, self._forms)
            return self._as_defined(values) or values.choice(self._name)
        opened = [stated.open for stated in self._stated.values()]
        if self._values is not None and any(self._values.counts.values()):
            opened.append([self._values.choice(self._name).way, ANY_TEXT, ANY_JSON])
        found = _common(opened)
        if found is None:
            return Choice(opened[-1][0], Sure.LOW, "blocks state types that no one type holds", "its type has changed")
        unknown = [value for value in self._unavailable.values() if not is_unavailable(found, value, self._placeholder)]
        if unknown and any(ANY_TEXT in each for each in opened):
            return Choice(ANY_TEXT, Sure.LOW, "the placeholder stands where a value of the stated type would")
        first = next(reversed(self._stated.values()))
        if first.at or found.type != first.ways[0].type:
            stated = first.ways[0].type
            return Choice(
                found,
                Sure.HIGH,
                f"wider than stated: as {stated} some value has no form, or blocks differ",
                f"not {stated} as the schema block states: some value has no form in it, or its type has changed",
            )
        return Choice(found, Sure.HIGH, "stated by the schema block")


_SAYS_NOTHING = frozenset({"optional", "default", "doc", "field", "version"})


def _common(opened: Sequence[Sequence[Way]]) -> Way | None:
    """Return the narrowest way, as the last one lists them, that all of them have; decimals are widened to one."""
    last = opened[-1]
    firsts = [ways[0] for ways in opened]
    if len(opened) > 1 and all(way.type.kind is Kind.DECIMAL for way in firsts):
        scale = max(way.type.scale for way in firsts)
        precision = max(way.type.precision - way.type.scale for way in firsts) + scale
        if precision <= DECIMAL_PRECISION_MAX:
            return Way(ColumnType(Kind.DECIMAL, precision, scale), last[0].encoding, last[0].scale)
    for way in last:
        same = [next((other for other in ways if other.type == way.type), None) for ways in opened]
        if None not in same:
            return _among([found for found in same if found is not None])
    return None


def _among(ways: list[Way]) -> Way:
    """Return one of ways to read one type: that which reads the records whose block names no encoding."""
    plain = [way for way in ways if "." not in way.encoding]
    if not plain or all(way == ways[0] for way in ways):
        return ways[-1]
    return next((way for way in (ANY_TEXT, ANY_JSON) if way.type == ways[0].type), plain[-1])
