"""The SQL of rules: which expressions are taken, and how their columns are found, by DuckDB's own parser.

Promise: what leaves here is an expression over the given columns only, made anew from the checked tree of the parser,
so that no text of a rule ever reaches a query. It is a pure function of one change: nothing in it reads the clock, a
generator, a file, a setting or another row, and nothing can ask for memory by a number.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from schemas.errors import ConfigurationError
from schemas.table import OWN_PREFIX
from schemas.types import ColumnType
from streams.rule_database import CLOCK, COMPARES_TEXTS, REFUSED_CLASSES, Functions, bounded_text, parse

ROW_ROOTS = ("before", "after", "key")
ROOTS = ("op", "ts", *ROW_ROOTS)
DEPTH_MAX = 100

_CHILDREN: dict[str, tuple[str, ...]] = {
    "CONSTANT": (),
    "COMPARISON": ("left", "right"),
    "CONJUNCTION": ("children",),
    "OPERATOR": ("children",),
    "BETWEEN": ("input", "lower", "upper"),
    "CASE": ("case_checks", "else_expr"),
    "CAST": ("child",),
    "COLLATE": ("child",),
    "FUNCTION": ("arguments",),
}
_WRAPPED = ("expression", "when_expr", "then_expr")  # a child may be a box with the expression in it
_OPERATORS_REFUSED = frozenset({"GROUPING_FUNCTION", "OPERATOR_UNPACK"})


@dataclass(frozen=True, slots=True)
class Scope:
    """What expressions may name: the columns of `before` and `after`, and those of `key`, with their types."""

    columns: Mapping[str, ColumnType]
    key: Mapping[str, ColumnType]
    before: bool = True  # it is known what a row was before

    def of(self, root: str) -> Mapping[str, ColumnType]:
        """Return the columns of one of the rows."""
        return self.key if root == "key" else self.columns


@dataclass(frozen=True, slots=True)
class Sides:
    """An expression over column names alone, of the row before and of the row after, and the columns it names."""

    before: str
    after: str
    columns: frozenset[str]


@dataclass(frozen=True, slots=True)
class Reference:
    """What an expression reads: a column, a whole row (`column` None), or whether there is a row (`presence`)."""

    root: str
    column: str | None = None
    presence: bool = False


class Rewriter:
    """Checks expressions over one scope, and rewrites their columns to generated names, kept in `references`.

    DuckDB takes names without regard to case, in structs too; the columns of a source may differ by case alone.
    """

    def __init__(self, scope: Scope, database: duckdb.DuckDBPyConnection, functions: Functions) -> None:
        self._scope, self._database, self._functions = scope, database, functions
        self.references: dict[Reference, str] = {}
        self._named_alone: set[str] = set()

    def rewrite(self, text: str, where: str) -> str:
        """Return the SQL of the expression over generated names; `where` is how errors call it.

        Raises:
            ConfigurationError: not one expression, not pure, or of a column that is not there.
        """
        return self._rewritten(text, _Place(where))

    def rewrite_sides(self, text: str, where: str) -> Sides:
        """Return an expression over column names alone, rewritten for the row before and for the row after.

        Raises:
            ConfigurationError: as `rewrite`, or no column is named: it could never change.
        """
        self._named_alone = set()
        before, after = (self._rewritten(text, _Place(where, side=side)) for side in ("before", "after"))
        if not self._named_alone:
            raise ConfigurationError(f"{where}: names no column", hint="it would always be the same")
        return Sides(before, after, frozenset(self._named_alone))

    def named(self, reference: Reference) -> str:
        """Return the generated name of what a reference reads."""
        return self.references.setdefault(reference, f"{OWN_PREFIX}{len(self.references)}")

    def is_exact(self, sql: str, number: str | None) -> bool:
        """Tell whether the constant `sql` has a value, and the very one of `number` where that is given."""
        query = f"SELECT ({sql}) IS NOT NULL" + ("" if number is None else f" AND ({sql}) = {number}")
        try:
            return self._database.execute(query).fetchall()[0][0] is True
        except duckdb.Error:  # no value of the type
            return False

    def _rewritten(self, text: str, place: _Place) -> str:
        tree = parse(self._database, text)
        if isinstance(tree, str):
            hint = "SQL of DuckDB over column names" if place.side else "SQL of DuckDB over before, after, key, op, ts"
            raise place.error(tree.splitlines()[0], hint=hint)
        checked = self._node(tree, place)
        statement = {"error": False, "statements": [{"node": {**_EMPTY_SELECT, "select_list": [checked]}}]}
        query = "SELECT json_deserialize_sql(?::JSON)"
        sql = str(self._database.execute(query, [json.dumps(statement)]).fetchall()[0][0])
        assert sql.startswith("SELECT "), "a select was serialized"
        return sql.removeprefix("SELECT ")

    def _node(self, node: dict[str, Any], place: _Place) -> dict[str, Any]:
        place = place.deeper()
        if (special := self._reference(node, place)) is not None:
            return special
        kind = node["class"]
        if kind == "LAMBDA" and node["syntax_type"] == "SINGLE_ARROW":
            parameters = _lambda_parameters(node["lhs"])
            if parameters is None or (place.side and parameters <= self._ours(place)):
                return self._lambda(node, place)  # JSON's arrow, at the top
        if kind in REFUSED_CLASSES or kind not in _CHILDREN:
            raise place.error(REFUSED_CLASSES.get(kind, f"{kind} has no meaning in a rule"))
        if kind == "OPERATOR" and node["type"] in _OPERATORS_REFUSED:
            raise place.error(f"{node['type']} has no meaning in a rule")
        if kind == "FUNCTION":
            self._check_function(node, place)
        children = {name: self._child(node[name], place, in_function=kind == "FUNCTION") for name in _CHILDREN[kind]}
        if kind == "FUNCTION" and node["function_name"].lower() in COMPARES_TEXTS:
            texts = [
                {**each, "expression": bounded_text(self._database, each["expression"])}
                for each in children["arguments"]
            ]
            children = {**children, "arguments": texts}
        return {**node, **children}

    def _child(self, child: Any, place: _Place, *, in_function: bool) -> Any:
        if isinstance(child, list):
            return [self._child(item, place, in_function=in_function) for item in child]
        if child is None:
            return None
        if "class" not in child:  # a box around the expression
            return {k: self._child(v, place, in_function=in_function) if k in _WRAPPED else v for k, v in child.items()}
        if child["class"] == "LAMBDA" and (in_function or child["syntax_type"] == "SINGLE_ARROW"):
            return self._lambda(child, place)
        return self._node(child, place)

    def _lambda(self, node: dict[str, Any], place: _Place) -> dict[str, Any]:
        """Rewrite a lambda; `a -> b` of a column that is ours is JSON's arrow instead."""
        place = place.deeper()
        parameters, ours = _lambda_parameters(node["lhs"]), self._ours(place)
        if parameters is not None and parameters & ours and node["syntax_type"] != "SINGLE_ARROW":
            raise place.error(f"{min(parameters & ours)} is ours; give the lambda's parameter another name")
        if parameters is None or parameters & ours:
            return {**node, "lhs": self._node(node["lhs"], place), "expr": self._node(node["expr"], place)}
        if any(name.startswith(OWN_PREFIX) for name in parameters):
            raise place.error(f"names that begin with {OWN_PREFIX} are ours")
        return {**node, "expr": self._child(node["expr"], place.within(parameters), in_function=True)}

    def _ours(self, place: _Place) -> set[str]:
        """Return the names that mean something here, in lower case."""
        return {name.lower() for name in self._scope.columns} if place.side else set(ROOTS)

    def _check_function(self, node: dict[str, Any], place: _Place) -> None:
        name = node["function_name"]
        if node["schema"] or node["catalog"]:
            raise place.error(f"{node['schema']}.{name}(…)", hint=f"write {name}({node['schema']}, …)")
        if node["filter"] or node["distinct"] or node["order_bys"]["orders"]:
            raise place.error(f"{name} is called as an aggregate: a rule sees one change")
        if node["is_operator"]:
            return
        reason = self._functions.refusal(name) or self._functions.argument_refusal(name, node["arguments"])
        if reason is not None:
            raise place.error(reason)

    # ── columns ──

    def _reference(self, node: dict[str, Any], place: _Place) -> dict[str, Any] | None:
        """Return what stands for a node that reads a row, None for any other."""
        if node["class"] == "COLUMN_REF":
            alone = self._column_alone if place.side else self._column
            return alone(node["column_names"], place)
        if node["class"] != "OPERATOR" or not node["children"] or place.side:
            return None
        root = _root(node["children"][0], place)
        if root is None:
            return None
        if node["type"] in {"OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"}:
            return {**node, "children": [self._named(Reference(root, presence=True), place)]}
        literal = node["children"][1].get("literal", {}) if len(node["children"]) > 1 else {}
        if node["type"] in {"ARRAY_EXTRACT", "STRUCT_EXTRACT"} and literal.get("kind") == "STRING":
            return self._column([root, literal["text"]], place)
        return None

    def _column(self, names: list[str], place: _Place) -> dict[str, Any]:
        if names[0].lower() in place.parameters:
            return _column_ref(names)
        root = names[0].lower()
        if root not in ROOTS:
            raise place.error(f"{names[0]!r} is not known", hint=self._root_hint(names[0]))
        if root not in ROW_ROOTS:
            if len(names) > 1:
                raise place.error(f"{root} has no columns")
            return _column_ref([root])
        if len(names) > 2:  # noqa: PLR2004  # root and column
            raise place.error(f"{'.'.join(names)}: a column has no fields", hint="of json take after.x ->> '$.field'")
        return self._named(Reference(root, self._resolve(root, names[1], place) if len(names) > 1 else None), place)

    def _column_alone(self, names: list[str], place: _Place) -> dict[str, Any]:
        """Return what stands for a column that is named without its row."""
        if names[0].lower() in place.parameters:
            return _column_ref(names)
        if len(names) > 1:
            ours = names[0].lower() in ROOTS
            hint = f"write {names[1]} alone: it is read of before and of after" if ours else "of json take x ->> '$.y'"
            raise place.error(f"{'.'.join(names)}: a column has no fields", hint=hint)
        column = self._resolve(place.side, names[0], place)
        self._named_alone.add(column)
        return _column_ref([self.named(Reference(place.side, column))])

    def _resolve(self, root: str, name: str, place: _Place) -> str:
        """Return the column's own spelling: the same, else the only one that differs by case."""
        known = list(self._scope.of(root))
        if name in known:
            return name
        alike = [column for column in known if column.casefold() == name.casefold()]
        if len(alike) == 1:
            return alike[0]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known[:20])}"
        raise place.error(f"{root} has no column {name!r}", hint=hint)

    def _named(self, reference: Reference, place: _Place) -> dict[str, Any]:
        root = reference.root
        if root == "before" and not self._scope.before:
            hint = "log whole rows at the source, then set before: full"
            raise place.error("before is not logged by this table", hint=hint)
        if root == "key" and not self._scope.key:
            raise place.error("this table has no key")
        if reference.column is None and not reference.presence:
            self._check_whole(root, place)
        return _column_ref([self.named(reference)])

    def _check_whole(self, root: str, place: _Place) -> None:
        names = [name.casefold() for name in self._scope.of(root)]
        if len(set(names)) < len(names):
            raise place.error(f"columns of {root} differ by case alone", hint="name the columns that you mean")

    def _root_hint(self, name: str) -> str:
        if name.lower() in CLOCK:
            return "it reads the clock: a rule must give the same on every replay"
        if name in self._scope.columns:
            return f"did you mean after.{name}?"
        near = difflib.get_close_matches(name.lower(), ROOTS, n=1, cutoff=0.5)
        return f"did you mean {near[0]}?" if near else f"known here: {', '.join(ROOTS)}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in which expression we are."""

    where: str
    depth: int = 0
    parameters: frozenset[str] = frozenset()
    side: str = ""  # the row that columns named alone are of; empty: they are named with their row

    def deeper(self) -> _Place:
        if self.depth >= DEPTH_MAX:
            raise self.error(f"nested deeper than {DEPTH_MAX}")
        return replace(self, depth=self.depth + 1)

    def within(self, parameters: set[str]) -> _Place:
        return replace(self, parameters=self.parameters | parameters)

    def error(self, message: str, *, hint: str = "") -> ConfigurationError:
        return ConfigurationError(f"{self.where}: {message}", hint=hint)


_EMPTY_SELECT: dict[str, Any] = {
    "type": "SELECT_NODE",
    "modifiers": [],
    "cte_map": {"map": []},
    "from_table": {"type": "EMPTY", "alias": "", "sample": None},
    "where_clause": None,
    "group_expressions": [],
    "group_sets": [],
    "aggregate_handling": "STANDARD_HANDLING",
    "having": None,
    "sample": None,
    "qualify": None,
}


def _column_ref(names: list[str]) -> dict[str, Any]:
    return {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "column_names": names}


def _root(node: dict[str, Any], place: _Place) -> str | None:
    """Return the row that `node` names as a whole."""
    names = node.get("column_names", []) if node["class"] == "COLUMN_REF" else []
    root = names[0].lower() if len(names) == 1 else ""
    return root if root in ROW_ROOTS and root not in place.parameters else None


def _lambda_parameters(node: dict[str, Any]) -> set[str] | None:
    """Return the names of a lambda's parameters, None where its left side is not a list of names."""
    if node["class"] == "FUNCTION" and node["function_name"] == "row":
        found = [_lambda_parameters(argument["expression"]) for argument in node["arguments"]]
        return None if None in found else {name for names in found if names for name in names}
    if node["class"] == "COLUMN_REF" and len(node["column_names"]) == 1:
        return {node["column_names"][0].lower()}
    return None
