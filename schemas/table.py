"""A table: a registered source table with its spec, and the entry that `headgate.tables` keeps of it."""

from __future__ import annotations

import functools
import hashlib
import json
import zoneinfo
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from schemas import versions
from schemas.document import Strict
from schemas.errors import ConfigurationError
from schemas.feature import View
from schemas.replay import Replay
from schemas.rule import Rule
from schemas.types import ColumnType, parse_type

TableName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,127}$")]
COLUMNS_MAX = 2_000
SENT_AS_MAX = 20  # names of one column
SOURCE_TABLE_CHARACTERS_MAX = 500
_OWN_VIEW_RULE_MAX = 49  # so that the whole name is one that a view may have
OWN_PREFIX = "_hg_"  # the lake's own columns begin with it; a source's column may not


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
    """

    type: TypeText
    encoding: str | None = None
    unrepresentable: Annotated[Literal["quarantine", "null"], BeforeValidator(_read_null)] = "quarantine"
    sent_as: Annotated[list[str], Field(max_length=SENT_AS_MAX)] = []

    @model_serializer(mode="wrap")
    def _as_older_releases_read_it(self, write: SerializerFunctionWrapHandler) -> Any:
        document = write(self)
        if self.unrepresentable == "quarantine":  # they refuse a key that they do not know
            document.pop("unrepresentable", None)
        if not self.sent_as:
            document.pop("sent_as", None)
        return document


def _read_column(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


@functools.cache
def _time_zones() -> set[str]:
    return zoneinfo.available_timezones()  # opens hundreds of files, 16 ms: once for all tables


class LakePolicy(Strict):
    """How a table lies in the lake; dates are computed in `time_zone`."""

    enabled: bool = True
    time_zone: str = "UTC"
    partition_by: list[Literal["commit_date"]] = ["commit_date"]

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        if value not in _time_zones():
            raise ValueError(f"{value!r} is no time zone; write one such as Europe/Berlin")
        return value


class TableSpec(Strict):
    """What people keep in their repository about one source table.

    `source_table` is the name that the records themselves give it, exactly so: of its topics the table then takes the
    records of that name alone, and other tables may take others. None: all records are its own.
    """

    table: TableName
    topics: Annotated[list[str], Field(min_length=1, max_length=1_000)]
    format: str = "debezium-json"
    source_table: Annotated[str, Field(min_length=1, max_length=SOURCE_TABLE_CHARACTERS_MAX)] | None = None
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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check_columns("key", self.key)
        self._check_unique("key column", self.key)
        lenient = [name for name in self.key if self.columns[name].unrepresentable == "null"]
        if lenient:
            raise ValueError(f"key: {', '.join(lenient)} may not become null: leave `unrepresentable` out")
        own = [name for name in self.columns if name.startswith(OWN_PREFIX)]
        if own:
            raise ValueError(f"columns beginning with {OWN_PREFIX} are ours: {', '.join(own)}")
        self._check_sent_as()
        for view in self.features:
            if not self.key:
                raise ValueError(f"view {view.view}: a table without a key has no features")
            self._check_columns(f"view {view.view}", [*view.columns, *(view.entity_key or [])])
            self._check_columns(f"view {view.view}", [view.event_time] if view.event_time else [])
            if dotted := [name for name in view.columns if name.startswith(".")]:
                raise ValueError(
                    f"view {view.view}: fields that begin with a dot are ours in Redis: {', '.join(dotted)}"
                )
        if self.truncate == "apply" and (len(self.topics) > 1 or self.topics[0].startswith("^")):
            raise ValueError(
                "truncate: apply is for a table of one topic: of several, a truncate of one would take the rows of "
                "all; write `pause`, or make a table for each topic"
            )
        self._check_unique("view", [view.view for view in self.features])
        self._check_unique("rule", [rule.rule for rule in self.rules])
        for rule in self.rules:
            self._check_view_of(rule)
        return self

    @model_serializer(mode="wrap")
    def _as_older_releases_read_it(self, write: SerializerFunctionWrapHandler) -> Any:
        document = write(self)
        if self.source_table is None:  # they refuse a key that they do not know
            document.pop("source_table", None)
        for key, default in {"type_changes": "widen", "schema_changes": "ignore", "messages": "ignore"}.items():
            if document.get(key) == default:
                del document[key]
        return document

    def _check_view_of(self, rule: Rule) -> None:
        if rule.reads_updates and not self.key:
            raise ValueError(f"rule {rule.rule}: a table without a key has no features to compare with")
        if rule.view is not None and rule.view not in (views := [view.view for view in self.features]):
            raise ValueError(
                f"rule {rule.rule}: this table has no view {rule.view}; it has {', '.join(views) or 'none'}; "
                "without `view` the rule makes one of its own"
            )

    def _check_columns(self, what: str, names: list[str]) -> None:
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise ValueError(
                f"{what}: no such column: {', '.join(missing)}; columns are {', '.join(list(self.columns)[:20])}"
            )

    def _check_sent_as(self) -> None:
        others = self.sent_as()
        if own := [name for name in self.key if self.columns[name].sent_as]:
            raise ValueError(f"key: {', '.join(own)} may have no `sent_as`: under another name it is another key")
        if both := sorted(others.keys() & self.columns.keys()):
            raise ValueError(f"sent_as: {', '.join(both)} is a column of its own")
        self._check_unique("sent_as", [name for column in self.columns.values() for name in column.sent_as])

    def sent_as(self) -> dict[str, str]:
        """Return the columns by the other names that records have for them."""
        return {other: name for name, column in self.columns.items() for other in column.sent_as}

    @staticmethod
    def _check_unique(what: str, names: list[str]) -> None:
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{what} named twice: {', '.join(sorted(twice))}")


def own_view_name(table: str, rule: str) -> str:
    """Return the name of the view that a rule makes for itself: one for each rule of each table."""
    digest = hashlib.sha256(json.dumps([table, rule]).encode()).hexdigest()[:8]
    return f"rule-{rule[:_OWN_VIEW_RULE_MAX]}-{digest}"


def view_of(spec: TableSpec, rule: Rule) -> str:
    """Return the name of the view whose updates a rule of `spec` reads."""
    assert rule.reads_updates, "a match rule reads changes"
    return rule.view or own_view_name(spec.table, rule.rule)


def views_that_emit(spec: TableSpec) -> set[str]:
    """Return the views whose updates are wanted: those that say so, and those that a rule reads."""
    wanted = {view.view for view in spec.features if view.emit}
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
    `resumed` counts how often workers were told to try again what they paused by themselves, `replay` is the one that
    is not through. `replayed_apart`: one was not for all stages, so some of its changes are not everybody's.
    """

    spec: TableSpec
    schema_version: Annotated[int, Field(ge=1)] = 1
    epoch: Annotated[int, Field(ge=0, le=9_999)] = 0
    generation: Annotated[int, Field(ge=0)] = 0
    decisions: dict[str, Decision] = {}
    resumed: Annotated[int, Field(ge=0)] = 0
    paused: str | None = None
    applied_at: str = ""
    rules_from: dict[str, RuleStart] = {}  # a rule without: from the first record of its topic
    replay: Replay | None = None
    replayed_apart: bool = False
    v: int = versions.TABLE_ENTRY.writes

    @model_serializer(mode="wrap")
    def _as_older_releases_read_it(self, write: SerializerFunctionWrapHandler) -> Any:
        document = write(self)
        if self.replay is None:  # they refuse a key that they do not know
            document.pop("replay", None)
        if not self.replayed_apart:
            document.pop("replayed_apart", None)
        return document
