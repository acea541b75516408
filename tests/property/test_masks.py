"""Masks of values, whatever they are: one value one text, no value shown, and only the key gives one back."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.mask import Mask
from schemas.types import ColumnType, Kind, parse_type
from streams.mask_values import Cipher, expanded, hashed, permuted, text_of, tokens, truncated

SECRET, OTHER = b"s" * 32, b"t" * 32
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
LONGS = st.integers(-(2**63), 2**63 - 1)
VALUES: st.SearchStrategy[Any] = st.one_of(
    TEXTS, LONGS, st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.binary(max_size=60),
    st.lists(st.one_of(TEXTS, LONGS, st.none()), max_size=5),
)  # fmt: skip
MONTH, YEAR = Mask(how="truncate", to="month"), Mask(how="truncate", to="year")


@given(VALUES)
def test_a_value_has_one_hash_by_one_secret(value: Any) -> None:
    """Another secret gives another one; both are digits that hold nothing of the value."""
    first = hashed(SECRET)(value)

    assert first == hashed(SECRET)(value) != hashed(OTHER)(value)
    assert len(first) == 64
    assert set(first) <= set("0123456789abcdef")


@given(LONGS)
def test_an_int_and_the_long_that_it_becomes_have_one_hash_and_one_token(number: int) -> None:
    """A column may become wider, and a table have as a long what another has as an int."""
    as_int, as_long = parse_type("int"), parse_type("long")

    assert hashed(SECRET)(number) == hashed(SECRET)(str(number))
    assert tokens(SECRET, as_int)(number) == tokens(SECRET, as_long)(str(number))


@given(st.sets(LONGS, min_size=2, max_size=50))
def test_tokens_of_numbers_are_numbers_and_never_the_same(numbers: set[int]) -> None:
    """Two rows never become one."""
    key = expanded(SECRET, "token")
    found = {number: permuted(key, number) for number in numbers}

    assert len(set(found.values())) == len(numbers)
    assert all(-(2**63) <= token < 2**63 for token in found.values())


@given(st.integers(-(2**63), 2**63 - 2))
def test_neighbours_have_tokens_far_apart(number: int) -> None:
    """The order of the numbers is not that of their tokens: half of the bits differ, more or less."""
    key = expanded(SECRET, "token")

    assert (permuted(key, number) ^ permuted(key, number + 1)).bit_count() > 8


@given(st.uuids())
def test_the_token_of_a_uuid_is_another_uuid(value: uuid.UUID) -> None:
    """Of version 8, which means nothing to anybody else."""
    token = uuid.UUID(tokens(SECRET, ColumnType(Kind.UUID))(str(value)))

    assert (8, uuid.RFC_4122) == (token.version, token.variant)
    assert token != value


@given(TEXTS)
def test_the_token_of_a_text_is_a_short_word(value: str) -> None:
    """One value, one word; another secret, another one."""
    token = tokens(SECRET, ColumnType(Kind.STRING))(value)

    assert token == tokens(SECRET, ColumnType(Kind.STRING))(value) != tokens(OTHER, ColumnType(Kind.STRING))(value)
    assert len(token) == 32
    assert set(token) <= set("0123456789abcdef")


@given(TEXTS, st.integers(0, 20))
def test_a_text_keeps_as_many_characters_as_are_said(value: str, count: int) -> None:
    """Characters, not bytes: none is cut in two."""
    assert value[:count] == truncated(Mask(how="truncate", to=count), ColumnType(Kind.STRING))(value)


@given(st.dates())
def test_a_date_becomes_the_first_of_its_month_or_year(value: dt.date) -> None:
    """It stays a date."""
    cut = [truncated(mask, ColumnType(Kind.DATE))(value.isoformat()) for mask in (MONTH, YEAR)]

    assert [value.replace(day=1).isoformat(), value.replace(month=1, day=1).isoformat()] == cut


@given(st.datetimes(), st.sampled_from(["", "Z"]))
def test_a_time_becomes_the_first_moment_of_its_month_or_year(value: dt.datetime, zone: str) -> None:
    """In the contract's own form, with its zone or without."""
    kind = ColumnType(Kind.TIMESTAMPTZ if zone else Kind.TIMESTAMP)
    text = value.isoformat(timespec="microseconds") + zone
    start = value.replace(day=1, hour=0, minute=0, second=0, microsecond=0)

    for mask, first in ((MONTH, start), (YEAR, start.replace(month=1))):
        assert first.isoformat(timespec="microseconds") + zone == truncated(mask, kind)(text)


@given(VALUES)
def test_what_is_encrypted_is_given_back_by_its_secret_alone(value: Any) -> None:
    """And is the same each time: a replay writes what was written before."""
    cipher = Cipher(SECRET)
    encrypted = cipher.encrypted(value) or ""
    head, key_id, code = encrypted.split(".")

    assert encrypted == Cipher(SECRET).encrypted(value)
    assert ("hgm1", cipher.id) == (head, key_id)
    assert text_of(value) == cipher.decrypted(code)
    assert Cipher(OTHER).decrypted(code) is None


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(1, 255))
def test_sealed_bytes_open_whole_or_not_at_all(clear: bytes, at: int, change: int) -> None:
    """One bit of them changed, or the end cut off, and nobody opens them; two seals of one thing are not alike."""
    cipher = Cipher(SECRET)
    sealed = cipher.sealed(clear)
    broken = bytearray(sealed)
    broken[at % len(sealed)] ^= change

    assert clear == cipher.opened(sealed)
    assert cipher.opened(bytes(broken)) is None
    assert cipher.opened(sealed[: at % len(sealed)]) is None
    assert sealed != cipher.sealed(clear)


@given(VALUES)
def test_the_text_of_a_value_is_what_the_contract_writes(value: Any) -> None:
    """A text as it is, bytes as base64, all else as JSON."""
    written = msgspec.json.decode(msgspec.json.encode(value))

    assert text_of(value) == (written if isinstance(written, str) else msgspec.json.encode(value).decode())
