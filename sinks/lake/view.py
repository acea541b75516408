"""The lake queried by DuckDB: each table as it is, a row per change, and `<table>_latest`, the current row per key.

For one key the higher position wins, column by column: a column that a change did not carry (`_hg_unavailable`) is
filled from the newest older change that had it, unless a delete lies between; a delete and an insert at one position
leave the insert. Of a change that was read again, by a replay, only the last reading counts, that of the highest
generation. A floor hides every row below it. A changed key takes along from its old row what its insert did not
carry. What nobody said is null and named in `_hg_unavailable`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import duckdb
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from schemas.config import LakeConfig
from schemas.table import LATEST, OWN_PREFIX
from schemas.types import ColumnType
from sinks.lake import table as lake
from sinks.lake.evolve import columns_of, formers_of
from sinks.lake.files import live_files
from sinks.lake.forms import text_sql
from sinks.lake.handover import handover_sql, has_key_changes
from sinks.lake.quoting import listed, literal, quoted
from sinks.lake.storage import file_system, is_s3, open_catalog
from sinks.lake.types import duckdb_type

FLOORS = "('floor', 'truncate')"
REMEMBERED: Mapping[str, Sequence[str]] = {}  # no other keys than those that the tables say themselves


def open_lake_sql(
    config: LakeConfig, tables: Collection[str] | None = None, *, keys: Mapping[str, Sequence[str]] = REMEMBERED
) -> duckdb.DuckDBPyConnection:
    """Return a connection with two views per table, `T` and `T_latest`, as of now; None means all tables of the lake.

    A table without a key has no latest view, nor has one beside a table that is called `T_latest` itself. `keys` are
    those of the specs in force, for who knows them; else a table's key is the one that it was made with. The connection
    is the caller's, who closes it.

    Raises:
        TableStopped: a table is not in the lake, or is none that we can read.
    """
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    if is_s3(config):
        connection.register_filesystem(file_system(config))
    try:
        show_tables(connection, config, tables, keys=keys)
    except BaseException:  # not ours to decide
        connection.close()
        raise
    return connection


def show_tables(
    connection: duckdb.DuckDBPyConnection,
    config: LakeConfig,
    tables: Collection[str] | None,
    *,
    keys: Mapping[str, Sequence[str]] = REMEMBERED,
) -> None:
    """Have a connection of `open_lake_sql` show tables as they are now.

    Raises:
        TableStopped: as `open_lake_sql`.
    """
    catalog = open_catalog(config)
    try:
        names = sorted(tables if tables is not None else (name for _, name in catalog.list_tables(config.namespace)))
        for name in names:
            table = lake.load_table(catalog, config.namespace, name)
            key = [] if name + LATEST in names else keys.get(name, lake.key_of(table))
            _add_table(connection, table, name, key)
    finally:
        catalog.close()


def _add_table(connection: duckdb.DuckDBPyConnection, table: Table, name: str, key: Sequence[str]) -> None:
    """Make the views of one table under `name`, over the files that it has now; that of latest rows if it has a key."""
    connection.execute(f"CREATE OR REPLACE VIEW {quoted(name)} AS {changes_sql(connection, table, name)}")
    if key:
        columns = [each for each in columns_of(table.schema()) if not each.startswith(OWN_PREFIX)]
        types = key_types(connection, name, key) if has_key_changes(connection, table, name) else None
        latest = latest_sql(name, key, columns, types)
        connection.execute(f"CREATE OR REPLACE VIEW {quoted(name + LATEST)} AS {latest}")


def key_types(connection: duckdb.DuckDBPyConnection, name: str, key: Collection[str]) -> dict[str, str]:
    """Return the types of the columns of a key as DuckDB names them."""
    described = connection.execute(f"SELECT column_name, column_type FROM (DESCRIBE {quoted(name)})").fetchall()  # noqa: S608  quoted
    types = dict(described)
    return {column: types[column] for column in key}


def latest_sql(
    name: str, key: Collection[str], columns: Collection[str], moved: Mapping[str, str] | None = None
) -> str:
    """Return the SELECT of the current row per key over a relation of changes called `name`.

    `moved` are the columns of the key with their types in DuckDB, if keys change: that costs more than one pass.
    """
    keys = [quoted(column) for column in key]
    others = [column for column in columns if column not in key]
    last = [
        f"arg_max({{'v': {quoted(column)}}}, _o) "
        f"FILTER (WHERE NOT list_contains({lake.UNAVAILABLE}, {literal(column)})) AS {quoted(column)}"
        for column in others
    ]
    still_missing = [f"CASE WHEN {quoted(column)} IS NULL THEN {literal(column)} END" for column in others]
    shown = [quoted(column) if column in key else f"{quoted(column)}.v AS {quoted(column)}" for column in columns]
    same_key = " AND ".join(f"changes.{column} IS NOT DISTINCT FROM deletes.{column}" for column in keys)
    return f"""
    WITH RECURSIVE {ordered_sql(quoted(name), last_read_sql(quoted(name), key))}, deletes AS (
        SELECT {", ".join(keys)}, max({lake.POSITION}) AS _d FROM changes WHERE {lake.OP} = 'delete' GROUP BY ALL
    ), latest AS (
        SELECT {", ".join([*(f"changes.{column}" for column in keys), *last])},
            max({lake.POSITION}) AS {lake.POSITION}, arg_max({lake.TS}, _o) AS {lake.TS}, max(_d) AS _hg_deleted
        FROM changes LEFT JOIN deletes ON {same_key}
        WHERE {lake.OP} <> 'delete' AND (_d IS NULL OR {lake.POSITION} >= _d)
        GROUP BY {", ".join(f"changes.{column}" for column in keys)}
    ){_filled_sql(moved, others) if moved and others else ""}
    SELECT {", ".join(shown)}, {lake.POSITION}, {lake.TS},
        list_distinct(CAST([{", ".join(still_missing)}] AS VARCHAR[])) AS {lake.UNAVAILABLE}
    FROM {"filled" if moved and others else "latest"}"""  # noqa: S608  every name is quoted


def last_read_sql(rows: str, key: Collection[str], *, again: str | None = None) -> str:
    """Return the relation of `rows` without readings of a change that a later generation has read again.

    A change of a row is told by its position. What an older reading says must not even fill a column: a spec that did
    not know the column yet left a null there. `again` names the relation of `read_again_sql`, where somebody keeps it.
    """
    same = " AND ".join(f"r.{quoted(name)} IS NOT DISTINCT FROM again.{quoted(name)}" for name in key)
    return f"""(
        SELECT r.* FROM {rows} r ANTI JOIN {again or f"({read_again_sql(rows, key)})"} again
        ON {same} AND r.{lake.POSITION} = again.{lake.POSITION} AND r.{lake.GENERATION} < again.{lake.GENERATION}
    )"""  # noqa: S608  every name is quoted


def read_again_sql(rows: str, key: Collection[str]) -> str:
    """Return the SELECT of changes that may have been read before, with the generation that counts; most have none."""
    return f"""SELECT {listed(key)}, {lake.POSITION}, max({lake.GENERATION}) AS {lake.GENERATION}
        FROM {rows} WHERE {lake.GENERATION} > 0 GROUP BY {listed(key)}, {lake.POSITION}"""  # noqa: S608  quoted


def ordered_sql(rows: str, read: str | None = None) -> str:
    """Return the common table expression `changes`: `rows` above the floor, with what orders them in `_o`.

    `read` are those of `rows` that count, if not all do.
    """
    digits = "".join(f" || lpad(CAST({each} AS VARCHAR), 20, '0')" for each in (lake.GENERATION, lake.OFFSET))
    return f"""changes AS (
        SELECT *, {lake.POSITION}{digits} AS _o
        FROM {read or rows} WHERE {lake.OP} NOT IN {FLOORS} AND {lake.POSITION} >= coalesce(
            (SELECT max({lake.POSITION}) FROM {rows} WHERE {lake.OP} IN {FLOORS}), '')
    )"""  # noqa: S608  every name is quoted


def _filled_sql(key_types: Mapping[str, str], columns: Collection[str]) -> str:
    """Return `filled`, behind what it needs: `latest`, with what was handed over where a column is missing."""
    same_key = [(quoted(name), f"_hg_{{}}_{n}") for n, name in enumerate(key_types)]
    to_latest = " AND ".join(f"latest.{name} = {other.format('to')}" for name, other in same_key)
    to_handed = " AND ".join(f"latest.{name} = {other.format('root')}" for name, other in same_key)
    missing = " OR ".join(f"latest.{quoted(column)} IS NULL" for column in columns)
    starts = (
        f"JOIN latest ON {to_latest} AND _hg_until > coalesce(_hg_deleted, '') "
        f"AND _hg_until <= latest.{lake.POSITION} AND ({missing})"
    )
    filled = "".join(f", coalesce(latest.{quoted(name)}, handed.{quoted(name)}) AS {quoted(name)}" for name in columns)
    return f""", {handover_sql(key_types, list(columns), starts=starts)}, filled AS (
        SELECT {", ".join(f"latest.{name}" for name, _ in same_key)}{filled}, {lake.POSITION}, {lake.TS}
        FROM latest LEFT JOIN handed ON {to_handed}
    )"""  # noqa: S608  every name is quoted


def changes_sql(connection: duckdb.DuckDBPyConnection, table: Table, name: str) -> str:
    """Return the SELECT of all rows; of a column that became a text, older values are the text of the contract."""
    columns = columns_of(table.schema())
    aside = {each: formers_of(columns, each) for each in columns if not each.startswith(OWN_PREFIX)}
    hidden = {former for formers in aside.values() for former in formers}
    shown = [_shown(each, aside.get(each, {})) for each in columns if each not in hidden]
    return f"SELECT {', '.join(shown)} FROM ({_stored_sql(connection, table, columns, name)})"  # noqa: S608  quoted


def _shown(name: str, formers: Mapping[str, ColumnType]) -> str:
    """Return a column as it is, or with what it held when it was of another type: of each row one has a value."""
    if not formers:
        return quoted(name)
    texts = [text_sql(quoted(former), type_) for former, type_ in formers.items()]
    return f"coalesce({', '.join([quoted(name), *texts])}) AS {quoted(name)}"


def _stored_sql(
    connection: duckdb.DuckDBPyConnection, table: Table, columns: Mapping[str, ColumnType], name: str
) -> str:
    """Return the SELECT of the table's columns, found in its files by their numbers, whatever they were called."""
    schema = table.schema()
    files = [file.file_path for file in live_files(table)]
    if not files:
        empty = f"{name} without rows"
        connection.register(empty, schema_to_pyarrow(schema).empty_table())
        return f"SELECT * FROM {quoted(empty)}"  # noqa: S608  quoted
    numbers = {each.name: each.field_id for each in schema.fields}
    fields = ", ".join(
        f"{numbers[each]}: {{name: {literal(each)}, type: {literal(duckdb_type(type_))}, default_value: NULL}}"
        for each, type_ in columns.items()
    )
    paths = ", ".join(literal(path) for path in files)
    return f"SELECT * FROM read_parquet([{paths}], schema = MAP {{{fields}}}, hive_partitioning = false)"  # noqa: S608  quoted
