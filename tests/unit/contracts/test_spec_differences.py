"""What another spec means for those who read a table: each judgement has a rule, and each rule is met here."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.compatibility import COMPATIBLE, INSTEAD, CompatibilityRule, differences
from schemas.table import TableSpec

DOCUMENT: dict[str, Any] = {
    "table": "patients",
    "topics": ["clinic.public.patients"],
    "key": ["id"],
    "columns": {"id": "int", "name": "string", "age": "int", "weight": "decimal(6,2)", "seen": "timestamp"},
}

# What is changed of the document, and the rules that this falls under, what breaks readers first.
CASES: list[tuple[dict[str, Any], list[str]]] = [
    ({"columns": {"note": "string"}}, ["column_added"]),
    ({"columns": {"age": "long", "weight": "decimal(12,2)"}}, ["type_widened", "type_widened"]),
    ({"columns": {"age": "string"}}, ["type_became_text"]),
    ({"columns": {"weight": {"type": "string", "encoding": "text_of(decimal)"}}}, ["type_became_text"]),
    ({"columns": {"seen": {"type": "timestamp", "encoding": "time.Timestamp"}}}, ["read_otherwise"]),
    ({"before": "full"}, ["before_added"]),
    ({"topics": ["clinic.public.patients", "more"]}, ["topic_added"]),
    ({"topics": ["other"]}, ["topic_added", "topic_removed"]),
    ({"truncate": "ignore", "absent": "null"}, ["read_otherwise", "read_otherwise"]),
    ({"format": "debezium-avro"}, ["read_otherwise"]),
    ({"columns": {"age": None}}, ["column_removed"]),
    ({"columns": {"name": None, "called": "string"}}, ["column_removed", "column_added"]),
    ({"columns": {"weight": "decimal(4,2)"}}, ["type_narrowed"]),
    ({"columns": {"age": "boolean"}}, ["type_changed"]),
    ({"columns": {"weight": "decimal(6,3)"}}, ["type_changed"]),
    ({"key": ["name"]}, ["key_changed"]),
    ({"key": ["id", "name"]}, ["key_changed"]),
    ({"key": []}, ["key_changed"]),
    ({"columns": {"id": "long"}}, ["key_changed"]),
    ({"columns": {"id": "string"}}, ["type_became_text"]),
    ({"columns": {"id": {"type": "int", "mask": "hash"}}}, ["type_became_text", "key_changed"]),
    ({"columns": {"name": {"type": "string", "mask": "hash"}}}, ["mask_changed"]),
    ({"columns": {"name": {"type": "string", "mask": "drop"}}}, ["column_removed"]),
    ({"format": "maxwell"}, ["positions_changed"]),
    ({"format": "debezium-flat", "options": {"order": "offset"}}, ["positions_changed"]),
    ({"output": {"format": "avro"}}, ["format_changed"]),
    ({"output": {"cloud_events": True}}, ["headers_added"]),
    ({"output": {"latest": True}}, ["latest_added"]),
]
# What ends, given by what was there before.
ENDS: list[tuple[dict[str, Any], list[str]]] = [
    ({"before": "full"}, ["before_removed"]),
    ({"output": {"cloud_events": True}}, ["headers_removed"]),
    ({"output": {"latest": True}}, ["latest_removed"]),
    ({"output": {"format": "avro"}}, ["format_changed"]),
    ({"table": "ward.patients", "tenant": "ward"}, ["table_renamed", "tenant_changed"]),
]


def spec(**changes: Any) -> TableSpec:
    """Return the spec of the document with changes; a column of None is taken out."""
    columns = {**DOCUMENT["columns"], **changes.pop("columns", {})}
    kept = {name: column for name, column in columns.items() if column is not None}
    return TableSpec.model_validate({**DOCUMENT, **changes, "columns": kept})


@pytest.mark.parametrize(("changes", "rules"), CASES, ids=lambda case: str(case)[:60])
def test_a_change_falls_under_its_rules(changes: dict[str, Any], rules: list[str]) -> None:
    """Those that break readers come first, each says what it is about."""
    found = differences(spec(), spec(**changes))

    assert rules == [each.rule for each in found]
    assert all(each.what for each in found)
    assert sorted(found, key=lambda each: each.compatible) == found


@pytest.mark.parametrize(("changes", "rules"), ENDS, ids=lambda case: str(case)[:60])
def test_what_ends_falls_under_rules_of_its_own(changes: dict[str, Any], rules: list[str]) -> None:
    """Readers count on what was there, not on what comes."""
    assert rules == [each.rule for each in differences(spec(**changes), spec())]


@pytest.mark.parametrize(
    ("column", "output", "rule"),
    [
        ("age", {}, "type_became_text_as_said"),
        ("weight", {}, "type_became_text_as_said"),
        ("id", {}, "type_became_text"),
        ("age", {"format": "avro"}, "type_became_text"),
    ],
)
def test_text_where_a_number_was_breaks_readers_unless_the_spec_had_said_so(
    column: str, output: dict[str, Any], rule: str
) -> None:
    """Said before it happens, as workers do it by the same word; of a key nobody says it, and of Avro no registry."""
    old = spec(type_changes="text", output=output)
    (found,) = differences(old, spec(type_changes="text", output=output, columns={column: "string"}))

    assert rule == found.rule
    assert ["type_became_text"] == [
        each.rule for each in differences(spec(), spec(type_changes="text", columns={"age": "string"}))
    ]


def test_nothing_is_said_of_what_readers_do_not_see() -> None:
    """Where rows go in the lake, and what becomes of unknown columns."""
    assert [] == differences(spec(), spec(unknown_columns="add", type_changes="text", lake={"enabled": False}))
    assert [] == differences(spec(), spec())


def test_every_rule_is_met_and_every_break_has_a_way_out() -> None:
    """A rule that nothing falls under would be told of in the documents, and never be seen."""
    met = {rule for _, rules in [*CASES, *ENDS] for rule in rules} | {"type_became_text_as_said"}

    assert met == {str(rule) for rule in CompatibilityRule}
    assert set(CompatibilityRule) - COMPATIBLE == INSTEAD.keys()
