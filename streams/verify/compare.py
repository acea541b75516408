"""Two tables of typed rows compared by key: what differs, and a checksum of each side. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
import pyarrow as pa

from schemas.types import ColumnType
from sinks.lake.quoting import literal, quoted
from streams.verify.typed import compared_type

UNAVAILABLE = "_hg_unavailable"  # the columns of a row that a place says it has no value of

Difference = Literal["missing", "extra", "values"]


@dataclass(frozen=True, slots=True)
class Differing:
    """A row that is not the same: `missing` where the source has it, `extra` where it has not, or other `values`."""

    key: tuple[Any, ...]
    kind: Difference
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Compared:
    """Two sides of some rows. Checksums are the same for the same rows in any order, and add up by exclusive or."""

    differing: list[Differing]
    rows: int
    source_checksum: int
    checksum: int
    unavailable: int  # values that the place says it has not, so that they were not compared


def empty(columns: Mapping[str, ColumnType]) -> pa.Table:
    """Return a side without rows."""
    fields = [(name, compared_type(column)) for name, column in columns.items()]
    return pa.schema([*fields, (UNAVAILABLE, pa.list_(pa.string()))]).empty_table()


def compare(
    connection: duckdb.DuckDBPyConnection, source: pa.Table, place: pa.Table, key: Sequence[str], columns: Sequence[str]
) -> Compared:
    """Return how `place` differs from `source` in `columns`; both have a row per key, `place` also `UNAVAILABLE`."""
    shared = [name for name in columns if name not in key]
    connection.register("_source", source)
    connection.register("_place", place)
    try:
        found = connection.execute(_differing_sql(key, shared)).fetchall()
        rows, ours, theirs, unavailable = connection.execute(_sums_sql(key, shared)).fetchall()[0]
    finally:
        connection.unregister("_source")
        connection.unregister("_place")
    differing = [_differing(row, len(key), shared) for row in found]
    return Compared(differing, rows, ours or 0, theirs or 0, unavailable or 0)


def _differing(row: Sequence[Any], width: int, columns: Sequence[str]) -> Differing:
    key, in_source, in_place = tuple(row[:width]), row[width], row[width + 1]
    if in_source and in_place:
        names = (name for name, differs in zip(columns, row[width + 2 :], strict=True) if differs)
        return Differing(key, "values", tuple(names))
    return Differing(key, "missing" if in_source else "extra")


def _differing_sql(key: Sequence[str], columns: Sequence[str]) -> str:
    keys = ", ".join(f"coalesce(s.{quoted(name)}, p.{quoted(name)})" for name in key)
    flags = [f"{_differs(name)} AS d{at}" for at, name in enumerate(columns)]
    any_flag = " OR ".join(["NOT coalesce(s._here, false)", "NOT coalesce(p._here, false)", *(map(_differs, columns))])
    return (
        f"SELECT {', '.join([keys, 'coalesce(s._here, false)', 'coalesce(p._here, false)', *flags])} "  # noqa: S608
        f"FROM {_joined(key)} WHERE {any_flag}"
    )


def _sums_sql(key: Sequence[str], columns: Sequence[str]) -> str:
    """Return the count and the checksums; a value that the place has not counts as the source's."""
    ours = ", ".join(f"s.{quoted(name)}" for name in [*key, *columns])
    filled = [f"CASE WHEN {_unavailable(name)} THEN s.{quoted(name)} ELSE p.{quoted(name)} END" for name in columns]
    theirs = ", ".join([*(f"p.{quoted(name)}" for name in key), *filled])
    return f"""
    SELECT count(*) FILTER (WHERE s._here),
        bit_xor(md5_number(CAST(row({ours}) AS VARCHAR))) FILTER (WHERE s._here),
        bit_xor(md5_number(CAST(row({theirs}) AS VARCHAR))) FILTER (WHERE p._here),
        sum(len(p.{quoted(UNAVAILABLE)}))
    FROM {_joined(key)}"""  # noqa: S608  quoted


def _joined(key: Sequence[str]) -> str:
    same = " AND ".join(f"s.{quoted(name)} = p.{quoted(name)}" for name in key)
    ours, theirs = ("(SELECT true AS _here, * FROM _source) AS s", "(SELECT true AS _here, * FROM _place) AS p")
    return f"{ours} FULL OUTER JOIN {theirs} ON {same}"


def _differs(name: str) -> str:
    return f"(s._here AND p._here AND NOT {_unavailable(name)} AND s.{quoted(name)} IS DISTINCT FROM p.{quoted(name)})"


def _unavailable(name: str) -> str:
    return f"coalesce(list_contains(p.{quoted(UNAVAILABLE)}, {literal(name)}), false)"
