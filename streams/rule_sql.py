"""The SQL of rules: which expressions are taken, and how their columns are found, by DuckDB's own parser.

Promise: what leaves here is an expression over the given columns only, made anew from the checked tree of the parser,
so that no text of a rule ever reaches a query. It is a pure function of one change: nothing in it reads the clock, a
generator, a file, a setting or another row, and nothing can ask for memory by a number.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import Any

import duckdb

from schemas.errors import ConfigurationError
from schemas.table import OWN_PREFIX, TableSpec

ROW_ROOTS = ("before", "after", "key")
ROOTS = ("op", "ts", *ROW_ROOTS)
DEPTH_MAX = 100
MEMORY_MAX = "256MB"

_SETTINGS: dict[str, str | int | float | list[str]] = {
    "threads": 1,
    "memory_limit": MEMORY_MAX,
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
}

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
_REFUSED_CLASSES = {
    "SUBQUERY": "a subquery reads other rows",
    "WINDOW": "a window function reads other rows",
    "STAR": "* stands for columns; name them",
    "PARAMETER": "a parameter has no value here",
    "POSITIONAL_REFERENCE": "a column by number; name it",
    "DEFAULT": "DEFAULT has no meaning here",
    "LAMBDA": "a lambda stands here outside of a list function",
}
# DuckDB calls these consistent, and they read the clock all the same.
_CLOCK = frozenset({"age", "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp",
                    "current_localtime", "current_localtimestamp"})  # fmt: skip
# One row may make gigabytes of these, and DuckDB's memory limit does not count what a function holds (seen: 8 GB).
_UNBOUNDED = frozenset({"repeat", "range", "generate_series", "lpad", "rpad", "list_resize", "array_resize", "bar",
                        "bitstring", "printf", "format", "equi_width_bins",
                        "list_reduce", "array_reduce", "reduce"})  # fmt: skip  # a fold may double at each element
_META = frozenset({"json_serialize_sql", "json_deserialize_sql", "json_serialize_plan", "version", "sleep_ms"})


def open_database() -> duckdb.DuckDBPyConnection:
    """Return a database in memory without access to anything else, in UTC; its settings cannot be changed any more."""
    database = duckdb.connect(":memory:", config={**_SETTINGS})
    database.execute("SET TimeZone = 'UTC'")
    database.execute("SET lock_configuration = true")
    return database


@dataclass(frozen=True, slots=True)
class Reference:
    """What an expression reads: a column, a whole row (`column` None), or whether there is a row (`presence`)."""

    root: str
    column: str | None = None
    presence: bool = False


class Functions:
    """What DuckDB knows of its functions: which of them are pure, bounded and of one row."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._known: dict[str, list[tuple[str, str | None, list[str], str | None]]] = {}
        query = "SELECT function_name, function_type, stability, parameters, macro_definition FROM duckdb_functions()"
        for name, kind, stability, parameters, definition in database.sql(query).fetchall():
            self._known.setdefault(name.lower(), []).append((kind, stability, parameters or [], definition))

    def refusal(self, name: str) -> str | None:
        """Return why `name` may not be called in a rule, None if it may."""
        overloads = self._known.get(name.lower())
        if overloads is None:
            near = difflib.get_close_matches(name.lower(), [known for known in self._known if known[0].isalpha()], n=1)
            return f"there is no function {name}" + (f", did you mean {near[0]}?" if near else "")
        if name.lower() in _CLOCK:
            return f"{name} reads the clock"
        if name.lower() in _UNBOUNDED:
            return f"{name} can ask for any amount of memory"
        if name.lower() in _META or name.startswith("__internal"):
            return f"{name} is not about values"
        for kind, stability, parameters, definition in overloads:
            if (reason := self._overload_refusal(name, kind, stability, parameters, definition)) is not None:
                return reason
        return None

    def _overload_refusal(
        self, name: str, kind: str, stability: str | None, parameters: list[str], definition: str | None
    ) -> str | None:
        match kind:
            case "scalar":
                return (
                    None if stability == "CONSISTENT" else f"{name} is volatile: its value depends on when it is asked"
                )
            case "macro":
                return self._macro_refusal(name, parameters, definition or "")
            case "aggregate":
                return f"{name} is an aggregate: a rule sees one change"
            case "window":
                return f"{name} is a window function: a rule sees one change"
            case _:
                return f"{name} is a table function"

    def _macro_refusal(self, name: str, parameters: list[str], definition: str) -> str | None:
        tree = parse(self._database, definition)
        if isinstance(tree, str):
            return f"{name} is a macro that cannot be read"
        for node in _nodes(tree):
            if node["class"] == "COLUMN_REF" and node["column_names"][0] not in parameters:
                return f"{name} reads {node['column_names'][0]}"
            if node["class"] in _REFUSED_CLASSES and node["class"] != "LAMBDA":
                return f"{name}: {_REFUSED_CLASSES[node['class']]}"
            if node["class"] == "FUNCTION" and (reason := self.refusal(node["function_name"])) is not None:
                return f"{name}: {reason}"
        return None


def parse(database: duckdb.DuckDBPyConnection, text: str) -> dict[str, Any] | str:
    """Return the parser's tree of one expression, or what is wrong with it."""
    try:
        row = database.execute("SELECT json_serialize_sql(?::VARCHAR)", ["SELECT " + text]).fetchall()[0]
        answer = json.loads(row[0])
    except (duckdb.Error, RecursionError) as exc:
        return f"cannot be parsed ({type(exc).__name__})"
    if answer["error"]:
        return str(answer["error_message"])
    if len(answer["statements"]) != 1:
        return "one expression is wanted, not several statements"
    node = answer["statements"][0]["node"]
    clauses = ("where_clause", "having", "qualify", "sample", "group_expressions", "modifiers")
    is_query = node["type"] != "SELECT_NODE" or node["from_table"]["type"] != "EMPTY"
    if is_query or any(node.get(name) for name in clauses):
        return "an expression is wanted, not a query"
    if len(node["select_list"]) != 1 or node["select_list"][0].get("alias"):
        return "one expression without a name is wanted"
    tree: dict[str, Any] = node["select_list"][0]
    return tree


class Rewriter:
    """Checks expressions of one table, and rewrites their columns to generated names, kept in `references`.

    DuckDB takes names without regard to case, in structs too; the columns of a source may differ by case alone.
    """

    def __init__(self, spec: TableSpec, database: duckdb.DuckDBPyConnection, functions: Functions) -> None:
        self._spec, self._database, self._functions = spec, database, functions
        self.references: dict[Reference, str] = {}

    def rewrite(self, text: str, where: str) -> str:
        """Return the SQL of the expression over generated names; `where` is how errors call it.

        Raises:
            ConfigurationError: not one expression, not pure, or of a column that is not there.
        """
        tree = parse(self._database, text)
        if isinstance(tree, str):
            hint = "SQL of DuckDB over before, after, key, op, ts"
            raise ConfigurationError(f"{where}: {tree.splitlines()[0]}", hint=hint)
        checked = self._node(tree, _Place(where))
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
        if kind == "LAMBDA" and node["syntax_type"] == "SINGLE_ARROW" and _lambda_parameters(node["lhs"]) is None:
            return self._lambda(node, place)  # JSON's arrow, at the top
        if kind in _REFUSED_CLASSES or kind not in _CHILDREN:
            raise place.error(_REFUSED_CLASSES.get(kind, f"{kind} has no meaning in a rule"))
        if kind == "OPERATOR" and node["type"] in _OPERATORS_REFUSED:
            raise place.error(f"{node['type']} has no meaning in a rule")
        if kind == "FUNCTION":
            self._check_function(node, place)
        children = {name: self._child(node[name], place, in_function=kind == "FUNCTION") for name in _CHILDREN[kind]}
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
        parameters = _lambda_parameters(node["lhs"])
        if parameters is not None and parameters & set(ROOTS) and node["syntax_type"] != "SINGLE_ARROW":
            raise place.error(f"{min(parameters & set(ROOTS))} is ours; give the lambda's parameter another name")
        if parameters is None or parameters & set(ROOTS):
            return {**node, "lhs": self._node(node["lhs"], place), "expr": self._node(node["expr"], place)}
        if any(name.startswith(OWN_PREFIX) for name in parameters):
            raise place.error(f"names that begin with {OWN_PREFIX} are ours")
        return {**node, "expr": self._child(node["expr"], place.within(parameters), in_function=True)}

    def _check_function(self, node: dict[str, Any], place: _Place) -> None:
        name = node["function_name"]
        if node["schema"] or node["catalog"]:
            raise place.error(f"{node['schema']}.{name}(…)", hint=f"write {name}({node['schema']}, …)")
        if node["filter"] or node["distinct"] or node["order_bys"]["orders"]:
            raise place.error(f"{name} is called as an aggregate: a rule sees one change")
        if not node["is_operator"] and (reason := self._functions.refusal(name)) is not None:
            raise place.error(reason)

    # ── columns ──

    def _reference(self, node: dict[str, Any], place: _Place) -> dict[str, Any] | None:
        """Return what stands for a node that reads a row, None for any other."""
        if node["class"] == "COLUMN_REF":
            return self._column(node["column_names"], place)
        if node["class"] != "OPERATOR" or not node["children"]:
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

    def _resolve(self, root: str, name: str, place: _Place) -> str:
        """Return the column's own spelling: the same, else the only one that differs by case."""
        known = self._spec.key if root == "key" else list(self._spec.columns)
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
        if root == "before" and self._spec.before == "none":
            hint = "log whole rows at the source, then set before: full"
            raise place.error("before is not logged by this table", hint=hint)
        if root == "key" and not self._spec.key:
            raise place.error("this table has no key")
        if reference.column is None and not reference.presence:
            self._check_whole(root, place)
        return _column_ref([self.references.setdefault(reference, f"{OWN_PREFIX}{len(self.references)}")])

    def _check_whole(self, root: str, place: _Place) -> None:
        names = [name.casefold() for name in (self._spec.key if root == "key" else self._spec.columns)]
        if len(set(names)) < len(names):
            raise place.error(f"columns of {root} differ by case alone", hint="name the columns that you mean")

    def _root_hint(self, name: str) -> str:
        if name.lower() in _CLOCK:
            return "it reads the clock: a rule must give the same on every replay"
        if name in self._spec.columns:
            return f"did you mean after.{name}?"
        near = difflib.get_close_matches(name.lower(), ROOTS, n=1, cutoff=0.5)
        return f"did you mean {near[0]}?" if near else f"known here: {', '.join(ROOTS)}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in which expression we are."""

    where: str
    depth: int = 0
    parameters: frozenset[str] = frozenset()

    def deeper(self) -> _Place:
        if self.depth >= DEPTH_MAX:
            raise self.error(f"nested deeper than {DEPTH_MAX}")
        return _Place(self.where, self.depth + 1, self.parameters)

    def within(self, parameters: set[str]) -> _Place:
        return _Place(self.where, self.depth, self.parameters | parameters)

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


def _nodes(tree: Any) -> list[dict[str, Any]]:
    """Return every node of the parser's tree that is an expression."""
    if isinstance(tree, list):
        return [node for item in tree for node in _nodes(item)]
    if not isinstance(tree, dict):
        return []
    below = [node for value in tree.values() for node in _nodes(value)]
    return [tree, *below] if "class" in tree else below
