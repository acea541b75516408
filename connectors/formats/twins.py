"""Records that name a key twice: msgspec takes the last of two without a word, so colons are counted instead.

A record has a colon for each of its keys, and those inside its values. What was read of an envelope accounts for some
of them, and never for too many: a member that may be missing is UNSET then, and nothing else is. The
rest belongs to members that the format does not read, of which one tool writes as many each time. A run with another
rest than the last record that was found clean is looked at by the record, and in full where one has another rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET
from msgspec import inspect as inspect_

from connectors.formats.inspection import inspect
from connectors.formats.keys import ESCAPED_COLON
from connectors.formats.reasons import Rejection

T = TypeVar("T")
_LOOKED_INTO = (inspect_.StrType, inspect_.AnyType, inspect_.RawType, inspect_.StructType, inspect_.ListType)


class Twins:
    """Finds envelopes of one type that name a key twice; `rest` is how many colons nothing accounts for."""

    def __init__(self, type_: Any, *, depth_max: int) -> None:
        """Prepare for a type; one that is no Struct is raw as a whole."""
        self._accounted = _Accounted(type_) if isinstance(inspect_.type_info(type_), inspect_.StructType) else None
        self._depth_max, self.rest = depth_max, 0

    def apart(
        self, values: Sequence[bytes | None], found: list[tuple[int, T]]
    ) -> tuple[list[tuple[int, T]], dict[int, Rejection]]:
        """Return the envelopes that name no key twice, of `found` by the index of their values, and what is refused."""
        if self._accounted is None or not found:
            return found, {}
        whole = len(found) == len(values)
        joined = b"".join(values if whole else [values[index] or b"" for index, _ in found])  # type: ignore[arg-type]
        rest = joined.count(b":") - self._accounted([envelope for _, envelope in found])
        if rest == self.rest * len(found) and joined.rfind(ESCAPED_COLON) < 0:
            return found, {}
        clean, faults = [], {}
        for index, envelope in found:
            try:
                self._check(values[index] or b"", envelope)
                clean.append((index, envelope))
            except Rejection as fault:
                faults[index] = fault
        return clean, faults

    def _check(self, value: bytes, envelope: Any) -> None:
        assert self._accounted is not None, "it is a Struct"
        rest = value.count(b":") - self._accounted([envelope])
        if ESCAPED_COLON in value:
            inspect(value, depth_max=self._depth_max)
        elif rest != self.rest:
            inspect(value, depth_max=self._depth_max)
            self.rest = rest


class _Accounted:
    """How many colons Structs of one type have at least: one for each member that is there, and those inside."""

    def __init__(self, type_: Any) -> None:
        fields = msgspec.structs.fields(type_)
        self._members = len(fields)
        optional = [field for field in fields if field.default is not msgspec.NODEFAULT]
        assert all(field.default is UNSET for field in optional), "a member that is missing is told from any other"
        kinds = {
            field.name: [kind for kind in _kinds(field.type) if isinstance(kind, _LOOKED_INTO)] for field in fields
        }
        self._texts = [name for name, found in kinds.items() if found and all(map(_is_text, found))]
        # The other names that are read, in an order of which the slices of all values are columns.
        optional_names = {each.name for each in optional}
        self._names = [
            name for name, found in kinds.items() if name not in self._texts and (found or name in optional_names)
        ]
        self._columns = [(place, kind) for place, name in enumerate(self._names) for kind in kinds[name]]
        self._inner = [_inner(kind) for _, kind in self._columns]

    def __call__(self, envelopes: Sequence[Any]) -> int:
        """Return the number of all of them together."""
        texts = _values(self._texts, envelopes)
        total = self._members * len(envelopes) - texts.count(UNSET) + _in_texts(texts)
        flat, step = _values(self._names, envelopes), len(self._names)
        total -= flat.count(UNSET)
        for (place, _), inside in zip(self._columns, self._inner, strict=True):
            total += inside(flat[place::step])
        return total


def _values(names: list[str], envelopes: Sequence[Any]) -> list[Any]:
    """Return the values of the members, those of one envelope after those of another."""
    if not names:
        return []
    read = map(attrgetter(*names), envelopes)
    return list(read) if len(names) == 1 else list(chain.from_iterable(read))


def _is_text(kind: inspect_.Type) -> bool:
    return isinstance(kind, inspect_.StrType)


def _inner(kind: inspect_.Type) -> Callable[[list[Any]], int]:
    """Return what counts the colons inside of values of a kind; values that are none or of another kind have none."""
    match kind:
        case inspect_.RawType():
            return _in_raws
        case inspect_.StructType(cls=type_):
            accounted = _Accounted(type_)
            return lambda values: accounted(list(filter(None, values)))
        case inspect_.ListType(item_type=element):
            inside = _inner(element)
            return lambda values: inside(list(chain.from_iterable(filter(None, values))))
    return _in_texts


def _in_raws(values: list[Any]) -> int:
    return b"".join([raw for raw in values if raw is not UNSET]).count(b":")


def _in_texts(values: list[Any]) -> int:
    try:
        return "".join(filter(None, values)).count(":")
    except TypeError:  # numbers among them
        return "".join([value for value in values if isinstance(value, str)]).count(":")


def _kinds(type_: Any) -> Sequence[inspect_.Type]:
    kind = inspect_.type_info(type_)
    return kind.types if isinstance(kind, inspect_.UnionType) else (kind,)
