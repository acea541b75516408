"""The database that rules are evaluated in, what it knows of its functions, and its parser.

Promise: it reaches nothing outside of itself, and its settings cannot be changed any more; a function that a rule may
call is pure, of one row, and cannot ask for memory by a number. A query ends after some seconds, or is ended.
"""

from __future__ import annotations

import difflib
import json
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

import duckdb

from schemas.errors import TransportFatal

MEMORY_MAX = "256MB"
QUERY_SECONDS_MAX = 10.0
_LOOK_SECONDS = 0.5
COMPARED_CHARACTERS_MAX = 1_000  # by what takes as many steps as both texts' lengths multiplied, and cannot be ended

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
                        "list_reduce", "array_reduce", "reduce",  # a fold may double at each element
                        "damerau_levenshtein"})  # fmt: skip  # a table of both texts' lengths multiplied
# The argument that each element or match is given, by its place: one of a row would multiply two lengths.
_AGGREGATED = ("list_aggregate", "list_aggr", "array_aggregate", "array_aggr", "aggregate")
_CONSTANT_AT = {"replace": 2, "regexp_replace": 2, "array_to_string": 1, **dict.fromkeys(_AGGREGATED, 2)}
COMPARES_TEXTS = frozenset({"levenshtein", "editdist3"})
_META = frozenset({"json_serialize_sql", "json_deserialize_sql", "json_serialize_plan", "version", "sleep_ms"})


class QueryLimit:
    """Ends queries of a database that take longer than `QUERY_SECONDS_MAX`; looks from a thread of its own.

    A query ends between two chunks of its rows, not within a function.
    """

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        """Look at nothing yet."""
        self._database = database
        self._lock = threading.Lock()
        self._ends_at: float | None = None
        self._thread: threading.Thread | None = None

    @contextmanager
    def holds(self) -> Iterator[None]:
        """Let the one query within fail when it takes too long.

        Raises:
            TransportFatal: the database itself is broken; whatever is asked of it from now on fails, row by row.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=_look, args=(weakref.ref(self),), name="query-limit", daemon=True)
            self._thread.start()
        with self._lock:
            self._ends_at = monotonic() + QUERY_SECONDS_MAX
        try:
            yield
        except (duckdb.FatalException, duckdb.InternalException) as error:
            raise TransportFatal(
                f"the database that rules are evaluated in is broken ({type(error).__name__})",
                hint="the worker begins with a new one; is it one rule that breaks it again? Take that one away",
            ) from error
        finally:
            with self._lock:
                self._ends_at = None

    def look(self) -> None:
        """End the query of now if its time is over."""
        with self._lock:  # so that it is never the next one that is ended
            if self._ends_at is not None and monotonic() > self._ends_at:
                self._database.interrupt()


def _look(of: weakref.ref[QueryLimit]) -> None:
    """Look as long as somebody has the limit."""
    while (limit := of()) is not None:
        limit.look()
        del limit
        sleep(_LOOK_SECONDS)


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

    def argument_refusal(self, name: str, arguments: Sequence[Mapping[str, Any]]) -> str | None:
        """Return why `name` may not be called with these arguments, as the parser gives them; None if it may."""
        at = _CONSTANT_AT.get(name.lower(), len(arguments))
        if any(argument["expression"]["class"] != "CONSTANT" for argument in arguments[at:]):
            return f"{name} can ask for any amount of memory unless what it puts in is a constant"
        if name.lower() in COMPARES_TEXTS and any(
            node["class"] == "FUNCTION" and node["function_name"].lower() in COMPARES_TEXTS
            for node in _nodes([argument["expression"] for argument in arguments])
        ):
            return f"{name} of a distance is no distance of texts"
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


def bounded_text(database: duckdb.DuckDBPyConnection, argument: dict[str, Any]) -> dict[str, Any]:
    """Return the parser's tree of a text, null where it is longer than what compares texts may be given."""
    tree = parse(database, f"CASE WHEN length(text) <= {COMPARED_CHARACTERS_MAX} THEN text END")
    assert isinstance(tree, dict), "it is an expression"
    found: dict[str, Any] = _replaced(tree, argument)
    return found


def _replaced(tree: Any, argument: dict[str, Any]) -> Any:
    """Return a tree with `argument` in the place of each column."""
    if isinstance(tree, list):
        return [_replaced(item, argument) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.get("class") == "COLUMN_REF":
        return argument
    return {name: _replaced(value, argument) for name, value in tree.items()}


def _nodes(tree: Any) -> list[dict[str, Any]]:
    """Return every node of the parser's tree that is an expression."""
    if isinstance(tree, list):
        return [node for item in tree for node in _nodes(item)]
    if not isinstance(tree, dict):
        return []
    below = [node for value in tree.values() for node in _nodes(value)]
    return [tree, *below] if "class" in tree else below
