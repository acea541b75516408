"""Rules over one scope, a table's changes or a view's updates, evaluated by DuckDB over many of them at once.

Promise: a rule fires for exactly the rows where its condition is TRUE; NULL does not fire, an error does not fire and
is counted. The same rows give the same firings at any time and in any grouping. One rule's trouble is no other's.

A query costs about a millisecond whatever its rows (parsing and planning): evaluate all changes of a group together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import ConfigurationError
from schemas.rule import Rule
from schemas.table import OWN_PREFIX, TableSpec
from streams.rule_database import Functions, QueryLimit, open_database
from streams.rule_kinds import Compiled, compile_rule, known_column
from streams.rule_sql import ROW_ROOTS, Reference, Rewriter, Scope
from streams.rule_values import json_values, quoted, sql_type

_VIEW = f"{OWN_PREFIX}changes"
_ROW = f"{OWN_PREFIX}row"
_SIGNALS = 4  # columns of each rule that remembers
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


@dataclass(frozen=True, slots=True)
class Signals:
    """What rows mean to a rule that remembers, as columns; null: an error.

    Beyond its bound, so before, back behind the other bound, so before.
    """

    fires: pa.BooleanArray
    fired_before: pa.BooleanArray
    rearms: pa.BooleanArray
    armed_before: pa.BooleanArray


class RuleEngine:
    """The database that rules are compiled for and evaluated in; one per stage, used by one thread at a time."""

    def __init__(self) -> None:
        self.database = open_database()
        self.functions = Functions(self.database)
        self.limit = QueryLimit(self.database)

    def compile(self, spec: TableSpec) -> RuleSet:
        """Return the match rules of a table, ready to evaluate; raises what `RuleSet` raises."""
        types = {name: column.type for name, column in spec.columns.items()}
        scope = Scope(types, {name: types[name] for name in spec.key}, before=spec.before != "none")
        return RuleSet([rule for rule in spec.rules if not rule.reads_updates], scope, self)

    def close(self) -> None:
        """Let the database go; its rules can no longer be evaluated."""
        self.database.close()


class RuleSet:
    """Some rules over one scope, compiled; `rows` and `columns` are what must be read for them.

    Raises:
        ConfigurationError: it names rule and reason: not SQL, not pure, not BOOLEAN, of a column that is not there, or
            of `before` where the table does not log it.
    """

    def __init__(self, rules: Sequence[Rule], scope: Scope, engine: RuleEngine) -> None:
        self._database, self._limit, self._scope = engine.database, engine.limit, scope
        rewriter = Rewriter(scope, self._database, engine.functions)
        self._references = rewriter.references
        self._compiled = [compile_rule(rule, rewriter, self._type_of) for rule in rules]
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
        return frozenset(reference.root for reference in self._references if reference.root in ROW_ROOTS)

    @property
    def columns(self) -> frozenset[str] | None:
        """The columns that the rules read of those rows; None: all. A row without columns would have no presence."""
        names = self._columns_of(*ROW_ROOTS)
        if names is not None and any(reference.presence for reference in self._references):
            names |= {next(iter(self._scope.key or self._scope.columns))}
        return names

    @property
    def compared(self) -> frozenset[str] | None:
        """The columns that the rules read of before and after; None: all."""
        return self._columns_of("before", "after")

    def _columns_of(self, *roots: str) -> frozenset[str] | None:
        found = [reference for reference in self._references if reference.root in roots and not reference.presence]
        names = [reference.column for reference in found if reference.column is not None]
        return frozenset(names) if len(names) == len(found) else None

    def evaluate(self, table: pa.Table) -> Evaluation:
        """Return what fired on `table`: `op`, `ts` and the structs of `rows`, as `ContractReader` gives them."""
        result = Evaluation()
        if not len(table) or not self._compiled:
            return result
        view = self._view(table)
        try:
            self._fire(self._compiled, view, result)
        except duckdb.Error:
            # TRY takes what a row does wrong; this is a query that could not run, or not in time: find rule and rows.
            result = Evaluation()
            for compiled in self._compiled:
                self._evaluate_apart(compiled, view, result)
            result.firings.sort(key=lambda firing: firing.row)
        return result

    def signals(self, table: pa.Table) -> list[Signals]:
        """Return, for each of the rules, all of which remember, what each row of `table` means to it."""
        found = self._signals(self._view(table))
        columns = [found.column(at).combine_chunks() for at in range(_SIGNALS * len(self._compiled))]
        return [Signals(*columns[_SIGNALS * at :][:_SIGNALS]) for at in range(len(self._compiled))]

    def _signals(self, view: pa.Table) -> pa.Table:
        try:
            return self._query(_signals(self._compiled), view)
        except duckdb.Error:
            half = len(view) // 2  # as in `_evaluate_apart`
            if not half:
                return pa.table(
                    {name: pa.nulls(1, pa.bool_()) for name in map(str, range(_SIGNALS * len(self._compiled)))}
                )
            return pa.concat_tables([self._signals(view.slice(0, half)), self._signals(view.slice(half))])

    def _evaluate_apart(self, compiled: Compiled, view: pa.Table, result: Evaluation) -> None:
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

    def _fire(self, rules: list[Compiled], view: pa.Table, result: Evaluation) -> None:
        """Find the rows first, by conditions alone: nearly always there are none, and that costs a third."""
        self._database.register(_VIEW, view)
        try:
            with self._limit.holds():
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
            with self._limit.holds():
                return self._database.sql(sql).to_arrow_table()
        finally:
            self._database.unregister(_VIEW)

    def _view(self, table: pa.Table) -> pa.Table:
        """Return what the query reads: `op`, `ts`, and the columns under their generated names."""
        counted = pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int32()), len(table)), start=-1)
        columns = {_ROW: counted, "op": table["op"], "ts": table["ts"]}
        flat = {root: table.select([root]).flatten() for root in self.rows}
        for reference, name in self._references.items():
            if reference.root not in ROW_ROOTS:
                columns[name] = table[known_column(reference.root, reference.column)]
                continue
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
        """Let DuckDB bind every expression against an empty table of the scope's types."""
        for compiled in self._compiled:
            where = f"rule {compiled.rule.rule}"
            found = self._type_of(compiled.when, f"{where}: when")
            if found != "BOOLEAN":
                raise ConfigurationError(f"{where}: when gives {found}, not BOOLEAN", hint="write a comparison")
            for name, sql in compiled.values.items():
                found = self._type_of(sql, f"{where}: values.{name}")
                if not found.startswith(_HAVE_JSON_FORM):
                    compiled.values[name] = f"CAST({sql} AS VARCHAR)"

    def _type_of(self, sql: str, where: str) -> str:
        """Return the type of an expression over what is referred to so far."""
        shape = {_ROW: "INTEGER", "op": "VARCHAR", "ts": "TIMESTAMP WITH TIME ZONE"}
        shape |= {name: self._sql_type(reference) for reference, name in self._references.items()}
        names = ", ".join(f"NULL::{type_} AS {name}" for name, type_ in shape.items())
        try:
            query = f"DESCRIBE SELECT TRY({sql}) FROM (SELECT {names})"  # noqa: S608  # made anew from the checked tree
            return str(self._database.sql(query).fetchall()[0][1])
        except duckdb.Error as exc:
            hint = "see the types of the table's columns"
            raise ConfigurationError(f"{where}: {str(exc).splitlines()[0]}", hint=hint) from exc

    def _sql_type(self, reference: Reference) -> str:
        if reference.presence or reference.root not in ROW_ROOTS:
            return "BOOLEAN"
        types = self._scope.of(reference.root)
        if reference.column is not None:
            return sql_type(types[reference.column])
        return f"STRUCT({', '.join(f'{quoted(name)} {sql_type(type_)}' for name, type_ in types.items())})"


def _search(rules: list[Compiled]) -> str:
    """Return the query of the rows where a rule fired (TRUE) or failed (NULL)."""
    wanted = " OR ".join(f"TRY(coalesce({compiled.when}, false)) IS DISTINCT FROM false" for compiled in rules)
    return f"SELECT {_ROW} FROM {_VIEW} WHERE {wanted}"  # noqa: S608  # made anew from checked trees


def _select(rules: list[Compiled]) -> str:
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


def _signals(rules: Sequence[Compiled]) -> str:
    """Return the query of the columns of `Signals` for each rule, a row for each row."""
    wanted = [sql for each in rules for sql in (each.when, each.was, each.rearms, each.was_armed)]
    names = ", ".join(f'TRY(coalesce({sql}, false)) AS "{at}"' for at, sql in enumerate(wanted))
    return f"SELECT {names} FROM {_VIEW} ORDER BY {_ROW}"  # noqa: S608 - names of ours, conditions from checked trees


def _fired(at: int) -> str:
    return f"{OWN_PREFIX}fired_{at}"


def _value(at: int, index: int) -> str:
    return f"{OWN_PREFIX}value_{at}_{index}"


def _collect(found: pa.Table, rules: list[Compiled], result: Evaluation) -> None:
    """Take firings and errors out of the rows that the query gave: few, so Python objects are affordable."""
    rows = found[_ROW].to_pylist()
    firings: list[Firing] = []
    for at, compiled in enumerate(rules):
        values = [(name, json_values(found[_value(at, index)])) for index, name in enumerate(compiled.values)]
        for place, fired in enumerate(found[_fired(at)].to_pylist()):
            if fired is None:
                result.errors[compiled.rule.rule] += 1
            elif fired:
                row_values = {name: column[place] for name, column in values}
                result.errors[compiled.rule.rule] += sum(value is None for value in row_values.values())
                forms = {name: None if value is None else value[0] for name, value in row_values.items()}
                firings.append(Firing(rows[place], compiled.rule, forms))
    result.firings += sorted(firings, key=lambda firing: firing.row)
    result.errors += Counter()  # leaves out the rules without any
