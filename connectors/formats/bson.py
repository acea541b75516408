"""The encoding `bson`: MongoDB's values as extended JSON, canonical, relaxed or of the first version, read exactly.

Wrappers are those of MongoDB's Extended JSON specification, version 2, and what MongoDB's drivers wrote before it:
`$oid`, `$date` (text, milliseconds, or a `$numberLong`), `$numberInt`, `$numberLong`, `$numberDouble`,
`$numberDecimal`, `$binary` (two forms), `$uuid`, `$timestamp`, `$symbol`, `$code`, `$undefined`. A column that is text
takes any value: an identifier as its digits, a number as written, a document or an array as JSON.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from typing import Any

import msgspec

from connectors.formats import plain, temporal
from connectors.formats.reasons import Rejection
from connectors.formats.uuids import uuid_text

_MARK = b'"$'
_MILLI_US = 1_000
_SECOND_US = 1_000_000
UUID_TYPES = frozenset({"03", "04", "3", "4"})
_NUMBERS = ("$numberInt", "$numberLong", "$numberDouble", "$numberDecimal")
_TEXTS = ("$oid", "$symbol", "$code", "$uuid", *_NUMBERS)

Each = plain.Each


def _wrapped(raw: Any) -> dict[str, Any] | None:
    """Return a value in a wrapper such as `{"$oid": …}`, None for any other value."""
    written = bytes(raw)
    if not (written.startswith(b"{") and _MARK in written):
        return None
    found: dict[str, Any] = msgspec.json.decode(written)
    return found if next(iter(found), "").startswith("$") else None


def unwrapped(each: Each) -> Each:
    """Return `each` for values of which numbers may be in a wrapper."""

    def convert(raw: Any) -> Any:
        value = _wrapped(raw)
        if value is None:
            return each(raw)
        if "$undefined" in value:
            return None
        return each(msgspec.json.encode(_number_text(value)))

    return convert


def _number_text(value: dict[str, Any]) -> str:
    for name in _NUMBERS:
        if name in value:
            return str(value[name])
    raise Rejection("bad_type")


def text_of(raw: Any) -> str | None:
    """Return any value as text."""
    value = _wrapped(raw)
    if value is None:
        return plain.text_of(raw)
    if "$undefined" in value:
        return None
    for name in _TEXTS:
        if isinstance(value.get(name), str | int):
            return str(value[name])
    if "$date" in value or "$timestamp" in value:
        return temporal.timestamp_text(_micros(value)) + "Z"
    if "$binary" in value:
        kind, data = _binary(value)
        return str(uuid.UUID(bytes=data)) if kind in UUID_TYPES and len(data) == 16 else _base64(data)  # noqa: PLR2004
    return bytes(raw).decode()


def zoned_of(raw: Any) -> str | None:
    """Return the time of a date or a timestamp, or of a text in ISO 8601."""
    value = _wrapped(raw)
    if value is None:
        return plain.zoned_of(raw)
    return None if "$undefined" in value else temporal.timestamp_text(_micros(value)) + "Z"


def stamp_of(raw: Any) -> str | None:
    """Return as `zoned_of`, without its zone, which is UTC."""
    text = zoned_of(raw)
    return None if text is None else text.removesuffix("Z")


def date_of(raw: Any) -> str | None:
    """Return the day in UTC of a date that is midnight, or a date as text."""
    value = _wrapped(raw)
    if value is None:
        return plain.date_of(raw)
    days, rest = divmod(_micros(value), temporal.DAY_US)
    if rest:
        raise Rejection("out_of_range")
    return temporal.date_text(days)


def _micros(value: dict[str, Any]) -> int:
    if isinstance(stamp := value.get("$timestamp"), dict) and isinstance(stamp.get("t"), int):
        return int(stamp["t"]) * _SECOND_US
    date = value.get("$date")
    if isinstance(date, dict):
        number = plain.number_of(msgspec.json.encode(_number_text(date)))
        date = int(number) if number is not None and number.is_finite() else None
    if isinstance(date, str):
        return temporal.micros_of(date)
    if isinstance(date, int):
        return date * _MILLI_US
    raise Rejection("bad_type")


def bytes_of(raw: Any) -> bytes | None:
    """Return the bytes of a binary value, of an identifier, or of base64."""
    value = _wrapped(raw)
    if value is None:
        return plain.bytes_of(raw)
    if isinstance(oid := value.get("$oid"), str):
        try:
            return bytes.fromhex(oid)
        except ValueError:
            raise Rejection("bad_type") from None
    return _binary(value)[1]


def uuid_of(raw: Any) -> str | None:
    """Return a UUID: `$uuid`, a binary value of its sub-types, or a text."""
    value = _wrapped(raw)
    if value is None:
        text = plain.text_of(raw)
    elif "$binary" in value:
        kind, data = _binary(value)
        if kind not in UUID_TYPES or len(data) != 16:  # noqa: PLR2004 - a UUID has 16 bytes
            raise Rejection("bad_type")
        return str(uuid.UUID(bytes=data))
    else:
        text = str(value.get("$uuid", ""))
    return None if text is None else uuid_text(text)


def _binary(value: dict[str, Any]) -> tuple[str, bytes]:
    inner = value.get("$binary")
    kind, text = (inner.get("subType"), inner.get("base64")) if isinstance(inner, dict) else (value.get("$type"), inner)
    try:
        return str(kind).lower(), base64.b64decode(text, validate=True)  # type: ignore[arg-type]
    except (binascii.Error, ValueError, TypeError):
        raise Rejection("bad_type") from None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def boolean_of(raw: Any) -> bool | None:
    """Return a truth value."""
    value = _wrapped(raw)
    if value is None:
        return plain.boolean_of(raw)
    if "$undefined" in value:
        return None
    raise Rejection("bad_type")


def document_of(raw: Any) -> str | None:
    """Return any value as a JSON document, as the source wrote it; a text is quoted, so that "1" is not 1."""
    written = bytes(raw)
    return None if written == b"null" else written.decode()
