"""Values at the edges of their types: each has the contract's form, or goes to quarantine with the reason."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.unit.formats.made import after, compact, decode, envelope, reasons


def values_of(column: Any, *values: Any) -> tuple[list[Any], list[str]]:
    """Return what becomes of values of one column, and why others are refused."""
    rows = [compact(envelope(after={"id": 1, "v": value})) for value in values]
    decoded = decode(*rows, columns={"id": "int", "v": column})
    return [after(decoded, place)["v"] for place in range(len(decoded.batch))], reasons(decoded)


def encoded(number: int) -> str:
    """Return an unscaled number as Kafka Connect's JSON has it."""
    return base64.b64encode(number.to_bytes(9, "big", signed=True)).decode()


def test_the_last_day_of_postgresql_is_a_day() -> None:
    """Some mean forever by it; the next one, and infinity, have no form."""
    last = 2_145_042_905  # pg-types-time-extreme-adaptive, 5874897-12-31

    assert (["+5874897-12-31"], ["out_of_range"] * 2) == values_of("date", last, last + 1, 2_146_033_979)


@pytest.mark.parametrize("column", [{"type": "long", "encoding": "connect.Decimal"}, "long"])
def test_a_long_has_64_bits_however_it_is_sent(column: Any) -> None:
    """MySQL's unsigned integers may have more, and come as unscaled bytes where the connector is precise."""
    numbers = [2**63 - 1, 2**63, -(2**63), 10**19 - 1, -(2**63) - 1]
    sent = numbers if column == "long" else list(map(encoded, numbers))

    assert (["9223372036854775807", "-9223372036854775808"], ["out_of_range"] * 3) == values_of(column, *sent)


@pytest.mark.parametrize(
    ("column", "zero"),
    [
        ("decimal(8,2)", "0.00"),
        ("decimal(8,7)", "0.0000000"),
        ({"type": "long", "encoding": "connect.Decimal"}, "0"),
        ({"type": "string", "encoding": "connect.Decimal(2)"}, "0.00"),
    ],
)
def test_no_bytes_are_no_decimal(column: Any, zero: str) -> None:
    """Not 0: Kafka Connect reads no number from them."""
    assert ([zero], ["bad_type"]) == values_of(column, "AA==", "")


@pytest.mark.parametrize("type_", ["decimal(8,2)", "string"])
def test_no_bytes_are_no_decimal_of_its_own_scale(type_: str) -> None:
    """As above."""
    values = [{"scale": 2, "value": text} for text in ("AA==", "")]
    column = {"type": type_, "encoding": "data.VariableScaleDecimal"}

    assert (["0.00"], ["bad_type"]) == values_of(column, *values)


def test_a_float_has_32_bits() -> None:
    """Beyond them the lake would show infinity; the column is a double."""
    highest = 3.4028234663852886e38
    good: list[Any] = [highest, -highest, 1e-300, 5, "NaN", "-Infinity"]

    assert (good, ["out_of_range"] * 2) == values_of("float", *good, 3.4028236e38, -1e39)
    assert ([[None, 1.5]], ["out_of_range"]) == values_of("list<float>", [None, 1.5], [None, 1e39])


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-29T13Z",
        "2024-02-29T13+01:00",
        "2024-02-29T13:45:06+24:00",
        "2024-02-29T13:45:06+05:60",
        "2024-02-29T13:45:06-99",
    ],
)
def test_a_text_that_is_no_moment_is_refused_alone_and_among_others(text: str) -> None:
    """An hour alone, and offsets of more than a day or an hour."""
    good, odd_year = "2024-02-29T13:45:06Z", "-0043-03-15T00:00:00Z"

    assert ([], ["bad_type"]) == values_of("timestamptz", text)
    assert (["2024-02-29T13:45:06.000000Z"], ["bad_type"]) == values_of("timestamptz", good, text)
    assert ["bad_type"] == values_of("timestamptz", odd_year, text)[1]


@pytest.mark.parametrize("text", ["12_34", " 5", "5\n", "\u0663", "1e_1"])
def test_a_text_that_python_alone_takes_for_a_number_is_none(text: str) -> None:
    """A column of codes that was declared a decimal shows itself; 12_34 does not become 1234."""
    assert (["100.00"], ["bad_type"]) == values_of({"type": "decimal(8,2)", "encoding": "string"}, "1E+2", text)


@pytest.mark.parametrize("first", ["_", "+", "\u0663"])
def test_a_text_that_python_alone_takes_for_a_uuid_is_none(first: str) -> None:
    """As above."""
    known = "b68a35a7-17ad-35b3-af2a-ae46edb4545a"
    good = [known, known.upper(), "{" + known + "}"]

    assert ([known] * 3, ["bad_type"]) == values_of("uuid", *good, known[0] + first + known[2:])
