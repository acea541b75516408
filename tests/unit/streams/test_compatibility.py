"""What another spec means for those who read a table: each judgement has a rule, and each rule is met here."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.table import TableSpec
from streams.compatibility import COMPATIBLE, INCOMPATIBLE, INSTEAD, compared

DOCUMENT: dict[str, Any] = {
    "table": "patients",
    "topics": ["clinic.public.patients"],
    "key": ["id"],
    "columns": {"id": "int", "name": "string", "age": "int", "weight": "decimal(6,2)", "seen": "timestamp"},
}

# What is changed of the document, and the rules that this falls under, what breaks readers first.
CASES: list[tuple[dict[str, Any], list[str]]] = [
    ({"columns": {"note": "string"}}, ["column_added"]),
    ({"columns": {"age": "long", "weight": "decimal(12,2)"}}, ["column_widened", "column_widened"]),
    ({"columns": {"age": "string"}}, ["column_to_text"]),
    ({"columns": {"age": {"type": "string", "encoding": "text_of(int)"}}}, ["column_to_text"]),
    ({"columns": {"seen": {"type": "timestamp", "encoding": "time.Timestamp"}}}, ["read_otherwise"]),
    ({"before": "full"}, ["before_added"]),
    ({"topics": ["clinic.public.patients", "more"]}, ["topic_added"]),
    ({"topics": ["other"]}, ["topic_added", "topic_dropped"]),
    ({"truncate": "ignore", "absent": "null"}, ["read_otherwise", "read_otherwise"]),
    ({"format": "debezium-avro"}, ["read_otherwise"]),
    ({"columns": {"age": None}}, ["column_dropped"]),
    ({"columns": {"name": None, "called": "string"}}, ["column_renamed"]),
    ({"columns": {"name": None, "called": "long"}}, ["column_dropped", "column_added"]),
    ({"columns": {"name": None, "called": "string", "alias": "string"}}, ["column_dropped", *["column_added"] * 2]),
    ({"columns": {"weight": "decimal(4,2)"}}, ["type_narrowed"]),
    ({"columns": {"age": "boolean"}}, ["type_changed"]),
    ({"columns": {"weight": "decimal(6,3)"}}, ["type_changed"]),
    ({"key": ["name"]}, ["key_changed"]),
    ({"key": ["id", "name"]}, ["key_changed"]),
    ({"key": []}, ["key_changed"]),
    ({"columns": {"id": "long"}}, ["column_widened"]),
    ({"columns": {"id": "string"}}, ["key_changed", "column_to_text"]),
    ({"format": "maxwell"}, ["positions_changed"]),
    ({"format": "debezium-flat", "options": {"order": "offset"}}, ["positions_changed"]),
]


def spec(**changes: Any) -> TableSpec:
    """Return the spec of the document with changes; a column of None is taken out."""
    columns = {**DOCUMENT["columns"], **changes.pop("columns", {})}
    kept = {name: column for name, column in columns.items() if column is not None}
    return TableSpec.model_validate({**DOCUMENT, **changes, "columns": kept})


@pytest.mark.parametrize(("changes", "rules"), CASES, ids=lambda case: str(case)[:60])
def test_a_change_falls_under_its_rules(changes: dict[str, Any], rules: list[str]) -> None:
    """Those that break readers come first, each says what it is about."""
    said = compared(spec(), spec(**changes))

    assert rules == [each.rule for each in said]
    assert all(each.what for each in said)


def test_before_images_that_end_break_readers() -> None:
    """Not that they begin."""
    assert ["before_dropped"] == [each.rule for each in compared(spec(before="full"), spec())]


def test_nothing_is_said_of_what_readers_do_not_see() -> None:
    """Where rows go in the lake, and what becomes of unknown columns."""
    assert [] == compared(spec(), spec(unknown_columns="add", type_changes="text", lake={"enabled": False}))
    assert [] == compared(spec(), spec())


def test_every_rule_is_met_and_every_break_has_a_way_out() -> None:
    """A rule that nothing falls under would be told of in the documents, and never be seen."""
    met = {rule for _, rules in CASES for rule in rules} | {"before_dropped"}

    assert met == COMPATIBLE.keys() | INCOMPATIBLE.keys()
    assert INCOMPATIBLE.keys() == INSTEAD.keys()
    assert not COMPATIBLE.keys() & INCOMPATIBLE.keys()
