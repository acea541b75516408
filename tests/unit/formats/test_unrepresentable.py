"""What a type cannot hold goes to quarantine, or is null and counted where the column's spec says so."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import ConfigurationError
from schemas.table import TableSpec
from tests.unit.formats.made import after, compact, decode, envelope, reasons
from tests.unit.formats.test_values import encoded, values_of

INFINITE_DAY, INFINITE_MILLIS, INFINITE_MICROS = 2_146_033_979, 9_223_372_036_825_200_000, 2**63 - 1
CASES: list[tuple[dict[str, Any], Any]] = [
    ({"type": "date"}, INFINITE_DAY),
    ({"type": "date"}, 2**40),
    ({"type": "date"}, -622_191_234),
    ({"type": "date", "encoding": "time.IsoDate"}, "+5877611-06-21Z"),
    ({"type": "time"}, -1_000),
    ({"type": "time"}, 86_400_000_000),
    ({"type": "time", "encoding": "time.ZonedTime"}, "24:00:00Z"),
    ({"type": "timestamp"}, INFINITE_MICROS),
    ({"type": "timestamp"}, -(2**63)),
    ({"type": "timestamp", "encoding": "time.Timestamp"}, INFINITE_MILLIS),
    ({"type": "timestamp", "encoding": "connect.Timestamp"}, -9_223_372_036_832_400_000),
    ({"type": "timestamp", "encoding": "time.NanoTimestamp"}, INFINITE_MICROS),
    ({"type": "timestamptz", "encoding": "time.NanoTimestamp"}, -(2**63)),
    ({"type": "timestamp", "encoding": "time.IsoTimestamp"}, "+292278994-08-16T23:00:00Z"),
    ({"type": "timestamptz"}, "infinity"),
    ({"type": "timestamptz"}, "-infinity"),
    ({"type": "decimal(8,2)", "encoding": "string"}, "NAN"),
    ({"type": "decimal(8,2)", "encoding": "double"}, "Infinity"),
    ({"type": "decimal(8,2)"}, encoded(10**9)),
    ({"type": "int"}, 2**31),
    ({"type": "long"}, 2**64),
    ({"type": "float"}, 1e39),
]


@pytest.mark.parametrize(("column", "value"), CASES)
def test_what_a_type_cannot_hold_is_null_only_where_the_spec_says_so(column: dict[str, Any], value: Any) -> None:
    """Its neighbours keep their values, and a list loses only the element."""
    lenient = {**column, "unrepresentable": "null"}
    rows = [compact(envelope(after={"id": 1, "v": each})) for each in (None, value, None)]

    assert ([], ["out_of_range"]) == values_of(column, value)
    assert ([None], []) == values_of(lenient, value)
    assert ([[None, None]], []) == values_of({**lenient, "type": f"list<{column['type']}>"}, [None, value])
    assert {"unrepresentable": 1} == decode(*rows, columns={"id": "int", "v": lenient}).noted


def test_many_values_around_one_that_is_null_are_what_they_are() -> None:
    """The column's fast way takes the others."""
    values = [*range(100), 2**31, *range(100)]
    rows = [compact(envelope(after={"id": 1, "v": value, "w": value})) for value in values]
    columns = {"id": "int", "v": {"type": "int", "unrepresentable": None}, "w": "long"}
    decoded = decode(*rows, columns=columns)

    assert [] == reasons(decoded)
    assert [value if value < 2**31 else None for value in values] == [after(decoded, i)["v"] for i in range(201)]
    assert list(map(str, values)) == [after(decoded, i)["w"] for i in range(201)]


@pytest.mark.parametrize(
    ("column", "value"),
    [("date", "2024-02-29"), ("int", 1.5), ("decimal(8,2)", "?!"), ("timestamptz", "yesterday")],
)
def test_a_value_of_another_type_is_refused_all_the_same(column: str, value: Any) -> None:
    """A wrong declaration shows itself; it does not become a column of nulls."""
    lenient = {"type": column, "unrepresentable": "null"}

    assert ([], ["bad_type"]) == values_of(lenient, value)


def test_a_list_with_a_value_of_another_type_is_refused_whatever_else_is_in_it() -> None:
    """An infinity before it does not hide it."""
    lenient = {"type": "list<timestamptz>", "unrepresentable": "null"}

    assert ([], ["bad_type"]) == values_of(lenient, ["infinity", "yesterday", "infinity"])


def test_a_key_is_never_null() -> None:
    """It names the row."""
    document = {
        "table": "t",
        "topics": ["t"],
        "key": ["id"],
        "columns": {"id": {"type": "int", "unrepresentable": None}},
    }
    with pytest.raises(ValueError, match="may not become null"):
        TableSpec.model_validate(document)


def test_a_spec_without_it_is_written_as_an_older_release_reads_it() -> None:
    """Such a release refuses a key that it does not know."""
    document = {"table": "t", "topics": ["t"], "columns": {"a": "int", "b": {"type": "int", "unrepresentable": "null"}}}
    spec = TableSpec.model_validate(document)
    written = spec.model_dump(mode="json")["columns"]

    assert {"type": "int", "encoding": None} == written["a"]
    assert "null" == written["b"]["unrepresentable"]
    assert spec == TableSpec.model_validate_json(spec.model_dump_json())


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("data.Bits", ["0", "101", "100000000"]), ("data.Bits(9)", ["0" * 9, "000000101", "1" + "0" * 8])],
)
def test_bits_are_digits_in_a_string(encoding: str, expected: list[str]) -> None:
    """The first byte has the lowest bits; of zeros the source sends no byte at all."""
    column = {"type": "string", "encoding": encoding}

    assert (expected, []) == values_of(column, "", "BQ==", "AAE=")


def test_labels_of_an_enum_lose_their_escapes_where_the_spec_says_so() -> None:
    """MariaDB's connector 3.5 escapes commas in streamed rows, but not in those of a snapshot."""
    column = {"type": "string", "encoding": "data.EnumEscaped"}

    assert (["b,c", "b,c", "a\\b"], []) == values_of(column, "b\\,c", "b,c", "a\\\\b")


def test_an_array_may_be_kept_as_json() -> None:
    """For what no list of one type holds."""
    column = {"type": "json", "encoding": "array"}

    assert (['[[1,null],["a"]]', None], []) == values_of(column, [[1, None], ["a"]], None)


def test_a_configuration_names_the_encodings_near_an_unknown_one() -> None:
    """As for all others."""
    with pytest.raises(ConfigurationError, match="no encoding"):
        values_of({"type": "date", "encoding": "time.StructuredDat"}, 1)
