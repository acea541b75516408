"""The encoding `plain`: what is quick for a column of ordinary values is what each of them is alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from connectors.formats.encodings import ENCODINGS, form_of
from connectors.formats.forms import Conversion
from connectors.formats.plain import dates, decimal_maker, float_maker, ints, longs
from schemas.types import parse_type

ODD = [
    "1", "-1", "-0", "-0.00", "0.0004", "123456789012345678.5", ".5", "5.", '".5"', '"5."', '"-"',
    "0", '"0"', '"1"', '"-1"', '"007"', '"+1"', '" 1"', '"1 "', '"1,2"', '""', '"null"', '"true"', "true",
    '"1e2"', "1e2",
    '"1.5"', "1.5", '"NaN"', '"[1"', '"2]"', '"\\u0031"', '"1\\n"', "null", '"9007199254740993"', "9223372036854775808",
    '"1.234567890123456789E+18"', "[1]", "{}", '"٣"', '"2024-02-29"', '"2023-02-29"', '"0000-00-00"', '"0001-01-01"',
    '"12024-01-01"', '"2024-2-9"', '"2024-02-29Z"', '"2024-02-29T00:00:00"',
]  # fmt: skip


@pytest.mark.parametrize("type_", ["boolean", "int", "long", "double", "float", "decimal(20,3)", "date"])
@pytest.mark.parametrize("other", [None, "1", '"1"', '"2024-02-29"'])
def test_a_value_is_the_same_alone_and_beside_others(type_: str, other: str | None) -> None:
    """Whatever the column's shortcut makes of texts, numbers and what is neither."""
    conversion = form_of(parse_type(type_), "plain").conversion
    assert conversion is not None
    for odd in ODD:
        raws: list[Any] = [msgspec.Raw(text.encode()) for text in ([odd] if other is None else [other, odd, other])]
        alone, refused = Conversion(conversion.each).apply(raws)
        together, faults = conversion.apply(raws)

        assert (alone, refused.keys()) == (together, faults.keys()), odd


def test_numbers_written_as_texts_are_quick() -> None:
    """A column of them is one call, as numbers are."""
    raws: list[Any] = [msgspec.Raw(b'"12"'), msgspec.Raw(b"3")]

    assert ints(raws) == [12, 3]
    assert longs(raws) == ["12", "3"]
    assert float_maker(single=False)[1](raws) == [12.0, 3.0]
    assert decimal_maker(10, 7)[1](raws) == ["12.0000000", "3.0000000"]
    assert dates([msgspec.Raw(b'"2024-02-29"')]) == ["2024-02-29"]
    assert "plain" in ENCODINGS
