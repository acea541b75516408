"""Documents that are changed inside: a delta applied to the whole document, or told by columns as far as it goes.

A delta says fields that were set or removed and arrays that were cut, by paths such as `address.city` or `tags.0`. With
the document as it was, the document as it is follows. Without it a column is known where the delta says all of it: a
column that stands inside of documents (`paths` of the options) is known by itself. One of which only a part was changed
is neither what it was nor known, and no row can say that: the delta is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, Field

from connectors.formats.inspection import depth_of
from connectors.formats.objects import elements, members, written
from connectors.formats.paths import Path, names_of
from connectors.formats.reasons import Rejection
from schemas.document import Strict
from schemas.errors import ConfigurationError
from schemas.table import TableSpec

NULL = msgspec.Raw(b"null")
PADDED_MAX = 10_000  # elements behind the ends of arrays that a delta may make by setting later ones
DOTS_MAX = 8  # in the name of a field
_SEPARATOR = "."
_Opened = dict[tuple[str, ...], dict[str, msgspec.Raw] | None]


def _inner(path: str) -> str:
    names = names_of(path)
    if len(names) < 2:  # noqa: PLR2004 - one name is a field of the document
        raise ValueError(f"{path!r} does not lead into a field; write one such as $.address.city")
    if odd := [name for name in names if name.isdecimal() or _SEPARATOR in name or name.startswith("$")]:
        raise ValueError(f"{path!r}: an update could not be told apart by {odd[0]!r}: no numbers, no dots, no $")
    return path


class DocumentOptions(Strict):
    """Columns that stand inside of a document's fields, by column: `city: $.address.city`."""

    paths: dict[str, Annotated[Path, AfterValidator(_inner)]] = Field(default={})


@dataclass(frozen=True, slots=True)
class Delta:
    """What an update says that it changed; `truncated` are arrays with the sizes that they were cut to."""

    updated: Mapping[str, msgspec.Raw]
    removed: Sequence[str]
    truncated: Sequence[tuple[str, int]]


def delta_of(
    updated: bytes, removed: Sequence[str], truncated: Sequence[tuple[str, int]], *, depth_max: int
) -> Delta:  # fmt: skip
    """Return a delta; `updated` is the JSON object of what was set.

    Raises:
        Rejection: it is none, names a path twice, or is too deep.
    """
    if depth_of(updated, enough=depth_max) > depth_max:
        raise Rejection("too_deep", f"nested deeper than {depth_max} levels")
    paths = (*removed, *(path for path, _ in truncated))
    delta = Delta(members(updated, depth_max=depth_max), removed, truncated)
    if any(path.count(_SEPARATOR) > depth_max for path in (*delta.updated, *paths)):
        raise Rejection("too_deep", f"a path leads deeper than {depth_max} levels")
    return delta


def applied(document: bytes, delta: Delta, *, depth_max: int) -> bytes:
    """Return the document after the delta, of what it was before.

    Raises:
        Rejection: it is no JSON object, or not the one that was changed.
    """
    tree = _Tree(document, depth_max)
    for path, size in delta.truncated:
        array = tree.opened(*tree.place(path))
        if not isinstance(array, list) or not 0 <= size <= len(array):
            raise _another()
        del array[size:]
    for path in delta.removed:
        inside, name = tree.place(path)
        if isinstance(inside, list):  # an element cannot go without those behind it moving up
            tree.put(inside, name, NULL)
        else:
            inside.pop(name, None)
    for path, value in delta.updated.items():
        tree.put(*tree.place(path), value)
    return written(tree.root)


class _Tree:
    """A document of which only that is taken apart which a path leads through."""

    def __init__(self, document: bytes, depth_max: int) -> None:
        self._depth_max, self._padded = depth_max, 0
        self._dots: dict[int, int] = {}  # in the names of an object that has such
        self.root = self._object(document)

    def _object(self, raw: Any) -> dict[str, Any]:
        found: dict[str, Any] = members(raw, depth_max=self._depth_max)
        dots = max((name.count(_SEPARATOR) for name in found), default=0)
        if dots > DOTS_MAX:
            raise Rejection(
                "partial_field", f"a field beside the one updated has more than {DOTS_MAX} dots in its name"
            )
        if dots:
            self._dots[id(found)] = dots
        return found

    def place(self, path: str) -> tuple[Any, Any]:
        """Return the object or array that holds what a path leads to, and its name or index there."""
        inside: Any = self.root
        while True:
            name, rest = self._step(inside, path)
            if not rest:
                return inside, name
            if isinstance(inside, dict) and name not in inside:
                inside[name] = {}
            found = self.opened(inside, name)
            if not isinstance(found, dict | list):
                raise _another()
            inside, path = found, rest

    def _step(self, inside: Any, path: str) -> tuple[Any, str]:
        """Return the name, or the index, that a path begins with, and what is behind it.

        A field's own name may have dots: the one that is there is meant.
        """
        first, _, rest = path.partition(_SEPARATOR)
        if isinstance(inside, list):
            if not (first.isascii() and first.isdecimal() and len(first) < 10):  # noqa: PLR2004 - a number of 32 bits
                raise _another()
            return int(first), rest
        if (dots := self._dots.get(id(inside))) is None:
            return first, rest
        names = path.split(_SEPARATOR, dots + 1)[: dots + 1]
        named = [name for name in accumulate(names, _joined) if name in inside]
        if len(named) > 1:
            raise Rejection("partial_field", f"the update's path may mean {len(named)} fields, of which one has a dot")
        name = named[0] if named else first
        return name, path[len(name) + 1 :]

    def opened(self, inside: Any, name: Any) -> Any:
        """Return what stands in an object or array at `name`, taken apart if it can be; it stays so."""
        if isinstance(inside, list) and name >= len(inside):
            return None
        value = inside.get(name) if isinstance(inside, dict) else inside[name]
        if isinstance(value, msgspec.Raw):
            start = bytes(value)[:1]
            inside[name] = value = self._object(value) if start == b"{" else elements(value) if start == b"[" else value
        return value

    def put(self, inside: Any, name: Any, value: Any) -> None:
        """Put a value where `place` says; an array gets as many nulls as it lacks elements before it."""
        if isinstance(inside, list) and name > len(inside):
            self._padded += name - len(inside)
            if self._padded > PADDED_MAX:
                raise Rejection("partial_field", f"the update sets more than {PADDED_MAX} elements behind arrays' ends")
            inside += [NULL] * (name - len(inside))
        if isinstance(inside, list) and name == len(inside):
            inside.append(value)
        else:
            inside[name] = value


def _joined(head: str, name: str) -> str:
    return head + _SEPARATOR + name


def _another() -> Rejection:
    return Rejection("partial_field", "the update leads into an object or an array that `before` does not have")


class DocumentColumns:
    """The columns of documents: fields, or what stands inside of fields."""

    def __init__(self, spec: TableSpec, paths: Mapping[str, str], *, depth_max: int) -> None:
        """Prepare for the columns of the spec.

        Raises:
            ConfigurationError: a path is that of no column, or of one of the key.
        """
        wrong = [name for name in paths if name not in spec.columns or name in spec.key]
        if wrong:
            raise ConfigurationError(
                f"table {spec.table}, options of {spec.format}: paths: {', '.join(wrong)} can have none",
                hint="a path belongs to a column that `columns` names, and that is not of the key",
            )
        self._depth_max = depth_max
        self._names = list(spec.columns)
        own = {name: (name,) for name in spec.columns}
        self._paths: dict[str, tuple[str, ...]] = own | {name: names_of(path) for name, path in paths.items()}
        self._inner = list(paths)
        self._levels = max(map(len, self._paths.values()))
        self._by_path: dict[tuple[str, ...], list[str]] = {}
        self._below: dict[tuple[str, ...], list[str]] = {}
        for name, path in self._paths.items():
            self._by_path.setdefault(path, []).append(name)
            for level in range(1, len(path)):
                self._below.setdefault(path[:level], []).append(name)
        self._hidden = {path[0] for path in self._paths.values()} | self._paths.keys()

    def row(self, document: bytes) -> bytes:
        """Return a whole document as a row; of a column that it does not have, nothing.

        Raises:
            Rejection: it is no JSON object, or names a field twice.
        """
        if not self._inner:
            return document
        fields = members(document, depth_max=self._depth_max)
        row = {name: raw for name, raw in fields.items() if name not in self._hidden or self._is_field(name)}
        opened: _Opened = {(): fields}
        for name in self._inner:
            if (found := self._found(opened, self._paths[name])) is not None:
                row[name] = found
        return written(row)

    def of_delta(self, delta: Delta) -> tuple[dict[str, Any], list[str]]:
        """Return what a delta says of columns, and the columns of which it says nothing. What was removed is null.

        Raises:
            Rejection: `partial_field`, where it says a part of a column.
        """
        row: dict[str, Any] = {}
        for path, raw in delta.updated.items():
            self._take(path, raw, row)
        for path in delta.removed:
            self._take(path, NULL, row)
        for path, _ in delta.truncated:
            names = self._checked(path)
            self._refuse(self._by_path.get(names, ()))
            if names[0] not in self._hidden:
                row.setdefault(names[0], NULL)
        return row, [name for name in self._names if name not in row]

    def _take(self, path: str, raw: msgspec.Raw, row: dict[str, Any]) -> None:
        """Put into `row` what columns are once `path` is `raw`."""
        names = self._checked(path)
        row.update(dict.fromkeys(self._by_path.get(names, ()), raw))
        opened: _Opened = {}
        for name in self._below.get(names, ()):
            opened = opened or {names: self._inside(raw)}
            row[name] = self._found(opened, self._paths[name]) or NULL
        if names[0] not in self._hidden:  # unknown: nothing but its name is read
            row.setdefault(names[0], raw if len(names) == 1 else NULL)

    def _checked(self, path: str) -> tuple[str, ...]:
        """Return the names of a path, as far as columns reach and one more.

        Raises:
            Rejection: it leads into a column.
        """
        names = tuple(path.split(_SEPARATOR, self._levels))
        for level in range(1, len(names)):
            self._refuse(self._by_path.get(names[:level], ()))
        if len(names) > 1 and self._is_field(path):  # a field whose own name has dots, or what is inside of another
            self._refuse([path])
        return names

    def _is_field(self, name: str) -> bool:
        return self._paths.get(name) == (name,)

    def _found(self, opened: _Opened, path: tuple[str, ...]) -> msgspec.Raw | None:
        """Return what a path leads to, None where nothing is there."""
        inside = self._object(opened, path[:-1])
        return None if inside is None else inside.get(path[-1])

    def _object(self, opened: _Opened, path: tuple[str, ...]) -> dict[str, msgspec.Raw] | None:
        """Return the members of the object at a path, None where there is none; `opened` are those found so far."""
        if path not in opened:
            raw = self._found(opened, path)
            opened[path] = None if raw is None else self._inside(raw)
        return opened[path]

    def _inside(self, raw: msgspec.Raw) -> dict[str, msgspec.Raw] | None:
        return members(raw, depth_max=self._depth_max) if bytes(raw).startswith(b"{") else None

    @staticmethod
    def _refuse(columns: Sequence[str]) -> None:
        if columns:
            raise Rejection("partial_field", f"column {columns[0]}: the update says a part inside of it, not all of it")
