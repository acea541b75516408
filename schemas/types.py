"""The types of columns: Iceberg's, with one text form each in specs and one JSON form each in the contract.

| type              | JSON form in the contract                                   |
|-------------------|-------------------------------------------------------------|
| boolean           | true, false                                                 |
| int               | number, 32 bits signed                                      |
| long              | text of digits, 64 bits signed: JSON readers round numbers   |
| float, double     | number, or the texts NaN, Infinity, -Infinity               |
| decimal(p,s)      | plain text with exactly s digits behind the point           |
| date              | text, 2024-02-29                                            |
| time              | text, 13:45:06.789123                                       |
| timestamp         | text, 2024-02-29T13:45:06.789123 (no zone)                  |
| timestamptz       | text, 2024-02-29T13:45:06.789123Z (UTC)                     |
| string            | text                                                        |
| json              | text: the JSON document as the source wrote it              |
| uuid              | text, lower case with hyphens                               |
| binary            | text, base64                                                |
| list<T>           | array of the form of T; elements may be null                |
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from enum import StrEnum

from schemas.errors import ConfigurationError

DECIMAL_PRECISION_MAX = 38  # Iceberg specification, Primitive Types


class Kind(StrEnum):
    """The name of a type without its parameters."""

    BOOLEAN = "boolean"
    INT = "int"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    DECIMAL = "decimal"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    STRING = "string"
    JSON = "json"
    UUID = "uuid"
    BINARY = "binary"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A type with its parameters; `str()` gives the text that `parse_type` reads."""

    kind: Kind
    precision: int = 0
    scale: int = 0
    element: ColumnType | None = None

    def __str__(self) -> str:
        """Give the form used in specs, such as `decimal(12,2)` or `list<int>`."""
        match self.kind:
            case Kind.DECIMAL:
                return f"decimal({self.precision},{self.scale})"
            case Kind.LIST:
                return f"list<{self.element}>"
            case _:
                return str(self.kind.value)


_DECIMAL = re.compile(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_LIST = re.compile(r"list<(.+)>")
_PLAIN = tuple(kind.value for kind in Kind if kind not in {Kind.DECIMAL, Kind.LIST})


def parse_type(text: str) -> ColumnType:
    """Read the text form of a type.

    Raises:
        ConfigurationError: `text` names no type, or a decimal beyond 38 digits.
    """
    text = text.strip()
    if match := _DECIMAL.fullmatch(text):
        return _decimal(int(match[1]), int(match[2]))
    if match := _LIST.fullmatch(text):
        return ColumnType(Kind.LIST, element=parse_type(match[1]))
    if text in _PLAIN:
        return ColumnType(Kind(text))
    raise ConfigurationError(f"{text!r} is not a type", hint=_nearest(text))


# What databases and people call types that have another name here.
_CALLED = {
    **dict.fromkeys(("bool", "bit", "tinyint(1)"), "boolean"),
    **dict.fromkeys(("integer", "int4", "int2", "int32", "smallint", "mediumint", "tinyint", "serial"), "int"),
    **dict.fromkeys(("bigint", "int8", "int64", "bigserial"), "long"),
    **dict.fromkeys(("real", "float4"), "float"),
    **dict.fromkeys(("number", "float8", "doubleprecision"), "double"),
    **dict.fromkeys(("text", "varchar", "char", "character", "str", "clob", "enum", "longtext"), "string"),
    **dict.fromkeys(("bytes", "bytea", "blob", "varbinary"), "binary"),
    **dict.fromkeys(("jsonb", "object", "struct", "map", "document"), "json"),
    "datetime": "timestamp",
    "timestampwithtimezone": "timestamptz",
    **dict.fromkeys(("array", "list"), "list<type>"),
    **dict.fromkeys(("numeric", "decimal", "money"), "decimal(p,s)"),
}
_ARRAY = re.compile(r"(.+)\[\]|array<(.+)>")
_SIZED = re.compile(r"(\w+)\(([0-9 ,]*)\)")


def _nearest(text: str) -> str:
    """Return the hint of what was meant by a text that is no type."""
    names = ", ".join(_PLAIN)
    near = _meant(text.lower().replace(" ", ""))
    said = f"did you mean {near!r}? " if near else ""
    return f"{said}types are {names}, decimal(p,s), list<type>"


def _meant(text: str) -> str | None:
    if found := _ARRAY.fullmatch(text):
        inner = found[1] or found[2]
        element = inner if inner in _PLAIN else _meant(inner)
        return None if element is None else f"list<{element}>"
    if found := _LIST.fullmatch(text):
        element = _meant(found[1])
        return None if element is None else f"list<{element}>"
    name, size = (found[1], found[2]) if (found := _SIZED.fullmatch(text)) else (text, "")
    called = _CALLED.get(text) or _CALLED.get(name)
    if called == "decimal(p,s)" and size:
        precision, _, scale = size.partition(",")
        return f"decimal({precision},{scale or 0})"
    if called is not None:
        return called
    known = {**{each: each for each in _PLAIN}, **_CALLED}
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return known[near[0]] if near else None


def _decimal(precision: int, scale: int) -> ColumnType:
    if not 1 <= precision <= DECIMAL_PRECISION_MAX or scale > precision:
        raise ConfigurationError(
            f"decimal({precision},{scale}) is out of range",
            hint=f"precision is 1 to {DECIMAL_PRECISION_MAX}, scale at most the precision; use string for more digits",
        )
    return ColumnType(Kind.DECIMAL, precision, scale)


# Values of these types are stored out of line by some source (TOAST, LOB), so that an update may not carry them.
MAY_BE_UNAVAILABLE = frozenset({Kind.STRING, Kind.JSON, Kind.BINARY, Kind.LIST})
