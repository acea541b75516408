"""Avro schemas compiled to a function of Python that reads one value, which is faster than reading by the schema.

Of the schemas that connectors write: records, unions, arrays and plain values, in no circle. What else there is (maps,
types that contain themselves, endless rows) is read by fastavro. The bytes are those of
https://avro.apache.org/docs/1.12.0/specification/#binary-encoding, the values those that fastavro makes of them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator
from typing import Any

from connectors.formats.avro_scan import VARINT_BYTES_MAX
from connectors.formats.avro_schema import MANY, Field, Type, bounds

Read = Callable[[bytes], tuple[Any, int]]  # the value that bytes begin with, and where it ends
LINES_MAX = 20_000  # of one function: a table has a few thousand columns at most
_BLOCKS = 15  # Python compiles no more loops inside of each other than twenty
_float, _double = struct.Struct("<f").unpack_from, struct.Struct("<d").unpack_from


class DoesNotFit(Exception):
    """The bytes are no value of the schema; the message says why, without any of them."""


def compiled(root: Type, skipped: Collection[Field] = ()) -> Read | None:
    """Return what reads a value of a schema, without fields that are `skipped`; None where fastavro has to.

    What is returned raises DoesNotFit, IndexError or struct.error where bytes are missing or wrong, UnicodeDecodeError
    for a text that is none. A value that ends beyond its bytes may come too: whoever calls looks at where it ends.
    """
    if bounds(root).deepest >= MANY:
        return None
    writer = _Writer(skipped)
    try:
        writer.value(root, "v", 1, 0)
    except _NotHere:
        return None
    lines = ["def read(b):", " i = 0", " z = len(b)", *writer.lines, " return v, i"]
    names = {**writer.names, "_long": _long, "_float": _float, "_double": _double, "_No": DoesNotFit}
    exec(compile("\n".join(lines), "<avro schema>", "exec"), names)  # noqa: S102 - a schema's names are constants in it
    read: Read = names["read"]
    return read


class _NotHere(Exception):
    """A schema that is not compiled."""


def _reader_of_long() -> Callable[[bytes, int], tuple[int, int]]:
    """Return what reads the number of two bytes or more at a place, still in its zigzag, and where it ends.

    Each byte has seven bits, the lowest first; the eighth says that more follow, and is taken off again. It is written
    out byte by byte: a loop takes a third longer.
    """
    lines = ["def long(b, i):", " n = b[i]"]
    for place in range(1, VARINT_BYTES_MAX):
        lines += [f" m = b[i + {place}]", f" n += (m << {7 * place}) - {1 << 7 * place}"]
        lines.append(f" if m < {128 if place < VARINT_BYTES_MAX - 1 else 2}: return n, i + {place + 1}")
    lines.append(" raise DoesNotFit('a number has more than 64 bits')")
    names: dict[str, Any] = {"DoesNotFit": DoesNotFit}
    exec("\n".join(lines), names)  # noqa: S102 - nothing of anybody's is in it
    return names["long"]  # type: ignore[no-any-return]


_long = _reader_of_long()


class _Writer:
    """Writes the lines that read a value; `names` are the constants that they use."""

    def __init__(self, skipped: Collection[Field]) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}
        self._count, self._skipped = 0, {id(each) for each in skipped}

    def value(self, node: Type, target: str, indent: int, depth: int) -> None:
        """Write what reads a value of a type at the place `i` of `b` into a variable, and moves `i` behind it."""
        if depth > _BLOCKS or len(self.lines) > LINES_MAX:
            raise _NotHere
        for line in self._of(node, target, indent, depth):
            self.lines.append(" " * indent + line)

    def _of(self, node: Type, target: str, indent: int, depth: int) -> Iterator[str]:
        match node.kind:
            case "null":
                yield f"{target} = None"
            case "boolean":
                yield "if b[i] > 1: raise _No('a boolean is neither of the two')"
                yield f"{target} = b[i] == 1"
                yield "i += 1"
            case "int" | "long":
                yield from self._number()
                yield f"{target} = (n >> 1) ^ -(n & 1)"
            case "float":
                yield f"({target},) = _float(b, i)"
                yield "i += 4"
            case "double":
                yield f"({target},) = _double(b, i)"
                yield "i += 8"
            case "string" | "bytes":
                yield from self._sized()
                yield f"{target} = b[i:j].decode()" if node.kind == "string" else f"{target} = b[i:j]"
                yield "i = j"
            case "fixed":
                yield f"j = i + {node.size}"
                yield "if j > z: raise _No('the record ends inside a value')"
                yield f"{target} = b[i:j]"
                yield "i = j"
            case "enum":
                yield from self._number()
                yield f"if n & 1 or n >> 1 >= {len(node.symbols)}: raise _No('an enum has no such symbol')"
                yield f"{target} = {self._constant(tuple(node.symbols))}[n >> 1]"
            case "union":
                yield from self._union(node, target, indent, depth)
            case "record" | "error":
                yield from self._record(node, target, indent, depth)
            case "array":
                yield from self._array(node, target, indent, depth)
            case _:
                raise _NotHere

    def _constant(self, value: Any) -> str:
        name = self._new("c")
        self.names[name] = value
        return name

    def _new(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    @staticmethod
    def _number() -> Iterator[str]:
        yield "n = b[i]"
        yield "if n < 128: i += 1"
        yield "else: n, i = _long(b, i)"

    def _sized(self) -> Iterator[str]:
        yield from self._number()
        yield "j = i + (n >> 1)"
        yield "if n & 1 or j > z: raise _No('the record ends inside a value')"

    def _union(self, node: Type, target: str, indent: int, depth: int) -> Iterator[str]:
        yield from self._number()
        word = "if"
        for number, branch in enumerate(node.branches):
            yield f"{word} n == {2 * number}:"
            self.value(branch, target, indent + 1, depth + 1)
            word = "elif"
        yield "else: raise _No('a union has no such branch')" if node.branches else "raise _No('a union is empty')"

    def _record(self, node: Type, target: str, indent: int, depth: int) -> Iterator[str]:
        """Read all fields into variables of their own, then make the dict of them at once."""
        parts = []
        for each in node.fields:
            if id(each) in self._skipped:
                yield from self._past(each.type)
                continue
            if each.type.kind == "null":
                parts.append(f"{each.name!r}: None")
                continue
            variable = self._new("v")
            self.value(each.type, variable, indent, depth)
            parts.append(f"{each.name!r}: {variable}")
        yield f"{target} = {{{', '.join(parts)}}}"

    def _past(self, node: Type) -> Iterator[str]:
        """Go behind a value that nobody reads."""
        match node.kind:
            case "null":
                return
            case "boolean":
                yield "i += 1"
            case "int" | "long":
                yield "while b[i] > 127: i += 1"
                yield "i += 1"
            case "string" | "bytes":
                yield from self._sized()
                yield "i = j"
            case "union":
                yield from self._number()
                for number, branch in enumerate(node.branches):
                    yield f"{'elif' if number else 'if'} n == {2 * number}:"
                    yield from (f" {line}" for line in (*self._past(branch), "pass"))
                yield "else: raise _No('a union has no such branch')" if node.branches else "raise _No('no branch')"
            case _:
                raise _NotHere

    def _array(self, node: Type, target: str, indent: int, depth: int) -> Iterator[str]:
        assert node.items is not None, "the tree gives it one"
        items, count, item = self._new("l"), self._new("k"), self._new("v")
        yield f"{items} = []"
        yield "while True:"
        yield from (f" {line}" for line in self._number())
        yield f" {count} = (n >> 1) ^ -(n & 1)"
        yield f" if {count} == 0: break"
        yield f" if {count} < 0:"
        yield f"  {count} = -{count}"
        yield from (f"  {line}" for line in self._number())
        yield f" for _ in range({count}):"
        self.value(node.items, item, indent + 2, depth + 2)
        yield f"  {items}.append({item})"
        yield f"{target} = {items}"
