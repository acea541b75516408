"""Columns whose source changed its type: read as the type that they were, and what is none of it as its text.

So a value has one text, whenever it came: the contract's form of the type where that holds it (`12.50` of a decimal, an
ISO time), else the JSON as it is written, of a text its content.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from connectors.formats import bson, plain
from connectors.formats.forms import Conversion, Each, Form
from connectors.formats.reasons import Rejection

_UNFIT = (Rejection, ValueError, ArithmeticError)  # of one value; msgspec's errors are ValueErrors
_encode = msgspec.json.encode


class RawForm:
    """A form whose values come as raw JSON, so that one that it does not hold spoils no record; None holds nothing."""

    def __init__(self, form: Form | None, encoding: str) -> None:
        """Read what `form` reads; `encoding` is that of the column, which says what the text of a value is."""
        self._conversion = None if form is None else form.conversion
        self._is_raw, self._holds = form is not None and form.wire is msgspec.Raw, form is not None
        self.text: Each = bson.text_of if encoding == "bson" else plain.text_of
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


def text_form(form: Form | None, encoding: str) -> Form:
    """Return the form of a string column whose values were of `form`; None: as the record says it, none of them is."""
    raw = RawForm(form, encoding)

    def each(value: Any) -> str | None:
        try:
            found = raw.each(value)
        except _UNFIT:
            return raw.text(value)  # type: ignore[no-any-return]
        return _as_text(found)

    return Form(msgspec.Raw, Conversion(each, lambda values: list(map(_as_text, raw.column(values)))))


def _as_text(value: Any) -> str | None:
    """Return the text of a value in the contract's form."""
    if value is None or isinstance(value, str):
        return value
    written: str = _encode(value).decode()
    return written[1:-1] if isinstance(value, bytes) else written


def part_rest(raw: RawForm, raws: Sequence[Any]) -> tuple[list[Any], list[str | None], dict[int, Rejection]]:
    """Return the values that the form holds and the texts of the others, both null elsewhere, and what is neither."""
    try:
        return raw.column(list(raws)), [None] * len(raws), {}
    except (*_UNFIT, RecursionError):
        pass
    values, texts, faults = [None] * len(raws), list[str | None]([None] * len(raws)), {}
    for at, written in enumerate(raws):
        try:
            values[at] = raw.each(written)
        except _UNFIT:
            texts[at] = raw.text(written)
        except RecursionError:
            faults[at] = Rejection("too_deep")
    return values, texts, faults


def put_parted(rows: Sequence[Any], attribute: str, rest: str, raw: RawForm) -> dict[int, Rejection]:
    """Part a column of decoded rows into its values and its rest; where a row does not have it, it has no rest."""
    places = [at for at, row in enumerate(rows) if getattr(row, attribute) is not UNSET]
    values, texts, faults = part_rest(raw, [getattr(rows[at], attribute) for at in places])
    for at, value, text in zip(places, values, texts, strict=True):
        setattr(rows[at], attribute, value)
        setattr(rows[at], rest, text)
    return {places[at]: fault for at, fault in faults.items()}
