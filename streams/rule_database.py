"""The database that rules are evaluated in, what it knows of its functions, and its parser.

Promise: it reaches nothing outside of itself, and its settings cannot be changed any more; a function that a rule may
call is pure, of one row, and cannot ask for memory by a number.
"""

from __future__ import annotations

import difflib
import json
from typing import Any

import duckdb

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

REFUSED_CLASSES = {
    "SUBQUERY": "a subquery reads other rows",
    "WINDOW": "a window function reads other rows",
    "STAR": "* stands for columns; name them",
    "PARAMETER": "a parameter has no value here",
    "POSITIONAL_REFERENCE": "a column by number; name it",
    "DEFAULT": "DEFAULT has no meaning here",
    "LAMBDA": "a lambda stands here outside of a list function",
}
# DuckDB calls these consistent, and they read the clock all the same.
CLOCK = frozenset({"age", "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp",
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
        if name.lower() in CLOCK:
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
            if node["class"] in REFUSED_CLASSES and node["class"] != "LAMBDA":
                return f"{name}: {REFUSED_CLASSES[node['class']]}"
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


def _nodes(tree: Any) -> list[dict[str, Any]]:
    """Return every node of the parser's tree that is an expression."""
    if isinstance(tree, list):
        return [node for item in tree for node in _nodes(item)]
    if not isinstance(tree, dict):
        return []
    below = [node for value in tree.values() for node in _nodes(value)]
    return [tree, *below] if "class" in tree else below
