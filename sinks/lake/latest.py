"""What the lake says of the rows that are there, at one snapshot, written as the contract's values.

For each key: its last delete, and of the changes from there on those that say something of a column which no newer one
says. Applied in any order, by a ledger where the higher position wins, they leave what the whole history leaves, with
what was handed over to rows whose key has changed. Of a change that was read again, by a replay, only the last reading
is told: the ledger would keep whichever came first.

Promise: memory holds a batch of rows and what DuckDB needs for one aggregate per key, and per change that was read
again, above `bytes_max` on disk.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import duckdb
import msgspec
import pyarrow as pa

from schemas.config import MIB, LakeConfig
from schemas.position import just_below
from schemas.table import TableSpec
from schemas.types import ColumnType, Kind
from sinks.lake import table as lake
from sinks.lake.forms import contract_sql
from sinks.lake.handover import handover_sql, has_key_changes, unknown_sql
from sinks.lake.quoting import literal, quoted
from sinks.lake.stand import Stand, read_stands
from sinks.lake.storage import file_system, is_s3, open_catalog
from sinks.lake.view import FLOORS, changes_sql, key_types, last_read_sql, ordered_sql, read_again_sql

BYTES_MAX = 256 * MIB
THREADS = 2
BATCH_ROWS = 2_048
_READ = "all that was read"
_ROWS = "rows of the lake"  # of a change that was read again the last reading

_FLOATS = frozenset({Kind.FLOAT, Kind.DOUBLE})
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class LatestBatch:
    """Changes as the contract's values, the output partition of each, and whether it is a delete without a row since.

    `expired` are such deletes of which the lake has heard before the moment given: nothing older comes any more.
    """

    values: list[bytes]
    partitions: list[int]
    expired: list[bool]


@dataclass(frozen=True, slots=True)
class LatestMoves:
    """Changes of keys as the contract's values, deletes of old keys, and since when the row lived that each ended.

    What is unavailable in them the old row did not know when they were made.
    """

    values: list[bytes]
    since: list[str]


class LatestChanges:
    """The changes behind the current rows of one table, of the snapshot that was current when this was opened."""

    def __init__(
        self, config: LakeConfig, spec: TableSpec, columns: Collection[str], *, bytes_max: int = BYTES_MAX
    ) -> None:
        """Open the table; only its key and `columns` are read.

        Raises:
            TableStopped: there is no such table in the lake, or none that we can read.
            Exception: whatever a catalogue or a file system raises that does not answer.
        """
        catalog = open_catalog(config)
        try:
            self._table = lake.load_table(catalog, config.namespace, spec.table)
        finally:
            catalog.close()
        self.stands: dict[int, Stand] = read_stands(self._table.properties)
        self._spec = spec
        there = {field.name for field in self._table.schema().fields}
        self._row = f"coalesce(r.{lake.ROW}, 0)" if lake.ROW in there else "0"
        self._columns = [name for name in spec.columns if name in there and (name in columns or name in spec.key)]
        self._folder = tempfile.TemporaryDirectory(prefix="headgate-rebuild-")
        self._connection = duckdb.connect(
            config={
                "memory_limit": f"{bytes_max}B",
                "threads": THREADS,
                "temp_directory": self._folder.name,
                "preserve_insertion_order": False,
                "enable_external_file_cache": False,
                # Whole rows are looked up in `newest`, as it is written; the other way round they would all be held.
                "disabled_optimizers": "join_order,build_side_probe_side",
            }
        )
        if is_s3(config):
            self._connection.register_filesystem(file_system(config))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def interrupt(self) -> None:
        """End what runs on another thread; it raises there."""
        self._connection.interrupt()

    def close(self) -> None:
        """Give back memory and disk."""
        self._connection.close()
        self._folder.cleanup()

    def prepare(self, partitions: Collection[int]) -> int:
        """Find the newest changes of each key; return how many keys there are whose newest is in `partitions`."""
        read, name = quoted(_READ), quoted(_ROWS)
        self._connection.execute(f"CREATE VIEW {read} AS {changes_sql(self._connection, self._table, 'lake')}")
        self._connection.execute(f"CREATE TEMP TABLE read_again AS {read_again_sql(read, self._spec.key)}")
        counted = last_read_sql(read, self._spec.key, again="read_again")
        self._connection.execute(f"CREATE VIEW {name} AS FROM {counted}")
        partial = self._partial(name)
        self._connection.execute(newest_sql(name, self._spec.key, partial))
        ((keys,),) = self._connection.execute(
            f"SELECT count(*) FROM newest WHERE list_contains({_numbers(partitions)}, home)"  # noqa: S608  numbers
        ).fetchall()
        self._select = self._select_sql(name, partial, partitions)
        self._moved = has_key_changes(self._connection, self._table, _ROWS)
        if self._moved:
            others = [column for column in self._columns if column not in self._spec.key]
            types = key_types(self._connection, _ROWS, self._spec.key)
            self._connection.execute(handed_sql(name, types, others, partial))
            if others:
                self._connection.execute(unknown_moves_sql(name, types, others))
        return int(keys)

    def floor(self) -> bytes | None:
        """Return the highest floor as the contract has it; None if there is none. `prepare` comes first."""
        found = self._connection.execute(
            f"""SELECT {lake.POSITION}, {contract_sql(lake.TS, _TS)}, {lake.TOPIC}, {lake.GENERATION}, {lake.PARTITION},
                {lake.OFFSET} FROM {quoted(_ROWS)} WHERE {lake.OP} IN {FLOORS}
                ORDER BY {lake.POSITION} DESC LIMIT 1"""  # noqa: S608  ours
        ).fetchall()  # a result that is not read to its end stays open
        if not found:
            return None
        position, at, *origin = found[0]
        said = {"op": "floor", "key": None, "position": position, "ts": at, "after": None, "unavailable": []}
        return _encode({**said, "source": {"snapshot": True, "origin": origin}})

    def _partial(self, rows: str) -> list[str]:
        """Return the columns that some change did not carry."""
        found = self._connection.execute(
            f"SELECT DISTINCT unnest({lake.UNAVAILABLE}) FROM {rows} WHERE len({lake.UNAVAILABLE}) > 0"  # noqa: S608  quoted
        ).fetchall()
        missing = {name for (name,) in found}
        return [name for name in self._columns if name in missing]

    def _select_sql(self, rows: str, partial: Sequence[str], partitions: Collection[int]) -> str:
        same_key = " AND ".join(f"r.{quoted(name)} = n.{quoted(name)}" for name in self._spec.key)
        filled = "".join(f" OR r.{lake.POSITION} = n._m{index}" for index in range(len(partial)))
        columns = ", ".join(
            f"{contract_sql('r.' + quoted(name), self._spec.columns[name].type)} AS {quoted(name)}"
            for name in self._columns
        )
        return f"""
        SELECT r.{lake.OP}, r.{lake.POSITION}, CAST(r.{lake.PARTITION} AS INTEGER), r.{lake.UNAVAILABLE},
            {contract_sql("r." + lake.TS, _TS)}, r.{lake.TOPIC}, r.{lake.GENERATION}, r.{lake.OFFSET}, {self._row},
            r.{lake.OP} = 'delete' AND (n._p IS NULL OR n._p < n._d) AND r.{lake.INGESTED} < $before, {columns}
        FROM {rows} r JOIN newest n ON {same_key}
        WHERE list_contains({_numbers(partitions)}, r.{lake.PARTITION}) AND (
            (r.{lake.OP} = 'delete' AND r.{lake.POSITION} = n._d)
            OR ({_IS_ROW.format(op=f"r.{lake.OP}")} AND (n._d IS NULL OR r.{lake.POSITION} >= n._d)
                AND (r.{lake.POSITION} = n._p{filled})))"""  # noqa: S608  every name is quoted

    def batches(self, *, expired_before: datetime) -> Iterator[LatestBatch]:
        """Yield what `prepare` found, of its partitions, a bounded number at a time, in no order."""
        reader = self._connection.sql(self._select, params={"before": expired_before}).to_arrow_reader(BATCH_ROWS)
        for batch in reader:
            yield self._batch(batch)

    def handed(self, partitions: Collection[int]) -> Iterator[LatestBatch]:
        """Yield what rows of new keys have, or will have, from old ones whose deletes are in `partitions`.

        As changes of the new key, just below the change of the key; what is not handed over is unavailable in them.
        """
        if not self._moved:
            return
        columns = [contract_sql(_place(name, self._spec.key), self._spec.columns[name].type) for name in self._columns]
        others = [name for name in self._columns if name not in self._spec.key]
        missing = ", ".join(f"CASE WHEN {quoted(name)} IS NULL THEN {literal(name)} END" for name in others)
        select = f"""
        SELECT 'insert', _hg_first, _hg_said.partition, list_filter([{missing}], lambda x: x IS NOT NULL),
            {contract_sql("_hg_said.ts", _TS)}, _hg_said.topic, _hg_said.generation, _hg_said.offset, 0, false,
            {", ".join(f"{column} AS {quoted(name)}" for name, column in zip(self._columns, columns, strict=True))}
        FROM handed WHERE list_contains({_numbers(partitions)}, _hg_said.partition)"""  # noqa: S608  every name is quoted
        for batch in self._connection.sql(select).to_arrow_reader(BATCH_ROWS):
            below = pa.array([just_below(position) for position in batch.column(1).to_pylist()], pa.string())
            yield self._batch(batch.set_column(1, batch.schema.field(1), below))

    def moves(self, partitions: Collection[int]) -> Iterator[LatestMoves]:
        """Yield the changes of keys in `partitions` whose old row may still be handed over what it did not know.

        Its own old key's delete is not in the lake then, and comes behind it in another partition.
        """
        others = [name for name in self._columns if name not in self._spec.key]
        if not self._moved or not others:
            return
        unknown = ", ".join(f"CASE WHEN NOT {quoted(name)} THEN {literal(name)} END" for name in others)
        keys = [
            f"{contract_sql(f'_hg_{side}_{index}', self._spec.columns[name].type)} AS _hg_{side}_{index}"
            for side in ("from", "to")
            for index, name in enumerate(self._spec.key)
        ]
        select = f"""
        SELECT _hg_since, _hg_until, list_filter([{unknown}], lambda x: x IS NOT NULL),
            {contract_sql("_hg_said.ts", _TS)}, _hg_said.topic, _hg_said.generation, _hg_said.partition,
            _hg_said.offset, {", ".join(keys)}
        FROM unknown WHERE list_contains({_numbers(partitions)}, _hg_said.partition)"""  # noqa: S608  every name is quoted
        for batch in self._connection.sql(select).to_arrow_reader(BATCH_ROWS):
            since, *rows = (column.to_pylist() for column in batch.columns)
            yield LatestMoves([self._move(*row) for row in zip(*rows, strict=True)], since)

    def _move(self, position: str, unknown: list[str], at: str, *rest: Any) -> bytes:
        origin, keys = rest[:4], rest[4:]
        half = len(keys) // 2
        key, new_key = (dict(zip(self._spec.key, part, strict=True)) for part in (keys[:half], keys[half:]))
        said = {"op": "delete", "key": key, "new_key": new_key, "position": position, "ts": at, "unavailable": unknown}
        return _encode({**said, "after": None, "source": {"snapshot": True, "origin": origin}})

    def _batch(self, batch: pa.RecordBatch) -> LatestBatch:
        ops, positions, partitions, unavailable, ts, topics, generations, offsets, numbers, expired, *columns = (
            column.to_pylist() for column in batch.columns
        )
        origins: Iterator[Any] = zip(topics, generations, partitions, offsets, strict=True)
        if any(numbers):
            origins = ((*origin, row) if row else origin for origin, row in zip(origins, numbers, strict=True))
        heads = zip(ops, positions, unavailable, ts, origins, strict=True)
        shown = [
            _json_floats(values) if _has_floats(self._spec.columns[name].type) else values
            for name, values in zip(self._columns, columns, strict=True)
        ]
        keys = [index for index, name in enumerate(self._columns) if name in self._spec.key]
        key_names = [self._columns[index] for index in keys]
        values = []
        for (op, position, missing, at, origin), row in zip(heads, zip(*shown, strict=True), strict=True):
            after = None if op == "delete" else dict(zip(self._columns, row, strict=True))
            key = dict(zip(key_names, (row[index] for index in keys), strict=True))
            said = {"op": op, "key": key, "position": position, "ts": at, "after": after, "unavailable": missing}
            values.append(_encode({**said, "source": {"snapshot": True, "origin": origin}}))
        return LatestBatch(values, partitions, expired)


_IS_ROW = "{op} NOT IN ('delete', 'floor', 'truncate')"
_TS = ColumnType(Kind.TIMESTAMPTZ)


def newest_sql(rows: str, key: Collection[str], partial: Sequence[str]) -> str:
    """Return the statement that makes `newest`: for each key its last delete, its newest change, and where that is.

    `_m<n>` is the position of the newest change that says something of the n-th of `partial`.
    """
    keys = ", ".join(quoted(name) for name in key)
    is_row = _IS_ROW.format(op=lake.OP)
    sent = "".join(
        f", max({lake.POSITION}) FILTER ({is_row} AND NOT list_contains({lake.UNAVAILABLE}, {literal(name)})) AS _m{n}"
        for n, name in enumerate(partial)
    )
    return f"""
    CREATE TEMP TABLE newest AS
    SELECT {keys}, max({lake.POSITION}) FILTER ({lake.OP} = 'delete') AS _d,
        max({lake.POSITION}) FILTER ({is_row}) AS _p,
        arg_max(CAST({lake.PARTITION} AS INTEGER), {lake.POSITION}) AS home{sent}
    FROM {rows}
    WHERE {lake.OP} NOT IN {FLOORS} AND {lake.POSITION} >= coalesce(
        (SELECT max({lake.POSITION}) FROM {rows} WHERE {lake.OP} IN {FLOORS}), '')
    GROUP BY {keys}"""  # noqa: S608  every name is quoted


def handed_sql(rows: str, types: Mapping[str, str], columns: Sequence[str], partial: Sequence[str]) -> str:
    """Return the statement that makes `handed`: what was handed over to rows that lack it, or are not there yet."""
    same_key = " AND ".join(f"n.{quoted(name)} = _hg_to_{index}" for index, name in enumerate(types))
    lacks = "".join(f" OR coalesce(n._m{index}, '') < coalesce(n._d, '0')" for index in range(len(partial)))
    starts = (
        f"LEFT JOIN newest n ON {same_key} "
        f"WHERE _hg_until > coalesce(n._d, '') AND (coalesce(n._p, '') < _hg_until{lacks})"
    )
    return f"""
    CREATE TEMP TABLE handed AS
    WITH RECURSIVE {ordered_sql(rows)}, {handover_sql(types, columns, starts=starts, apart=True)}
    SELECT * FROM handed"""  # noqa: S608  every name is quoted


def unknown_moves_sql(rows: str, types: Mapping[str, str], columns: Sequence[str]) -> str:
    """Return the statement that makes `unknown`: the changes of keys that did not hand over all there is."""
    return f"""
    CREATE TEMP TABLE unknown AS
    WITH RECURSIVE {ordered_sql(rows)}, {unknown_sql(types, columns)}
    SELECT * FROM unknown"""  # noqa: S608  every name is quoted


def _place(name: str, key: Sequence[str]) -> str:
    """Return what is in `handed` of a column."""
    return f"_hg_root_{key.index(name)}" if name in key else f"{quoted(name)}.v"


def _has_floats(column: ColumnType) -> bool:
    return column.kind in _FLOATS or (column.element is not None and _has_floats(column.element))


def _json_floats(values: Sequence[Any]) -> list[Any]:
    """Return numbers, also in lists, with the texts that the contract has for what is no JSON number."""
    return [_json_float(value) for value in values]


def _json_float(value: Any) -> Any:
    if isinstance(value, list):
        return _json_floats(value)
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _numbers(numbers: Collection[int]) -> str:
    return "[" + ", ".join(str(int(number)) for number in sorted(numbers)) + "]"
