"""The rules of one table, evaluated by DuckDB over many changes at once.

Promise: a rule fires for exactly the rows where its condition is TRUE; NULL does not fire, an error does not fire and
is counted. The same rows give the same firings at any time and in any grouping. One rule's trouble is no other's.

A query costs about a millisecond whatever its rows (parsing and planning): evaluate all changes of a group together.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import ConfigurationError
from schemas.rule import Rule
from schemas.table import OWN_PREFIX, TableSpec
from schemas.types import ColumnType, Kind
from streams.rule_sql import Functions, Reference, Rewriter, open_database

_VIEW = f"{OWN_PREFIX}changes"
_ROW = f"{OWN_PREFIX}row"
_INT_MAX = 2**31 - 1

_SQL_TYPES: dict[Kind, str] = {
    Kind.BOOLEAN: "BOOLEAN",
    Kind.INT: "INTEGER",
    Kind.LONG: "BIGINT",
    Kind.FLOAT: "FLOAT",
    Kind.DOUBLE: "DOUBLE",
    Kind.DATE: "DATE",
    Kind.TIME: "TIME",
    Kind.TIMESTAMP: "TIMESTAMP",
    Kind.TIMESTAMPTZ: "TIMESTAMP WITH TIME ZONE",
    Kind.STRING: "VARCHAR",
    Kind.JSON: "VARCHAR",
    Kind.UUID: "VARCHAR",
    Kind.BINARY: "BLOB",
}
# What a value may be as it is; anything else (intervals, enums, 128-bit integers, uuid, json) becomes text first.
_HAVE_JSON_FORM = ("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER",
                   "UBIGINT", "FLOAT", "DOUBLE", "DECIMAL", "DATE", "TIMESTAMP", "VARCHAR", "BLOB", "STRUCT",
                   "MAP")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Firing:
    """One rule that was true of one row; `values` have the JSON forms of `schemas/types.py`."""

    row: int
    rule: Rule
    values: dict[str, Any]


@dataclass(slots=True)
class Evaluation:
    """What came of it: firings in the order of their rows, and by rule the rows whose condition or value failed."""

    firings: list[Firing] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


class RuleEngine:
    """The database that rules are compiled for and evaluated in; one per stage, used by one thread at a time."""

    def __init__(self) -> None:
        self.database = open_database()
        self.functions = Functions(self.database)

    def compile(self, spec: TableSpec) -> RuleSet:
        """Return the rules of a table, ready to evaluate; raises what `RuleSet` raises."""
        return RuleSet(spec, self)

    def close(self) -> None:
        """Let the database go; its rules can no longer be evaluated."""
        self.database.close()


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    when: str
    values: dict[str, str]


class RuleSet:
    """The rules of one table, compiled; `rows` and `columns` are what a `ContractReader` must read for them.

    Raises:
        ConfigurationError: it names rule and reason: not SQL, not pure, not BOOLEAN, of a column that is not there, or
            of `before` where the table does not log it.
    """

    def __init__(self, spec: TableSpec, engine: RuleEngine) -> None:
        self._database, self._spec = engine.database, spec
        rewriter = Rewriter(spec, self._database, engine.functions)
        self._compiled = [_compile(rule, rewriter) for rule in spec.rules]
        self._references = rewriter.references
        self._check_types()

    def __len__(self) -> int:
        """Return the number of rules."""
        return len(self._compiled)

    @property
    def rules(self) -> list[Rule]:
        """The rules, in the order of the spec."""
        return [compiled.rule for compiled in self._compiled]

    @property
    def rows(self) -> frozenset[str]:
        """The row objects that the rules read."""
        return frozenset(reference.root for reference in self._references)

    @property
    def columns(self) -> frozenset[str] | None:
        """The columns that the rules read of those rows; None: all. A row without columns would have no presence."""
        if any(reference.column is None and not reference.presence for reference in self._references):
            return None
        names = {reference.column for reference in self._references if reference.column is not None}
        if any(reference.presence for reference in self._references):
            names.add(next(iter(self._spec.key or self._spec.columns)))
        return frozenset(names)

    def evaluate(self, table: pa.Table) -> Evaluation:
        """Return what fired on `table`: `op`, `ts` and the structs of `rows`, as `ContractReader` gives them."""
        result = Evaluation()
        if not len(table) or not self._compiled:
            return result
        view = self._view(table)
        try:
            self._fire(self._compiled, view, result)
        except duckdb.Error:
            # TRY takes what a row does wrong; this is a query that could not run, so find the rule and the rows.
            result = Evaluation()
            for compiled in self._compiled:
                self._evaluate_apart(compiled, view, result)
            result.firings.sort(key=lambda firing: firing.row)
        return result

    def _evaluate_apart(self, compiled: _Compiled, view: pa.Table, result: Evaluation) -> None:
        """Evaluate one rule, halving the rows until only those fail that cannot be evaluated."""
        try:
            self._fire([compiled], view, result)
        except duckdb.Error:
            half = len(view) // 2
            if not half:
                result.errors[compiled.rule.rule] += 1
                return
            self._evaluate_apart(compiled, view.slice(0, half), result)
            self._evaluate_apart(compiled, view.slice(half), result)

    def _fire(self, rules: list[_Compiled], view: pa.Table, result: Evaluation) -> None:
        """Find the rows first, by conditions alone: nearly always there are none, and that costs a third."""
        self._database.register(_VIEW, view)
        try:
            rows = [row for (row,) in self._database.execute(_search(rules)).fetchall()]
        finally:
            self._database.unregister(_VIEW)
        if rows:
            there = pc.is_in(view[_ROW], value_set=pa.array(rows, pa.int32()))
            _collect(self._query(_select(rules), view.filter(there)), rules, result)

    # Not prepared once and executed often: a prepared statement keeps the Arrow table that it was prepared with.
    def _query(self, sql: str, view: pa.Table) -> pa.Table:
        self._database.register(_VIEW, view)
        try:
            return self._database.sql(sql).to_arrow_table()
        finally:
            self._database.unregister(_VIEW)

    def _view(self, table: pa.Table) -> pa.Table:
        """Return what the query reads: `op`, `ts`, and the columns under their generated names."""
        counted = pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int32()), len(table)), start=-1)
        columns = {_ROW: counted, "op": table["op"], "ts": table["ts"]}
        flat = {root: table.select([root]).flatten() for root in self.rows}
        for reference, name in self._references.items():
            rows = table[reference.root]
            if reference.presence:
                columns[name] = pc.if_else(pc.is_valid(rows), pa.scalar(value=True), pa.scalar(None, pa.bool_()))
            elif reference.column is None:
                columns[name] = rows
            else:
                index = rows.type.get_field_index(reference.column)
                assert index >= 0, f"the reader was asked for {reference.column}"
                columns[name] = flat[reference.root].column(index)
        return pa.table(columns)

    def _check_types(self) -> None:
        """Let DuckDB bind every expression against an empty table of the spec's types."""
        shape = {_ROW: "INTEGER", "op": "VARCHAR", "ts": "TIMESTAMP WITH TIME ZONE"}
        shape |= {name: self._sql_type(reference) for reference, name in self._references.items()}
        names = ", ".join(f"NULL::{type_} AS {name}" for name, type_ in shape.items())
        for compiled in self._compiled:
            where = f"rule {compiled.rule.rule}"
            found = self._bind(compiled.when, names, f"{where}: when")
            if found != "BOOLEAN":
                raise ConfigurationError(f"{where}: when gives {found}, not BOOLEAN", hint="write a comparison")
            for name, sql in compiled.values.items():
                found = self._bind(sql, names, f"{where}: values.{name}")
                if not found.startswith(_HAVE_JSON_FORM):
                    compiled.values[name] = f"CAST({sql} AS VARCHAR)"

    def _bind(self, sql: str, names: str, where: str) -> str:
        try:
            query = f"DESCRIBE SELECT TRY({sql}) FROM (SELECT {names})"  # noqa: S608  # made anew from the checked tree
            return str(self._database.sql(query).fetchall()[0][1])
        except duckdb.Error as exc:
            hint = "see the types of the table's columns"
            raise ConfigurationError(f"{where}: {str(exc).splitlines()[0]}", hint=hint) from exc

    def _sql_type(self, reference: Reference) -> str:
        if reference.presence:
            return "BOOLEAN"
        types = {name: column.type for name, column in self._spec.columns.items()}
        if reference.column is not None:
            return _sql_type(types[reference.column])
        names = self._spec.key if reference.root == "key" else list(types)
        return f"STRUCT({', '.join(f'{_quoted(name)} {_sql_type(types[name])}' for name in names)})"


def _compile(rule: Rule, rewriter: Rewriter) -> _Compiled:
    where = f"rule {rule.rule}"
    values = {name: rewriter.rewrite(text, f"{where}: values.{name}") for name, text in rule.values.items()}
    return _Compiled(rule, rewriter.rewrite(rule.when, f"{where}: when"), values)


def _search(rules: list[_Compiled]) -> str:
    """Return the query of the rows where a rule fired (TRUE) or failed (NULL)."""
    wanted = " OR ".join(f"TRY(coalesce({compiled.when}, false)) IS DISTINCT FROM false" for compiled in rules)
    return f"SELECT {_ROW} FROM {_VIEW} WHERE {wanted}"  # noqa: S608  # made anew from checked trees


def _select(rules: list[_Compiled]) -> str:
    """Return the query of some rules: rows where one fired (TRUE) or failed (NULL), and the values where it fired.

    A list around a value tells a NULL value, `[NULL]`, from one that failed, NULL.
    """
    fires = [f"TRY(coalesce({compiled.when}, false)) AS {_fired(at)}" for at, compiled in enumerate(rules)]
    outputs = [
        f"CASE WHEN {_fired(at)} THEN TRY([{sql}]) END AS {_value(at, index)}"
        for at, compiled in enumerate(rules)
        for index, sql in enumerate(compiled.values.values())
    ]
    names = ", ".join([_ROW, *(_fired(at) for at in range(len(rules))), *outputs])
    wanted = " OR ".join(f"{_fired(at)} IS DISTINCT FROM false" for at in range(len(rules)))
    source = f"SELECT *, {', '.join(fires)} FROM {_VIEW}"  # noqa: S608 - names of ours, conditions from a checked tree
    return f"SELECT {names} FROM ({source}) WHERE {wanted} ORDER BY {_ROW}"  # noqa: S608 - the same


def _fired(at: int) -> str:
    return f"{OWN_PREFIX}fired_{at}"


def _value(at: int, index: int) -> str:
    return f"{OWN_PREFIX}value_{at}_{index}"


def _collect(found: pa.Table, rules: list[_Compiled], result: Evaluation) -> None:
    """Take firings and errors out of the rows that the query gave: few, so Python objects are affordable."""
    rows = found[_ROW].to_pylist()
    firings: list[Firing] = []
    for at, compiled in enumerate(rules):
        values = [(name, _values(found[_value(at, index)])) for index, name in enumerate(compiled.values)]
        for place, fired in enumerate(found[_fired(at)].to_pylist()):
            if fired is None:
                result.errors[compiled.rule.rule] += 1
            elif fired:
                row_values = {name: column[place] for name, column in values}
                result.errors[compiled.rule.rule] += sum(value is None for value in row_values.values())
                json_values = {name: None if value is None else value[0] for name, value in row_values.items()}
                firings.append(Firing(rows[place], compiled.rule, json_values))
    result.firings += sorted(firings, key=lambda firing: firing.row)
    result.errors += Counter()  # leaves out the rules without any


# ── JSON forms ──


def _values(column: pa.ChunkedArray) -> list[Any]:
    return _json_forms(column.combine_chunks() if column.num_chunks != 1 else column.chunk(0))


def _json_forms(array: pa.Array) -> list[Any]:
    """Return the values in the JSON forms of the contract."""
    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _lists(array)
    if pa.types.is_map(kind):
        return [None if item is None else _json_forms(item) for item in _map_entries(array)]
    if pa.types.is_struct(kind):
        columns = {kind.field(index).name: _json_forms(column) for index, column in enumerate(array.flatten())}
        present = enumerate(array.is_valid().to_pylist())
        return [{name: values[at] for name, values in columns.items()} if here else None for at, here in present]
    return _each(array, kind)


def _each(array: pa.Array, kind: pa.DataType) -> list[Any]:
    if pa.types.is_timestamp(kind):
        micro = array.cast(pa.timestamp("us"), safe=False).cast(pa.string())
        return _mapped(micro, lambda text: text.replace(" ", "T") + ("Z" if kind.tz else ""))
    if pa.types.is_time(kind):
        return _mapped(array.cast(pa.time64("us"), safe=False).cast(pa.string()), str)
    if pa.types.is_integer(kind):
        wide = pa.types.is_int64(kind) or pa.types.is_uint64(kind) or pa.types.is_uint32(kind)
        return _mapped(array, str if wide else int)
    if pa.types.is_floating(kind):
        return _mapped(array, _float_form)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _mapped(array, lambda value: b64encode(value).decode())
    if pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_null(kind):
        return list(array.to_pylist())
    if pa.types.is_decimal(kind):
        return _mapped(array, lambda value: f"{value:f}")
    if pa.types.is_date(kind):
        return _mapped(array.cast(pa.string()), str)
    return _mapped(array, str)  # rare types inside of lists, as Arrow writes them


def _mapped(array: pa.Array, form: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else form(value) for value in array.to_pylist()]


def _lists(array: pa.Array) -> list[Any]:
    return [None if not item.is_valid else _json_forms(item.values) for item in array]


def _map_entries(array: pa.Array) -> Iterable[pa.Array | None]:
    return (item.values if item.is_valid else None for item in array)


def _float_form(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _sql_type(column: ColumnType) -> str:
    if column.kind is Kind.DECIMAL:
        return f"DECIMAL({column.precision},{column.scale})"
    if column.kind is Kind.LIST:
        assert column.element is not None, "a list has an element"
        return f"{_sql_type(column.element)}[]"
    return _SQL_TYPES[column.kind]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
