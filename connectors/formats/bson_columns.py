"""Columns of MongoDB's values at once: all in the same wrapper, as a collection's are, or numbers in some or none.

Each function is for values without nulls and raises for what it does not take; then each value is looked at alone, by
its twin in bson.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from connectors.formats import plain, temporal
from connectors.formats.bson import UUID_TYPES
from connectors.formats.reasons import Rejection
from connectors.formats.uuids import uuid_column, uuids_of

_MARK = b'"$'
_NUMBERS = ("$numberInt", "$numberLong", "$numberDouble", "$numberDecimal")
_STARTS = [b'{"%b":%b' % (name.encode(), space) for name in _NUMBERS for space in (b" ", b"")]
_SPACES = (b" ", b"\t", b"\r", b"\n")
_MILLI_US = 1_000


def _wrappers(**fields: Any) -> Callable[[bytes], list[Any]]:
    """Return the decoder of a list of wrappers that have exactly these fields, each behind a dollar sign."""
    type_ = msgspec.defstruct(
        "Wrapper",
        list(fields.items()),
        rename={name: f"${name}" for name in fields},
        forbid_unknown_fields=True,
        gc=False,
    )
    decode: Callable[[bytes], list[Any]] = msgspec.json.Decoder(list[type_]).decode  # type: ignore[valid-type]
    return decode


class _Long(msgspec.Struct, forbid_unknown_fields=True, gc=False, rename={"digits": "$numberLong"}):
    digits: str


class _Data(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    base64: bytes
    subType: str  # noqa: N815 - MongoDB's name


_TEXTS = {name: _wrappers(**{name: str}) for name in ("oid", "uuid", "symbol", "code", *(n[1:] for n in _NUMBERS))}
_millis, _times, _longs = _wrappers(date=int), _wrappers(date=str), _wrappers(date=_Long)
_datas, _old_datas = _wrappers(binary=_Data), _wrappers(binary=bytes, type=str)


def _is_wrapped(raws: list[Any]) -> bool:
    return bytes(raws[0]).startswith(b"{")


def bare_numbers(raws: list[Any]) -> bytes:
    """Return numbers as a list of JSON, out of their wrappers where they are in one."""
    joined = plain.listed(raws)
    if _MARK not in joined:
        return joined
    if b"}}" in joined:
        raise Rejection("bad_type")  # a wrapper in a wrapper; one behind a space leaves the space
    for start in _STARTS:
        joined = joined.replace(start, b"")
    if any(space in joined for space in _SPACES):
        raise Rejection("bad_type")
    return joined.translate(None, b"}")


def texts(raws: list[Any]) -> list[str]:
    """Return texts, or what is written in wrappers of one kind."""
    if not _is_wrapped(raws):
        found = plain.as_texts(raws)
        if any(text.startswith("{") for text in found) and _MARK in b",".join(raws):
            raise Rejection("bad_type")  # one may be in a wrapper
        return found
    name = bytes(raws[0]).partition(b'"$')[2].partition(b'"')[0].decode()
    return [getattr(one, name) for one in _TEXTS[name](plain.listed(raws))]


def _micros(raws: list[Any]) -> Any:
    """Return dates in milliseconds as an Arrow array of microseconds."""
    joined = plain.listed(raws)
    if b"$numberLong" in joined:
        digits = [one.date.digits for one in _longs(joined)]
        if "".join(digits).strip("-0123456789"):
            raise Rejection("bad_type")  # of this shortcut
        millis = list(map(int, digits))
    else:
        millis = [one.date for one in _millis(joined)]
    return pc.multiply_checked(pa.array(millis, pa.int64()), _MILLI_US)


def zoned(raws: list[Any]) -> list[str]:
    """Return timestamps in UTC."""
    if not _is_wrapped(raws):
        return plain.zoned(raws)
    if b'"' in bytes(raws[0]).partition(b":")[2] and b"$numberLong" not in bytes(raws[0]):
        return temporal.zoned_column([one.date for one in _times(plain.listed(raws))])
    return temporal.micros_column(_micros(raws), "Z")


def stamps(raws: list[Any]) -> list[str]:
    """Return timestamps in UTC without saying so."""
    return [text[:-1] for text in zoned(raws)]


def dates(raws: list[Any]) -> list[str]:
    """Return the days of dates that are midnight."""
    if not _is_wrapped(raws):
        return plain.dates(raws)
    micros = _micros(raws)
    days = pc.divide(micros, temporal.DAY_US)
    if not pc.multiply(days, temporal.DAY_US).equals(micros):
        raise Rejection("out_of_range")
    return temporal.days_column(days.cast(pa.int32()))


def _binaries(raws: list[Any]) -> tuple[list[bytes], set[str]]:
    """Return bytes, and of which kinds they are."""
    joined = plain.listed(raws)
    if b'"$type"' in joined:
        found = _old_datas(joined)
        return [one.binary for one in found], {one.type.lower() for one in found}
    datas = [one.binary for one in _datas(joined)]
    return [one.base64 for one in datas], {one.subType.lower() for one in datas}


def binaries(raws: list[Any]) -> list[bytes]:
    """Return bytes."""
    return _binaries(raws)[0] if _is_wrapped(raws) else plain.binaries(raws)


def uuids(raws: list[Any]) -> list[str]:
    """Return UUIDs: texts in the contract's form, or bytes."""
    if not _is_wrapped(raws) or b'"$uuid"' in bytes(raws[0]):
        return uuid_column(texts(raws))
    datas, kinds = _binaries(raws)
    if not kinds <= UUID_TYPES:
        raise Rejection("bad_type")
    return uuids_of(datas)


def documents(raws: list[Any]) -> list[str]:
    """Return documents as they are written, texts with their quotes."""
    written = [str(raw, "utf-8") for raw in raws]
    if "null" in written:
        raise Rejection("bad_type")  # of this shortcut
    return written
