"""A table: a registered source table with its spec, and the entry that `headgate.tables` keeps of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from schemas import versions
from schemas.document import Strict, without_defaults
from schemas.epoch import EpochStart
from schemas.errors import ConfigurationError
from schemas.feature import View
from schemas.lake_policy import LakePolicy
from schemas.mask import OF_KEYS, TRUNCATE, MaskOrNone, Masks, masked_type
from schemas.mistakes import Misplaced, nearest
from schemas.output import Output, latest_view_name
from schemas.position import EPOCH_MAX
from schemas.replay import Replay
from schemas.risk import ALL_COLUMNS, RiskName
from schemas.rule import Rule
from schemas.signals import Signals
from schemas.template import what_is_wrong
from schemas.tenant import TenantName, begin_of, is_tenant, under_tenant
from schemas.types import ColumnType, parse_type

TableName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,127}$")]
COLUMNS_MAX = 2_000
SENT_AS_MAX = 20  # names of one column
SOURCE_TABLE_CHARACTERS_MAX = 500
TEMPLATE_CHARACTERS_MAX = 128
APPLIED_BY_CHARACTERS_MAX = 200
_OWN_VIEW_RULE_MAX = 49  # so that the whole name is one that a view may have
OWN_PREFIX = "_hg_"  # the lake's own columns begin with it; a source's column may not
LATEST = "_latest"  # behind a table's name: its rows as they are now, to whoever asks the lake


# Keys that older releases do not know, and refuse: they are written only where they say something.
NEWER_KEYS = (
    "tenant",
    "source_table",
    "beside",
    "template",
    "type_changes",
    "schema_changes",
    "messages",
    "accepted_risks",
    "output",
    "signals",
    "masks",
)


def _read_type(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_type(value)
    except ConfigurationError as exc:
        raise ValueError(str(exc)) from exc


def _read_null(value: Any) -> Any:
    return "null" if value is None else value  # YAML's null is the word that people mean here


TypeText = Annotated[ColumnType, BeforeValidator(_read_type), PlainSerializer(str)]


class Column(Strict):
    """A column: its type, and how the source encodes it where the record itself does not say.

    `encoding` is the semantic type of the source's format, for Debezium its name without `io.debezium.`, such as
    `time.MicroTimestamp` or `data.VariableScaleDecimal`. None: the format's default for `type`. `unrepresentable` says
    what becomes of a value that the type cannot hold, such as infinity: its record goes to quarantine, or it is null.
    `sent_as` are other names under which records have the column, because the source renamed its own.
    With a `mask` its values are read as `type`, and nothing else of them is written than what the mask leaves.
    """

    type: TypeText
    encoding: str | None = None
    unrepresentable: Annotated[Literal["quarantine", "null"], BeforeValidator(_read_null)] = "quarantine"
    sent_as: Annotated[list[str], Field(max_length=SENT_AS_MAX)] = []
    mask: MaskOrNone = None

    @model_serializer(mode="wrap")
    def _as_older_releases_read_it(self, write: SerializerFunctionWrapHandler) -> Any:
        return without_defaults(self, write(self), ("unrepresentable", "sent_as", "mask"))


def _read_column(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


def _read_accepted(value: Any) -> Any:
    return {ALL_COLUMNS: value} if isinstance(value, str) else value


def _write_accepted(value: dict[str, str]) -> Any:
    return value[ALL_COLUMNS] if value.keys() == {ALL_COLUMNS} else value


# Why a risk may stay: for all of the table, or by column.
Accepted = Annotated[
    dict[str, Annotated[str, Field(min_length=1, max_length=500)]],
    Field(min_length=1),
    BeforeValidator(_read_accepted),
    PlainSerializer(_write_accepted),
]


class TableSpec(Strict):
    """What people keep in their repository about one source table.

    `source_table` is the name that the records themselves give it, exactly so: of its topics the table then takes the
    records of that name alone, and other tables may take others. None: all records are its own. `accepted_risks` are
    those that `headgate tables lint` is content with, each with the reason, for the table or by column. `tenant` is
    whom the table belongs to: its name is put in front of those of table and views (schemas/tenant.py).
    `beside` names a table whose records this one reads as well: another version of it, on an output topic of its own.
    `template` makes this no table but what tables are made of, one for each topic that is caught, of such a name.
    """

    table: TableName
    tenant: TenantName | None = None
    topics: Annotated[list[str], Field(min_length=1, max_length=1_000)]
    format: str = "debezium-json"
    source_table: Annotated[str, Field(min_length=1, max_length=SOURCE_TABLE_CHARACTERS_MAX)] | None = None
    beside: TableName | None = None
    template: Annotated[str, Field(min_length=1, max_length=TEMPLATE_CHARACTERS_MAX)] | None = None
    key: list[str] = []
    columns: Annotated[
        dict[str, Annotated[Column, BeforeValidator(_read_column)]], Field(min_length=1, max_length=COLUMNS_MAX)
    ]
    before: Literal["none", "full"] = "none"
    truncate: Literal["apply", "ignore", "pause"] = "pause"
    schema_changes: Literal["ignore", "quarantine", "pause"] = "ignore"  # DDL told in the table's own topic
    messages: Literal["ignore", "quarantine", "pause"] = "ignore"  # of the source's applications, such as op m
    unknown_columns: Literal["ignore", "quarantine", "add"] = "ignore"
    type_changes: Literal["widen", "text", "new_column", "quarantine", "pause"] = "widen"
    absent: Literal["absent", "null", "unavailable"] | None = (
        None  # a column that a row does not have; None: the format's
    )
    options: dict[str, Any] = {}  # of the format
    unavailable_placeholder: str = "__debezium_unavailable_value"
    start: Literal["earliest", "latest"] = "earliest"
    features: list[View] = []
    rules: list[Rule] = []
    lake: LakePolicy = LakePolicy()
    accepted_risks: dict[RiskName, Accepted] = {}
    output: Output = Output()
    signals: Signals | None = None
    masks: Masks = Masks()

    @property
    def is_masked(self) -> bool:
        """Whether a column has a mask, or would have one if it came."""
        return self.masks.unknown_columns is not None or any(column.mask for column in self.columns.values())

    @model_validator(mode="before")
    @classmethod
    def _under_its_tenant(cls, value: Any) -> Any:
        return under_tenant(value) if isinstance(value, Mapping) and "tenant" in value else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check_tenant()
        if self.beside == self.table:
            raise Misplaced("beside: it names another table, whose records this one reads as well", "beside")
        self._check_template()
        self._check_columns("key", self.key, ("key",))
        self._check_unique("key column", self.key, "key")
        lenient = [name for name in self.key if self.columns[name].unrepresentable == "null"]
        if lenient:
            raise Misplaced(
                f"key: {', '.join(lenient)} may not become null: leave `unrepresentable` out",
                *("columns", lenient[0], "unrepresentable"),
            )
        own = [name for name in self.columns if name.startswith(OWN_PREFIX)]
        if own:
            raise Misplaced(f"columns beginning with {OWN_PREFIX} are ours: {', '.join(own)}", "columns", own[0])
        self._check_sent_as()
        for at, view in enumerate(self.features):
            self._check_view(view, ("features", at))
        if self.truncate == "apply" and (len(self.topics) > 1 or self.topics[0].startswith("^")):
            raise Misplaced(
                "truncate: apply is for a table of one topic: of several, a truncate of one would take the rows of "
                "all; write `pause`, or make a table for each topic",
                "truncate",
            )
        self._check_unique("view", [view.view for view in self.features], "features", "view")
        self._check_unique("rule", [rule.rule for rule in self.rules], "rules", "rule")
        for at, rule in enumerate(self.rules):
            self._check_view_of(rule, ("rules", at))
        for name, reasons in self.accepted_risks.items():
            self._check_columns(
                "accepted_risks", [each for each in reasons if each != ALL_COLUMNS], ("accepted_risks", name)
            )
        self.output.check(self.key, self.columns)
        self._check_masks()
        return self

    def _check_view(self, view: View, path: tuple[str | int, ...]) -> None:
        what = f"view {view.view}"
        if not self.key:
            raise Misplaced(f"{what}: a table without a key has no features", *path)
        self._check_columns(what, view.columns, (*path, "columns"))
        self._check_columns(what, view.entity_key or [], (*path, "entity_key"))
        self._check_columns(what, [view.event_time] if view.event_time else [], (*path, "event_time"))
        if dotted := [name for name in view.columns if name.startswith(".")]:
            raise Misplaced(
                f"{what}: fields that begin with a dot are ours in Redis: {', '.join(dotted)}", *path, "columns"
            )

    @model_serializer(mode="wrap")
    def _as_older_releases_read_it(self, write: SerializerFunctionWrapHandler) -> Any:
        return without_defaults(self, write(self), NEWER_KEYS)

    def _check_template(self) -> None:
        if self.template is None:
            return
        if self.features or self.rules or self.source_table or self.beside:
            raise ValueError("template: views, rules, source_table and beside are of one table: write them in its spec")
        if (wrong := what_is_wrong(self.template, self.topics, self.tenant)) is not None:
            raise Misplaced(wrong, "template")

    def _check_tenant(self) -> None:
        """Refuse names that are not the tenant's, and of a table without one a view that looks like some tenant's."""
        if self.tenant is not None and not is_tenant(self.tenant) and self.template is None:
            raise Misplaced(f"tenant: {self.tenant} is a group of a template's pattern, and this is none", "tenant")
        begin = "" if self.tenant is None else begin_of(self.tenant)
        own = self.table.removeprefix(begin)
        if not own[:1].isalpha():
            message = f"table {self.table}: nothing that begins with a letter stands behind the tenant's name"
            raise Misplaced(message, "table")
        for at, view in enumerate(self.features):
            if view.view == latest_view_name(self.table):
                continue  # it begins as the table does, whether that is a tenant's or not
            if not view.view.startswith(begin) or "." in view.view.removeprefix(begin):
                hint = f"of tenant {self.tenant} it is {begin}<name>" if begin else "say whose it is: `tenant: NAME`"
                message = f"view {view.view}: a dot stands behind a tenant's name alone; {hint}"
                raise Misplaced(message, "features", at, "view")

    def _check_masks(self) -> None:
        masked = {name: column.mask for name, column in self.columns.items() if column.mask is not None}
        left = set(self.columns)
        for name, mask in masked.items():
            try:
                if masked_type(self.columns[name].type, mask) is None:
                    left.remove(name)
            except ValueError as exc:
                raise ValueError(f"column {name}: {exc}") from None
        if foreign := [name for name in self.key if name in masked and masked[name].how not in OF_KEYS]:
            raise ValueError(
                f"key: {', '.join(foreign)} must stay one value each: of a key only {' and '.join(sorted(OF_KEYS))} "
                "are masks"
            )
        if not left:
            raise ValueError("masks: no column is left")
        for view in self.features:
            if gone := [name for name in [*view.columns, *(view.entity_key or [])] if name not in left]:
                raise ValueError(f"view {view.view}: {', '.join(gone)} is dropped by its mask")
            if view.event_time in masked and masked[view.event_time].how != TRUNCATE:
                raise ValueError(f"view {view.view}: the mask of {view.event_time} leaves no time of it")
        if self.masks.unknown_columns is not None and self.unknown_columns != "add":
            raise ValueError("masks.unknown_columns is of columns that are added: write unknown_columns: add")

    def _check_view_of(self, rule: Rule, path: tuple[str | int, ...]) -> None:
        if rule.reads_updates and not self.key:
            raise Misplaced(f"rule {rule.rule}: a table without a key has no features to compare with", *path)
        if rule.view is not None and rule.view not in (views := [view.view for view in self.features]):
            raise Misplaced(
                f"rule {rule.rule}: this table has no view {rule.view}; {nearest(rule.view, views)}; "
                "without `view` the rule makes one of its own",
                *(*path, "view"),
            )

    def _check_columns(self, what: str, names: list[str], path: tuple[str | int, ...]) -> None:
        for at, name in enumerate(names):
            if name not in self.columns:
                raise Misplaced(
                    f"{what}: no such column: {name}; {nearest(name, self.columns)}",
                    *(*path, name if what == "accepted_risks" else at),
                )

    def _check_sent_as(self) -> None:
        others = self.sent_as()
        if own := [name for name in self.key if self.columns[name].sent_as]:
            raise Misplaced(
                f"key: {', '.join(own)} may have no `sent_as`: under another name it is another key",
                *("columns", own[0], "sent_as"),
            )
        if both := sorted(others.keys() & self.columns.keys()):
            raise Misplaced(f"sent_as: {', '.join(both)} is a column of its own", "columns", others[both[0]], "sent_as")
        self._check_unique("sent_as", [name for column in self.columns.values() for name in column.sent_as])

    def sent_as(self) -> dict[str, str]:
        """Return the columns by the other names that records have for them."""
        return {other: name for name, column in self.columns.items() for other in column.sent_as}

    @staticmethod
    def _check_unique(what: str, names: list[str], *path: str) -> None:
        for at, name in enumerate(names):
            if name in names[:at]:
                raise Misplaced(f"{what} named twice: {name}", *path[:1], *([at] if path else []), *path[1:])


def own_view_name(spec: TableSpec, rule: str) -> str:
    """Return the name of the view that a rule makes for itself: one for each rule of each table."""
    digest = hashlib.sha256(json.dumps([spec.table, rule]).encode()).hexdigest()[:8]
    begin = "" if spec.tenant is None else begin_of(spec.tenant)
    return f"{begin}rule-{rule[:_OWN_VIEW_RULE_MAX]}-{digest}"


def view_of(spec: TableSpec, rule: Rule) -> str:
    """Return the name of the view whose updates a rule of `spec` reads."""
    assert rule.reads_updates, "a match rule reads changes"
    return rule.view or own_view_name(spec, rule.rule)


def views_that_emit(spec: TableSpec) -> set[str]:
    """Return the views whose updates are wanted: those that say so, or that a rule or a latest topic reads."""
    wanted = {view.view for view in spec.features if view.emit}
    wanted |= {latest_view_name(spec.table)} if spec.output.latest else set()
    return wanted | {view_of(spec, rule) for rule in spec.rules if rule.reads_updates}


class RuleStart(Strict):
    """Where the topic that a rule reads ended when the rule was applied: what lies below is not its business.

    A partition that was not there then, or a topic with another id, is its business from the first record.
    """

    topic_id: str
    offsets: list[Annotated[int, Field(ge=0)]]  # by partition

    def first(self, topic_id: str, partition: int) -> int:
        """Return the first offset that the rule judges."""
        return self.offsets[partition] if topic_id == self.topic_id and partition < len(self.offsets) else 0


class Decision(Strict):
    """Where somebody decided to go on with a topic that is not as it was read before.

    It holds for one life of the topic, told by its id, and changes nothing once `generation` is reached. `start` is
    where its partitions begin in that generation, by number where they are named, else at the log's beginning. A
    partition in `gaps` goes on in its own generation, with what is missing behind the committed offset named there.
    """

    topic_id: str
    generation: Annotated[int, Field(ge=0)]
    start: Literal["earliest", "latest"] | dict[int, Annotated[int, Field(ge=0)]] = "earliest"
    gaps: dict[int, Annotated[int, Field(ge=0)]] = {}


class TableEntry(Strict):
    """What `headgate.tables` keeps of a table: its spec, and what the verbs of the command line asked for.

    `generation` is the highest asked for so far, `decisions` are by topic (source topics and the output topic),
    `resumed` counts how often workers were told to try again what they paused by themselves. `applied_by` is who
    applied the spec last. `epochs` say by topic where epochs begin, in their order; `resynced` is the epoch of which
    somebody said that its rows are all there. `views_left` are views of it that were taken out, by id with what they
    are read by (`View.read_by`): their rows may be in Redis. `replay` is the one that is not through;
    `replayed_apart`: one was not for all stages, so some of its changes are not everybody's.
    """

    spec: TableSpec
    schema_version: Annotated[int, Field(ge=1)] = 1
    epoch: Annotated[int, Field(ge=0, le=EPOCH_MAX)] = 0
    generation: Annotated[int, Field(ge=0)] = 0
    decisions: dict[str, Decision] = {}
    resumed: Annotated[int, Field(ge=0)] = 0
    paused: str | None = None
    applied_at: str = ""
    applied_by: Annotated[str, Field(max_length=APPLIED_BY_CHARACTERS_MAX)] = ""
    rules_from: dict[str, RuleStart] = {}  # a rule without: from the first record of its topic
    epochs: dict[str, list[EpochStart]] = {}
    resynced: Annotated[int, Field(ge=0, le=EPOCH_MAX)] = 0
    mask_keys: dict[str, str] = {}  # by name the ids of the keys that the table's hashes and tokens were begun with
    replay: Replay | None = None
    replayed_apart: bool = False
    views_left: dict[str, str] = {}
    v: int = versions.TABLE_ENTRY.writes

    @model_serializer(mode="wrap")
    def _as_older_releases_read_it(self, write: SerializerFunctionWrapHandler) -> Any:
        names = ("applied_by", "epochs", "resynced", "mask_keys", "replay", "replayed_apart", "views_left")
        return without_defaults(self, write(self), names)
