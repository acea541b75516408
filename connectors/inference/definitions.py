"""What schema-change topics say of tables: their columns as the source defines them, and their primary keys.

Debezium's connectors for MySQL and MariaDB write such a topic, called as the prefix of their topics; the names of types
of other sources are not read, only their keys. How a value arrives is the connector's setting (decimal.handling.mode,
time.precision.mode, …), which no definition says: of each column there are several ways, and the values decide.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from connectors.formats.inspection import is_block
from connectors.inference.base import SampledRecord
from connectors.inference.fitting import UNREADABLE, Way, exists, takes
from schemas.types import DECIMAL_PRECISION_MAX, ColumnType, Kind

TABLES_MAX = 10_000
_NAMED = frozenset({"mysql", "mariadb"})  # whose names of types are read
_PART = re.compile(r'"((?:[^"]|"")*)"')
_MILLIS_DIGITS, _MICROS_DIGITS = 3, 6
_decode = msgspec.json.Decoder().decode

# In which unit an integer says a time of the years 1973 to 2096; most times are of those.
_UNITS = (
    (range(10**11, 4 * 10**12), frozenset({"time.Timestamp", "connect.Timestamp"})),
    (range(10**14, 4 * 10**15), frozenset({"time.MicroTimestamp"})),
    (range(10**17, 4 * 10**18), frozenset({"time.NanoTimestamp"})),
)
_END_OF_TIME_MS = range(253_402_200_000_000, 253_402_400_000_000)  # the last day of 9999, which people mean nothing by


@dataclass(frozen=True, slots=True)
class Definition:
    """A table as its source defines it: the key's columns, and of each column the ways in which it may arrive."""

    key: tuple[str, ...]
    columns: Mapping[str, Sequence[Way]]


@dataclass(slots=True)
class Definitions:
    """The newest definition of each table, also of one that was dropped: its records are there."""

    _known: dict[tuple[str, str], Definition] = field(default_factory=dict)

    def add(self, record: SampledRecord) -> bool:
        """Take a record; return whether it says anything of tables. What is in it never raises."""
        try:
            said = _decode(record.value or b"null")
        except UNREADABLE:
            return False
        if is_block(said):
            said = said["payload"]
        source = said.get("source") if isinstance(said, dict) else None
        changes = said.get("tableChanges") if isinstance(said, dict) else None
        if not isinstance(source, dict) or not isinstance(changes, list):
            return False
        connector, name, database = (str(source.get(each) or "") for each in ("connector", "name", "db"))
        for change in changes:
            if isinstance(change, dict):
                self._take(change, connector, f"{connector}\0{name}\0{database}")
        return True

    def _take(self, change: Mapping[str, Any], connector: str, origin: str) -> None:
        names = [part.replace('""', '"') for part in _PART.findall(str(change.get("id")))]
        table = change.get("table")
        place = origin, ".".join(names[-2:])
        if isinstance(table, dict) and (place in self._known or len(self._known) < TABLES_MAX):
            self._known[place] = _definition(table, connector)

    def of(self, origin: str, table: str) -> Definition | None:
        """Return the definition of a table, by origin and name as samples have them."""
        return self._known.get((origin, table))


class Declared:
    """A column as its definition says it: of the ways in which it may arrive, those that took every value so far."""

    def __init__(self, ways: Sequence[Way]) -> None:
        """Have seen no value."""
        self._open = list(ways)
        self._units: Counter[frozenset[str]] = Counter()

    def absorb(self, values: Sequence[Any]) -> None:
        """Take values of which none is a placeholder."""
        self._open = [way for way in self._open if takes(way, values)]
        if any(way.encoding in encodings for way in self._open for _, encodings in _UNITS):
            whole = [value for value in values if type(value) is int and value not in _END_OF_TIME_MS]
            self._units.update(encodings for value in whole for unit, encodings in _UNITS if value in unit)

    def way(self) -> Way | None:
        """Return the first way that is left, None where the values are not what the definition says."""
        return next((way for way in self._open if self._is_likely(way)), None)

    def _is_likely(self, way: Way) -> bool:
        """Tell whether integers say times in the unit of the way, if any of them looks like one."""
        own = next((encodings for _, encodings in _UNITS if way.encoding in encodings), None)
        return own is None or not self._units or self._units[own] > 0


def _definition(table: Mapping[str, Any], connector: str) -> Definition:
    key = table.get("primaryKeyColumnNames")
    names = tuple(str(name) for name in key) if isinstance(key, list) else ()
    listed = table.get("columns")
    columns = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    ways = {str(each.get("name")): _ways(each) for each in columns} if connector in _NAMED else {}
    return Definition(names, {name: found for name, found in ways.items() if found})


def _ways(column: Mapping[str, Any]) -> list[Way]:
    words = str(column.get("typeName") or "").upper().split()
    make = _OF_TYPES.get(words[0]) if words else None
    if make is None:
        return []
    length, scale = (value if isinstance(value := column.get(name), int) else None for name in ("length", "scale"))
    return [way for way in make(length, scale, "UNSIGNED" in words) if exists(way)]


_Make = Callable[[int | None, int | None, bool], list[Way]]


def _plain(kind: Kind, *encodings: str) -> _Make:
    return lambda _length, _scale, _unsigned: [Way(ColumnType(kind), encoding) for encoding in encodings]


def _small(_length: int | None, _scale: int | None, _unsigned: bool) -> list[Way]:  # noqa: FBT001 - as all makers
    return [Way(ColumnType(Kind.INT), "int"), Way(ColumnType(Kind.BOOLEAN), "boolean")]


def _int(_length: int | None, _scale: int | None, unsigned: bool) -> list[Way]:  # noqa: FBT001 - as all makers
    return [Way(ColumnType(Kind.LONG if unsigned else Kind.INT), "int")]


def _long(_length: int | None, _scale: int | None, unsigned: bool) -> list[Way]:  # noqa: FBT001 - as all makers
    digits = ColumnType(Kind.DECIMAL, 20, 0)
    beyond = [Way(digits, "connect.Decimal", 0), Way(digits, "int")] if unsigned else []
    return [Way(ColumnType(Kind.LONG), "int"), *beyond]


def _decimal(length: int | None, scale: int | None, _unsigned: bool) -> list[Way]:  # noqa: FBT001 - as all makers
    digits, behind = length or 10, scale or 0  # as MySQL has it where nothing is said
    if digits > DECIMAL_PRECISION_MAX:
        text = ColumnType(Kind.STRING)
        return [Way(text, "connect.Decimal", behind), Way(text, "string"), Way(text, "number")]
    type_ = ColumnType(Kind.DECIMAL, digits, behind)
    return [Way(type_, "connect.Decimal", behind), Way(type_, "string"), Way(type_, "double")]


def _stamps(length: int | None, _scale: int | None, _unsigned: bool) -> list[Way]:  # noqa: FBT001 - as all makers
    by_length = ["time.Timestamp", "time.MicroTimestamp", "time.NanoTimestamp"]
    if _MILLIS_DIGITS < (length or 0) <= _MICROS_DIGITS:
        by_length = ["time.MicroTimestamp", "time.Timestamp", "time.NanoTimestamp"]
    return [Way(ColumnType(Kind.TIMESTAMP), encoding) for encoding in (*by_length, "time.IsoTimestamp")]


_TEXT = _plain(Kind.STRING, "string")
_BYTES = _plain(Kind.BINARY, "base64", "base64url", "hex")
_OF_TYPES: dict[str, _Make] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "MEDIUMINT", "YEAR"), _small),
    **dict.fromkeys(("INT", "INTEGER"), _int),
    "BIGINT": _long,
    "FLOAT": lambda _length, _scale, _unsigned: [Way(ColumnType(kind), "double") for kind in (Kind.FLOAT, Kind.DOUBLE)],
    **dict.fromkeys(("DOUBLE", "REAL"), _plain(Kind.DOUBLE, "double")),
    **dict.fromkeys(("DECIMAL", "NUMERIC", "DEC", "FIXED"), _decimal),
    **dict.fromkeys(("CHAR", "VARCHAR", "TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT", "ENUM", "SET"), _TEXT),
    **dict.fromkeys(("BINARY", "VARBINARY", "TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB"), _BYTES),
    "JSON": _plain(Kind.JSON, "data.Json"),
    "DATE": _plain(Kind.DATE, "time.Date", "time.IsoDate"),
    "TIME": lambda _length, _scale, _unsigned: [
        Way(ColumnType(Kind.TIME), "time.MicroTime"),
        Way(ColumnType(Kind.TIME), "time.IsoTime"),
        Way(ColumnType(Kind.LONG), "time.MicroTime"),  # below 0, or from 24:00 on
    ],
    "DATETIME": _stamps,
    "TIMESTAMP": _plain(Kind.TIMESTAMPTZ, "time.ZonedTimestamp"),
}
