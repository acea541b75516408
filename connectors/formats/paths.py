"""Paths into JSON documents, `$.payload."odd name".row`: names only, all of them found in one or few passes of C."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType
from pydantic import AfterValidator

from connectors.formats.inspection import inspect

ROOT = "$"
_PART = re.compile(r"""\.(?:([A-Za-z_][A-Za-z0-9_-]*)|"([^"\\\x00-\x1f]+)")""")
_PATH = re.compile(rf"\$(?:{_PART.pattern})*")
_encode = msgspec.json.Encoder().encode


def _checked(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise ValueError(f'{text!r} is no path; write one such as $.payload.row or $."odd name".row')
    return text


Path = Annotated[str, AfterValidator(_checked)]


def names_of(path: str) -> tuple[str, ...]:
    """Return the names of a path, outermost first."""
    return tuple(plain or quoted for plain, quoted in _PART.findall(path))


class Paths:
    """A set of paths, made ready to be found in many documents."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Compile the paths; one that leads further into what another one takes needs a pass of its own."""
        self._places: dict[str, tuple[int, tuple[str, ...]]] = {}
        trees: list[dict[str, Any]] = []
        by_path = {path: names_of(path) for path in paths if path != ROOT}
        homes = {path: _home(trees, names) for path, names in by_path.items()}
        types = [_struct(tree) for tree in trees]
        self._decoders = [msgspec.json.Decoder(type_).decode for type_ in types]
        for path, home in homes.items():
            self._places[path] = home, _attributes(trees[home], by_path[path])
        counts = Counter(chain.from_iterable(_names(tree) for tree in trees[:1]))
        for tree in trees[1:]:
            counts |= Counter(_names(tree))
        self._needles = [(_encode(name), most) for name, most in counts.items()]

    def read(self, value: bytes, *, depth_max: int) -> list[Any]:
        """Return what `find` looks into.

        Raises:
            msgspec.MsgspecError: it is no JSON, or no object where a path leads through.
            Rejection: it names a member twice.
        """
        # A name that stands there more often than the paths say may be one that is named twice; so may an escaped one.
        if b"\\u00" in value or any(value.count(needle) > most for needle, most in self._needles):
            inspect(value, depth_max=depth_max)
        return [decode(value) for decode in self._decoders]

    def find(self, value: bytes, found: list[Any], path: str) -> Any:
        """Return the JSON that a path leads to, None where it finds nothing or null."""
        if path == ROOT:
            return value
        home, attributes = self._places[path]
        node = found[home]
        for attribute in attributes:
            if node is None or node is UNSET:
                return None
            node = getattr(node, attribute)
        return None if node is UNSET or bytes(node) == b"null" else node


def _home(trees: list[dict[str, Any]], names: tuple[str, ...]) -> int:
    """Put a path into the first tree that can hold it, and return that one's number."""
    for number, tree in enumerate(trees):
        if _put(tree, names):
            return number
    trees.append({})
    _put(trees[-1], names)
    return len(trees) - 1


def _put(tree: dict[str, Any], names: tuple[str, ...]) -> bool:
    """Add a path to a tree, unless it or a part of it ends elsewhere there."""
    node = tree
    for at, name in enumerate(names[:-1]):
        if name not in node:
            for inner in names[at:-1]:
                node[inner] = {}
                node = node[inner]
            break
        if node[name] is None:
            return False
        node = node[name]
    if node.get(names[-1], None) is not None:
        return False
    node[names[-1]] = None
    return True


def _struct(tree: dict[str, Any]) -> Any:
    fields: list[Any] = []
    for number, inner in enumerate(tree.values()):
        type_ = msgspec.Raw if inner is None else _struct(inner) | None
        fields.append((f"f{number}", type_ | UnsetType, UNSET))
    return msgspec.defstruct("Node", fields, rename={f"f{n}": name for n, name in enumerate(tree)}, gc=False)


def _attributes(tree: dict[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    found, node = [], tree
    for name in names:
        found.append(f"f{list(node).index(name)}")
        node = node[name]
    return tuple(found)


def _names(tree: dict[str, Any]) -> list[str]:
    inner = chain.from_iterable(_names(one) for one in tree.values() if one is not None)
    return [*tree, *inner]
