"""A seeded history of three tables, as steps of several connections that never wait for each other's locks.

`patients`: default identity; inserts, updates, deletes, changes, chains and swaps of keys.
`notes`: text and bytes large enough to lie out of line; most updates do not touch them; keys do not change.
`readings`: a composite key; many of its changes come from a transaction held open over many others.

The model knows every row after every commit, so that what a player (PostgreSQL, or the simulated source) did can be
told without asking it. Equal seeds give equal steps.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

Row = dict[str, Any]
Key = tuple[Any, ...]

KEYS: dict[str, tuple[str, ...]] = {"patients": ("id",), "notes": ("id",), "readings": ("meter", "seq")}
OUT_OF_LINE: dict[str, frozenset[str]] = {
    "patients": frozenset(),
    "notes": frozenset({"body", "scan"}),
    "readings": frozenset(),
}

HELD = "held"  # the connection whose transaction stays open over many others
CONNECTIONS = ("first", "second")
HELD_OVER_STEPS = 120
WARDS = 30
METERS = 40
_NAMES = ["Ada", "Grace", "Edsger", "Barbara", "Donald", "Tony", "Leslie", "Frances", "Radia", "Ken"]
_WORDS = [*_NAMES, "Müller", "山田", "O'Hara", "Zoë", "😀", "tab\there", 'quote"', "back\\slash"]
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Begin:
    """A connection begins a transaction."""

    connection: str


@dataclass(frozen=True, slots=True)
class End:
    """A connection commits, or rolls back."""

    connection: str
    commit: bool


@dataclass(frozen=True, slots=True)
class RowChange:
    """One statement on one row: `before` None is an insert, `after` None a delete; a new key is in `after`."""

    connection: str
    table: str
    before: Row | None
    after: Row | None
    touched: frozenset[str]

    @property
    def key_before(self) -> Key | None:
        """The key that the row had."""
        return None if self.before is None else key_of(self.table, self.before)

    @property
    def key_after(self) -> Key | None:
        """The key that the row has now."""
        return None if self.after is None else key_of(self.table, self.after)

    @property
    def changes(self) -> int:
        """How many changes the contract makes of it."""
        return 2 if None not in (self.key_before, self.key_after) and self.key_before != self.key_after else 1


Step = Begin | End | RowChange


def key_of(table: str, row: Row) -> Key:
    """Return the key of a row."""
    return tuple(row[column] for column in KEYS[table])


@dataclass(slots=True)
class _Transaction:
    """What a connection has done and not committed: `rows` maps table and key to the row, None where it is gone."""

    rows: dict[tuple[str, Key], Row | None] = field(default_factory=dict)
    due: int = 1


class Model:
    """Makes steps; `rows` are the committed rows, by table and key."""

    def __init__(
        self, seed: int, *, tables: tuple[str, ...] = ("patients", "notes", "readings"), out_of_line_bytes: int = 4_000
    ) -> None:
        """Begin empty; `out_of_line_bytes` is about how large a text is that lies out of line."""
        self._random = random.Random(seed)
        self._tables = tables
        self._out_of_line_bytes = out_of_line_bytes
        self.rows: dict[str, dict[Key, Row]] = {table: {} for table in KEYS}
        self._keys: dict[str, list[Key]] = {table: [] for table in KEYS}  # a superset of the live ones, to draw from
        self._open: dict[str, _Transaction] = {}
        self._next_id = dict.fromkeys(KEYS, 0)
        self._clock = 0
        self._steps_held = 0

    def initial(self, rows_per_table: int) -> Iterator[Step]:
        """Yield inserts, for what is there before anybody looks."""
        yield Begin("first")
        self._open["first"] = _Transaction()
        for table in self._tables:
            for _ in range(rows_per_table):
                yield self._insert("first", table)
        yield self._end("first", commit=True)

    def steps(self, changes: int) -> Iterator[Step]:
        """Yield steps until at least `changes` changes were committed, and every transaction has ended."""
        committed = 0
        made: dict[str, int] = {}
        while committed < changes:
            for step in self._round():
                if isinstance(step, RowChange):
                    made[step.connection] = made.get(step.connection, 0) + step.changes
                if isinstance(step, End):
                    committed += made.pop(step.connection, 0) if step.commit else 0
                    made.pop(step.connection, None)
                yield step
        for connection in list(self._open):
            yield self._end(connection, commit=True)

    # ── one statement of one connection, with what it needs around it ──

    def _round(self) -> Iterator[Step]:
        yield from self._hold()
        connection = self._random.choice(CONNECTIONS)
        if connection not in self._open:
            self._open[connection] = _Transaction(due=min(1 + int(self._random.expovariate(0.3)), 30))
            yield Begin(connection)
        transaction = self._open[connection]
        yield from self._statement(connection, self._random.choice(self._tables))
        transaction.due -= 1
        if transaction.due <= 0:
            yield self._end(connection, commit=self._random.random() > 0.08)

    def _hold(self) -> Iterator[Step]:
        """Keep one transaction open over many others; now and then it changes something itself."""
        if HELD not in self._open:
            self._open[HELD] = _Transaction()
            self._steps_held = 0
            yield Begin(HELD)
        self._steps_held += 1
        if self._random.random() < 0.15:
            table = (
                "readings"
                if "readings" in self._tables and self._random.random() < 0.8
                else self._random.choice(self._tables)
            )
            yield from self._statement(HELD, table)
        if self._steps_held >= HELD_OVER_STEPS:
            yield self._end(HELD, commit=self._random.random() > 0.1)

    def _statement(self, connection: str, table: str) -> Iterator[Step]:
        chance = self._random.random()
        key = self._free_key(connection, table)
        if key is None or chance < 0.30:
            yield self._insert(connection, table)
        elif chance < 0.74 or (chance >= 0.86 and table != "patients"):
            yield self._update(connection, table, key)
        elif chance < 0.86:
            yield self._delete(connection, table, key)
        elif chance < 0.94:
            yield self._change_key(connection, key, self._fresh_key(connection))
        else:
            yield from self._swap_keys(connection, key)

    def _insert(self, connection: str, table: str) -> RowChange:
        row = getattr(self, f"_new_{table}")(connection)
        return self._done(RowChange(connection, table, None, row, frozenset(row)))

    def _update(self, connection: str, table: str, key: Key) -> RowChange:
        before = self._row(connection, table, key)
        assert before is not None, "a free key has a row"
        touched = getattr(self, f"_touch_{table}")()
        return self._done(RowChange(connection, table, before, {**before, **touched}, frozenset(touched)))

    def _delete(self, connection: str, table: str, key: Key) -> RowChange:
        before = self._row(connection, table, key)
        return self._done(RowChange(connection, table, before, None, frozenset()))

    def _change_key(self, connection: str, key: Key, new_id: int) -> RowChange:
        before = self._row(connection, "patients", key)
        assert before is not None, "a free key has a row"
        touched: Row = {"id": new_id, **(self._touch_patients() if self._random.random() < 0.5 else {})}
        return self._done(RowChange(connection, "patients", before, {**before, **touched}, frozenset(touched)))

    def _swap_keys(self, connection: str, key: Key) -> Iterator[Step]:
        """Swap two rows' keys over a third one, in one transaction."""
        other = self._free_key(connection, "patients")
        if other is None or other == key:
            yield self._update(connection, "patients", key)
            return
        aside = self._fresh_key(connection)
        yield self._change_key(connection, key, aside)
        yield self._change_key(connection, other, key[0])
        yield self._change_key(connection, (aside,), other[0])

    # ── what is visible, and what is locked ──

    def _row(self, connection: str, table: str, key: Key) -> Row | None:
        transaction = self._open.get(connection)
        if transaction is not None and (table, key) in transaction.rows:
            return transaction.rows[table, key]
        return self.rows[table].get(key)

    def _is_free(self, connection: str, table: str, key: Key) -> bool:
        return all(
            (table, key) not in transaction.rows for name, transaction in self._open.items() if name != connection
        )

    def _free_key(self, connection: str, table: str) -> Key | None:
        """Draw the key of a row that `connection` sees and that nobody else has locked."""
        keys = self._keys[table]
        for _ in range(20):
            if not keys:
                return None
            index = self._random.randrange(len(keys))
            key = keys[index]
            if self._row(connection, table, key) is not None and self._is_free(connection, table, key):
                return key
            if all((table, key) not in t.rows for t in self._open.values()) and key not in self.rows[table]:
                keys[index] = keys[-1]
                keys.pop()
        return None

    def _fresh_key(self, connection: str) -> int:
        """Return an id for a patient: a new one, or one that was there before and is gone."""
        if self._random.random() < 0.3 and self._next_id["patients"] > 10:
            for _ in range(10):
                key = (self._random.randrange(self._next_id["patients"]),)
                if self._row(connection, "patients", key) is None and self._is_free(connection, "patients", key):
                    return int(key[0])
        self._next_id["patients"] += 1
        return self._next_id["patients"]

    def _done(self, change: RowChange) -> RowChange:
        transaction = self._open[change.connection]
        if change.key_before is not None:
            transaction.rows[change.table, change.key_before] = None
        if change.key_after is not None:
            transaction.rows[change.table, change.key_after] = change.after
            self._keys[change.table].append(change.key_after)
        return change

    def _end(self, connection: str, *, commit: bool) -> End:
        transaction = self._open.pop(connection)
        for (table, key), row in transaction.rows.items() if commit else ():
            if row is None:
                self.rows[table].pop(key, None)
            else:
                self.rows[table][key] = row
        return End(connection, commit)

    # ── rows ──

    def _moment(self) -> datetime:
        """Return a time that no other row has, so that an order by it has no ties."""
        self._clock += 1
        return _EPOCH + timedelta(seconds=self._clock, microseconds=self._random.randrange(1_000_000))

    def _new_patients(self, connection: str) -> Row:
        return {"id": self._fresh_key(connection), **self._all_of_patient()}

    def _all_of_patient(self) -> Row:
        return {
            "ward": self._random.randrange(WARDS),
            "name": self._random.choice(_WORDS),
            "email": self._random.choice([None, "", f"p{self._random.randrange(10**6)}@example.org"]),
            "balance": Decimal(self._random.randrange(-2_000_00, 20_000_00)).scaleb(-2),
            "born": date(1900, 1, 1) + timedelta(days=self._random.randrange(45_000)),
            "active": self._random.random() < 0.7,
            "score": self._random.choice([None, 0.0, -1.5, self._random.random() * 1e6, 1e-7]),
            "visits": self._random.choice([0, 1, -(2**31), 2**31 - 1, self._random.randrange(1000)]),
            "insured": self._random.choice([None, 2**53 + 1, -(2**63), 2**63 - 1]),
            "seen": self._moment(),
            "wakes": self._random.choice(
                [None, (_EPOCH + timedelta(microseconds=self._random.randrange(86_400 * 10**6))).time()]
            ),
        }

    def _touch_patients(self) -> Row:
        row = self._all_of_patient()
        columns = self._random.sample(sorted(row), k=self._random.randrange(1, 4))
        return {column: row[column] for column in columns}

    def _large_text(self) -> str:
        """Return a text that does not compress, mostly above what stays in line."""
        letters = self._random.choice(
            [200, self._out_of_line_bytes, self._out_of_line_bytes + self._random.randrange(3_000)]
        )
        return self._random.randbytes(letters // 2).hex()

    def _new_notes(self, connection: str) -> Row:
        self._next_id["notes"] += 1
        scan = self._random.choice([None, self._random.randbytes(self._out_of_line_bytes), b""])
        return {
            "id": self._next_id["notes"],
            "title": self._random.choice(_WORDS),
            "revision": 1,
            "body": self._large_text(),
            "scan": scan,
            "tags": self._random.choice([None, (), ("a", None, "ü")]),
            "written": self._moment().replace(tzinfo=None),
        }

    def _touch_notes(self) -> Row:
        touched: Row = {"revision": self._random.randrange(2, 10_000)}
        if self._random.random() < 0.15:
            touched["body"] = self._random.choice([None, self._large_text()])
        if self._random.random() < 0.10:
            touched["scan"] = self._random.choice([None, self._random.randbytes(self._out_of_line_bytes)])
        if self._random.random() < 0.30:
            touched["title"] = self._random.choice(_WORDS)
        return touched

    def _new_readings(self, connection: str) -> Row:
        self._next_id["readings"] += 1
        return {"meter": self._random.randrange(METERS), "seq": self._next_id["readings"], **self._all_of_reading()}

    def _all_of_reading(self) -> Row:
        return {
            "value": Decimal(self._random.randrange(1_000_000)).scaleb(-3),
            "unit": self._random.choice(["kWh", "m³", None]),
            "taken": self._moment(),
        }

    def _touch_readings(self) -> Row:
        return self._all_of_reading() if self._random.random() < 0.5 else {"value": self._all_of_reading()["value"]}
