"""How a table of the lake follows its spec, while others read and write it.

| a column of the spec | the table's column |
|---|---|
| is new | is added, null in older files |
| became wider: int to long, float to double, a decimal of more digits, elements of lists alike | becomes it too |
| became a text | is set aside as `_hg_<name>__<type>`, and `<name>` is a string from then on |
| became narrower, or is read by a worker that knows an older spec | stays: what is read goes where its type fits |
| left | stays, null from then on |

Nothing is dropped and no file is written anew, so each type that a column had keeps a column that takes it: rows that
were read before a change can be written after it. Of a column that was set aside the views of `view.py` show the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException, ValidationError
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from schemas.errors import SinkUnavailable, TableStopped
from schemas.evolution import promotes
from schemas.table import COLUMNS_MAX, OWN_PREFIX
from schemas.types import ColumnType, Kind
from sinks.lake.types import STRING, column_of_arrow, column_of_iceberg, element_of, iceberg_type, stored

ATTEMPTS = 5
LAKE_COLUMNS_MAX = 2 * COLUMNS_MAX  # of a table, those that left its spec included

_ODD = re.compile(r"[^a-z0-9]+")
_ASIDE = "move the lake's table aside and let it be filled again"


def former_name(name: str, type_: ColumnType) -> str:
    """Return the name of a column of values from before it became a text; no column of a source begins like that."""
    return f"{OWN_PREFIX}{name}__{_ODD.sub('_', str(type_)).strip('_')}"


def columns_of(schema: Schema) -> dict[str, ColumnType]:
    """Return the columns of a table, ours among them, without those of types that we never write."""
    found = {each.name: column_of_iceberg(each.field_type) for each in schema.fields}
    return {name: type_ for name, type_ in found.items() if type_ is not None}


def formers_of(columns: Mapping[str, ColumnType], name: str) -> dict[str, ColumnType]:
    """Return the columns that were set aside when `name` became a text."""
    begin = f"{OWN_PREFIX}{name}__"
    alike = {each: type_ for each, type_ in columns.items() if each.startswith(begin)}
    return {each: type_ for each, type_ in alike.items() if each == former_name(name, type_)}


def home(columns: Mapping[str, ColumnType], name: str, type_: ColumnType) -> str | None:
    """Return the column of the table that takes what a spec's column `name` holds, None where none does."""
    now = columns.get(name)
    if now is not None and promotes(type_, now):
        return name
    return next((each for each, former in formers_of(columns, name).items() if promotes(type_, former)), None)


def placed(table: Table, rows: pa.Table) -> pa.Table:
    """Return rows with the names of the columns that take them.

    Raises:
        TableStopped: there is none for one of them; somebody else has changed the table.
    """
    columns = columns_of(table.schema())
    names = []
    for each in rows.schema:
        own = each.name.startswith(OWN_PREFIX)
        target = each.name if own else home(columns, each.name, column_of_arrow(each.type))
        if target is None:
            message = f"lake table {table.name()[-1]} has no column that takes {each.name} any more"
            raise TableStopped("lake_schema", message, hint="did another program change the table's schema?")
        names.append(target)
    return rows if names == rows.column_names else rows.rename_columns(names)


@dataclass(slots=True)
class Changes:
    """What a table lacks: columns to add, to widen to a type, and to set aside under another name."""

    added: dict[str, ColumnType] = field(default_factory=dict)
    widened: dict[str, ColumnType] = field(default_factory=dict)
    aside: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.widened or self.aside)


def changes_for(table: str, columns: Mapping[str, ColumnType], wanted: Mapping[str, ColumnType]) -> Changes:
    """Return what must become of a table's `columns` so that they take the `wanted` ones of a spec.

    Raises:
        TableStopped: one of them cannot be had.
    """
    changes = Changes()
    for name, type_ in wanted.items():
        column = stored(type_)
        if home(columns, name, column) is not None:
            continue
        now = columns.get(name)
        if now is None:
            changes.added[name] = column
        elif promotes(now, column):
            changes.widened[name] = column
        elif column == STRING and former_name(name, now) not in columns:
            changes.aside[name] = former_name(name, now)
            changes.added[name] = STRING
        else:
            raise TableStopped(
                "lake_schema",
                f"lake table {table}: Iceberg cannot change {name} from {now} to {column}",
                hint=f"give the column another name in the spec, make it a string, or {_ASIDE}",
            )
    check_names(table, columns, [*(name for name in changes.added if name not in columns), *changes.aside.values()])
    return changes


def check_names(table: str, columns: Iterable[str], added: Iterable[str]) -> None:
    """Refuse columns that most engines would not tell apart from those there are, and more than the limit.

    Raises:
        TableStopped: it names them.
    """
    known = {name.lower(): name for name in columns}
    for name in added:
        twin = known.setdefault(name.lower(), name)
        if twin != name:
            raise TableStopped(
                "lake_schema",
                f"lake table {table}: {twin} and {name} are one name for most engines that read the lake",
                hint="rename one of them at the source, or leave the table out: `lake: {enabled: false}`",
            )
    if len(known) > LAKE_COLUMNS_MAX:
        message = f"lake table {table} would have {len(known)} columns, {LAKE_COLUMNS_MAX} at most"
        raise TableStopped("lake_schema", message, hint=f"those that left the source stay in the table: {_ASIDE}")


def evolved(table: Table, wanted: Mapping[str, ColumnType]) -> Table:
    """Return the table with columns that take all of `wanted`, changed in one commit where it has to be.

    Raises:
        TableStopped: it cannot be had.
        SinkUnavailable: another worker kept changing the table.
    """
    name = str(table.name()[-1])
    for _ in range(ATTEMPTS):
        columns = columns_of(table.schema())
        changes = changes_for(name, columns, wanted)
        if not changes:
            return table
        try:
            _change(table, changes)
        except CommitFailedException:
            table = table.refresh()
        except (ValidationError, ValueError) as exc:
            message = f"lake table {name}: Iceberg does not take {', '.join(sorted(changes.added | changes.widened))}"
            raise TableStopped("lake_schema", message, hint=f"{_ASIDE}, or change the spec") from exc
        else:
            return table.refresh()
    raise kept_changing(name)


def _change(table: Table, changes: Changes) -> None:
    with table.transaction() as transaction:
        if changes.aside or changes.widened:
            with transaction.update_schema() as update:
                for name, former in changes.aside.items():
                    update.rename_column((name,), former)
                for name, type_ in changes.widened.items():
                    path, innermost = _innermost(name, type_)
                    update.update_column(path, iceberg_type(innermost))
        if changes.added:  # apart: a name is free once the column that had it has another
            with transaction.update_schema() as update:
                for name, type_ in changes.added.items():
                    update.add_column((name,), iceberg_type(type_))


def _innermost(name: str, type_: ColumnType) -> tuple[tuple[str, ...], ColumnType]:
    """Return what of a column Iceberg widens: of a list its element."""
    path = [name]
    while type_.kind is Kind.LIST:
        path.append("element")
        type_ = element_of(type_)
    return tuple(path), type_


def kept_changing(name: str) -> SinkUnavailable:
    """Return the error for a table whose schema other workers change all the time."""
    return SinkUnavailable(f"lake table {name}: its schema kept changing", hint="another worker changes it too")
