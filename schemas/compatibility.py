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

A column that becomes text is not compatible either: where a number was is a text, which no reader of numbers takes. A
table whose spec said `type_changes: text` before is another matter: that any of its columns may do so was known.

Whatever is compatible between contracts only adds columns and widens types, and both are orders: a contract that is
compatible with the one before it is compatible with all before that. A property test says so.

Two specs say more than their contracts: where the rows come from, in what order, and what is written beside changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from schemas.contract import Contract, contract_of
from schemas.evolution import promotes
from schemas.mask import KEYED
from schemas.masked import key_of, mask_of, masked_spec
from schemas.table import TableSpec
from schemas.types import ColumnType, Kind


class CompatibilityRule(StrEnum):
    """The name of a rule; scripts see it."""

    TABLE_RENAMED = "table_renamed"
    TENANT_CHANGED = "tenant_changed"
    KEY_CHANGED = "key_changed"
    BEFORE_ADDED = "before_added"
    BEFORE_REMOVED = "before_removed"
    COLUMN_ADDED = "column_added"
    COLUMN_REMOVED = "column_removed"
    TYPE_WIDENED = "type_widened"
    TYPE_NARROWED = "type_narrowed"
    TYPE_BECAME_TEXT = "type_became_text"
    TYPE_CHANGED = "type_changed"
    FORMAT_CHANGED = "format_changed"
    # Told by specs, not by contracts alone.
    TYPE_BECAME_TEXT_AS_SAID = "type_became_text_as_said"
    HEADERS_ADDED = "headers_added"
    HEADERS_REMOVED = "headers_removed"
    LATEST_ADDED = "latest_added"
    LATEST_REMOVED = "latest_removed"
    MASK_CHANGED = "mask_changed"
    POSITIONS_CHANGED = "positions_changed"
    TOPIC_ADDED = "topic_added"
    TOPIC_REMOVED = "topic_removed"
    READ_OTHERWISE = "read_otherwise"


COMPATIBLE = frozenset(
    {
        CompatibilityRule.BEFORE_ADDED,
        CompatibilityRule.COLUMN_ADDED,
        CompatibilityRule.TYPE_WIDENED,
        CompatibilityRule.TYPE_BECAME_TEXT_AS_SAID,
        CompatibilityRule.HEADERS_ADDED,
        CompatibilityRule.LATEST_ADDED,
        CompatibilityRule.MASK_CHANGED,
        CompatibilityRule.TOPIC_ADDED,
        CompatibilityRule.TOPIC_REMOVED,
        CompatibilityRule.READ_OTHERWISE,
    }
)

WHY = {
    CompatibilityRule.TABLE_RENAMED: "another name is another topic: nothing more comes on the one that is read",
    CompatibilityRule.TENANT_CHANGED: "topics, keys in Redis and folders of the lake all have other names",
    CompatibilityRule.KEY_CHANGED: "the same row gets another key: order, compaction and kept rows go by the key",
    CompatibilityRule.BEFORE_ADDED: "it was null, which every reader takes",
    CompatibilityRule.BEFORE_REMOVED: "who compares with the row as it was finds null from now on",
    CompatibilityRule.COLUMN_ADDED: "it is absent in older changes, and older readers pass over it",
    CompatibilityRule.COLUMN_REMOVED: "who reads it finds nothing from now on, and cannot tell that from a null",
    CompatibilityRule.TYPE_WIDENED: "all values of before are values of it, and the contract announces it",
    CompatibilityRule.TYPE_NARROWED: "values that are on the topic already do not fit it",
    CompatibilityRule.TYPE_BECAME_TEXT: "who reads what it was before cannot read any text",
    CompatibilityRule.TYPE_BECAME_TEXT_AS_SAID: "the spec said `type_changes: text` before it came to that",
    CompatibilityRule.TYPE_CHANGED: "neither reads the values of the other",
    CompatibilityRule.FORMAT_CHANGED: "who reads JSON cannot read Avro, nor the other way round",
    CompatibilityRule.HEADERS_ADDED: "older readers pass over the headers of CloudEvents",
    CompatibilityRule.HEADERS_REMOVED: "who takes changes as CloudEvents takes none from now on",
    CompatibilityRule.LATEST_ADDED: "another topic is written beside this one",
    CompatibilityRule.LATEST_REMOVED: "nothing more comes on the topic of latest rows",
    CompatibilityRule.MASK_CHANGED: "the values are others from now on, of the type that readers know",
    CompatibilityRule.POSITIONS_CHANGED: "positions of before and after do not compare: newer changes may lose",
    CompatibilityRule.TOPIC_ADDED: "its changes are streams with origins of their own",
    CompatibilityRule.TOPIC_REMOVED: "its rows stay as they are",
    CompatibilityRule.READ_OTHERWISE: "the same records may give other values from now on",
}

# How much of what is not compatible is had compatibly.
INSTEAD = {
    CompatibilityRule.TABLE_RENAMED: "keep the name",
    CompatibilityRule.TENANT_CHANGED: "nothing: another tenant's table is another table",
    CompatibilityRule.KEY_CHANGED: "nothing: another key is another table",
    CompatibilityRule.BEFORE_REMOVED: "keep before: full",
    CompatibilityRule.COLUMN_REMOVED: (
        "leave the column in the spec: rows that do not have it say so; a new name of the source's goes into its "
        "`sent_as`"
    ),
    CompatibilityRule.TYPE_NARROWED: "keep the wider type, which holds the narrower",
    CompatibilityRule.TYPE_BECAME_TEXT: "add a column of text beside it",
    CompatibilityRule.TYPE_CHANGED: "add a column of that type beside it",
    CompatibilityRule.FORMAT_CHANGED: "nothing: another format is another topic",
    CompatibilityRule.HEADERS_REMOVED: "keep cloud_events: true",
    CompatibilityRule.LATEST_REMOVED: "keep latest: true",
    CompatibilityRule.POSITIONS_CHANGED: "nothing: another order is another table",
}
# Formats of one connector's positions: a change of the wire changes no order.
_ALIKE = frozenset({"debezium-json", "debezium-avro", "cloudevents"})

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

    @property
    def what(self) -> str:
        """What differs, in a few words."""
        change = f"from {self.old} to {self.new}" if self.old and self.new else self.new or self.old
        return " ".join(word for word in (self.column, change) if word)

    @property
    def instead(self) -> str:
        """How much of it is had compatibly; empty where it is so already."""
        return INSTEAD.get(self.rule, "")

    def __str__(self) -> str:
        """Give the rule, what falls under it, and what that means."""
        return f"{self.rule}: {self.what}: {self.why}"


def differences(old: TableSpec, new: TableSpec) -> list[Difference]:
    """Return what differs for the subscribers of a table between two specs of it, both as they run.

    What subscribers may not be left to comes first.
    """
    behind_old, behind_new = masked_spec(old), masked_spec(new)
    found = [_as_said(each, old) for each in compare(contract_of(behind_old), contract_of(behind_new))]
    found += [*_of_tenant(old, new), *_of_reading(behind_old, behind_new), *_of_masks(old, new)]
    found += [*_of_order(old, new), *_of_source(old, new), *_of_output(old, new)]
    return sorted(found, key=lambda each: each.compatible)


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
    if old.format != new.format:
        yield Difference(CompatibilityRule.FORMAT_CHANGED, None, old.format, new.format)
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


def _as_said(found: Difference, old: TableSpec) -> Difference:
    """Return a difference under the rule that it has where the older spec said that columns become text."""
    said = old.type_changes == "text" and old.output.format == "json" and found.column not in old.key
    if found.rule is not CompatibilityRule.TYPE_BECAME_TEXT or not said:
        return found
    return replace(found, rule=CompatibilityRule.TYPE_BECAME_TEXT_AS_SAID)


def _of_tenant(old: TableSpec, new: TableSpec) -> Iterator[Difference]:
    if old.tenant != new.tenant:
        yield Difference(CompatibilityRule.TENANT_CHANGED, None, old.tenant or "none", new.tenant or "none")


def _of_reading(old: TableSpec, new: TableSpec) -> Iterator[Difference]:
    """Yield the columns whose type stays and whose values are read otherwise."""
    for name, column in old.columns.items():
        now = new.columns.get(name)
        if now is not None and now != column and now.type == column.type:
            yield Difference(CompatibilityRule.READ_OTHERWISE, name, None, None)


def _of_masks(old: TableSpec, new: TableSpec) -> Iterator[Difference]:
    left = masked_spec(new).columns
    for name in masked_spec(old).columns:
        if name in left and _mask_form(old, name) != _mask_form(new, name):
            rule = CompatibilityRule.KEY_CHANGED if name in old.key else CompatibilityRule.MASK_CHANGED
            yield Difference(rule, name, None, "its mask")


def _mask_form(spec: TableSpec, column: str) -> tuple[object, ...]:
    mask = mask_of(spec, column)
    return (mask, key_of(spec, mask) if mask is not None and mask.how in KEYED else None)


def _of_order(old: TableSpec, new: TableSpec) -> Iterator[Difference]:
    if old.format != new.format and not {old.format, new.format} <= _ALIKE:
        yield Difference(CompatibilityRule.POSITIONS_CHANGED, None, old.format, new.format)
    elif old.options.get("order") != new.options.get("order"):
        yield Difference(CompatibilityRule.POSITIONS_CHANGED, None, None, "options.order")
    elif (old.options, old.format) != (new.options, new.format):
        yield Difference(CompatibilityRule.READ_OTHERWISE, None, None, "format or options")


def _of_source(old: TableSpec, new: TableSpec) -> Iterator[Difference]:
    for name in ("source_table", "absent", "unavailable_placeholder", "truncate"):
        if getattr(old, name) != getattr(new, name):
            yield Difference(CompatibilityRule.READ_OTHERWISE, None, None, name)
    for topic in new.topics:
        if topic not in old.topics:
            yield Difference(CompatibilityRule.TOPIC_ADDED, None, None, topic)
    for topic in old.topics:
        if topic not in new.topics:
            yield Difference(CompatibilityRule.TOPIC_REMOVED, None, topic, None)


def _of_output(old: TableSpec, new: TableSpec) -> Iterator[Difference]:
    before, after = old.output, new.output
    if before.cloud_events != after.cloud_events:
        added = after.cloud_events
        rule = CompatibilityRule.HEADERS_ADDED if added else CompatibilityRule.HEADERS_REMOVED
        yield Difference(rule, None, None, "cloud_events")
    if before.latest != after.latest:
        rule = CompatibilityRule.LATEST_ADDED if after.latest else CompatibilityRule.LATEST_REMOVED
        yield Difference(rule, None, None, "latest")
