"""UUIDs in the contract's form."""

from __future__ import annotations

import uuid

from connectors.formats.reasons import Rejection

_BYTES = 16
_HYPHENS = (8, 13, 18, 23)
_LINE = 37  # characters of a UUID, and a newline
_PLACES = [place for place in range(_LINE - 1) if place not in _HYPHENS]


def uuid_text(value: str) -> str:
    """Return a UUID in lower case with hyphens."""
    try:
        found = uuid.UUID(value)
    except ValueError:
        raise Rejection("bad_type") from None
    if found.hex not in value.lower().replace("-", ""):  # digits of other scripts, underscores
        raise Rejection("bad_type")
    return str(found)


def uuid_column(values: list[str]) -> list[str]:
    """Return the very list if each text is a UUID in the contract's form; else raise."""
    count = len(values)
    joined = "\n".join(values) + "\n"
    rest = joined.encode("ascii").translate(None, b"0123456789abcdef")
    in_place = all(joined[at::_LINE] == "-" * count for at in _HYPHENS) and joined[_LINE - 1 :: _LINE] == "\n" * count
    if len(joined) != _LINE * count or rest != b"----\n" * count or not in_place:
        raise Rejection("bad_type")
    return values


def uuids_of(values: list[bytes]) -> list[str]:
    """Return the UUIDs of which each value is the sixteen bytes; else raise."""
    if set(map(len, values)) != {_BYTES}:
        raise Rejection("bad_type")
    digits = b"".join(values).hex().encode()
    out = bytearray(b"-" * (_LINE * len(values)))
    for digit, place in enumerate(_PLACES):  # a column of digits at a time
        out[place::_LINE] = digits[digit :: 2 * _BYTES]
    out[_LINE - 1 :: _LINE] = b"\n" * len(values)
    return out[:-1].decode().split("\n")
