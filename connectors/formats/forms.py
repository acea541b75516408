"""Forms: what a column is on the wire, and how its values become the contract's, by column where they are ordinary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from connectors.formats.reasons import Rejection
from schemas.types import ColumnType

HALVES_MIN = 16  # below so many, values are converted one by one

Each = Callable[[Any], Any]
Column = Callable[[list[Any]], list[Any]]


@dataclass(frozen=True, slots=True)
class Conversion:
    """From the wire's form to the contract's: `each` decides; `column` is its faster twin for ordinary values."""

    each: Each
    column: Column | None = None

    def apply(self, values: list[Any]) -> tuple[list[Any], dict[int, Rejection]]:
        """Return the converted values (the same list if nothing changed), and which were refused, by index."""
        faults: dict[int, Rejection] = {}
        return self._part(values, 0, faults), faults

    def _part(self, values: list[Any], start: int, faults: dict[int, Rejection]) -> list[Any]:
        if self.column is not None and values:
            try:
                return self.column(values)
            except Exception:  # noqa: BLE001 - whatever Arrow makes of odd values: `each` decides below
                if len(values) > HALVES_MIN:
                    half = len(values) // 2
                    return self._part(values[:half], start, faults) + self._part(values[half:], start + half, faults)
        out = []
        for index, value in enumerate(values, start):
            try:
                out.append(self.each(value))
            except Rejection as exc:
                faults[index] = exc
                out.append(None)
            except (ValueError, ArithmeticError):  # a limit of Python's own numbers
                faults[index] = Rejection("out_of_range")
                out.append(None)
        return out


@dataclass(frozen=True, slots=True)
class Form:
    """A column on the wire: the type that msgspec checks, and what is converted afterwards (None: nothing)."""

    wire: Any
    conversion: Conversion | None = None


Maker = Callable[[ColumnType, int | None], Form]


def unconverted(wire: Any) -> Maker:
    """Return the maker of columns that are in the contract's form as they come."""
    return lambda _type, _scale: Form(wire)


def converted(wire: Any, each: Each, column: Column | None = None) -> Maker:
    """Return the maker of columns that are converted one way, whatever the type's parameters."""
    conversion = Conversion(each, column)
    return lambda _type, _scale: Form(wire, conversion)
