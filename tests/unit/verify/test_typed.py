"""Texts of a source and of Redis become the same values, however they are spelled."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from schemas.types import parse_type
from streams.verify.typed import spelled, typed

UTC = dt.UTC


@pytest.mark.parametrize(
    ("type_", "texts", "value"),
    [
        ("boolean", ["true"], True),
        ("int", ["-5"], -5),
        ("long", ["9223372036854775807"], 9223372036854775807),
        ("float", ["0.1", "0.10000000149011612"], pa.scalar(0.1, pa.float32()).as_py()),
        ("double", ["1e3", "1000", "1000.0"], 1000.0),
        ("double", ["Infinity"], float("inf")),
        ("decimal(12,2)", ["1.5", "1.50"], Decimal("1.50")),
        ("date", ["2024-02-29"], dt.date(2024, 2, 29)),
        ("time", ["13:45:06.789123"], dt.time(13, 45, 6, 789123)),
        (
            "timestamp",
            ["2024-02-29 13:45:06.5", "2024-02-29T13:45:06.500000"],
            dt.datetime(2024, 2, 29, 13, 45, 6, 500000),  # noqa: DTZ001 - without a zone is what is tested
        ),
        (
            "timestamptz",
            ["2024-02-29 13:45:06+00", "2024-02-29T13:45:06.000000Z", "2024-02-29 13:45:06Z"],
            dt.datetime(2024, 2, 29, 13, 45, 6, tzinfo=UTC),
        ),
        ("string", ["ä"], "ä"),
        ("json", ['{"b": 1, "a": [null]}', '{"a":[null],"b":1}'], '{"a":[null],"b":1}'),
        ("uuid", ["6F9619FF-8B86-D011-B42D-00C04FC964FF"], "6f9619ff-8b86-d011-b42d-00c04fc964ff"),
        ("binary", ["AAEC"], b"\x00\x01\x02"),
        ("list<long>", ["[1,null]", '["1", null]'], '["1",null]'),
    ],
)
def test_all_spellings_of_a_value_are_one(type_: str, texts: list[str], value: Any) -> None:
    """Also beside a null, and with nothing counted as unreadable."""
    column = parse_type(type_)
    found, unreadable = typed(pa.table({"c": pa.array([*texts, None], pa.string())}), {"c": column})
    assert found["c"].to_pylist() == [value] * len(texts) + [None]
    assert unreadable == {}


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        ("timestamptz", "infinity"),
        ("date", "0044-03-15 BC"),
        ("decimal(4,2)", "NaN"),
        ("decimal(4,2)", "123456.78"),
        ("int", "2147483648"),
        ("time", "24:00:00"),
        ("binary", "no base64!"),
    ],
)
def test_a_value_beyond_the_type_is_counted_and_hurts_no_neighbour(type_: str, text: str) -> None:
    """It becomes null."""
    good = {"timestamptz": "2024-02-29 13:45:06+00", "date": "2024-02-29", "time": "13:45:06", "int": "1"}
    neighbour = good.get(type_, "1.00" if type_.startswith("decimal") else "AAEC")
    found, unreadable = typed(pa.table({"c": [neighbour, text]}), {"c": parse_type(type_)})
    assert [value is None for value in found["c"].to_pylist()] == [False, True]
    assert unreadable == {"c": 1}


def test_the_lakes_own_types_are_spelled_like_texts() -> None:
    """Lists and JSON as text in one spelling; the others as they are."""
    columns = {"l": parse_type("list<int>"), "j": parse_type("json"), "n": parse_type("int")}
    lake = pa.table({"l": [[1, None], None], "j": ['{"b":1, "a":2}', None], "n": pa.array([1, None], pa.int32())})
    texts = pa.table({"l": ["[1, null]", None], "j": ['{"a":2,"b":1}', None], "n": ["1", None]})
    assert spelled(lake, columns).equals(typed(texts, columns)[0])
