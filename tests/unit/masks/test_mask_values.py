"""Masks of values by known answers: what others compute from the page of masks is what is written."""

from __future__ import annotations

import base64
import hashlib
import hmac

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from schemas.mask import Mask
from schemas.types import parse_type
from streams.mask_values import Cipher, expanded, hashed, id_of, replaced, text_of, tokens, truncated

SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("use", ["hash", "token", "encrypt", "nonce", "id"])
def test_keys_are_those_of_hkdf_expand(use: str) -> None:
    """A library's own derivation comes to the same key."""
    assert HKDFExpand(SHA256(), 32, f"headgate {use}".encode()).derive(SECRET) == expanded(SECRET, use)


def test_a_hash_is_the_hmac_of_the_text() -> None:
    """With the library of the standard, and no code of ours."""
    key = hmac.new(SECRET, b"headgate hash\x01", hashlib.sha256).digest()

    assert hmac.new(key, "Müller".encode(), hashlib.sha256).hexdigest() == hashed(SECRET)("Müller")
    assert "8c383595" == hashed(SECRET)("Müller")[:8]
    assert "-1" == text_of(-1)


def test_what_is_encrypted_is_aes_gcm_behind_its_nonce() -> None:
    """As Spark's and others' functions read it: twelve bytes of nonce, text, sixteen bytes of tag."""
    code = str(Cipher(SECRET).encrypted("secret")).rpartition(".")[2]
    raw = base64.urlsafe_b64decode(code + "=" * (-len(code) % 4))

    assert b"secret" == AESGCM(expanded(SECRET, "encrypt")).decrypt(raw[:12], raw[12:], None)
    assert 12 + len("secret") + 16 == len(raw)


def test_known_tokens_stay() -> None:
    """They persist in keys, in Redis and in the lake: a release that made others would make other rows."""
    assert ["4579982433243640929", "-6744101448313211480"] == [tokens(SECRET, parse_type("int"))(n) for n in (0, 1)]
    assert "658489597700af23ca1e3e6580e7ff2f" == tokens(SECRET, parse_type("string"))("Müller")


def test_a_null_that_is_still_json_stays_null() -> None:
    """Null is never the hash of null."""
    null = msgspec.Raw(b"null")

    assert hashed(SECRET)(null) is None
    assert tokens(SECRET, parse_type("json"))(null) is None
    assert Cipher(SECRET).encrypted(null) is None


@pytest.mark.parametrize(
    ("type_", "to", "value", "left"),
    [
        ("date", "month", "-0044-03-15", "-0044-03-01"),
        ("date", "year", "+12024-02-29", "+12024-01-01"),
        ("timestamp", "month", "-0044-03-15T10:00:00.000001", "-0044-03-01T00:00:00.000000"),
        ("string", "month", "2024-02-29", "2024-02"),
        ("string", "year", "2024-02-29", "2024"),
        ("string", 0, "x", ""),
        ("string", 2, "😀ünder", "😀ü"),
    ],
)
def test_what_truncate_leaves(type_: str, to: int | str, value: str, left: str) -> None:
    """Years of any size; of a date that became a text as many characters as say the same."""
    assert left == truncated(Mask(how="truncate", to=to), parse_type(type_))(value)


def test_encrypted_values_are_found_inside_of_a_line() -> None:
    """All of them; what is none, or of another key, stays as it is."""
    cipher = Cipher(SECRET)
    one, other = cipher.encrypted("a"), cipher.encrypted("b")
    foreign = Cipher(b"x" * 32).encrypted("c")
    line = f'{{"x":"{one}","y":["{other}"],"z":"{foreign}","w":"hgm1.nothing"}}'

    def clear(key_id: str, code: str) -> str | None:
        return cipher.decrypted(code) if key_id == id_of(SECRET) else None

    assert f'{{"x":"a","y":["b"],"z":"{foreign}","w":"hgm1.nothing"}}' == replaced(line, clear)
