"""Columns that their source renamed, where its topic tells so: the column stays, and is read under its new name too.

Whoever reads the table goes on as before: output topic, views, rules and lake know the column by the name that it has
in the spec. Only tools tell it that write their DDL into the topic of the rows (Maxwell, Canal); and a name that is
another column's already renames nothing, for records of before have that column under it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from connectors.formats.renames import renames_of
from schemas.evolution import EvolvedEntry, Found, may_be_added, read_rest_of, read_text_of
from schemas.table import SENT_AS_MAX, TableEntry

STATEMENTS = frozenset({"maxwell", "canal"})  # formats whose records of DDL have the statement, under `sql`


class _Statement(msgspec.Struct, gc=False):
    sql: str = ""


_statement = msgspec.json.Decoder(_Statement).decode


def renames_in(entry: TableEntry, values: Mapping[int, bytes | None]) -> dict[int, dict[str, Found]]:
    """Return what becomes of columns at the records that rename some, by index, the first one first.

    `values` are records that tell a change of the schema. A record that renames what the table does not have is there
    with nothing: what comes behind it may have columns by other names than what came before.
    """
    if entry.spec.format not in STATEMENTS or entry.spec.unknown_columns != "add":
        return {}
    told = {index: _renames(value) for index, value in sorted(values.items())}
    known = {*entry.spec.columns, *entry.spec.sent_as()}
    return {index: dict(_found(entry, new)) for index, new in told.items() if not known.issuperset(new.values())}


def _renames(value: bytes | None) -> dict[str, str]:
    try:
        return renames_of(_statement(value or b"").sql)
    except (msgspec.MsgspecError, RecursionError):  # it was looked at in full before: nothing is missed
        return {}


def _found(entry: TableEntry, renames: Mapping[str, str]) -> Iterator[tuple[str, Found]]:
    spec, others = entry.spec, entry.spec.sent_as()
    known = entry.registered.spec if isinstance(entry, EvolvedEntry) else spec
    for old, new in renames.items():
        name = others.get(old, old)  # renamed again
        column = spec.columns.get(name)
        if column is None or name in spec.key or len(column.sent_as) >= SENT_AS_MAX:
            continue
        if new in spec.columns or new in others or not may_be_added(new) or read_rest_of(column.encoding):
            continue
        own = known.columns.get(name)
        if own is not None:
            yield name, Found(type=own.type, under=own.type, sent_as=[new])
        elif read_text_of(column.encoding) is None:
            yield name, Found(type=column.type, encoding=column.encoding, sent_as=[new])
