"""What a change of a table's contract means for its subscribers: by which rule it may be made, or may not.

The promise is what schema registries call FULL_TRANSITIVE, towards subscribers that follow docs/contract.md: a reader
of any older contract reads what is written by the newer one, and a reader of the newer one reads all that was written
before. Each compatible rule keeps both:

- A column that is added is absent in older changes, and passed over by older readers.
- A type that becomes wider holds all values of before. The contract announces it, so readers take both forms where the
  form in JSON changes (`5`, then `"5000000000"`); in Avro all integers are longs and all floats doubles from the start,
  so that widening changes nothing there. A column of the key is another matter: its form is part of the record's key.
- `before` that is given from now on was null before, and every reader takes a null there.

A column that leaves is *not* compatible, although a registry would let it pass where the field has a default: its older
readers would get that default for ever, and could not tell it from a null of the source. That every column but those of
the key may be null, absent or unavailable is the contract itself, so no rule is about nulls: a column becomes nullable,
or stops to be, only by leaving or joining the key.

Whatever is compatible only adds columns and widens types, and both are orders: a contract that is compatible with the
one before it is compatible with all before that. A property test says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from schemas.contract import Contract, contract_of
from schemas.evolution import promotes
from schemas.masked import masked_spec
from schemas.table import TableSpec
from schemas.types import ColumnType, Kind


class CompatibilityRule(StrEnum):
    """The name of a rule; scripts see it."""

    TABLE_RENAMED = "table_renamed"
    KEY_CHANGED = "key_changed"
    BEFORE_ADDED = "before_added"
    BEFORE_REMOVED = "before_removed"
    COLUMN_ADDED = "column_added"
    COLUMN_REMOVED = "column_removed"
    TYPE_WIDENED = "type_widened"
    TYPE_NARROWED = "type_narrowed"
    TYPE_BECAME_TEXT = "type_became_text"
    TYPE_CHANGED = "type_changed"


COMPATIBLE = frozenset({CompatibilityRule.BEFORE_ADDED, CompatibilityRule.COLUMN_ADDED, CompatibilityRule.TYPE_WIDENED})

WHY = {
    CompatibilityRule.TABLE_RENAMED: "another name is another topic: nothing more comes on the one that is read",
    CompatibilityRule.KEY_CHANGED: "the same row gets another key: order, compaction and kept rows go by the key",
    CompatibilityRule.BEFORE_ADDED: "it was null, which every reader takes",
    CompatibilityRule.BEFORE_REMOVED: "who compares with the row as it was finds null from now on",
    CompatibilityRule.COLUMN_ADDED: "it is absent in older changes, and older readers pass over it",
    CompatibilityRule.COLUMN_REMOVED: "who reads it finds nothing from now on, and cannot tell that from a null",
    CompatibilityRule.TYPE_WIDENED: "all values of before are values of it, and the contract announces it",
    CompatibilityRule.TYPE_NARROWED: "values that are on the topic already do not fit it",
    CompatibilityRule.TYPE_BECAME_TEXT: "who reads what it was before cannot read any text",
    CompatibilityRule.TYPE_CHANGED: "neither reads the values of the other",
}

_NUMBER_OR_TEXT = {Kind.INT, Kind.LONG}  # in JSON the one is a number and the other is text


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs, and the rule that it comes under; `column` is None for what is about the whole table."""

    rule: CompatibilityRule
    column: str | None
    old: str | None
    new: str | None

    @property
    def compatible(self) -> bool:
        """Whether subscribers may be left to it."""
        return self.rule in COMPATIBLE

    @property
    def why(self) -> str:
        """Why it is compatible, or is not."""
        return WHY[self.rule]


def differences(old: TableSpec, new: TableSpec) -> list[Difference]:
    """Return what differs for the subscribers of a table between two specs of it, both as they run."""
    return compare(contract_of(masked_spec(old)), contract_of(masked_spec(new)))


def compare(old: Contract, new: Contract) -> list[Difference]:
    """Return what differs between two contracts; what the topic is called and the schema version is passed over."""
    return [*_of_the_table(old, new), *_of_columns(old, new)]


def incompatible(found: Iterable[Difference]) -> list[Difference]:
    """Return those that subscribers must not be left to."""
    return [each for each in found if not each.compatible]


def _of_the_table(old: Contract, new: Contract) -> Iterator[Difference]:
    if old.table != new.table:
        yield Difference(CompatibilityRule.TABLE_RENAMED, None, old.table, new.table)
    if old.key != new.key:
        yield Difference(CompatibilityRule.KEY_CHANGED, None, _names(old.key), _names(new.key))
    if old.before != new.before:
        rule = CompatibilityRule.BEFORE_ADDED if new.before else CompatibilityRule.BEFORE_REMOVED
        yield Difference(rule, None, _given(before=old.before), _given(before=new.before))


def _of_columns(old: Contract, new: Contract) -> Iterator[Difference]:
    """Yield what differs of columns: those of the older contract in its order, then those that are new."""
    for name, type_ in old.columns.items():
        if name not in new.columns:
            yield Difference(CompatibilityRule.COLUMN_REMOVED, name, str(type_), None)
        elif (now := new.columns[name]) != type_:
            of_key = name in old.key and {type_.kind, now.kind} == _NUMBER_OR_TEXT
            rule = CompatibilityRule.KEY_CHANGED if of_key else _rule_of(type_, now)
            yield Difference(rule, name, str(type_), str(now))
    for name, type_ in new.columns.items():
        if name not in old.columns:
            yield Difference(CompatibilityRule.COLUMN_ADDED, name, None, str(type_))


def _rule_of(old: ColumnType, new: ColumnType) -> CompatibilityRule:
    if promotes(old, new):
        return CompatibilityRule.TYPE_WIDENED
    if promotes(new, old):
        return CompatibilityRule.TYPE_NARROWED
    return CompatibilityRule.TYPE_BECAME_TEXT if new.kind is Kind.STRING else CompatibilityRule.TYPE_CHANGED


def _names(key: tuple[str, ...]) -> str:
    return ", ".join(key) or "none"


def _given(*, before: bool) -> str:
    return "given" if before else "null"
