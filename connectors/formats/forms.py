"""What a column looks like on the wire and how it is brought into the contract's form: the parts of `encodings.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa

from connectors.formats.reasons import Rejection
from schemas.types import ColumnType

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
WHOLE = (Int32, Int64)
_NotFinite = Literal["NaN", "Infinity", "-Infinity"]
Float = float | _NotFinite
_FLOAT32_END = 2.0**128 - 2.0**103  # from here on the nearest number of 32 bits is infinity
Float32 = Annotated[float, msgspec.Meta(gt=-_FLOAT32_END, lt=_FLOAT32_END)] | _NotFinite

OUT_OF_RANGE = "out_of_range"  # the reason that `unrepresentable: null` turns into a null
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
            except RecursionError:  # of a document inside a text: nothing looked into it before
                faults[index] = Rejection("too_deep")
                out.append(None)
            except (ValueError, ArithmeticError):  # a limit of Python's own numbers
                faults[index] = Rejection(OUT_OF_RANGE)
                out.append(None)
        return out


@dataclass(frozen=True, slots=True)
class Form:
    """A column on the wire: the type that msgspec checks, and what is converted afterwards (None: nothing)."""

    wire: Any
    conversion: Conversion | None = None


Maker = Callable[[ColumnType, int | None], Form]


def plain(wire: Any) -> Maker:
    """Return the maker of a form that is the contract's already."""
    return lambda _type, _scale: Form(wire)


def by(wire: Any, each: Each, column: Column | None = None) -> Maker:
    """Return the maker of a form that is converted in the same way whatever the type's parameters are."""
    conversion = Conversion(each, column)
    return lambda _type, _scale: Form(wire, conversion)


def widened(form: Form) -> Form:
    """Return a form whose wire takes numbers of any size, so that one too large is refused alone, as out of range.

    msgspec refuses the whole record instead, which is faster, and what a column wants that has no `unrepresentable`.
    """
    if form.wire in WHOLE:
        return Form(int, _ranged(form.conversion, 32 if form.wire == Int32 else 64))
    if form.wire == Float32:
        return Form(Float, Conversion(_float32))
    return form


def _ranged(conversion: Conversion | None, bits: int) -> Conversion:
    limit, arrow = 1 << bits - 1, pa.int32() if bits == 32 else pa.int64()  # noqa: PLR2004 - bits of an int
    column = None if conversion is None else conversion.column

    def each(value: int) -> Any:
        if not -limit <= value < limit:
            raise Rejection(OUT_OF_RANGE)
        return value if conversion is None else conversion.each(value)

    def fast(values: list[int]) -> list[Any]:
        pa.array(values, arrow)  # raises for one that does not fit
        return values if column is None else column(values)

    return Conversion(each, fast if conversion is None or column is not None else None)


def _float32(value: float | str) -> float | str:
    if isinstance(value, str) or -_FLOAT32_END < value < _FLOAT32_END:
        return value
    raise Rejection(OUT_OF_RANGE)
