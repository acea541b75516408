"""Two sides of rows: what differs, and checksums that say the same."""

import duckdb
import pyarrow as pa
import pytest

from streams.verify.compare import UNAVAILABLE, Differing, compare


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    """DuckDB in memory."""
    return duckdb.connect()


def place(rows: dict[str, list[object]], lacking: list[list[str]] | None = None) -> pa.Table:
    """Return a side with the columns that each row has not."""
    count = len(next(iter(rows.values())))
    return pa.table({**rows, UNAVAILABLE: pa.array(lacking or [[]] * count, pa.list_(pa.string()))})


def test_each_kind_of_difference_is_named(connection: duckdb.DuckDBPyConnection) -> None:
    """Missing, extra, and other values with their columns; a null equals a null."""
    source = pa.table({"id": [1, 2, 3], "a": ["x", None, "z"], "b": [1.0, 2.0, float("nan")]})
    theirs = place({"id": [2, 3, 4], "a": ["y", "z", "q"], "b": [2.5, float("nan"), 0.0]})
    found = compare(connection, source, theirs, ["id"], ["id", "a", "b"])
    assert sorted(found.differing, key=lambda each: each.key) == [
        Differing((1,), "missing"),
        Differing((2,), "values", ("a", "b")),
        Differing((4,), "extra"),
    ]
    assert found.source_checksum != found.checksum
    assert found.rows == 3


def test_equal_rows_have_equal_checksums_in_any_order(connection: duckdb.DuckDBPyConnection) -> None:
    """Also a name with a quote in it."""
    source = pa.table({'i"d': [1, 2], "a'b": ["x", None]})
    found = compare(connection, source, place({'i"d': [2, 1], "a'b": [None, "x"]}), ['i"d'], ['i"d', "a'b"])
    assert found.differing == []
    assert found.source_checksum == found.checksum != 0


def test_a_value_that_a_place_has_not_is_counted_and_not_compared(connection: duckdb.DuckDBPyConnection) -> None:
    """It counts as the source's in the checksum."""
    source = pa.table({"id": [1], "a": ["long"], "b": [1]})
    found = compare(
        connection,
        source,
        place({"id": [1], "a": pa.array([None], pa.string()), "b": [1]}, [["a"]]),
        ["id"],
        ["id", "a", "b"],
    )
    assert (found.differing, found.unavailable) == ([], 1)
    assert found.source_checksum == found.checksum


def test_a_row_moved_to_another_key_does_not_cancel_out(connection: duckdb.DuckDBPyConnection) -> None:
    """Values swapped between two rows differ in the checksum."""
    source = pa.table({"id": [1, 2], "a": ["x", "y"]})
    found = compare(connection, source, place({"id": [1, 2], "a": ["y", "x"]}), ["id"], ["id", "a"])
    assert len(found.differing) == 2
    assert found.source_checksum != found.checksum
