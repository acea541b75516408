"""Changes of a made-up database, seeded, in any number, and all of them remembered.

A maker makes what Debezium's PostgreSQL connector writes: a snapshot first, then inserts, updates, deletes with their
tombstones, changed keys, keys that come again, values that lie out of line. What it has made stands in its history:
some 25 bytes a record, from which every record can be said again. Equal seeds give equal records.
"""

from __future__ import annotations

import random
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.tables import BASE_US, PLACEHOLDER, TABLES, Key, Table, mixed, moment, shapes
from tests.oracles.sequence import Expected
from tests.oracles.values import row_from_contract

TOMBSTONE, SNAPSHOT, INSERT, UPDATE, UPDATE_SHORT, DELETE, DELETE_MOVED, INSERT_MOVED = range(8)
_OPS = {SNAPSHOT: "snapshot", DELETE: "delete", DELETE_MOVED: "delete", UPDATE: "update", UPDATE_SHORT: "update"}
_CODES = {SNAPSHOT: "r", DELETE: "d", DELETE_MOVED: "d", UPDATE: "u", UPDATE_SHORT: "u"}
Headers = list[tuple[str, str | bytes | None]]
Send = Callable[[str, bytes | None, bytes, int, Headers], None]
FIRST_LSN, SNAPSHOT_LSN, CHANGES_IN_ONE = 30_000_000, 26_692_408, 4


@dataclass(slots=True)
class Log:
    """What one source partition holds, by offset: kind, number of the change, the key's two numbers."""

    kinds: array[int] = field(default_factory=lambda: array("b"))
    numbers: array[int] = field(default_factory=lambda: array("q"))
    firsts: array[int] = field(default_factory=lambda: array("q"))
    seconds: array[int] = field(default_factory=lambda: array("q"))
    moved: dict[int, Key] = field(default_factory=dict)  # the other key of a changed one, by offset
    gone: range = range(0)  # what nobody has read before it was deleted

    def __len__(self) -> int:
        return len(self.kinds)

    def add(self, kind: int, number: int, key: Key, other: Key | None) -> None:
        """Take the next record."""
        if other is not None:
            self.moved[len(self.kinds)] = other
        self.kinds.append(kind)
        self.numbers.append(number)
        self.firsts.append(key[0])
        self.seconds.append(key[1])


class History:
    """What was written, and what must come of it. `rows` maps a live key to its change and to that of its text."""

    def __init__(self, prefix: str, seed: int) -> None:
        """Begin empty."""
        self.prefix, self.seed, self.shapes = prefix, seed, shapes(prefix)
        self.logs = {name: [Log() for _ in range(table.partitions)] for name, table in TABLES.items()}
        self.past: dict[str, list[list[Log]]] = {name: [] for name in TABLES}  # of topics that were made anew
        self.generations: dict[str, list[int]] = {name: [0] for name in TABLES}  # of each life, as it was decided
        self.rows: dict[str, dict[Key, tuple[int, int]]] = {name: {} for name in TABLES}
        self.large: dict[int, int] = {}  # bytes of the note, by the change's number

    def records(self) -> int:
        """Return how many records were written."""
        return sum(len(log) for logs in self.logs.values() for log in logs)

    def lives(self, table: str) -> list[list[Log]]:
        """Return the partitions of a table's topic, in each life that it had."""
        return [*self.past[table], self.logs[table]]

    def begin_anew(self, table: str) -> None:
        """Take note that the table's topic was made anew, with as many partitions."""
        self.past[table].append(self.logs[table])
        self.logs[table] = [Log() for _ in self.logs[table]]
        self.generations[table].append(self.generations[table][-1] + 1)

    def enlarge(self, table: str, partitions: int) -> None:
        """Take note that the table's topic has more partitions."""
        self.logs[table] += [Log() for _ in range(partitions - len(self.logs[table]))]

    def changes(self, table: str, partition: int, life: int = -1) -> int:
        """Return how many changes a partition holds that could be read."""
        log = self.lives(table)[life][partition]
        return len(log) - log.kinds.count(TOMBSTONE) - sum(log.kinds[at] != TOMBSTONE for at in log.gone)

    def expected(self, table: str, partition: int, life: int = -1) -> Iterator[Expected]:
        """Yield what the output topic must hold of one source partition."""
        for offset in range(len(self.lives(table)[life][partition])):
            if (change := self.at(table, partition, offset, life)) is not None:
                yield change

    def at(self, table: str, partition: int, offset: int, life: int = -1) -> Expected | None:
        """Return the change at one place; None for a tombstone, or where nothing is, or nothing could be read."""
        log, made = self.lives(table)[life][partition], TABLES[table]
        if not 0 <= offset < len(log) or offset in log.gone or (kind := log.kinds[offset]) == TOMBSTONE:
            return None
        number, key = log.numbers[offset], (log.firsts[offset], log.seconds[offset])
        other = made.key(log.moved[offset]) if offset in log.moved else None
        gone = kind in {DELETE, DELETE_MOVED}
        after = None if gone else self._row(made, key, number)
        unavailable = (made.out_of_line,) if kind == UPDATE_SHORT and made.out_of_line is not None else ()
        if after is not None:
            after = {name: value for name, value in after.items() if name not in unavailable}
        return Expected(
            offset, _OPS.get(kind, "insert"), made.key(key), after, position(number, snapshot=kind == SNAPSHOT),
            moment(number), old_key=other if kind == INSERT_MOVED else None,
            new_key=other if kind == DELETE_MOVED else None,
            unavailable=unavailable, snapshot=kind == SNAPSHOT,
            behind_gap=bool(log.gone) and offset >= log.gone.stop and self._before(log, offset) is None,
        )  # fmt: skip

    def before(self, table: str, partition: int, offset: int, life: int = -1) -> int | None:
        """Return the offset of the change before one, None where it is the first, also of those behind a gap."""
        return self._before(self.lives(table)[life][partition], offset)

    @staticmethod
    def _before(log: Log, offset: int) -> int | None:
        first = log.gone.stop if log.gone and offset >= log.gone.stop else 0
        return next((at for at in range(offset - 1, first - 1, -1) if log.kinds[at] != TOMBSTONE), None)

    def _row(self, table: Table, key: Key, number: int) -> dict[str, Any]:
        row = table.row(key, number, mixed(number, self.seed))
        if number in self.large:
            row["note"] = "x" * self.large[number]
        return row

    def live(self, table: str) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Return the rows that are there now, in canonical values."""
        made, shape, found = TABLES[table], self.shapes[table], {}
        for key, (number, text) in self.rows[table].items():
            row = self._row(made, key, number)
            if made.out_of_line is not None:
                row[made.out_of_line] = self._row(made, key, text)[made.out_of_line]
            canonical = row_from_contract(shape.columns, row)
            found[shape.key_of(canonical)] = canonical
        return found


def position(number: int, *, snapshot: bool) -> str:
    """Return the position of a change, by docs/positions.md."""
    if snapshot:
        return f"0000{0:020d}0{SNAPSHOT_LSN:020d}"
    return f"0000{_commit(number):020d}1{_lsn(number):020d}"


def _lsn(number: int) -> int:
    return FIRST_LSN + 100 * number


def _commit(number: int) -> int:
    """Return where the transaction before that of a change ended."""
    return _lsn(number // CHANGES_IN_ONE * CHANGES_IN_ONE - 1) + 50


class Maker:
    """Makes changes and hands their records to `send`; `made` counts changes. One thread at a time.

    `send` takes topic, value, key, partition and headers, as confluent-kafka's producer has them.
    """

    def __init__(self, prefix: str, seed: int, send: Send, *, keys_max: int = 12_000) -> None:
        """Begin with nothing; `keys_max` is about how many rows each table has at most."""
        self.history = History(prefix, seed)
        self._send, self._keys_max = send, keys_max
        self._chance = random.Random(seed)
        self._keys: dict[str, list[Key]] = {name: [] for name in TABLES}
        self._gone: dict[str, list[Key]] = {name: [] for name in TABLES}
        self._next = dict.fromkeys(TABLES, 0)
        self._names, self._shares = list(TABLES), [table.share for table in TABLES.values()]
        self._number = 0
        self.made = 0

    def topic(self, table: str) -> str:
        """Return the source topic of a table."""
        return f"{self.history.prefix}.public.{table}"

    def snapshot(self, rows: int) -> None:
        """Write what is there before anything changes: `rows` of each table."""
        for name, table in TABLES.items():
            for _ in range(rows):
                self._insert(table, self._fresh(name), SNAPSHOT)

    def make(self, changes: int) -> None:
        """Write at least so many changes; a changed key is two."""
        wanted = self.made + changes
        while self.made < wanted:
            name = self._chance.choices(self._names, self._shares)[0]
            self._one(TABLES[name])

    def repeat(self, table: str, partition: int, first: int, stop: int) -> int:
        """Write again what a partition holds from `first` up to `stop`, as a source that lost its place.

        Rows that were read, not changed, are left out. Return how many changes that were.
        """
        log, made, count = self.history.logs[table][partition], TABLES[table], 0
        for offset in range(first, stop):
            if (kind := log.kinds[offset]) == SNAPSHOT:
                continue
            key = (log.firsts[offset], log.seconds[offset])
            self._write(made, kind, log.numbers[offset], key, log.moved.get(offset))
            count += kind != TOMBSTONE
        return count

    def some_keys(self, table: str, count: int) -> list[Key]:
        """Return some keys of a table that have a row, and some that had one."""
        chance = random.Random(count)
        alive, gone = list(self._keys[table]), list(self._gone[table])
        return [*chance.sample(alive, min(count, len(alive))), *gone[: count // 4]]

    def make_large(self, note_bytes: int) -> None:
        """Write one order whose note takes so many bytes."""
        self.history.large[self._number] = note_bytes
        self._insert(TABLES["orders"], self._fresh("orders"), INSERT)

    # ── one change ──

    def _one(self, table: Table) -> None:
        keys, chance = self._keys[table.name], self._chance.random()
        if not keys or chance < (0.5 if len(keys) < self._keys_max else 0.12):
            self._insert(table, self._fresh(table.name), INSERT)
        elif chance < 0.86:
            short = table.out_of_line is not None and self._chance.random() < 0.5
            self._update(table, self._chance.choice(keys), UPDATE_SHORT if short else UPDATE)
        elif chance < 0.97 or table.name != "orders":
            self._delete(table, DELETE, None)
        else:
            fresh = self._fresh(table.name)
            old = self._delete(table, DELETE_MOVED, fresh)
            self._insert(table, fresh, INSERT_MOVED, other=old)

    def _fresh(self, name: str) -> Key:
        """Return a key without a row: a new one, or one that had a row before."""
        gone = self._gone[name]
        if gone and self._chance.random() < 0.15:
            at = self._chance.randrange(len(gone))
            gone[at], gone[-1] = gone[-1], gone[at]
            return gone.pop()
        self._next[name] += 1
        number = self._next[name]
        return (self._chance.randrange(300), number) if name == "readings" else (number, 0)

    def _insert(self, table: Table, key: Key, kind: int, *, other: Key | None = None) -> None:
        self._keys[table.name].append(key)
        self.history.rows[table.name][key] = (self._number, self._number)
        self._change(table, kind, key, other)

    def _update(self, table: Table, key: Key, kind: int) -> None:
        _, text = self.history.rows[table.name][key]
        self.history.rows[table.name][key] = (self._number, text if kind == UPDATE_SHORT else self._number)
        self._change(table, kind, key, None)

    def _delete(self, table: Table, kind: int, other: Key | None) -> Key:
        keys = self._keys[table.name]
        at = self._chance.randrange(len(keys))
        keys[at], keys[-1] = keys[-1], keys[at]
        key = keys.pop()
        del self.history.rows[table.name][key]
        self._gone[table.name].append(key)
        number = self._number
        self._change(table, kind, key, other)
        self._write(table, TOMBSTONE, number, key, other)
        return key

    def _change(self, table: Table, kind: int, key: Key, other: Key | None) -> None:
        self._write(table, kind, self._number, key, other)
        self._number += 1
        self.made += 1

    # ── its record ──

    def _write(self, table: Table, kind: int, number: int, key: Key, other: Key | None) -> None:
        key_json = table.key_json(key)
        partition = zlib.crc32(key_json) % len(self.history.logs[table.name])
        value = None if kind == TOMBSTONE else self._value(table, kind, number, key).encode()
        headers: Headers = []
        if other is not None:
            name = "__debezium.oldkey" if kind == INSERT_MOVED else "__debezium.newkey"
            headers = [(name, table.key_json(other))]
        self._send(self.topic(table.name), value, key_json, partition, headers)
        self.history.logs[table.name][partition].add(kind, number, key, other)

    def _value(self, table: Table, kind: int, number: int, key: Key) -> str:
        bits, before, after = mixed(number, self.history.seed), "null", "null"
        if kind in {DELETE, DELETE_MOVED}:
            before = f"{table.key_json(key).decode()[:-1]},{table.nothing}}}"
        else:
            after = table.after(key, number, bits)
        if kind == UPDATE_SHORT:
            head, _, tail = after.partition('"body":"')
            after = f'{head}"body":"{PLACEHOLDER}"{tail[tail.index(chr(34)) + 1 :]}'
        if number in self.history.large:
            head, paid = after.partition('"note":')[0], after.rpartition(":")[2]
            after = f'{head}"note":"{"x" * self.history.large[number]}","paid":{paid}'
        us, snapshot = BASE_US + number * 1000, kind == SNAPSHOT
        lsn = SNAPSHOT_LSN if snapshot else _lsn(number)
        last = "null" if snapshot else f'\\"{_commit(number)}\\"'
        source = (
            f'{{"version":"3.7.0.Final","connector":"postgresql","name":"{self.history.prefix}","ts_ms":{us // 1000},'
            f'"snapshot":"{"true" if snapshot else "false"}","db":"clinic","sequence":"[{last},\\"{lsn}\\"]",'
            f'"ts_us":{us},"ts_ns":{us}000,"schema":"public","table":"{table.name}",'
            f'"txId":{700 + number // CHANGES_IN_ONE},"lsn":{lsn},"xmin":null,"origin":null,"origin_lsn":null}}'
        )
        return (
            f'{{"before":{before},"after":{after},"source":{source},"transaction":null,'
            f'"op":"{_CODES.get(kind, "c")}","ts_ms":{us // 1000 + 41},"ts_us":{us + 41_841},"ts_ns":{us + 41_841}257}}'
        )
