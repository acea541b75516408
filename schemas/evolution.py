"""What the records of a table have that its spec does not: columns found by workers, and the spec that holds them too.

Each worker's slot keeps what it found in a record of its own beside the table's entry, so that nobody writes over
anybody. The spec in force is the registered one joined with all of them. The join of two findings is commutative,
associative and idempotent, so the order in which they arrive changes nothing, and nothing found at once is lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Annotated

from pydantic import Field

from schemas import versions
from schemas.document import Strict, read_record
from schemas.mask import Mask
from schemas.table import COLUMNS_MAX, OWN_PREFIX, SENT_AS_MAX, Column, TableEntry, TableSpec, TypeText
from schemas.types import ColumnType, Kind, parse_type

NAME_CHARACTERS_MAX = 255
FOUND_MAX = 4  # findings of one column, each under another type of the spec
TEXT_SUFFIX = "__text"
ANY = "any"  # the encoding that takes every value: a text as it is, anything else as its JSON
STRING = ColumnType(Kind.STRING)

_PREFIX = "evolved/"
_CHAINS = ((Kind.INT, Kind.LONG), (Kind.FLOAT, Kind.DOUBLE))
_TEXT_OF = re.compile(r"text_of\((.+?)(?: as (\S+))?\)")
_REST_OF = re.compile(r"rest_of\((.+)\)")


def promoted(one: ColumnType, other: ColumnType) -> ColumnType | None:
    """Return the narrowest type that Iceberg promotes both to without writing a file anew, None if there is none.

    These are int to long, float to double, and a decimal to one of more digits at the same scale
    (https://iceberg.apache.org/spec/#schema-evolution), also of a list's elements.
    """
    if one == other:
        return one
    if one.kind is Kind.LIST and other.kind is Kind.LIST:
        assert one.element is not None, "a list has an element type"
        assert other.element is not None, "a list has an element type"
        element = promoted(one.element, other.element)
        return None if element is None else ColumnType(Kind.LIST, element=element)
    if one.kind is Kind.DECIMAL and other.kind is Kind.DECIMAL and one.scale == other.scale:
        return max(one, other, key=lambda type_: type_.precision)
    for chain in _CHAINS:
        if one.kind in chain and other.kind in chain:
            return ColumnType(chain[-1])
    return None


def promotes(narrow: ColumnType, wide: ColumnType) -> bool:
    """Tell whether Iceberg reads a file of one type as the other, or they are the same."""
    return promoted(narrow, wide) == wide


def text_of(type_: ColumnType, encoding: str | None) -> str:
    """Return the encoding of a string column that has been of `type_`: what the type holds has the text of its form."""
    return f"text_of({type_})" if encoding is None else f"text_of({type_} as {encoding})"


def read_text_of(encoding: str | None) -> tuple[ColumnType, str | None] | None:
    """Return what `text_of` was told, None for another encoding.

    Raises:
        ConfigurationError: it names no type.
    """
    found = _TEXT_OF.fullmatch(encoding or "")
    return None if found is None else (parse_type(found[1]), found[2])


def rest_of(column: str) -> str:
    """Return the encoding of a string column that takes what the type of `column` does not hold."""
    return f"rest_of({column})"


def read_rest_of(encoding: str | None) -> str | None:
    """Return the column that `rest_of` was told, None for another encoding."""
    found = _REST_OF.fullmatch(encoding or "")
    return None if found is None else found[1]


def may_be_added(name: str) -> bool:
    """Tell whether a column of this name may be one of a table: not ours, not endless, one that is found."""
    odd = any(character in '"\\' or character < " " for character in name)
    return bool(name) and not odd and not name.startswith(OWN_PREFIX) and len(name) <= NAME_CHARACTERS_MAX


class Found(Strict):
    """What a worker found of one column: the type that its values need, beside the one that it was `under`.

    `under` is the type that the registered spec gave it, None for a column that the spec did not name, of which alone
    `encoding` says something. What no promotion holds is told by `text`, the column becomes a string, or by `rest`, it
    goes to a column of its own. `sent_as` are the names that its source has given it since, in the order of the
    alphabet.
    """

    type: TypeText
    encoding: str | None = None
    under: TypeText | None = None
    text: bool = False
    rest: bool = False
    sent_as: Annotated[list[str], Field(max_length=SENT_AS_MAX)] = []
    since: str = ""

    def join(self, other: Found) -> Found:
        """Return what holds the values of both, which are under one type."""
        assert self.under == other.under, "findings under different types hold side by side"
        type_, encoding = promoted(self.type, other.type), self.encoding
        if type_ is None or encoding != other.encoding:
            type_, encoding = STRING, ANY
        return Found(
            type=type_,
            encoding=encoding,
            under=self.under,
            text=self.text or other.text,
            rest=self.rest or other.rest,
            sent_as=sorted({*self.sent_as, *other.sent_as})[:SENT_AS_MAX],
            since=min(self.since, other.since),
        )


Columns = Mapping[str, Iterable[Found]]


class Evolved(Strict):
    """What the worker of one slot found of a table. `revision` rises by one with each write, and never falls."""

    table: str
    slot: str
    revision: Annotated[int, Field(ge=1)]
    columns: Annotated[dict[str, Annotated[list[Found], Field(max_length=FOUND_MAX)]], Field(max_length=COLUMNS_MAX)]
    v: int = versions.EVOLVED.writes

    @property
    def key(self) -> bytes:
        """The key of its record in the tables' topic."""
        return key_of(self.table, self.slot)

    def encoded(self) -> bytes:
        """Return the value of its record."""
        return json.dumps({**self.model_dump(mode="json", exclude_defaults=True), "v": self.v}).encode()


def key_of(table: str, slot: str) -> bytes:
    """Return the key of what a slot found of a table; none of a table's name holds its slash."""
    return f"{_PREFIX}{table}/{slot}".encode()


def is_evolved(key: str) -> bool:
    """Tell whether a key of the tables' topic is of what a worker found."""
    return key.startswith(_PREFIX)


def parted(key: str) -> tuple[str, str]:
    """Return the table and the slot of such a key."""
    table, _, slot = key.removeprefix(_PREFIX).partition("/")
    return table, slot


def read_evolved(data: bytes) -> Evolved:
    """Return what a worker found.

    Raises:
        VersionRefused: it is of a version that this release does not read.
        ConfigurationError: somebody else wrote it.
    """
    what, hint = "what a worker found of a table", "upgrade this release, or delete that record"
    return read_record(data, Evolved, versions.EVOLVED, what, hint=hint)


def joined(some: Columns, others: Columns) -> dict[str, list[Found]]:
    """Return what holds all that both found, by column, in an order that does not depend on theirs."""
    result: dict[str, list[Found]] = {}
    for name in sorted({*some, *others}):
        by_type: dict[str, Found] = {}
        for found in [*some.get(name, ()), *others.get(name, ())]:
            under = str(found.under)
            by_type[under] = found if under not in by_type else by_type[under].join(found)
        result[name] = [by_type[under] for under in sorted(by_type)]
    return result


class EvolvedEntry(TableEntry):
    """A table as it runs where its records have more than its spec says. `registered` is what people applied.

    It is never written: that would make what was found a part of what people keep. `since` says when the columns
    were found that are not as they were registered.
    """

    registered: TableEntry
    since: dict[str, str]


def in_force(entry: TableEntry, evolved: Iterable[Evolved]) -> TableEntry:
    """Return the entry that workers run: its columns are those of the spec and those found, each as wide as needed.

    Its schema version is that of the entry and all revisions together, so it rises with whatever changes.
    """
    records = list(evolved)
    if not records:
        return entry
    none: dict[str, list[Found]] = {}
    found = reduce(joined, (record.columns for record in records), none)
    columns = dict(columns_in_force(entry.spec, found))
    given = {name: getattr(entry, name) for name in TableEntry.model_fields}
    return EvolvedEntry.model_construct(
        **{
            **given,
            "spec": entry.spec.model_copy(update={"columns": columns}),
            "schema_version": entry.schema_version + sum(record.revision for record in records),
            "registered": entry,
            "since": dict(_since(entry.spec, columns, found)),
        }
    )


def _since(spec: TableSpec, columns: Mapping[str, Column], found: Columns) -> Iterator[tuple[str, str]]:
    """Yield the columns that are not as the spec has them, each with the time at which that was found."""
    for name, column in columns.items():
        if column == spec.columns.get(name):
            continue
        own = read_rest_of(column.encoding) or name
        kept = found_of(own, spec.columns.get(own), found)
        yield name, min((each.since for each in kept), default="")


def columns_in_force(spec: TableSpec, found: Columns) -> Iterator[tuple[str, Column]]:
    """Yield the columns of a spec with what was found of them, then those that were found alone, by name."""
    more: dict[str, Column] = {}
    taken = {*spec.columns, *spec.sent_as()}
    for name, column in spec.columns.items():
        kept = found_of(name, column, found)
        yield name, _evolved(column, kept, taken)
        rest = f"{name}{TEXT_SUFFIX}"
        if any(each.rest for each in kept) and rest not in spec.columns:
            more[rest] = _column(STRING, rest_of(name), column.mask)
    for name in found:
        kept = found_of(name, None, found)
        if name in taken or not kept:  # also where it is another name of a column: that has its values from now on
            continue
        (own,) = kept
        taken.add(name)
        mask = spec.masks.unknown_columns
        column = _column(own.type, own.encoding, mask)
        more.setdefault(name, _evolved(column, kept, taken))
        if own.rest:
            more[f"{name}{TEXT_SUFFIX}"] = _column(STRING, rest_of(name), mask)
    yield from sorted(more.items())


def found_of(name: str, column: Column | None, found: Columns) -> list[Found]:
    """Return those findings that hold for a column as the registered spec has it (None: it does not name it).

    One that was made under a type of another kind is passed over: people have said since then what the column is.
    """
    if column is None:
        return [each for each in found.get(name, ()) if each.under is None]
    return [each for each in found.get(name, ()) if _holds(each, column)]


def _holds(found: Found, column: Column) -> bool:
    under = found.under
    return under is not None and promoted(column.type, under) is not None and promoted(under, found.type) is not None


def _evolved(column: Column, found: list[Found], taken: set[str]) -> Column:
    """Return a column with what was found of it; the further names that it is sent as are added to those `taken`."""
    if not found:
        return column
    type_ = column.type
    for each in found:
        wider = promoted(type_, each.type)
        assert wider is not None, "what does not hold was passed over"
        type_ = wider
    others = sorted({name for each in found for name in each.sent_as} - taken)
    taken.update(others)
    sent_as = [*column.sent_as, *others]
    if any(each.text for each in found):
        return _column(STRING, text_of(type_, column.encoding), column.mask, sent_as)
    if type_ == column.type and not others:
        return column
    return column.model_copy(update={"type": type_, "sent_as": sent_as})


def _column(type_: ColumnType, encoding: str | None, mask: Mask | None, sent_as: Sequence[str] = ()) -> Column:
    column = Column(type=type_, encoding=encoding, sent_as=list(sent_as))
    return column if mask is None else column.model_copy(update={"mask": mask})
