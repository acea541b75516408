"""Values of the contract as Python's own types."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from headgate.client.values import DoesNotFit, RowReader
from schemas.types import parse_type
from tests.unit.contract_reader.columns import TYPES
from tests.unit.contracts.made import ROW

EXPECTED = {
    "c_boolean": True,
    "c_int": -5,
    "c_long": 2**63 - 1,
    "c_float": -math.inf,
    "c_double": 1.25,
    "c_decimal": Decimal("-1234567890.12"),
    "c_date": dt.date(2024, 2, 29),
    "c_time": dt.time(13, 45, 6, 789123),
    "c_timestamp": dt.datetime(2024, 2, 29, 13, 45, 6, 789123),  # noqa: DTZ001  zoneless on purpose
    "c_timestamptz": dt.datetime(2024, 2, 29, 13, 45, 6, 789123, tzinfo=dt.UTC),
    "c_string": 'quote " and emoji 🚑',
    "c_json": '{"a":[1,null]}',
    "c_uuid": UUID("b68a35a7-17ad-35b3-af2a-ae46edb4545a"),
    "c_binary": b"\x00\xff\xfe",
    "c_list": [1, None, -3],
    "c_lists": [[Decimal("1.5")], None, []],
}


def reader(columns: dict[str, str] | None = None) -> RowReader:
    """Return the reader of a table with these columns."""
    return RowReader({name: parse_type(text) for name, text in (columns or TYPES).items()})


def test_every_type_has_its_type_in_python() -> None:
    """None of them is a text but what is one."""
    row = reader().read(ROW)

    assert EXPECTED == row
    assert {name: type(value) for name, value in EXPECTED.items()} == {n: type(v) for n, v in (row or {}).items()}


def test_null_stays_null_and_absent_stays_absent() -> None:
    """In the order of the row's fields."""
    read = reader().read({"c_string": None, "c_int": 1})

    assert ["c_string", "c_int"] == list(read or {})
    assert {"c_string": None, "c_int": 1} == read
    assert reader().read(None) is None


def test_a_column_that_the_contract_does_not_know_keeps_its_form() -> None:
    """The table got it later: it must not be dropped without a trace."""
    assert {"later": "5", "more": [1]} == reader().read({"later": "5", "more": [1]})


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("long", 5, 5),
        ("int", "5000000000", 5_000_000_000),
        ("double", 1, 1.0),
        ("decimal(4,2)", "12345678.90", Decimal("12345678.90")),
        ("list<long>", [5], [5]),
    ],
)
def test_older_and_wider_forms_are_read(type_: str, value: Any, expected: Any) -> None:
    """A column that became wider, before and after the contract was taken."""
    assert {"a": expected} == reader({"a": type_}).read({"a": value})


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("date", "-0043-03-15"),
        ("date", "+10000-01-01"),
        ("date", "0000-01-01"),
        ("timestamp", "+10000-01-01T00:00:00.000000"),
        ("timestamptz", "-0001-01-01T00:00:00.000000Z"),
    ],
)
def test_years_that_python_does_not_have_stay_text(type_: str, value: str) -> None:
    """Rather than be wrong or refused."""
    assert {"a": value} == reader({"a": type_}).read({"a": value})


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("boolean", 1),
        ("int", True),
        ("int", 1.5),
        ("long", "1" * 5_000),
        ("long", "x"),
        ("float", "nan"),
        ("float", True),
        ("decimal(4,2)", 1.5),
        ("decimal(4,2)", "NaN"),
        ("decimal(4,2)", "1" * 100),
        ("date", "2024-02-30"),
        ("date", "20240229"),
        ("time", "13"),
        ("time", "13:45:06+01:00"),
        ("timestamp", "2024-02-29T13:45:06Z"),
        ("timestamp", "2024-02-29"),
        ("timestamptz", 5),
        ("string", 5),
        ("json", {}),
        ("uuid", "x"),
        ("binary", "AP/"),
        ("binary", "AP/+ü"),
        ("list<int>", "1"),
        ("list<int>", ["x"]),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_its_column(type_: str, value: Any) -> None:
    """By its name and type; the value itself is in no message."""
    with pytest.raises(DoesNotFit) as caught:
        reader({"a": type_}).read({"a": value})

    assert f"column a does not fit {type_}" == str(caught.value)


def test_what_is_no_row_is_refused() -> None:
    """Somebody else writes there."""
    with pytest.raises(DoesNotFit):
        reader().read([1])
