"""Texts of the lake's values are those that the contract has."""

from __future__ import annotations

import struct

import duckdb
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.types import parse_type
from sinks.lake.forms import text_sql

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.builds(
    lambda digits, exponent: float(f"{digits}e{exponent}"), st.integers(-(10**17), 10**17), st.integers(-30, 10)
)


@settings(deadline=None, max_examples=20)
@given(st.lists(NUMBERS, min_size=200, max_size=400))
def test_a_float_has_the_text_of_its_json(numbers: list[float]) -> None:
    """Whatever its size; `msgspec` writes the contract."""
    with duckdb.connect() as connection:
        sql = f"SELECT {text_sql('x', parse_type('double'))} FROM (SELECT unnest(?::DOUBLE[]) AS x)"
        found = [text for (text,) in connection.execute(sql, [numbers]).fetchall()]

    assert [msgspec.json.encode(number).decode() for number in numbers] == found


def test_a_float_of_32_bits_shows_no_digits_that_nobody_wrote() -> None:
    """0.1 is 0.100000001490116 as a double."""
    (tenth,) = struct.unpack("f", struct.pack("f", 0.1))
    with duckdb.connect() as connection:
        sql = f"SELECT {text_sql('x', parse_type('float'))} FROM (SELECT ?::FLOAT AS x)"

        assert [("0.1",)] == connection.execute(sql, [tenth]).fetchall()
