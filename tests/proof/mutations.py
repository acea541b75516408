"""Ways to spoil a record: bytes cut, flipped and spliced, JSON that is odd, deep, wide, huge or doubled."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

COLUMNS_MANY = 5_000
DEPTHS = (10, 50, 99, 100, 101, 500, *range(930, 1_000, 7), 2_000, 100_000)  # Python's own limit is near 1,000
PIECES = (
    b'"',
    b"{",
    b"}",
    b",",
    b":",
    b"[",
    b"]",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"\xff",
    b"1e400",
    b"-",
    b"\x00",
)
NUMBERS = (
    *("0", "-0", "-0.0", "1e400", "-1e400", "1e-400", "0E-2046", "1E+2046", "0.1", "2147483648", "-2147483649"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551615", "1" + "0" * 40),
    *("9" * 4_000, "9" * 4_301, "9" * 50_000, "-" + "9" * 5_000, "0." + "3" * 5_000, "1e999999999", "1e-999999999"),
)
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**31, 2**63, 2**64, 10**30, 0.5, "", " ", "null", "NaN", "Infinity", "-Infinity"),
    *(
        "infinity",
        "AA==",
        "?!",
        "\x00",
        "\u2028",
        "٣",
        "a\ud800",
        "x" * 100_000,
        "2024-02-29",
        "24:00:00Z",
        "P1Y",
        {},
        [],
    ),
    *([None], [[None]], [1, "a", None], {"scale": 3, "value": "AeJA"}, {"scale": 10**9, "value": "AQ=="}),
    *({"wkb": "AQ==", "srid": None}, {"year": 10**30, "month": 1, "day": 1, "specialValue": None}),
)
Mutation = Callable[[bytes, bytes, random.Random], bytes]


def truncated(value: bytes, _other: bytes, chance: random.Random) -> bytes:
    """Cut short anywhere, as a producer that died leaves it."""
    return value[: chance.randrange(len(value) or 1)]


def flipped(value: bytes, _other: bytes, chance: random.Random) -> bytes:
    """A few bits turned round."""
    out = bytearray(value)
    for _ in range(chance.randint(1, 4) if out else 0):
        out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    return bytes(out)


def spliced(value: bytes, other: bytes, chance: random.Random) -> bytes:
    """The beginning of one record and the end of another."""
    return value[: chance.randrange(len(value) or 1)] + other[chance.randrange(len(other) or 1) :]


def pieced(value: bytes, _other: bytes, chance: random.Random) -> bytes:
    """Bytes that mean something, put in or put in place of others."""
    out = bytearray(value)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(out) + 1)
        out[at : at + chance.randint(0, 5)] = chance.choice(PIECES)
    return bytes(out)


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Return each container of a document with each of its keys; schema blocks count little, for they are long."""
    found, open_ = [], [document]
    while open_:
        inside = open_.pop()
        names = list(inside) if isinstance(inside, dict) else range(len(inside)) if isinstance(inside, list) else ()
        for name in names:
            found.append((inside, name))
            if not (name == "schema" and isinstance(inside[name], dict) and len(found) % 8):
                open_.append(inside[name])
    return found


def _text(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode()


def _with(value: bytes, chance: random.Random, made: Callable[[], Any]) -> bytes:
    document = json.loads(value)
    places = _places(document)
    for _ in range(chance.randint(1, 3)):
        inside, name = chance.choice(places)
        inside[name] = made()
    return _text(document)


def retyped(value: bytes, _other: bytes, chance: random.Random) -> bytes:
    """Values of other types, at the ends of their ranges, or beyond."""
    return _with(value, chance, lambda: chance.choice(ODD))


def exchanged(value: bytes, _other: bytes, chance: random.Random) -> bytes:
    """Values that stand in each other's place."""
    places = _places(json.loads(value))
    values = [inside[name] for inside, name in places if not isinstance(inside[name], dict | list)]
    return _with(value, chance, lambda: chance.choice(values or [None]))


def lost(value: bytes, _other: bytes, chance: random.Random) -> bytes:
    """Fields that are not there."""
    document = json.loads(value)
    for _ in range(chance.randint(1, 3)):
        places = [(inside, name) for inside, name in _places(document) if isinstance(inside, dict)]
        if places:
            inside, name = chance.choice(places)
            del inside[name]
    return _text(document)


def _marked(value: bytes, chance: random.Random, raw: bytes) -> bytes:
    """Return the record with raw JSON in place of one of its values."""
    return _with(value, chance, lambda: "@@raw@@").replace(b'"@@raw@@"', raw)


def deep(value: bytes, _other: bytes, chance: random.Random) -> bytes:
    """Nested as deep as no row is."""
    depth, (start, end) = chance.choice(DEPTHS), chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
    depth += chance.randrange(7) if depth > DEPTHS[5] else 0
    return _marked(value, chance, start * depth + b"1" + end * depth)


def huge(value: bytes, _other: bytes, chance: random.Random) -> bytes:
    """Numbers of thousands of digits, and those that no float holds."""
    return _marked(value, chance, chance.choice(NUMBERS).encode())


def wide(value: bytes, _other: bytes, chance: random.Random) -> bytes:
    """A row with thousands of columns more."""
    document = json.loads(value)
    envelope = document.get("payload", document) if isinstance(document, dict) else document
    row = envelope.get("after") if isinstance(envelope, dict) else None
    if not isinstance(row, dict):  # of another tool, whose rows stand elsewhere
        row = chance.choice([document] + [inside[name] for inside, name in _places(document)])
    if isinstance(row, dict):
        row |= {f"column {number}": chance.choice(ODD[:9]) for number in range(chance.choice((50, 101, COLUMNS_MANY)))}
    return _text(document)


def doubled(value: bytes, _other: bytes, chance: random.Random) -> bytes:
    """A key that stands twice in its object, with spaces and escapes as JSON allows them."""
    document = json.loads(value)
    places = [(inside, name) for inside, name in _places(document) if isinstance(inside, dict)]
    if not places:
        return value
    inside, name = chance.choice(places)
    inside["@@twice@@"] = chance.choice([inside[name], chance.choice(ODD)])
    again = json.dumps(name)[1:-1]
    if again and chance.random() < 0.3:
        again = f"\\u{ord(again[0]):04x}{again[1:]}" if again[0].isalnum() else again
    return _text(document).replace(b'"@@twice@@":', f'"{again}"{chance.choice(["", " "])}:'.encode())


def respelled(value: bytes, _other: bytes, chance: random.Random) -> bytes:
    """The same document written otherwise: no fault at all."""
    indent = chance.choice([None, 2, "\t"])
    return json.dumps(json.loads(value), indent=indent, ensure_ascii=chance.random() < 0.5).encode("utf-8", "replace")


def inside(value: bytes, other: bytes, chance: random.Random) -> bytes:
    """A document that stands in a text, spoiled in one of the other ways."""
    document = json.loads(value)
    texts = [(holder, name) for holder, name in _places(document) if str(holder[name]).startswith(("{", "["))]
    texts = [(holder, name) for holder, name in texts if isinstance(holder[name], str)]
    if not texts:
        return retyped(value, other, chance)
    holder, name = chance.choice(texts)
    spoiled = chance.choice((truncated, pieced, retyped, exchanged, lost, deep, huge, doubled))(
        holder[name].encode(), b"{}", chance
    )
    holder[name] = spoiled.decode("utf-8", "replace")
    return _text(document)


def nothing(_value: bytes, _other: bytes, chance: random.Random) -> bytes:
    """Bytes that were never a record."""
    return chance.choice([b"", b" ", b"null", b"0", b"{}", b"[]", b'""', chance.randbytes(chance.randint(1, 300))])


MUTATIONS: dict[str, Mutation] = {
    made.__name__: made
    for made in (
        *(truncated, flipped, spliced, pieced, retyped, exchanged, lost, deep, huge, wide, doubled, respelled),
        *(inside, nothing),
    )
}


def mutate(value: bytes, other: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Return the name of a mutation and what it makes of a record; `other` is another of the same table."""
    name = chance.choice(list(MUTATIONS))
    try:
        return name, MUTATIONS[name](value, other, chance)
    except (ValueError, IndexError, RecursionError):  # no JSON that Python reads or writes, or nothing in it
        return flipped.__name__, flipped(value, other, chance)
