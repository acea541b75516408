"""Decimals: from the forms of sources to plain text with the column's scale, never through a float."""

from __future__ import annotations

import decimal
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from connectors.formats.reasons import Rejection
from connectors.formats.texts import whole_texts

SCALE_BY_ARROW_MAX = 6  # beyond it Arrow writes small numbers with an exponent
_INT64_DIGITS = 18
_NOT_NUMBERS = frozenset({"NAN", "POSITIVE_INFINITY", "NEGATIVE_INFINITY", "NaN", "Infinity", "-Infinity"})
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,10})?")
_EXACT = decimal.Context(
    prec=2_000,
    rounding=decimal.ROUND_HALF_EVEN,
    Emax=decimal.MAX_EMAX,
    Emin=decimal.MIN_EMIN,
    traps=[decimal.InvalidOperation],
)
_UNSCALED_BYTES_MAX = 1_024


class ScaledValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """`io.debezium.data.VariableScaleDecimal`: `value` (big-endian two's complement) by ten to minus `scale`."""

    scale: int
    value: bytes


AnyNumber = ScaledValue | bytes | int


def unscaled(value: bytes) -> int:
    """Return the number that big-endian bytes in two's complement hold.

    Raises:
        Rejection: there are none, or too many.
    """
    if not 0 < len(value) <= _UNSCALED_BYTES_MAX:
        raise Rejection("out_of_range" if value else "bad_type")
    return int.from_bytes(value, "big", signed=True)


def unscaled_text(number: int, scale: int) -> str:
    """Return the plain text of `number` by ten to minus `scale`; `scale` is not negative."""
    if scale == 0:
        return str(number)
    digits = str(abs(number)).rjust(scale + 1, "0")
    return f"{'-' if number < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


def fitted(number: int, scale: int, *, precision: int, target: int) -> str:
    """Return the text with `target` digits behind the point.

    Raises:
        Rejection: it has more digits than decimal(precision,target) takes; nothing is rounded.
    """
    if scale < target:
        if target - scale > precision and number:
            raise Rejection("out_of_range")
        number *= 10 ** min(target - scale, precision)
    elif scale > target:
        if scale - target > _UNSCALED_BYTES_MAX * 3 and number:
            raise Rejection("out_of_range")
        number, rest = divmod(number, 10 ** min(scale - target, _UNSCALED_BYTES_MAX * 3))
        if rest:
            raise Rejection("out_of_range")
    if abs(number) >= 10**precision:
        raise Rejection("out_of_range")
    return unscaled_text(number, target)


def bytes_text(scale: int, precision: int, target: int) -> Callable[[bytes], str]:
    """Return the function for unscaled big-endian bytes of `scale`."""

    def convert(value: bytes) -> str:
        return fitted(unscaled(value), scale, precision=precision, target=target)

    return convert


def bytes_column(scale: int, precision: int, target: int) -> Callable[[list[bytes]], list[str]] | None:
    """Return `bytes_text` for many, or None where Arrow would not write all of them plainly."""
    if scale != target or scale > SCALE_BY_ARROW_MAX:
        return None
    highest = 10 ** min(precision, _INT64_DIGITS) - 1
    from_bytes = int.from_bytes

    def convert(values: list[bytes]) -> list[str]:
        if not all(values):
            raise Rejection("bad_type")  # of this shortcut, as below: nulls and no bytes at all
        numbers = [from_bytes(value, "big", signed=True) for value in values]
        array = pa.array(numbers, pa.int64())
        bounds = pc.min_max(array)
        if bounds["max"].as_py() > highest or bounds["min"].as_py() < -highest:
            raise Rejection("out_of_range")  # of this shortcut: the value alone decides
        if scale == 0:
            return whole_texts(numbers)
        whole = array.cast(pa.decimal128(19, 0))
        shifted = pa.Array.from_buffers(pa.decimal128(19, scale), len(values), whole.buffers())
        texts: list[str] = shifted.cast(pa.string()).to_pylist()
        return texts

    return convert


def scaled_text(precision: int, target: int) -> Callable[[ScaledValue], str]:
    """Return the function for numbers that carry their own scale."""

    def convert(value: ScaledValue) -> str:
        return fitted(unscaled(value.value), value.scale, precision=precision, target=target)

    return convert


def decimal_text(precision: int, target: int, *, rounded: bool = False) -> Callable[[Decimal], str]:
    """Return the function for exact decimals; `rounded` (half to even) is for sources that send binary floats."""
    step = Decimal(1).scaleb(-target)

    def convert(value: Decimal) -> str:
        if not value.is_finite() or (value and value.adjusted() >= precision):
            raise Rejection("out_of_range")
        if value and value.adjusted() < -target - 1:
            if rounded:
                return unscaled_text(0, target)
            raise Rejection("out_of_range")
        fixed = value.quantize(step, context=_EXACT) if value else Decimal(0).quantize(step)
        if not rounded and fixed != value:
            raise Rejection("out_of_range")
        number = int(fixed.scaleb(target, context=_EXACT))
        return fitted(number, target, precision=precision, target=target)

    return convert


def number_text(precision: int, target: int) -> Callable[[str], str]:
    """Return the function for decimals written as text, `decimal.handling.mode=string`."""
    of_decimal = decimal_text(precision, target)

    def convert(value: str) -> str:
        if value in _NOT_NUMBERS:
            raise Rejection("out_of_range")
        if not _NUMBER.fullmatch(value):  # `Decimal` takes underscores, spaces, and digits of other scripts
            raise Rejection("bad_type")
        return of_decimal(Decimal(value))

    return convert


def plain_text(value: Any) -> str:
    """Return a number of any scale as plain text, all its digits kept: what a column declared `string` gets."""
    match value:
        case ScaledValue(scale=scale, value=raw):
            if abs(scale) > _UNSCALED_BYTES_MAX * 3:
                raise Rejection("out_of_range")
            number = unscaled(raw)
            return unscaled_text(number, scale) if scale >= 0 else str(number * 10**-scale)
        case Decimal():
            if not value.is_finite():
                return str(value)
            if abs(value.adjusted()) > _UNSCALED_BYTES_MAX * 3:
                raise Rejection("out_of_range")
            return format(value, "f")
        case _:
            return str(value)
