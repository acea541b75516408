"""Ten ways in which a record can be broken, each with the reason that quarantine must give, stated beforehand.

Every broken record is a right one of the `patients` table with one thing wrong, under a key that no right record has:
let through by mistake, it would show as a row too much in every end.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.workloads.debezium_player import encode, envelope

FIRST_KEY = 10**12  # far above every key of the model
LARGE_BYTES = 5 * 1024 * 1024
DEEP_LEVELS = 10_000
TOPIC_SETTINGS = {"max.message.bytes": str(8 * 1024 * 1024)}

_LSN = 90_000_000_000


@dataclass(frozen=True, slots=True)
class Broken:
    """One way: its name, the reason that quarantine must give, and the value."""

    name: str
    reason: str
    value: Callable[[int], bytes]


def right_value(key: int, *, prefix: str = "poison") -> dict[str, Any]:
    """Return a record that would be taken, as an object."""
    after = {
        "id": key,
        "ward": 1,
        "name": "Mallory",
        "email": None,
        "balance": encode("decimal(12,2)", Decimal("-1.00")),
        "born": 1,
        "active": True,
        "score": 1.5,
        "visits": 1,
        "insured": 1,
        "seen": "2026-01-01T00:00:00.000000Z",
        "wakes": None,
    }
    return envelope("patients", "c", _LSN, f'["{_LSN}","{_LSN}"]', prefix=prefix, tx=1, after=after)


def key_of(key: int) -> bytes:
    """Return the record's key."""
    return b'{"id":%d}' % key


def _text(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _with(key: int, **columns: Any) -> bytes:
    value = right_value(key)
    value["after"] |= columns
    return _text(value)


def _broken_json(key: int) -> bytes:
    return _text(right_value(key))[:-7]


def _no_op(key: int) -> bytes:
    value = right_value(key)
    del value["op"]
    return _text(value)


def _unknown_op(key: int) -> bytes:
    return _text({**right_value(key), "op": "x"})


def _duplicate_keys(key: int) -> bytes:
    return _text(right_value(key)).replace(b'"name":"Mallory"', b'"name":"Mallory","name":"Trudy"')


def _not_utf8(key: int) -> bytes:
    return _text(right_value(key)).replace(b"Mallory", b"Mall\xc3\x28ory")


def _nested(key: int) -> bytes:
    deep = b"[" * DEEP_LEVELS + b"]" * DEEP_LEVELS
    return _text(right_value(key)).replace(b'"Mallory"', deep)


KINDS = (
    Broken("broken JSON", "broken_json", _broken_json),
    Broken("no op", "no_op", _no_op),
    Broken("unknown op", "unknown_op", _unknown_op),
    Broken("a value that does not fit its type", "bad_type", lambda key: _with(key, visits="twelve")),
    Broken("an integer over 64 bits", "out_of_range", lambda key: _with(key, insured=2**64 + 1)),
    Broken("5 MB", "too_large", lambda key: _with(key, name="x" * LARGE_BYTES)),
    Broken("10,000 levels", "too_deep", _nested),
    Broken("key and value disagree", "key_mismatch", lambda key: _with(key, id=key + 500_000_000)),
    Broken("duplicate JSON keys", "duplicate_keys", _duplicate_keys),
    Broken("not UTF-8", "not_utf8", _not_utf8),
)
