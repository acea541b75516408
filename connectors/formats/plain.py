"""The encoding `plain`: values as most tools write them into JSON, each read exactly or refused.

A number may stand as a number or as text, also with an exponent (AWS DMS writes large integers so); a time is ISO
8601, with `T` or a space, and one without a zone is UTC where the column has a zone; binary is base64; a text column
takes anything, as it is written. Values come as raw JSON: a column of ordinary ones is one call of C, any other goes
one by one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from itertools import repeat
from operator import itemgetter
from typing import Any

import msgspec
import pyarrow as pa

from connectors.formats import decimals, temporal
from connectors.formats.reasons import Rejection
from connectors.formats.texts import arrow_lines, whole_texts

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_NOT_FINITE = {"nan": "NaN", "infinity": "Infinity", "inf": "Infinity", "-infinity": "-Infinity", "-inf": "-Infinity"}
_TRUE, _FALSE = frozenset({"true", "t", "1", "yes", "y"}), frozenset({"false", "f", "0", "no", "n"})
_DIGITS_MAX = 400  # beyond any number that a column can hold
_FLOAT32_END = 2.0**128 - 2.0**103
_INT_BITS, _LONG_BITS = 31, 63
_DATE_CHARACTERS = 10
_TIME_CHARACTERS = 5
_QUOTE = ord('"')
_NO_NUMBERS = re.compile(rb'[ \t\r\n]|""')

_numbers = msgspec.json.Decoder(list[int]).decode
_floats = msgspec.json.Decoder(list[float]).decode
_decimals = msgspec.json.Decoder(list[Decimal]).decode
_texts = msgspec.json.Decoder(list[str]).decode
_BITS = {b"true": True, b"false": False, b"1": True, b"0": False, b'"1"': True, b'"0"': False}
_documents = msgspec.json.Decoder().decode
_binaries = msgspec.json.Decoder(list[bytes]).decode

Each = Callable[[Any], Any]
Column = Callable[[list[Any]], list[Any]]
Lister = Callable[[list[Any]], bytes]


def text_of(raw: Any) -> str | None:
    """Return a value as text: of a text its content, of anything else the JSON as it is written, None of null."""
    written = bytes(raw)
    if written == b"null":
        return None
    if written.startswith(b'"'):
        found: str = msgspec.json.decode(written)
        return found
    return written.decode()


def texts(raws: list[Any]) -> list[str]:
    """Return the contents of texts; raises where one is none."""
    return _texts(listed(raws))


def as_texts(raws: list[Any]) -> list[str]:
    """Return the contents of texts, or where none is one, what is written; raises for a mixture, and for a null."""
    if bytes(raws[0]).startswith(b'"'):
        return texts(raws)
    return _as_written(raws, set(map(itemgetter(0), map(bytes, raws))))


def _as_written(raws: list[Any], starts: set[int]) -> list[str]:
    written = list(map(str, raws, repeat("utf-8")))
    if _QUOTE in starts or "null" in written:
        raise Rejection("bad_type")  # of this shortcut
    return written


def document_of(raw: Any) -> str | None:
    """Return a JSON document: an object or array as it is written, and what a text holds if that is a document."""
    written = bytes(raw)
    if written == b"null":
        return None
    if written.startswith(b'"'):
        inner: str = msgspec.json.decode(written)
        try:
            msgspec.json.decode(inner)
        except msgspec.DecodeError:
            return written.decode()
        return inner
    return written.decode()


def documents(raws: list[Any]) -> list[str]:
    """Return JSON documents of which none stands in a text, or all do."""
    starts = set(map(itemgetter(0), map(bytes, raws)))
    if starts != {_QUOTE}:
        return _as_written(raws, starts)
    written = texts(raws)
    deque(map(_documents, written), maxlen=0)  # raises for what is none
    return written


def boolean_of(raw: Any) -> bool | None:
    """Return a truth value, which may be a number or a word."""
    text = text_of(raw)
    if text is None:
        return None
    word = text.lower()
    if word not in _TRUE | _FALSE:
        raise Rejection("bad_type")
    return word in _TRUE


def booleans(raws: list[Any]) -> list[bool]:
    """Return truth values that are written as JSON has them, or as 0 and 1."""
    return list(map(_BITS.__getitem__, map(bytes, raws)))


def number_of(raw: Any) -> Decimal | None:
    """Return a number exactly, also one written as text; NaN and infinities as such."""
    text = text_of(raw)
    if text is None:
        return None
    if len(text) > _DIGITS_MAX:
        raise Rejection("out_of_range")
    if text.lower() in _NOT_FINITE:
        return Decimal(_NOT_FINITE[text.lower()])
    if not _NUMBER.fullmatch(text):
        raise Rejection("bad_type")
    return Decimal(text)


def _whole(raw: Any, bits: int) -> int | None:
    number = number_of(raw)
    if number is None:
        return None
    if not number.is_finite() or number.adjusted() > bits or number != number.to_integral_value():
        raise Rejection("out_of_range")
    whole = int(number)
    if not -(1 << bits) <= whole < 1 << bits:
        raise Rejection("out_of_range")
    return whole


def int_of(raw: Any) -> int | None:
    """Return a whole number of 32 bits."""
    return _whole(raw, _INT_BITS)


def long_of(raw: Any) -> str | None:
    """Return the digits of a whole number of 64 bits."""
    whole = _whole(raw, _LONG_BITS)
    return None if whole is None else str(whole)


def listed(raws: list[Any]) -> bytes:
    """Return the values as one list of JSON."""
    return b"[" + b",".join(raws) + b"]"


def ints(raws: list[Any], as_list: Lister = listed) -> list[int]:
    """Return whole numbers of 32 bits."""
    return _within(_numbers(_unquoted(raws, as_list)), _INT_BITS)


def longs(raws: list[Any], as_list: Lister = listed) -> list[str]:
    """Return the digits of whole numbers of 64 bits."""
    return whole_texts(_within(_numbers(_unquoted(raws, as_list)), _LONG_BITS))


def float_maker(*, single: bool, as_list: Lister = listed) -> tuple[Each, Column]:
    """Return how floats are read, those of 32 bits if `single`."""
    end = _FLOAT32_END if single else float("inf")

    def each(raw: Any) -> float | str | None:
        number = number_of(raw)
        if number is None:
            return None
        if not number.is_finite():
            return str(number)
        found = float(number)
        if not -end < found < end:
            raise Rejection("out_of_range")
        return found

    def column(raws: list[Any]) -> list[float]:
        found = _floats(_unquoted(raws, as_list))
        if max(found) >= end or min(found) <= -end:
            raise Rejection("out_of_range")
        return found

    return each, column


def decimal_maker(precision: int, scale: int, as_list: Lister = listed) -> tuple[Each, Column]:
    """Return how decimals are read; one with more digits than the type has is refused, never rounded."""
    convert = decimals.decimal_text(precision, scale)

    def each(raw: Any) -> str | None:
        number = number_of(raw)
        return None if number is None else convert(number)

    type_ = pa.decimal128(precision, scale)

    def exact(raws: list[Any]) -> list[str]:
        return list(map(convert, _decimals(_unquoted(raws, as_list))))

    def by_arrow(raws: list[Any]) -> list[str]:
        joined = as_list(raws)
        values = _texts(joined) if joined.startswith(b'["') else joined[1:-1].decode().split(",")
        if "".join(values).strip("0123456789.-"):
            raise Rejection("bad_type")  # of this shortcut: `each` knows exponents, and what is no number
        return arrow_lines(pa.array(values, pa.string()).cast(type_).cast(pa.string())).split("\n")

    return each, by_arrow if scale <= decimals.SCALE_BY_ARROW_MAX else exact


def _stamp_of(raw: Any) -> str | None:
    text = text_of(raw)
    if text is not None and len(text) == _DATE_CHARACTERS and text.count("-") == 2:  # noqa: PLR2004 - a date
        text += "T00:00:00"
    return None if text is None else temporal.timestamp_text(temporal.micros_of(text))


def stamp_of(raw: Any) -> str | None:
    """Return a timestamp without zone; an offset that it has is applied, so that it is UTC."""
    return _stamp_of(raw)


def zoned_of(raw: Any) -> str | None:
    """Return a timestamp in UTC; one without an offset is taken for UTC."""
    text = _stamp_of(raw)
    return None if text is None else text + "Z"


def zoned(raws: list[Any]) -> list[str]:
    """Return timestamps in UTC of texts of which all have an offset, or none."""
    values = texts(raws)
    if set(map(_last, values)) == {"Z"}:
        return temporal.zoned_column(values)
    return temporal.micros_column(_naive(values), "Z")


def stamps(raws: list[Any]) -> list[str]:
    """Return timestamps without zone of texts of which all end in `Z`, or none has an offset."""
    values = texts(raws)
    if set(map(_last, values)) == {"Z"}:
        values = [value[:-1] for value in values]
    return temporal.micros_column(_naive(values), "")


def _last(text: str) -> str:
    return text[-1]


def _naive(values: list[str]) -> Any:
    return pa.array(values, pa.string()).cast(pa.timestamp("us")).view(pa.int64())


def date_of(raw: Any) -> str | None:
    """Return a date; a time of day behind it must be midnight."""
    text = text_of(raw)
    if text is None:
        return None
    if "T" in text or " " in text:
        micros = temporal.micros_of(text)
        if micros % temporal.DAY_US:
            raise Rejection("bad_type")
        return temporal.date_text(micros // temporal.DAY_US)
    return temporal.date_text(temporal.days_of(text))


def dates(raws: list[Any]) -> list[str]:
    """Return the very dates, where all are texts of ten characters that are one."""
    values = texts(raws)
    pa.array(values, pa.string()).cast(pa.date32())
    return values


def time_of(raw: Any) -> str | None:
    """Return a time of day."""
    text = text_of(raw)
    return None if text is None else temporal.time_text(temporal.time_micros_of(text))


def times(raws: list[Any]) -> list[str]:
    """Return times of day without an offset."""
    values = texts(raws)
    if min(map(len, values)) < _TIME_CHARACTERS:
        raise Rejection("bad_type")  # of this shortcut: Arrow may take less than hours and minutes
    array = pa.array(values, pa.string()).cast(pa.time64("us"))
    return arrow_lines(array.cast(pa.string())).split("\n")


def bytes_of(raw: Any) -> bytes | None:
    """Return bytes of base64."""
    try:
        return msgspec.json.decode(bytes(raw), type=bytes | None)
    except msgspec.DecodeError:
        raise Rejection("bad_type") from None


def binaries(raws: list[Any]) -> list[bytes]:
    """Return bytes of base64."""
    return _binaries(listed(raws))


def with_nulls(column: Column) -> Column:
    """Return `column` for values of which some are null."""

    def convert(raws: list[Any]) -> list[Any]:
        try:
            return column(raws)
        except Exception:  # a null, or a value that `column` refuses without nulls as well
            written = list(map(bytes, raws))
            if b"null" not in written:
                raise
            places = [i for i, raw in enumerate(written) if raw != b"null"]
        found: list[Any] = [None] * len(raws)
        for place, value in zip(places, column([raws[i] for i in places]) if places else (), strict=True):
            found[place] = value
        return found

    return convert


def _unquoted(raws: list[Any], as_list: Lister) -> bytes:
    """Return a list of numbers, of which some or all are written as texts; raises where one is not plainly written.

    A text that is a number as JSON has it is the same number, so its quotes can go; another is no JSON without them.
    """
    joined = as_list(raws)
    if b'"' not in joined:
        return joined
    if joined.count(b",") + 1 != len(raws) or _NO_NUMBERS.search(joined):
        raise Rejection("bad_type")  # of this shortcut: `each` looks what the text is
    return joined.translate(None, b'"')


def _within(numbers: list[int], bits: int) -> list[int]:
    if max(numbers) >= 1 << bits or min(numbers) < -(1 << bits):
        raise Rejection("out_of_range")
    return numbers
