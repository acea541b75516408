"""What rows take along when their key changes: the SQL of the rule in docs/redis.md, over rows of the lake.

The delete of the old key (`_hg_new_key`) hands over what its row knew below the delete's position, since the delete
before. Where that row did not know a column either, and had itself come from another key, what that one knew counts:
the nearest life first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb
from pyiceberg.table import Table

from sinks.lake import table as lake
from sinks.lake.files import live_files
from sinks.lake.quoting import listed, literal, quoted

_ABOVE_DIGITS = "'~'"  # of two ways to a value, of which one goes on from the other, the shorter is the nearer
_PLACE = ("_hg_since", "_hg_until")


def has_key_changes(connection: duckdb.DuckDBPyConnection, table: Table, name: str) -> bool:
    """Say whether a key ever changed; `name` is the relation of the table's rows, looked at if no statistics say it."""
    number = table.schema().find_field(lake.NEW_KEY).field_id
    files = live_files(table)
    nulls = [(file.null_value_counts or {}).get(number) for file in files]
    if None not in nulls:
        return any(count != file.record_count for count, file in zip(nulls, files, strict=True))
    asked = f"SELECT 1 FROM {quoted(name)} WHERE {lake.NEW_KEY} IS NOT NULL LIMIT 1"  # noqa: S608  quoted
    return connection.execute(asked).fetchone() is not None


def handover_sql(key_types: Mapping[str, str], columns: Sequence[str], *, starts: str, apart: bool = False) -> str:
    """Return common table expressions, the last one `handed`: for each new key what was handed over to it.

    A relation `changes` has the lake's rows, with `_o`, which orders them; `key_types` are the columns of the key with
    their types in DuckDB. `starts` stands behind `FROM knew` and says which changes of a key count: `_hg_to_<n>` name
    the new key, `_hg_until` is the delete's position.

    `handed` has the new key in `_hg_root_<n>` and of each of `columns` a struct `v`, null where nobody knew it; with
    `apart` a row for each change of a key, with its position in `_hg_first` and its origin in `_hg_said`.
    """
    names = list(key_types)
    return ", ".join(
        [
            _moves_sql(key_types),
            _knew_sql(names, columns),
            _way_sql(names, columns, starts),
            _handed(names, columns, apart),
        ]
    )


def unknown_sql(key_types: Mapping[str, str], columns: Sequence[str]) -> str:
    """Return common table expressions, the last one `unknown`: changes of keys that did not hand over all of `columns`.

    Of each the old key (`_hg_from_<n>`), the new one (`_hg_to_<n>`), between which positions the old one's row lived
    (`_hg_since`, `_hg_until`), and per column whether its value was known, or handed over to it.
    """
    names = list(key_types)
    move = [*(f"_hg_{side}_{n}" for side in ("from", "to") for n in range(len(names))), *_PLACE]
    own = "".join(f", {quoted(name)} IS NOT NULL AS {quoted(name)}" for name in columns)
    either = "".join(f", r.{quoted(name)} OR k.{quoted(name)} IS NOT NULL" for name in columns)
    some = "".join(f", bool_or({quoted(name)}) AS {quoted(name)}" for name in columns)
    all_known = " AND ".join(f"bool_or({quoted(name)})" for name in columns)
    before = " AND ".join(f"r._hg_to_{n} = k._hg_from_{n}" for n in range(len(names)))
    lacking = " OR ".join(f"k.{quoted(name)} IS NULL" for name in columns)
    return f"""{_moves_sql(key_types)}, {_knew_sql(names, columns)}, reached AS (
        SELECT {", ".join(move)}, _hg_said{own} FROM knew
        UNION
        SELECT {", ".join(f"k.{part}" for part in move)}, k._hg_said{either}
        FROM reached r JOIN knew k ON {before} AND r._hg_until > k._hg_since AND r._hg_until < k._hg_until
        WHERE {lacking}
    ), unknown AS (
        SELECT {", ".join(move)}, _hg_said{some} FROM reached
        GROUP BY {", ".join(move)}, _hg_said HAVING NOT ({all_known})
    )"""  # noqa: S608  every name is quoted


def _moves_sql(key_types: Mapping[str, str]) -> str:
    """Return `moves`: each change of a key, with the life of the old one that it ended."""
    names = list(key_types)
    was = ", ".join(f"{quoted(name)} AS _hg_from_{n}" for n, name in enumerate(names))
    new = ", ".join(f"{_read(name, type_)} AS _hg_to_{n}" for n, (name, type_) in enumerate(key_types.items()))
    return f"""
    ends AS (
        SELECT {listed(names)}, {lake.POSITION} AS _hg_until, max({lake.NEW_KEY}) AS _hg_new,
            max({{'ts': {lake.TS}, 'topic': {lake.TOPIC}, 'generation': {lake.GENERATION},
                'partition': CAST({lake.PARTITION} AS INTEGER), 'offset': {lake.OFFSET}}}) AS _hg_said
        FROM changes SEMI JOIN (SELECT * FROM changes WHERE {lake.NEW_KEY} IS NOT NULL) USING ({listed(names)})
        WHERE {lake.OP} = 'delete' GROUP BY {listed(names)}, {lake.POSITION}
    ), moves AS (
        SELECT {was}, {new}, _hg_since, _hg_until, _hg_said FROM (
            SELECT *, coalesce(lag(_hg_until) OVER (PARTITION BY {listed(names)} ORDER BY _hg_until), '') AS _hg_since
            FROM ends) WHERE _hg_new IS NOT NULL
    )"""  # noqa: S608  every name is quoted


def _read(name: str, type_: str) -> str:
    """Return what reads a column of the new key from the contract's JSON; null where that cannot be done."""
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    text = f"json_extract_string(_hg_new, {literal(pointer)})"
    if type_ == "BLOB":
        return f"from_base64({text})"
    if type_ == "DATE" or type_.startswith("TIMESTAMP"):
        text = f"ltrim({text}, '+')"  # the contract's sign of years beyond 9999
    return f"TRY_CAST({text} AS {type_})"


def _knew_sql(names: Sequence[str], columns: Sequence[str]) -> str:
    """Return `knew`: `moves`, with what the row of the old key knew of each column."""
    of_old_key = " AND ".join(f"c.{quoted(name)} = m._hg_from_{n}" for n, name in enumerate(names))
    known = "".join(
        f", arg_max({{'v': c.{quoted(name)}}}, c._o) "
        f"FILTER (WHERE c._o IS NOT NULL AND NOT list_contains(c.{lake.UNAVAILABLE}, {literal(name)})) "
        f"AS {quoted(name)}"
        for name in columns
    )
    return f"""knew AS (
        SELECT m.*{known}
        FROM (SELECT * FROM changes WHERE {lake.OP} <> 'delete') c RIGHT JOIN moves m
            ON {of_old_key} AND c.{lake.POSITION} >= m._hg_since AND c.{lake.POSITION} < m._hg_until
        GROUP BY ALL
    )"""  # noqa: S608  every name is quoted


def _way_sql(names: Sequence[str], columns: Sequence[str], starts: str) -> str:
    """Return `way`: from each new key back over the keys that its row had, while something is not known."""
    numbers = range(len(names))
    places = [*(f"_hg_from_{n}" for n in numbers), *_PLACE]
    further = " AND ".join(f"k._hg_to_{n} = w._hg_from_{n}" for n in numbers)
    found = "".join(f", coalesce(w.{quoted(name)}, k.{quoted(name)}) AS {quoted(name)}" for name in columns)
    unknown = " OR ".join(f"w.{quoted(name)} IS NULL" for name in columns) or "false"
    return f"""way AS (
        SELECT {", ".join(f"_hg_to_{n} AS _hg_root_{n}" for n in numbers)}, _hg_until AS _hg_first, _hg_said,
            [_hg_until] AS _hg_path, {", ".join(places)}{"".join(f", knew.{quoted(name)}" for name in columns)}
        FROM knew {starts}
        UNION ALL
        SELECT {", ".join(f"w._hg_root_{n}" for n in numbers)}, w._hg_first, w._hg_said,
            list_append(w._hg_path, k._hg_until), {", ".join(f"k.{place}" for place in places)}{found}
        FROM way w JOIN knew k ON {further} AND k._hg_until > w._hg_since AND k._hg_until < w._hg_until
        WHERE {unknown}
    )"""  # noqa: S608  every name is quoted


def _handed(names: Sequence[str], columns: Sequence[str], apart: bool) -> str:  # noqa: FBT001 - one of the parts
    """Return `handed`."""
    groups = ", ".join([*(f"_hg_root_{n}" for n in range(len(names))), *(["_hg_first", "_hg_said"] if apart else [])])
    nearest = "".join(
        f", arg_max({quoted(name)}, list_append(_hg_path, {_ABOVE_DIGITS})) "
        f"FILTER (WHERE {quoted(name)} IS NOT NULL) AS {quoted(name)}"
        for name in columns
    )
    return f"handed AS (SELECT {groups}{nearest} FROM way GROUP BY {groups})"  # noqa: S608  every name is quoted
