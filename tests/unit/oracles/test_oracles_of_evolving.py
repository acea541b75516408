"""Faults planted in what came of a table whose columns changed: the oracles find each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.oracles import RowEvent, Shape
from tests.oracles.evolving import check_columns, check_rows, check_schema_versions, to_last_change
from tests.oracles.lake import _change
from tests.oracles.topic import Record
from tests.oracles.values import WrongForm
from tests.unit.oracles.contract_writer import SHAPES, records_of

PATIENTS = SHAPES["patients"]
LAST = Shape.of({**PATIENTS.document, "columns": {**PATIENTS.columns, "ward": "long", "visits": "string"}})


def versioned(records: list[Record], *, from_number: int, version: int = 2) -> list[Record]:
    """Return records of which those from a number on are of a later schema version, in which `ward` is a long."""
    found = []
    for number, record in enumerate(records):
        value = json.loads(record.value or b"")
        later = number >= from_number
        if later and value["after"] is not None:
            value["after"]["ward"] = str(value["after"]["ward"])
        headers = (("headgate.schema", str(version if later else 1).encode()),)
        found.append(replace(record, value=json.dumps(value).encode(), headers=headers))
    return found


@pytest.fixture
def records(history: list[RowEvent]) -> list[Record]:
    """One partition of inserts and updates, of two schema versions."""
    own = [record for record in records_of(PATIENTS, history) if record.partition == 0]
    return versioned(own, from_number=len(own) // 2)


def test_older_forms_are_read_as_the_last(history: list[RowEvent]) -> None:
    """An int that is a long or a text today; its key stays as it was written."""
    record = next(each for each in records_of(PATIENTS, history) if json.loads(each.value or b"")["after"])
    raw = json.loads(record.value or b"")
    change = to_last_change(LAST, record)

    assert change.after is not None
    assert raw["after"]["ward"] == change.after["ward"]
    assert str(raw["after"]["visits"]) == change.after["visits"]
    assert raw["key"] == change.key_json
    assert record == change.record


@pytest.mark.parametrize("image", ["before", "after"])
def test_a_form_that_no_schema_has_is_refused(history: list[RowEvent], image: str) -> None:
    """A float is no older form of a long, neither in the row as it is nor in the one before."""
    record = next(each for each in records_of(PATIENTS, history) if json.loads(each.value or b"")["after"])
    value = json.loads(record.value or b"")
    value[image] = {**value["after"], "ward": 1.5}

    with pytest.raises(WrongForm, match="long"):
        to_last_change(LAST, replace(record, value=json.dumps(value).encode()))


def test_versions_that_rise_with_one_form_each_are_right(records: list[Record]) -> None:
    """And they are counted."""
    verdict = check_schema_versions("patients", records, at_least=2)

    assert verdict.holds
    assert {"records": len(records), "versions": 2} == verdict.figures


def test_two_forms_under_one_version_are_found(records: list[Record]) -> None:
    """A subscriber who goes by the header would stumble."""
    headers = (("headgate.schema", b"1"),)
    verdict = check_schema_versions("patients", [replace(each, headers=headers) for each in records], at_least=1)

    assert ["version 1: ward has the forms ['number', 'str']"] == verdict.differences


def test_a_version_that_falls_is_found(records: list[Record]) -> None:
    """The last record says an older one."""
    last = replace(records[0], offset=records[-1].offset + 1)
    verdict = check_schema_versions("patients", [*records, last], at_least=2)

    assert [f"0 {last.offset}: version 1 after 2"] == verdict.differences


def test_fewer_versions_than_there_must_be_are_found(records: list[Record]) -> None:
    """A table that never changed proves nothing."""
    assert not check_schema_versions("patients", records, at_least=3).holds


def test_columns_that_are_not_as_wanted_are_found() -> None:
    """One that is missing, one too much, one of another type."""
    verdict = check_columns("t", {"a": "int", "b": "long", "c": "int"}, {"b": "int", "c": "int", "d": "string"})

    assert [
        "a is None, int is wanted", "b is int, long is wanted", "d is string, None is wanted"
    ] == verdict.differences  # fmt: skip


def test_rows_that_are_not_the_sources_are_found() -> None:
    """Missing, too much, and there twice."""
    verdict = check_rows("rows", ["id"], [(1,), (2,)], [(2,), (2,), (3,)])

    assert "a row is there twice" in verdict.differences
    assert {"missing: {'id': 1}", "too much: {'id': 3}"} <= set(verdict.differences)
    assert check_rows("rows", ["id"], [(1,)], [(1,)]).holds
    assert not check_rows("rows", ["id"], [], []).holds


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ({"code": None, "_hg_code__int": 5}, "5"),
        ({"code": "A-12", "_hg_code__int": None}, "A-12"),
        ({"code": None, "_hg_code__int": None}, None),
    ],
)
def test_a_column_that_became_a_text_is_read_with_its_older_values(row: Mapping[str, Any], value: str | None) -> None:
    """They stand in a column of their own."""
    own = {f"_hg_{name}": None for name in ("topic", "generation", "partition", "offset", "op", "position")}
    own |= {"_hg_previous": None, "_hg_old_key": None, "_hg_new_key": None}
    shape = Shape.of({"table": "t", "topics": ["s"], "key": [], "columns": {"code": "string"}})

    assert {"code": value} == _change(shape, {**own, "_hg_unavailable": [], **row}).row
