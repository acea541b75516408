"""Rows: a Struct made for a table's columns, and what is done to its rows by column once C has decoded them.

A row object has fields c0, c1, …, renamed to the columns. After `convert` it encodes to the contract's JSON.
"""

from __future__ import annotations

import uuid
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from connectors.formats.decimals import AnyNumber
from connectors.formats.encodings import form_of
from connectors.formats.evolved import RawForm, put_parted, text_form, texts_of
from connectors.formats.forms import OUT_OF_RANGE, Conversion, Form, widened
from connectors.formats.placeholder import Placeholder
from connectors.formats.reasons import Rejection
from schemas.errors import ConfigurationError
from schemas.types import ColumnType, Kind

RawValue = msgspec.Raw


@dataclass(frozen=True, slots=True)
class WireColumn:
    """A column as the wire has it: `encoding` (of the elements, for a list) and, from a schema block, `scale`.

    Of bits `scale` is their length. Where `lenient`, what its type cannot hold becomes null. Where `is_text`, the
    column is a string, and was of that type; `rest` is the column for what the type does not hold, and `is_rest` says
    that this is one. `stated` says that the record's schema has the encoding, which then may be none of the type.
    """

    name: str
    type: ColumnType
    encoding: str
    scale: int | None = None
    lenient: bool = False
    is_text: bool = False
    rest: str | None = None
    is_rest: bool = False
    stated: bool = False


class ListConversion(Conversion):
    """Converts the elements of lists all at once; a list with a bad element is refused."""

    __slots__ = ()

    def apply(self, values: list[Any]) -> tuple[list[Any], dict[int, Rejection]]:
        """Return the lists with their elements converted; nulls stay."""
        flat = [element for value in values for element in value if element is not None]
        converted, bad = self.each(flat)
        faults: dict[int, Rejection] = {}
        out: list[list[Any]] = []
        at = 0
        for index, value in enumerate(values):
            row: list[Any] = []
            for element in value:
                if element is None:
                    row.append(None)
                    continue
                if at in bad and faults.get(index, bad[at]).reason in (OUT_OF_RANGE, bad[at].reason):
                    faults[index] = bad[at]  # a wrong type says more than a value out of range
                row.append(converted[at])
                at += 1
            out.append(row)
        return out, faults


def list_form(type_: ColumnType, encoding: str, *, scale: int | None = None, lenient: bool = False) -> Form:
    """Return how a column of any type is read, lists included.

    Where `lenient`, numbers of any size reach its conversion.

    Raises:
        ConfigurationError: there is no such encoding, or it cannot be read as the type.
    """
    if type_.kind is not Kind.LIST:
        form = form_of(type_, encoding, scale=scale)
        return widened(form) if lenient else form
    assert type_.element is not None, "a list has an element type"
    inner = list_form(type_.element, encoding, scale=scale, lenient=lenient)
    conversion = None if inner.conversion is None else ListConversion(inner.conversion.apply)
    return Form(list[_nullable(inner.wire)], conversion)  # type: ignore[misc]


def _nullable(wire: Any) -> Any:
    """Return the wire's type or null; raw JSON is never None but may be the word null."""
    return wire if wire is RawValue else wire | None


@dataclass(frozen=True, slots=True)
class Rest:
    """Where a column's values go that its type does not hold, and how the others are told."""

    name: str
    attribute: str
    own: RawForm
    text: Any


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """What is done to one column of decoded rows."""

    name: str
    attribute: str
    form: Form
    placeholders: tuple[Any, ...]
    references: tuple[Any, ...]
    read: Any
    lenient: bool = False
    rest: Rest | None = None

    @property
    def is_text(self) -> bool:
        """Tell whether values may hold text or objects, and so colons, inside."""
        wire = self.form.wire
        if getattr(wire, "__origin__", None) is list or wire in {str, RawValue, AnyNumber}:
            return True
        return isinstance(wire, type) and issubclass(wire, msgspec.Struct)


@dataclass(slots=True)
class RowPlan:
    """The Struct of a table's rows and its columns. `ignored` are fields of columns that the spec does not know."""

    type: type[msgspec.Struct]
    columns: list[ColumnPlan]
    ignored: list[str] = field(default_factory=list)
    needles: tuple[bytes, ...] | None = ()
    placeholder: Placeholder | None = None
    sparse: set[str] = field(default_factory=set)  # columns that had nulls last time
    aliases: list[tuple[str, ColumnPlan]] = field(default_factory=list)  # fields for other names of columns

    def by_name(self, name: str) -> ColumnPlan | None:
        """Return the plan of a column, None if these rows do not have it."""
        return next((column for column in self.columns if column.name == name), None)

    def nearest(self, path: str) -> ColumnPlan | None:
        """Return the plan of the column that a path such as `tags[3].value` begins with, the longest name first."""
        fitting = [column for column in self.columns if path.startswith(column.name)]
        return max(fitting, key=lambda column: len(column.name), default=None)


def row_plan(
    columns: Sequence[WireColumn],
    *,
    placeholder: Placeholder | None,
    absent: frozenset[str] = frozenset(),
    ignored: Sequence[str] = (),
    nulls: Collection[str] = (),
    aliases: Mapping[str, str] | None = None,
    loose: bool = False,
    optional: bool = False,
) -> RowPlan:
    """Return the plan of rows that have exactly `columns` without `absent`, and `ignored` beside them.

    Those of the ignored that are `nulls` may hold nothing else. `aliases` are other names of columns, which rows may
    have instead. `optional` rows may lack any of these; `loose` rows too, and may have any other column beside. Names
    are checked here, for msgspec cannot hold all.

    Raises:
        ConfigurationError: an encoding does not fit, or a name holds a quote, a backslash or a control character.
    """
    plans: list[ColumnPlan] = []
    fields: list[Any] = []
    attributes = {column.name: f"c{number}" for number, column in enumerate(columns)}
    for column in columns:
        attribute = attributes[column.name]
        if column.name in absent or column.is_rest:
            fields.append((attribute, UnsetType, UNSET))
            continue
        form = _checked_form(column)
        wire = _nullable(form.wire)
        fields.append((attribute, wire | UnsetType, UNSET) if loose or optional else (attribute, wire))
        values = () if placeholder is None else placeholder.values(column.type, form.wire, column.encoding)
        starts = () if placeholder is None else placeholder.references(column.type, form.wire, column.encoding)
        rest: Rest | None = None
        if column.rest is not None:
            rest = Rest(column.rest, attributes[column.rest], RawForm(_own_form(column)), _texts_of(column))
        read = attrgetter(attribute)
        plans.append(ColumnPlan(column.name, attribute, form, values, starts, read, column.lenient, rest))
    extra = [f"x{number}" for number in range(len(ignored))]
    for attribute, name in zip(extra, ignored, strict=True):
        wire = type(None) if name in nulls else RawValue
        fields.append((attribute, wire | UnsetType, UNSET) if optional else (attribute, wire))
    names = {attribute: name for name, attribute in attributes.items()} | dict(zip(extra, ignored, strict=True))
    by_name, others = {plan.name: plan for plan in plans}, list[tuple[str, ColumnPlan]]()
    for number, (other, name) in enumerate((aliases or {}).items()):
        others.append((f"a{number}", by_name[name]))
        names[f"a{number}"] = other
        fields.append((f"a{number}", _nullable(by_name[name].form.wire) | UnsetType, UNSET))
    row = _struct(fields, names, loose=loose)
    return RowPlan(row, plans, extra, _needles(placeholder, columns, plans), placeholder, aliases=others)


def _checked_form(column: WireColumn) -> Form:
    form = _own_form(column)
    if column.rest is not None:
        return Form(RawValue)
    if column.is_text:
        return text_form(form, _texts_of(column))
    assert form is not None, "what has no form was refused"
    return form


def _own_form(column: WireColumn) -> Form | None:
    """Return how values of the column's type are read; None where the record states another, and that is no fault."""
    try:
        return list_form(column.type, column.encoding, scale=column.scale, lenient=column.lenient)
    except ConfigurationError as exc:
        if column.stated and (column.is_text or column.rest):
            return None
        raise ConfigurationError(f"column {column.name}: {exc.message}", hint=exc.hint) from exc


def _texts_of(column: WireColumn) -> Any:
    """Return what gives the text of a value that the column's type does not hold."""
    scale = column.scale
    if scale is None and column.type.kind is Kind.DECIMAL:
        scale = column.type.scale
    try:
        written = form_of(ColumnType(Kind.STRING), column.encoding, scale=scale)
    except ConfigurationError:
        written = None
    return texts_of(written)


def can_be_named(name: str) -> bool:
    """Tell whether msgspec can look for a field of this name."""
    return not any(character in '"\\' or character < " " for character in name)


def _struct(fields: list[Any], names: Mapping[str, str], *, loose: bool) -> type[msgspec.Struct]:
    required = [entry for entry in fields if len(entry) == 2]  # noqa: PLR2004 - msgspec wants those without default first,
    optional = [entry for entry in fields if len(entry) != 2]  # noqa: PLR2004 - or all by keyword
    try:
        return msgspec.defstruct(
            "Row",
            required + optional,
            rename=dict(names),
            forbid_unknown_fields=not loose,
            gc=False,
            kw_only=bool(optional),
        )
    except ValueError as exc:
        raise ConfigurationError(
            "a column's name holds a quote, a backslash or a control character",
            hint="rename it at the source, or leave the column out",
        ) from exc


def _needles(
    placeholder: Placeholder | None, columns: Sequence[WireColumn], plans: list[ColumnPlan]
) -> tuple[bytes, ...] | None:
    able = [plan for plan in plans if plan.placeholders or plan.form.wire is RawValue]
    if placeholder is None or not able:
        return ()
    by_name = {column.name: column for column in columns}
    wires: set[Any] = {plan.form.wire for plan in able}
    for plan in able:
        element = by_name[plan.name].type.element
        if element is not None:
            wires |= {int, uuid.UUID, bytes} if element.kind is not Kind.BINARY else {bytes}
    return placeholder.needles(
        {wire for wire in wires if isinstance(wire, type)}, {by_name[plan.name].encoding for plan in able}
    )


def take_unavailable(plan: RowPlan, row: Any) -> list[str]:
    """Remove the columns of `row` that hold the placeholder, and return their names."""
    names = []
    for column in plan.columns:
        value = column.read(row)
        if value is None or value is UNSET:
            continue
        found = value in column.placeholders or (column.references and value.startswith(column.references))
        if not found and column.form.wire is RawValue and plan.placeholder is not None:
            found = plan.placeholder.is_document(bytes(value))
        if found:
            setattr(row, column.attribute, UNSET)
            names += [column.name] if column.rest is None else [column.name, column.rest.name]
    return names


def convert(plan: RowPlan, rows: list[Any], nulled: Counter[str] | None = None) -> dict[int, tuple[str, Rejection]]:
    """Bring the rows into the contract's form; return which were refused, by index, with the column at fault.

    What became null in a lenient column is counted in `nulled`, by column.
    """
    faults: dict[int, tuple[str, Rejection]] = {}
    for attribute in plan.ignored:
        _set(attribute, rows, [UNSET] * len(rows))
    for column in plan.columns:
        if column.rest is not None:
            parted = put_parted(rows, column.attribute, column.rest.attribute, column.rest.own, column.rest.text)
            faults = {index: (column.name, fault) for index, fault in parted.items()} | faults
            continue
        conversion = column.form.conversion
        if conversion is None:
            continue
        values = list(map(column.read, rows))
        if conversion.column is not None and column.name not in plan.sparse:
            try:
                converted = conversion.column(values)
            except Exception:  # noqa: BLE001 - nulls, or odd values: `_convert_present` decides
                plan.sparse.add(column.name)
            else:
                if converted is not values:
                    _set(column.attribute, rows, converted)
                continue
        for index, fault in _convert_present(plan, column, rows, values).items():
            if column.lenient and fault.reason == OUT_OF_RANGE:
                if nulled is not None:
                    nulled[column.name] += 1
                continue
            faults.setdefault(index, (column.name, fault))
    return faults


def _convert_present(plan: RowPlan, column: ColumnPlan, rows: list[Any], values: list[Any]) -> dict[int, Rejection]:
    """Convert a column of which some rows may have no value, or one that is refused."""
    assert column.form.conversion is not None, "asked for only where there is one"
    places = [index for index, value in enumerate(values) if value is not None and value is not UNSET]
    converted, bad = column.form.conversion.apply([values[index] for index in places])
    if not bad and len(places) == len(values):
        plan.sparse.discard(column.name)
    _set(column.attribute, [rows[index] for index in places], converted)
    return {places[index]: fault for index, fault in bad.items()}


def _set(attribute: str, rows: list[Any], values: list[Any]) -> None:
    assert len(rows) == len(values), "each row has a value"
    deque(map(setattr, rows, repeat(attribute), values), maxlen=0)  # a loop would take twice as long


def text_colons(plan: RowPlan, rows: list[Any]) -> tuple[int, list[int] | None]:
    """Return how many colons stand inside the values of rows: so many in each one, and so many more by row.

    Takes the rows before they are converted. What a record has beside these are its keys' (see inspection.py).
    """
    same, each = 0, None
    readers = [column.read for column in plan.columns if column.is_text] + [attrgetter(name) for name in plan.ignored]
    for read in readers:
        texts = list(map(read, rows))
        try:
            joined = "".join(texts)
        except TypeError:  # nulls, lists, raw JSON
            texts = list(map(_text, texts))
            joined = "".join(texts)
        if ":" not in joined:
            continue
        uniform = _uniform(texts, joined)
        if uniform is not None:
            same += uniform
            continue
        counts = [text.count(":") for text in texts]
        each = counts if each is None else [one + other for one, other in zip(each, counts, strict=True)]
    return same, each


def _uniform(texts: list[str], joined: str) -> int | None:
    """Return how many colons each text has, if all have one length and the same places, as timestamps do."""
    count, width = len(texts), len(texts[0])
    if len(joined) != width * count or set(map(len, texts)) != {width}:
        return None
    places = [at for at, character in enumerate(texts[0]) if character == ":"]
    if any(joined[at::width] != ":" * count for at in places) or joined.count(":") != len(places) * count:
        return None
    return len(places)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, RawValue):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, list):
        return "".join(map(_text, value))
    if isinstance(value, msgspec.Struct):
        return ":" * len(value.__struct_fields__) + "".join(map(_text, msgspec.structs.astuple(value)))
    return ""
