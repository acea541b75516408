"""What another spec means for those who read a table already, each judgement by a rule that has a name.

A subscriber of the output topic counts on what docs/contract.md says: columns may be added, and types become wider or
text. What goes beyond that breaks somebody, however right it is: it wants another table, a word, or another way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from schemas.evolution import STRING, promotes, read_text_of, text_of
from schemas.table import Column, TableSpec

# Formats of one connector's positions: a change of the wire changes no order.
_ALIKE = frozenset({"debezium-json", "debezium-avro", "cloudevents"})


# What each rule says of a change that falls under it.
COMPATIBLE = {
    "column_added": "older changes do not have it",
    "column_widened": "the wider type holds every value of before",
    "column_to_text": "values of before come as text from now on",
    "before_added": "`before` was null until now",
    "topic_added": "its changes are streams with origins of their own",
    "topic_dropped": "its rows stay as they are",
    "read_otherwise": "the same records may give other values from now on",
}
INCOMPATIBLE = {
    "column_dropped": "it has no field from then on",
    "column_renamed": "one column goes and another one comes",
    "type_narrowed": "values that fitted are refused from then on",
    "type_changed": "no value has the form that readers know",
    "key_changed": "order, deletes and rows by key are about other keys",
    "before_dropped": "`before` is null from then on",
    "positions_changed": "positions of before and after do not compare: newer changes may lose",
}
# How much of the same is had compatibly.
INSTEAD = {
    "column_dropped": "leave it in the spec: rows that do not have it say so",
    "column_renamed": "keep its name, and write the new one into its `sent_as`",
    "type_narrowed": "keep the wider type, which holds the narrower",
    "type_changed": "make it a string, or add a column of that type",
    "key_changed": "nothing: another key is another table",
    "before_dropped": "keep before: full",
    "positions_changed": "nothing: another order is another table",
}


@dataclass(frozen=True, slots=True)
class Said:
    """What a rule says of one column, or of the table."""

    rule: str
    what: str

    @property
    def compatible(self) -> bool:
        """Whether readers of before can go on as they are."""
        return self.rule in COMPATIBLE

    @property
    def instead(self) -> str:
        """How much of the same is had compatibly; empty where it is so already."""
        return INSTEAD.get(self.rule, "")

    def __str__(self) -> str:
        """Give the rule, what falls under it, and what that means."""
        return f"{self.rule}: {self.what}: {(COMPATIBLE | INCOMPATIBLE)[self.rule]}"


def compared(before: TableSpec, after: TableSpec) -> list[Said]:
    """Return what the rules say of a change of specs, both as they are in force; what breaks readers comes first."""
    said = [
        *_of_columns(before.columns, after.columns),
        *_of_key(before, after),
        *_of_source(before, after),
    ]
    return sorted(said, key=lambda each: each.compatible)


def _of_columns(before: Mapping[str, Column], after: Mapping[str, Column]) -> Iterator[Said]:
    gone = [name for name in before if name not in after]
    new = [name for name in after if name not in before]
    renamed = _renamed({name: before[name] for name in gone}, {name: after[name] for name in new})
    for name in gone:
        if name in renamed:
            yield Said("column_renamed", f"{name} to {renamed[name]}")
        else:
            yield Said("column_dropped", name)
    for name in new:
        if name not in renamed.values():
            yield Said("column_added", f"{name} {after[name].type}")
    for name in before:
        if name in after and before[name] != after[name]:
            yield _of_column(name, before[name], after[name])


def _renamed(gone: Mapping[str, Column], new: Mapping[str, Column]) -> dict[str, str]:
    """Return the columns that look renamed: one alone of its type and encoding left, and one alone came."""

    def alike(columns: Mapping[str, Column], like: Column) -> list[str]:
        return [name for name, column in columns.items() if _form(column) == _form(like)]

    return {
        name: alike(new, column)[0]
        for name, column in gone.items()
        if len(alike(gone, column)) == len(alike(new, column)) == 1
    }


def _form(column: Column) -> tuple[str, str | None]:
    return str(column.type), column.encoding


def _of_column(name: str, before: Column, after: Column) -> Said:
    what = f"{name} from {before.type} to {after.type}"
    if before.type == after.type:
        return Said("read_otherwise", f"{name}: how its values are read")
    if promotes(before.type, after.type):
        return Said("column_widened", what)
    if after.type == STRING:
        keeps = f"; `encoding: {text_of(before.type, before.encoding)}` reads what the old type held"
        return Said("column_to_text", what + ("" if read_text_of(after.encoding) else keeps))
    return Said("type_narrowed" if promotes(after.type, before.type) else "type_changed", what)


def _of_key(before: TableSpec, after: TableSpec) -> Iterator[Said]:
    def shown(key: list[str]) -> str:
        return ", ".join(key) or "none"

    if before.key != after.key:
        yield Said("key_changed", f"from {shown(before.key)} to {shown(after.key)}")
        return
    for name in after.key:
        old, new = before.columns.get(name), after.columns[name]
        if old is not None and old.type != new.type and new.type == STRING:
            yield Said("key_changed", f"{name} of the key becomes text")


def _of_source(before: TableSpec, after: TableSpec) -> Iterator[Said]:
    if before.before != after.before:
        yield Said("before_dropped" if after.before == "none" else "before_added", f"before: {after.before}")
    if before.format != after.format and not {before.format, after.format} <= _ALIKE:
        yield Said("positions_changed", f"format from {before.format} to {after.format}")
    elif before.options.get("order") != after.options.get("order"):
        yield Said("positions_changed", "options.order")
    elif (before.options, before.format) != (after.options, after.format):
        yield Said("read_otherwise", "format or options")
    if before.source_table != after.source_table:
        yield Said("read_otherwise", "source_table")
    for name in ("absent", "unavailable_placeholder", "truncate"):
        if getattr(before, name) != getattr(after, name):
            yield Said("read_otherwise", name)
    for topic in after.topics:
        if topic not in before.topics:
            yield Said("topic_added", topic)
    for topic in before.topics:
        if topic not in after.topics:
            yield Said("topic_dropped", topic)
