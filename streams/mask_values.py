"""What masks make of values: of the text that a value has in the contract, whatever its type. Pure but for a nonce.

A value has one text: a text itself, of anything else its JSON. So an int and the same long, or the two sides of a key
change, become the same hash. All keys are made of one secret, each for its own use, by HKDF-Expand with SHA-256
(RFC 5869); docs/masks.md shows how others compute the same.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import uuid
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from schemas.errors import ConfigurationError
from schemas.mask import YEAR, Mask
from schemas.types import ColumnType, Kind

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Each = Callable[[Any], Any]  # of a value that is neither null nor absent

ENCRYPTED = "hgm1"
ID_DIGITS = 8
_NONCE_BYTES, _TAG_BYTES = 12, 16
_TOKEN_BYTES = 16
_ROUNDS = 6  # from five on nothing is told from a random permutation (Patarin, Security of random Feistel schemes)
ENCODED = re.compile(rf"{ENCRYPTED}\.([0-9a-f]{{{ID_DIGITS}}})\.([A-Za-z0-9_-]{{38,}})")
_YEAR_END = re.compile(r"(?<=\d)-")  # behind the year, which may have a sign and any number of digits
_BITS, _HALF = 1 << 64, (1 << 32) - 1

_encode, _decode = msgspec.json.encode, msgspec.json.decode


def text_of(value: Any) -> str | None:
    """Return the text of a value in the contract's form; None for a null that is still JSON."""
    if isinstance(value, str):
        return value
    written = _encode(value)
    if written.startswith(b'"'):
        return str(_decode(written))
    return None if written == b"null" else written.decode()


def expanded(secret: bytes, use: str) -> bytes:
    """Return the key for one use of a secret: HKDF-Expand of 32 bytes."""
    return hmac.digest(secret, f"headgate {use}\x01".encode(), "sha256")


def id_of(secret: bytes) -> str:
    """Return what a secret is known by where its key must not be."""
    return expanded(secret, "id").hex()[:ID_DIGITS]


def hashed(secret: bytes) -> Each:
    """Return what hashes values."""
    key = expanded(secret, "hash")

    def each(value: Any) -> str | None:
        text = text_of(value)
        return None if text is None else hmac.digest(key, text.encode(), "sha256").hex()

    return each


def tokens(secret: bytes, type_: ColumnType) -> Each:
    """Return what gives values pseudonyms of their own kind."""
    key = expanded(secret, "token")
    if type_.kind in {Kind.INT, Kind.LONG}:
        return lambda value: str(permuted(key, int(value)))
    if type_.kind is Kind.UUID:
        return lambda value: _as_uuid(hmac.digest(key, str(value).encode(), "sha256"))

    def each(value: Any) -> str | None:
        text = text_of(value)
        if text is None:
            return None
        return hmac.digest(key, text.encode(), "sha256")[:_TOKEN_BYTES].hex()

    return each


def _as_uuid(digest: bytes) -> str:
    """Return a UUID of version 8, whose bits mean nothing to anybody else (RFC 9562)."""
    bits = bytearray(digest[:16])
    bits[6], bits[8] = bits[6] & 0x0F | 0x80, bits[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(bits)))


def permuted(key: bytes, number: int) -> int:
    """Return another 64-bit number, and for no two numbers the same: a Feistel network of HMACs."""
    left, right = (number % _BITS) >> 32, number & _HALF
    for turn in range(_ROUNDS):
        digest = hmac.digest(key, b"%d:%d" % (turn, right), "sha256")
        left, right = right, left ^ int.from_bytes(digest[:4], "big")
    found = left << 32 | right
    return found - _BITS if found >> 63 else found


def truncated(mask: Mask, type_: ColumnType) -> Each:
    """Return what cuts values: texts to characters, dates and times to the first of their year or month."""
    if isinstance(mask.to, int):
        count = mask.to
    elif type_.kind is Kind.STRING:  # what became a text keeps as much as `2024` or `2024-02`
        count = 4 if mask.to == YEAR else 7
    else:
        return lambda value: _first_of(str(value), year=mask.to == YEAR)

    def each(value: Any) -> str | None:
        text = text_of(value)
        return None if text is None else text[:count]

    return each


def _first_of(text: str, *, year: bool) -> str:
    end = _YEAR_END.search(text)
    assert end is not None, "the contract writes a year, a month and a day"
    kept = f"{text[: end.start()]}-01-01" if year else f"{text[: end.start() + 3]}-01"
    _, time, rest = text.partition("T")
    return f"{kept}T00:00:00.000000{'Z' if rest.endswith('Z') else ''}" if time else kept


class Cipher:
    """AES-256-GCM by one secret, known by its id."""

    def __init__(self, secret: bytes) -> None:
        """Derive its keys; cryptography is loaded with the first value."""
        self.id, self._secret = id_of(secret), secret
        self._nonce_key = expanded(secret, "nonce")

    @cached_property
    def _aes(self) -> AESGCM:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - 10 MB that few need
        except ImportError as exc:
            raise ConfigurationError(
                "the package cryptography is not installed, so nothing can be encrypted",
                hint="install Headgate with its requirements: pip install cryptography",
            ) from exc
        return AESGCM(expanded(self._secret, "encrypt"))

    def ready(self) -> None:
        """Return where it can be used.

        Raises:
            ConfigurationError: the package that encrypts is not there.
        """
        _ = self._aes

    def encrypted(self, value: Any) -> str | None:
        """Return what stands for a value; of one value always the same: a replay writes what was written before.

        The nonce is made of the value, so it comes twice only with the same value.
        """
        text = text_of(value)
        if text is None:
            return None
        clear = text.encode()
        nonce = hmac.digest(self._nonce_key, clear, "sha256")[:_NONCE_BYTES]
        found = base64.urlsafe_b64encode(nonce + self._aes.encrypt(nonce, clear, None)).rstrip(b"=").decode()
        return f"{ENCRYPTED}.{self.id}.{found}"

    def decrypted(self, encoded: str) -> str | None:
        """Return what the last part of `encrypted` stands for, None where this secret did not make it."""
        try:
            raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except ValueError:
            return None
        clear = self.opened(raw)
        return None if clear is None else clear.decode()

    def sealed(self, clear: bytes) -> bytes:
        """Return bytes that only this secret opens."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, clear, None)

    def opened(self, raw: bytes) -> bytes | None:
        """Return what `sealed` was given, None where this secret did not seal it."""
        aes = self._aes
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - the same

        if len(raw) < _NONCE_BYTES + _TAG_BYTES:
            return None
        try:
            return aes.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None)
        except InvalidTag:
            return None


def replaced(text: str, clear_of: Callable[[str, str], str | None]) -> str:
    """Return a text with what was encrypted in it replaced by what `clear_of` an id and a code says, if it knows it."""

    def one(found: re.Match[str]) -> str:
        clear = clear_of(found[1], found[2])
        return found[0] if clear is None else clear

    return ENCODED.sub(one, text)
