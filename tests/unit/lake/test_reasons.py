"""What is said of a write that the lake did not take."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy

from sinks.lake.reasons import not_taken


def test_a_full_disk_is_said_by_its_name_with_what_to_do() -> None:
    """Of the files; what a library wrote behind the number is left out."""
    error = not_taken("orders", OSError(errno.ENOSPC, "value of a row"))

    assert "the lake did not take table orders: OSError: No space left on device" == error.message
    assert "make room" in error.hint


def test_a_catalogue_that_cannot_grow_is_a_full_disk(tmp_path: Path) -> None:
    """SQLite has a number of its own for it; its statement and values are not told."""
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/catalog.db")
    insert = sqlalchemy.text("INSERT INTO t VALUES (:secret)")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("PRAGMA max_page_count = 2"))
        connection.execute(sqlalchemy.text("CREATE TABLE t (text)"))
        with pytest.raises(sqlalchemy.exc.OperationalError) as caught:
            connection.execute(insert, {"secret": "s3cret" * 10_000})
    engine.dispose()

    error = not_taken("orders", caught.value)

    assert "No space left on device" in error.message
    assert "s3cret" not in f"{error.message}{error.hint}"


@pytest.mark.parametrize("cause", [ValueError("a value"), sqlite3.OperationalError("a value"), OSError("a value")])
def test_any_other_error_is_told_by_its_kind_alone(cause: Exception) -> None:
    """It may hold anything."""
    error = not_taken("orders", cause)

    assert f"the lake did not take table orders: {type(cause).__name__}" == error.message
    assert "headgate check" in error.hint
