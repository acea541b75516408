"""Source databases read directly: every type as the contract has it, all rows once, nothing written, nothing told."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from connectors.sources.base import KeyRange, SourceTable
from connectors.sources.opening import open_source
from schemas.errors import ConfigurationError, SourceUnavailable
from schemas.types import parse_type
from streams.verify.typed import typed
from tests.services import MariaDB, Postgres

UTC = dt.UTC
COLUMNS = {
    "place": "string",
    "number": "long",
    "flag": "boolean",
    "whole": "int",
    "single": "float",
    "real": "double",
    "money": "decimal(12,2)",
    "day": "date",
    "clock": "time",
    "local": "timestamp",
    "moment": "timestamptz",
    "text": "string",
    "document": "json",
    "bytes": "binary",
}
VALUES: dict[str, Any] = {
    "flag": True,
    "whole": -(2**31),
    "single": 0.10000000149011612,
    "real": 1e-300,
    "money": Decimal("-1234567890.10"),
    "day": dt.date(2024, 2, 29),
    "clock": dt.time(23, 59, 59, 999999),
    "local": dt.datetime(2024, 2, 29, 1, 2, 3, 4),  # noqa: DTZ001 - a time without zone
    "moment": dt.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=UTC),
    "text": "100% “ünïcödé” 'quoted' \\ 😀",
    "document": '{"a":[1,null],"b":"x"}',
    "bytes": b"\x00\xff" * 100,
}
POSTGRES_TABLE = """
CREATE TABLE {name} (place text, number bigint, flag boolean, whole int, single real, "real" float8,
    money numeric(12,2), day date, clock time, local timestamp, moment timestamptz, text text, document jsonb,
    bytes bytea, PRIMARY KEY (place, number))"""
MARIADB_TABLE = """
CREATE TABLE {name} (place varchar(40), number bigint, flag tinyint(1), whole int, single float, `real` double,
    money decimal(12,2), day date, clock time(6), local datetime(6), moment timestamp(6) NULL, text text,
    document json, bytes blob, PRIMARY KEY (place, number))"""
KEYS = [(place, number) for place in ("a", "B", "ö", "z%", "") for number in (-1, 0, 2, 10)]


@contextmanager
def opened(dsn: str, name: tuple[str, str], bounds: KeyRange | None = None) -> Iterator[SourceTable]:
    """Open the table of this test."""
    types = {column: parse_type(text) for column, text in COLUMNS.items()}
    table = open_source(dsn, name, ["place", "number"], types, bounds or KeyRange())
    try:
        yield table
    finally:
        table.session.close()


def fill(connection: Any, name: str, create: str, quote: str) -> None:
    """Make the table: one row with values, the others with nulls."""
    columns = [f"{quote}{column}{quote}" for column in COLUMNS]
    cursor = connection.cursor()
    cursor.execute(create.format(name=name))
    row = f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"
    for number, key in enumerate(KEYS):
        values = list(VALUES.values()) if number == 0 else [None] * len(VALUES)
        cursor.execute(row, [*key, *values])


@pytest.fixture
def on_postgres(postgres: Postgres) -> Iterator[tuple[str, tuple[str, str]]]:
    """A table in PostgreSQL: its address, and its name."""
    name = f"t_{uuid.uuid4().hex[:8]}"
    with postgres.connect() as connection:
        fill(connection, name, POSTGRES_TABLE, '"')
        yield postgres.address, ("public", name)
        connection.execute(f"DROP TABLE {name}")


@pytest.fixture
def on_mariadb(mariadb: MariaDB) -> Iterator[tuple[str, tuple[str, str]]]:
    """A table in MariaDB, whose sessions are in another zone than UTC unless told otherwise."""
    name = f"t_{uuid.uuid4().hex[:8]}"
    connection = mariadb.connect()
    cursor = connection.cursor()
    cursor.execute("SET time_zone = '+00:00'")
    fill(connection, name, MARIADB_TABLE, "`")
    cursor.execute("SET GLOBAL time_zone = '+05:00'")
    yield mariadb.address, (mariadb.database, name)
    cursor.execute("SET GLOBAL time_zone = 'SYSTEM'")
    cursor.execute(f"DROP TABLE {name}")
    connection.close()


@pytest.fixture(params=["on_postgres", "on_mariadb"])
def source(request: pytest.FixtureRequest) -> tuple[str, tuple[str, str]]:
    """Each database."""
    found: tuple[str, tuple[str, str]] = request.getfixturevalue(request.param)
    return found


def test_rows_come_once_whatever_the_order_of_texts_and_values_are_the_contracts(
    source: tuple[str, tuple[str, str]],
) -> None:
    """By chunks of every size; with ranges; by key."""
    with opened(*source) as table:
        assert table.count() == len(KEYS)
        assert table.session.moment()
        assert "" == table.session.leaves_open()
        for limit in (1, 3, 100):
            after: list[str] | None = None
            seen: list[tuple[str, str]] = []
            while (rows := table.rows_after(after, limit)).num_rows:
                keys = list(zip(rows["place"].to_pylist(), rows["number"].to_pylist(), strict=True))
                after, seen = list(keys[-1]), [*seen, *keys]
            assert sorted(seen) == sorted((place, str(number)) for place, number in KEYS)
        found, unreadable = typed(table.rows_of([["a", "-1"], ["z%", "10"], ["nobody", "1"]]), table.columns)
        rows = {row["place"]: row for row in found.to_pylist()}
        assert unreadable == {}
        assert rows["a"] == {"place": "a", "number": -1, **VALUES}
        assert rows["z%"] == {"place": "z%", "number": 10, **dict.fromkeys(VALUES)}
    with opened(*source, KeyRange("z%", "z%")) as table:
        assert table.count() == table.rows_after(None, 100).num_rows == 4


def test_nothing_can_be_written(source: tuple[str, tuple[str, str]]) -> None:
    """The session itself is read-only."""
    with opened(*source) as table, pytest.raises((ConfigurationError, SourceUnavailable), match=r"(?i)read.only"):
        table.session.run(f"DELETE FROM {table.name}")


def test_a_wrong_password_is_said_and_not_repeated(source: tuple[str, tuple[str, str]]) -> None:
    """The hint says where passwords come from."""
    dsn = source[0].replace(":headgate@", ":hunter2@")
    with pytest.raises(SourceUnavailable) as refused, opened(dsn, source[1]):
        pass
    assert "hunter2" not in str(refused.value)
    assert "PGPASSWORD" in refused.value.hint or "MYSQL_PWD" in refused.value.hint


def test_a_table_that_is_not_there_is_said(source: tuple[str, tuple[str, str]]) -> None:
    """With the way to name the right one."""
    with pytest.raises(ConfigurationError, match="no table") as refused, opened(source[0], (source[1][0], "nothing")):
        pass
    assert "--source-table" in refused.value.hint
