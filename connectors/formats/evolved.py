"""Columns whose source changed its type: read as the type that they were, and what is none of it as its text.

So a value has one text, whenever it came: the contract's form of the type where that holds it (`12.50` of a decimal, an
ISO time), else the JSON as it is written, of a text its content.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from connectors.formats import plain
from connectors.formats.forms import Conversion, Each, Form
from connectors.formats.reasons import Rejection

_UNFIT = (Rejection, ValueError, ArithmeticError)  # of one value; msgspec's errors are ValueErrors
_encode = msgspec.json.encode


class RawForm:
    """A form whose values come as raw JSON, so that one that it does not hold spoils no record; None holds nothing."""

    def __init__(self, form: Form | None) -> None:
        """Read what `form` reads."""
        self._conversion = None if form is None else form.conversion
        self._is_raw, self._holds = form is not None and form.wire is msgspec.Raw, form is not None
        if form is not None and not self._is_raw:
            self._one = msgspec.json.Decoder(form.wire | None).decode
            self._many = msgspec.json.Decoder(list[form.wire | None]).decode  # type: ignore[name-defined]

    def each(self, raw: Any) -> Any:
        """Return one value in the contract's form; raises one of `_UNFIT` where it has none."""
        if not self._holds:
            if bytes(raw) == b"null":
                return None
            raise Rejection("bad_type")
        value = raw if self._is_raw else self._one(raw)
        return value if value is None or self._conversion is None else self._conversion.each(value)

    def column(self, raws: list[Any]) -> list[Any]:
        """Return many; raises where one has no form, or none knows."""
        if not self._holds:
            raise Rejection("bad_type")
        values = raws if self._is_raw else self._many(plain.listed(raws))
        if self._conversion is None:
            return values
        if self._conversion.column is not None and (self._is_raw or None not in values):
            return self._conversion.column(values)
        each = self._conversion.each
        return [None if value is None else each(value) for value in values]


def texts_of(written: Form | None) -> Each:
    """Return what gives the text of any raw value: by `written`, the encoding's own form of a string, else its JSON."""
    own = RawForm(written)

    def text(raw: Any) -> str | None:
        try:
            return _as_text(own.each(raw))
        except _UNFIT:
            return plain.text_of(raw)

    return text


def text_form(form: Form | None, text: Each) -> Form:
    """Return the form of a string column whose values were of `form`; None: as the record says it, none of them is."""
    own = RawForm(form)

    def each(value: Any) -> Any:
        try:
            return _as_text(own.each(value))
        except _UNFIT:
            return text(value)

    return Form(msgspec.Raw, Conversion(each, lambda values: list(map(_as_text, own.column(values)))))


def _as_text(value: Any) -> str | None:
    """Return the text of a value in the contract's form."""
    if value is None or isinstance(value, str):
        return value
    written: str = _encode(value).decode()
    return written[1:-1] if isinstance(value, bytes) else written


def put_parted(rows: Sequence[Any], attribute: str, rest: str, own: RawForm, text: Each) -> dict[int, Rejection]:
    """Part a column of decoded rows into its values and its rest, of which one is null; where it is not, neither is.

    Returns what is refused, by index.
    """
    places = [at for at, row in enumerate(rows) if getattr(row, attribute) is not UNSET]
    values, texts, faults = _parted([getattr(rows[at], attribute) for at in places], own, text)
    for at, value, other in zip(places, values, texts, strict=True):
        setattr(rows[at], attribute, value)
        setattr(rows[at], rest, other)
    return {places[at]: fault for at, fault in faults.items()}


def _parted(raws: list[Any], own: RawForm, text: Each) -> tuple[list[Any], list[Any], dict[int, Rejection]]:
    values, texts, faults = [None] * len(raws), [None] * len(raws), dict[int, Rejection]()
    try:
        return own.column(raws), texts, faults
    except Exception:  # noqa: BLE001, S110 - whatever Arrow makes of odd values: each is asked below
        pass
    for at, raw in enumerate(raws):
        try:
            values[at] = own.each(raw)
        except _UNFIT:
            texts[at] = text(raw)
        except RecursionError:
            faults[at] = Rejection("too_deep")
    return values, texts, faults
