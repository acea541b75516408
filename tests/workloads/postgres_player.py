"""Plays a model's steps on a real PostgreSQL, over one connection for each of the model's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg import sql

from tests.oracles import Shape
from tests.oracles.values import from_python
from tests.services import Postgres
from tests.workloads.ledger_of_changes import LedgerOfChanges
from tests.workloads.model import CONNECTIONS, HELD, KEYS, Begin, End, Key, Row, RowChange, Step

SCHEMA = """
create table patients (
    id bigint primary key, ward int not null, name text not null, email text, balance numeric(12,2) not null, born date,
    active boolean, score double precision, visits int, insured bigint, seen timestamptz, wakes time);
create table notes (
    id int primary key, title text, revision int not null, body text, scan bytea, tags text[], written timestamp);
-- Out of line as soon as a row is above 2 kB, and not compressed, so that sizes are as the model says.
alter table notes alter column body set storage external, alter column scan set storage external;
create table readings (
    meter int, seq bigint, value numeric(10,3), unit text, taken timestamptz, primary key (meter, seq));
"""


class PostgresPlayer:
    """Runs steps in their order; `ledger` holds what was committed."""

    def __init__(self, postgres: Postgres, database: str) -> None:
        """Create the tables in `database` and open the connections."""
        self._postgres, self._database = postgres, database
        with postgres.connect(database) as connection:
            connection.execute(SCHEMA)
        self._connections: dict[str, psycopg.Connection[Any]] = {
            name: psycopg.connect(postgres.url(database), autocommit=True) for name in (*CONNECTIONS, HELD)
        }
        self.ledger = LedgerOfChanges()

    def play(self, steps: Iterable[Step]) -> None:
        """Run `steps`; returns when all are done."""
        for step in steps:
            self.do(step)

    def do(self, step: Step) -> int:
        """Run one step; return how many changes it committed."""
        connection = self._connections[step.connection]
        match step:
            case Begin():
                connection.execute("begin")
            case RowChange():
                statement, values = statement_of(step)
                changed = connection.execute(statement, values, prepare=True).rowcount
                assert changed == 1, (
                    f"{changed} rows changed by one statement on {step.table}: the model is not the database"
                )
            case End():
                connection.execute("commit" if step.commit else "rollback")
        return sum(change.changes for change in self.ledger.follow(step))

    def rows(self, shape: Shape) -> dict[Key, Row]:
        """Read a table from the database: canonical rows by key."""
        columns = sql.SQL(", ").join(map(sql.Identifier, shape.columns))
        with self._postgres.connect(self._database) as connection:
            found = connection.execute(
                sql.SQL("select {} from {}").format(columns, sql.Identifier(shape.table))
            ).fetchall()
        rows = [
            {
                name: from_python(type_text, value)
                for (name, type_text), value in zip(shape.columns.items(), row, strict=True)
            }
            for row in found
        ]
        return {shape.key_of(row): row for row in rows}

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections.values():
            connection.close()


def statement_of(change: RowChange) -> tuple[sql.Composed, list[Any]]:
    """Return the SQL of one change and its parameters."""
    table = sql.Identifier(change.table)
    if change.before is None:
        assert change.after is not None, "a change has a row before or after"
        names = sql.SQL(", ").join(map(sql.Identifier, change.after))
        places = sql.SQL(", ").join([sql.Placeholder()] * len(change.after))
        return sql.SQL("insert into {} ({}) values ({})").format(table, names, places), _parameters(
            change.after.values()
        )
    key = KEYS[change.table]
    where = sql.SQL(" and ").join(sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder()) for name in key)
    key_values = [change.before[name] for name in key]
    if change.after is None:
        return sql.SQL("delete from {} where {}").format(table, where), key_values
    touched = sorted(change.touched)
    assignments = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder()) for name in touched
    )
    values = _parameters(change.after[name] for name in touched)
    return sql.SQL("update {} set {} where {}").format(table, assignments, where), [*values, *key_values]


def _parameters(values: Iterable[Any]) -> list[Any]:
    return [list(value) if isinstance(value, tuple) else value for value in values]
