"""Whether a way to read a column takes values: asked of the very forms that the decoder reads with, never guessed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import msgspec

from connectors.formats.placeholder import Placeholder
from connectors.formats.rows import RawValue, list_form
from schemas.errors import ConfigurationError
from schemas.types import ColumnType, Kind

UNREADABLE = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)  # what odd JSON makes of a decoder
_FEW = 8
_encode = msgspec.json.Encoder(decimal_format="number").encode


class Way(msgspec.Struct, frozen=True):
    """A way to read a column: the type, the encoding (of a list's elements), and the scale if the encoding has one."""

    type: ColumnType
    encoding: str
    scale: int | None = None

    def in_list(self) -> Way:
        """Return the way to read a list of such values."""
        return Way(ColumnType(Kind.LIST, element=self.type), self.encoding, self.scale)

    @property
    def spelled(self) -> str:
        """The encoding as a spec writes it: with its scale where nothing else says it."""
        if self.encoding == "connect.Decimal" and self.scale is not None and _innermost(self.type).kind is Kind.STRING:
            return f"connect.Decimal({self.scale})"
        return self.encoding


def _innermost(type_: ColumnType) -> ColumnType:
    return type_ if type_.element is None else _innermost(type_.element)


ANY_TEXT = Way(ColumnType(Kind.STRING), "any")
ANY_JSON = Way(ColumnType(Kind.JSON), "struct")


@functools.lru_cache(maxsize=1_000)
def _reader(way: Way) -> tuple[Any, Any, Any]:
    form = list_form(way.type, way.encoding, scale=way.scale)
    wire = form.wire if form.wire is RawValue else form.wire | None
    return msgspec.json.Decoder(list[wire]), form.conversion, form.wire  # type: ignore[valid-type]


def exists(way: Way) -> bool:
    """Tell whether there is such a way at all."""
    try:
        _reader(way)
    except ConfigurationError:
        return False
    return True


def takes(way: Way, values: Sequence[Any]) -> bool:
    """Tell whether every value (as msgspec decodes JSON, numbers with a point as `Decimal`) has a form that way."""
    decoder, conversion, _ = _reader(way)
    try:
        read = [value for value in decoder.decode(_encode(values)) if value is not None]
    except UNREADABLE:
        return False
    if conversion is None or not read:
        return True
    # Where many are refused, each of them is looked at by itself: the first few tell most of the wrong ways.
    few = len(read) > _FEW and conversion.apply(read[:_FEW])[1]
    return not few and not conversion.apply(read)[1]


def is_unavailable(way: Way, value: Any, placeholder: Placeholder) -> bool:
    """Tell whether a decoder that reads that way sees that `value` stands for one that the source did not send."""
    decoder, _, wire = _reader(way)
    try:
        (read,) = decoder.decode(_encode([value]))
    except UNREADABLE:
        return False
    if wire is RawValue:
        return placeholder.is_document(bytes(read))
    starts = placeholder.references(way.type, wire, way.encoding)
    return read in placeholder.values(way.type, wire, way.encoding) or bool(starts and read.startswith(starts))
