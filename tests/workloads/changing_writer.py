"""A seeded writer of rows into tables whose schemas it changes meanwhile."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from tests.workloads.changing_sources import ChangingSource, Key
from tests.workloads.changing_tables import CHANGES, REVISION, TABLES, ChangingTable, Make, SchemaChange

STATEMENTS_MAX = 6  # of a transaction
ROWS_MAX = 4  # of one insert: MariaDB logs them as one event
BEDS_OF_A_WARD = 97


class _Live:
    """A table as it is now: what is written to its columns, and after which change each row was written last."""

    def __init__(self, table: ChangingTable) -> None:
        self.table = table
        self.values: dict[str, Make] = dict(table.values)
        self.written: dict[Key, int] = {}
        self.next = 1
        self.silent = 0  # the last change that gave rows cells of which the log says nothing
        self._keys: list[Key] = []

    def new_key(self) -> Key:
        number, self.next = self.next, self.next + 1
        return (number,) if len(self.table.key) == 1 else (number // BEDS_OF_A_WARD, number)

    def add(self, key: Key, change: int) -> None:
        self._keys.append(key)
        self.written[key] = change

    def any_key(self, chance: random.Random) -> Key:
        return chance.choice(self._keys)

    def remove(self, chance: random.Random) -> Key:
        place = chance.randrange(len(self._keys))
        self._keys[place], self._keys[-1] = self._keys[-1], self._keys[place]
        key = self._keys.pop()
        del self.written[key]
        return key


class Writer:
    """Writes to a source; equal seeds write the same. `rows` and `records` count what is in the log, tombstones too."""

    def __init__(self, source: ChangingSource, seed: int) -> None:
        """Create the tables that are there from the beginning."""
        self.source, self._chance = source, random.Random(f"{seed} {source.name}")
        self.rows = self.records = self.changes = self.touched = 0
        self.live: dict[str, _Live] = {}
        for change in CHANGES:
            if not change.creates and change.table not in self.live:
                self._create(TABLES[change.table])

    def follow(self) -> None:
        """Have the source followed from now on: the rows that are there make one record each, by a snapshot."""
        self.source.follow()
        self.records = sum(len(live.written) for live in self.live.values())

    def flow(self, rows: int) -> Iterator[SchemaChange]:
        """Write `rows` rows in all, and change schemas in between, at even distances; yield each change once made."""
        first = self.rows
        for number, change in enumerate(CHANGES, 1):
            self._write(first + rows * number // (len(CHANGES) + 1))
            self.source.change_schema(change.statements[self.source.name])
            self._take_up(change)
            yield change
        self._write(first + rows)

    def touch_silent(self) -> None:
        """Update the rows of which the log does not say what they are since a schema was changed."""
        for live in self.live.values():
            for key in [key for key, change in live.written.items() if change < live.silent]:
                self._update(live, key, columns=0)
                self.touched += 1
            self.source.commit()

    def write(self, rows: int) -> None:
        """Write so many rows more."""
        self._write(self.rows + rows)

    def _create(self, table: ChangingTable) -> None:
        self.source.change_schema(table.create[self.source.name].split(";"))
        self.live[table.name] = _Live(table)

    def _take_up(self, change: SchemaChange) -> None:
        self.changes += 1
        if change.creates:
            self.live[change.table] = _Live(TABLES[change.table])
        live = self.live[change.table]
        live.values.update({name: make for name, make in change.values.items() if make is not None})
        for name in [name for name, make in change.values.items() if make is None]:
            del live.values[name]
        if change.silent:
            live.silent = self.changes

    def _write(self, until: int) -> None:
        while self.rows < until:
            for _ in range(self._chance.randrange(1, STATEMENTS_MAX + 1)):
                self._statement()
            self.source.commit()

    def _statement(self) -> None:
        live = self._chance.choice(list(self.live.values()))
        kind = self._chance.random()
        if len(live.written) < ROWS_MAX or kind < 0.4:
            self._insert(live, self._chance.randrange(1, ROWS_MAX + 1))
        elif kind < 0.85:
            self._update(live, live.any_key(self._chance), columns=self._chance.randrange(1, 4))
        else:
            self._delete(live, live.remove(self._chance))

    def _insert(self, live: _Live, rows: int) -> None:
        names = [*live.table.key, *live.values, REVISION]
        values: list[Any] = []
        for _ in range(rows):
            key = live.new_key()
            live.add(key, self.changes)
            values += [*key, *(make(self._chance) for make in live.values.values()), 0]
        places = ", ".join([f"({', '.join(['%s'] * len(names))})"] * rows)
        self._run(f"insert into {live.table.name} ({', '.join(names)}) values {places}", values, rows)
        self.records += rows

    def _update(self, live: _Live, key: Key, *, columns: int) -> None:
        names = self._chance.sample(list(live.values), min(columns, len(live.values)))
        assignments = "".join(f"{name} = %s, " for name in names)
        values = [live.values[name](self._chance) for name in names]
        statement = f"update {live.table.name} set {assignments}{REVISION} = {REVISION} + 1 where {_is(live.table)}"
        self._run(statement, [*values, *key], 1)
        live.written[key] = self.changes
        self.records += 1

    def _delete(self, live: _Live, key: Key) -> None:
        self._run(f"delete from {live.table.name} where {_is(live.table)}", key, 1)
        self.records += 2  # the second one is the tombstone

    def _run(self, statement: str, values: Any, rows: int) -> None:
        changed = self.source.run(statement, values)
        assert rows == changed, f"{changed} rows changed, not {rows}: {statement}"
        self.rows += rows


def _is(table: ChangingTable) -> str:
    return " and ".join(f"{name} = %s" for name in table.key)
