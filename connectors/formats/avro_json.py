"""Values of Avro as the JSON that JsonConverter would have written of them, so that one reader serves both.

Bytes become base64, floats that are no numbers become texts, floats of 32 bits their shortest digits, and maps whose
keys are no texts lists of pairs; all else is in JSON what it is in Avro.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from connectors.formats.avro_schema import MANY, Field, Type, bounds
from connectors.formats.connect_schema import is_map_entry

Shape = Callable[[Any], Any]
_FLOAT = struct.Struct("f")
_DIGITS = (6, 7, 8, 9)  # nine are always enough for 32 bits


def shape_of(root: Type) -> Shape | None:
    """Return what makes values of a schema ones that encode to JsonConverter's JSON, in place; None: they do as is.

    A schema whose types go in circles is no row's: its values are left as they are.
    """
    return None if bounds(root).deepest >= MANY else _Shapes().of(root)


class _Shapes:
    """Makes the shapes of one schema; those of a type that stands there again are made once."""

    def __init__(self) -> None:
        self._made: dict[Type, Shape | None] = {}

    def of(self, node: Type) -> Shape | None:
        """Return the shape of a type."""
        if node not in self._made:
            self._made[node] = self._new(node)
        return self._made[node]

    def _new(self, node: Type) -> Shape | None:
        match node.kind:
            case "float":
                return _shortest
            case "double":
                return _finite
            case "union":
                others = [branch for branch in node.branches if branch.kind != "null"]
                return _unless_null(self.of(others[0])) if len(others) == 1 else None
            case "record" | "error":
                return self._record(node.fields)
            case "array" | "map":
                assert node.items is not None, "the tree gives it one"
                inner = self.of(node.items)
                if is_map_entry(node):
                    return _pairs(inner)
                return _each(inner) if node.kind == "array" else _values(inner)
            case _:
                return None

    def _record(self, fields: list[Field]) -> Shape | None:
        shapes = [(each.name, inner) for each in fields if (inner := self.of(each.type)) is not None]

        def shape(value: dict[str, Any]) -> dict[str, Any]:
            for name, inner in shapes:
                value[name] = inner(value[name])
            return value

        return shape if shapes else None


def _finite(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _shortest(value: float) -> float | str:
    """Return the float of fewest digits that is the same in 32 bits: what is written of 0.1 is 0.1."""
    if not math.isfinite(value):
        return _finite(value)
    for digits in _DIGITS:
        short = float(f"{value:.{digits}g}")
        try:
            same = _FLOAT.unpack(_FLOAT.pack(short))[0] == value
        except OverflowError:  # rounded up, beyond the greatest
            continue
        if same:
            return short
    return value


def _unless_null(inner: Shape | None) -> Shape | None:
    return None if inner is None else lambda value: None if value is None else inner(value)


def _each(inner: Shape | None) -> Shape | None:
    return None if inner is None else lambda value: [inner(each) for each in value]


def _values(inner: Shape | None) -> Shape | None:
    return None if inner is None else lambda value: {key: inner(each) for key, each in value.items()}


def _pairs(inner: Shape | None) -> Shape:
    def shape(value: list[dict[str, Any]]) -> list[list[Any]]:
        entries = value if inner is None else map(inner, value)
        return [[entry["key"], entry["value"]] for entry in entries]

    return shape
