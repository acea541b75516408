"""Avro schemas as a tree of types whose names are resolved, and what can be said of their values beforehand.

The tree of a recursive schema has circles: `Type.deepest` is None there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.formats.reasons import Rejection

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
NAMED = frozenset({"record", "error", "enum", "fixed"})
MANY = 1 << 62  # more than any limit
TYPES_MAX = 100_000  # of one schema: a table has a few thousand columns at most
DEPTH_MAX = 150  # of the text of a schema, so that walking it fits Python's own limit
_BYTES_MIN = {"null": 0, "float": 4, "double": 8, "record": 0, "error": 0}


@dataclass(slots=True, eq=False)
class Type:
    """One type of a schema: `kind` is Avro's word for it, `union` for a union; `raw` is how the schema writes it."""

    kind: str
    raw: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    fields: list[Field] = field(default_factory=list)
    branches: list[Type] = field(default_factory=list)
    items: Type | None = None  # of an array, or the values of a map
    symbols: list[str] = field(default_factory=list)
    size: int = 0

    def parts(self) -> list[Type]:
        """Return the types that values of this one are made of."""
        inside = [part.type for part in self.fields] + self.branches
        return inside if self.items is None else [*inside, self.items]

    def __hash__(self) -> int:
        return id(self)


@dataclass(slots=True, eq=False)
class Field:
    """A field of a record."""

    name: str
    type: Type
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a value of a type is made of: at least so many bytes, and so many values outside arrays and maps at most.

    `per_byte` is how many values a byte inside an array or map stands for at most; MANY where items take no bytes.
    `deepest` is how deep its types nest, MANY in a recursive schema.
    """

    bytes_min: int
    values_max: int
    per_byte: int
    deepest: int

    def values(self, size: int) -> int:
        """Return how many values `size` bytes can stand for at most."""
        return min(MANY, self.values_max + self.per_byte * size)

    def bytes_of(self, values: int) -> int:
        """Return how long a value may be so that it is never of more than `values`; below zero: none is that short."""
        left = values - self.values_max
        return left if left < 0 else left // self.per_byte if self.per_byte else MANY


def resolved(text: str, references: Iterable[str] = ()) -> Type:
    """Return the tree of a schema; `references` are the schemas that it refers to, each after those that it needs.

    Raises:
        Rejection: `bad_registered_schema`, where the text is no Avro schema.
    """
    names = _Names()
    for reference in references:
        names.read(_parsed(reference))
    return names.read(_parsed(text))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.strip() if text.strip() in PRIMITIVES else _refuse("it is no JSON")


def _refuse(why: str) -> Any:
    raise Rejection("bad_registered_schema", f"not an Avro schema: {why}")


class _Names:
    """Reads schemas one after the other; each may use the names of those before it."""

    def __init__(self) -> None:
        self._known: dict[str, Type] = {}
        self._count = 0

    def read(self, document: Any) -> Type:
        """Return the tree of a schema."""
        return self._type(document, "", 0)

    def _type(self, document: Any, namespace: str, depth: int) -> Type:
        self._count += 1
        if self._count > TYPES_MAX or depth > DEPTH_MAX:
            _refuse("it has too many types, or nests them too deep")
        match document:
            case str():
                return self._named(document, namespace)
            case list():
                return Type("union", branches=[self._type(branch, namespace, depth + 1) for branch in document])
            case {"type": str() as kind} if kind in PRIMITIVES:
                return Type(kind, document)
            case {"type": "array", "items": items}:
                return Type("array", document, items=self._type(items, namespace, depth + 1))
            case {"type": "map", "values": values}:
                return Type("map", document, items=self._type(values, namespace, depth + 1))
            case {"type": str() as kind} if kind in NAMED:
                return self._definition(document, namespace, depth)
            case {"type": inner}:
                return self._type(inner, namespace, depth + 1)
            case _:
                return _refuse("a type of it has no form of Avro")  # type: ignore[no-any-return]

    def _named(self, name: str, namespace: str) -> Type:
        if name in PRIMITIVES:
            return Type(name)
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        found = self._known.get(full) or self._known.get(name)
        return found if found is not None else _refuse("it uses a name that it does not define")

    def _definition(self, document: dict[str, Any], namespace: str, depth: int) -> Type:
        name = document.get("name")
        if not isinstance(name, str) or not name:
            _refuse("a named type of it has no name")
        assert isinstance(name, str), "refused above"
        own = document.get("namespace")
        inside = name.rpartition(".")[0] if "." in name else (own if isinstance(own, str) else namespace)
        full = name if "." in name or not inside else f"{inside}.{name}"
        if full in self._known:
            _refuse("it defines a name twice")
        made = self._known[full] = Type(document["type"], document, full)
        if made.kind == "enum":
            made.symbols = _texts(document.get("symbols"))
        elif made.kind == "fixed":
            size = document.get("size")
            made.size = size if isinstance(size, int) and size >= 0 else _refuse("a fixed type of it has no size")
        else:
            made.fields = [self._field(each, inside, depth) for each in _records(document.get("fields"))]
            if len({each.name for each in made.fields}) != len(made.fields):
                _refuse("a record of it names a field twice")
        return made

    def _field(self, document: dict[str, Any], namespace: str, depth: int) -> Field:
        if not isinstance(document.get("name"), str) or "type" not in document:
            _refuse("a field of it has no name or no type")
        return Field(document["name"], self._type(document["type"], namespace, depth + 1), document)


def _texts(found: Any) -> list[str]:
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        _refuse("an enum of it has no symbols")
    return list(found)


def _records(found: Any) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        _refuse("a record of it has no fields")
    return list(found)


def bare(root: Type) -> Any:
    """Return the schema of a tree with nothing but what reading needs: without defaults, and logical types left raw.

    Named types get names of our own, so that it does not matter which names and namespaces a reader takes.
    """
    return _bare(root, {})


def _bare(node: Type, names: dict[Type, str]) -> Any:
    if node.kind == "union":
        return [_bare(branch, names) for branch in node.branches]
    if node.kind in PRIMITIVES:
        return node.kind
    if node.kind in {"array", "map"}:
        assert node.items is not None, "the tree gives it one"
        return {"type": node.kind, "items" if node.kind == "array" else "values": _bare(node.items, names)}
    if node in names:
        return names[node]
    names[node] = name = f"T{len(names)}"
    if node.kind == "enum":
        return {"type": "enum", "name": name, "symbols": node.symbols}
    if node.kind == "fixed":
        return {"type": "fixed", "name": name, "size": node.size}
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": each.name, "type": _bare(each.type, names)} for each in node.fields],
    }


def bounds(root: Type) -> Bounds:
    """Return the bounds of a schema; worked out once per type, however often it is used."""
    known: dict[Type, Bounds] = {}
    order = _inside_first(root)
    if order is None:
        return Bounds(0, MANY, MANY, MANY)
    for node in order:
        known[node] = _of_parts(node, [known[part] for part in node.parts()])
    return known[root]


def _of_parts(node: Type, parts: Sequence[Bounds]) -> Bounds:
    bytes_min = node.size if node.kind == "fixed" else _BYTES_MIN.get(node.kind, 1)
    values, per_byte = 1, max((part.per_byte for part in parts), default=0)
    if node.kind in {"record", "error"}:
        bytes_min += sum(part.bytes_min for part in parts)
        values += sum(part.values_max for part in parts)
    elif node.kind == "union":
        bytes_min += min((part.bytes_min for part in parts), default=0)
        values = max((part.values_max for part in parts), default=0)
    elif parts:
        entry = node.kind == "map"  # its key is a text: a byte and a value more
        size = parts[0].bytes_min + entry
        of_items = -(-(parts[0].values_max + entry) // size) if size else MANY
        per_byte = max(per_byte, of_items)
    deepest = 1 + max((part.deepest for part in parts), default=0)
    return Bounds(min(bytes_min, MANY), min(values, MANY), min(per_byte, MANY), deepest)


def _inside_first(root: Type) -> list[Type] | None:
    """Return the types of a tree, each behind those that it is made of; None if it has a circle."""
    order: list[Type] = []
    state: dict[Type, bool] = {}  # False while it is being walked
    stack: list[tuple[Type, bool]] = [(root, False)]
    while stack:
        node, left = stack.pop()
        if left:
            state[node] = True
            order.append(node)
            continue
        if node in state:
            if not state[node]:
                return None
            continue
        state[node] = False
        stack.append((node, True))
        stack += [(part, False) for part in node.parts() if not state.get(part, False)]
    return order
