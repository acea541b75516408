"""Columns that their source renamed: the table keeps them, where the topic of its rows tells the new names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.formats import format_of
from schemas.config import LimitsConfig
from schemas.errors import ConfigurationError
from schemas.table import TableEntry, TableSpec
from tests.unit.formats.captures import CapturedRun, records
from tests.unit.formats.made import MadeRun
from tests.unit.formats.test_maxwell import change
from tests.unit.streams.test_evolving import evolve

COLUMNS = {"id": "long", "name": "string", "visits": "int"}


def entry_of(**more: Any) -> TableEntry:
    """Return the entry of a table that follows its source."""
    document = {
        "table": "t", "topics": ["maxwell"], "format": "maxwell", "key": ["id"], "columns": COLUMNS,
        "unknown_columns": "add", **more,
    }  # fmt: skip
    return TableEntry(spec=TableSpec.model_validate(document))


def row(number: int, **values: Any) -> bytes:
    """Return an insert."""
    return change(data={"id": number, **values})


def alter(statement: str) -> bytes:
    """Return the record of a change of the schema."""
    return change("table-alter", sql=f"alter table customers {statement}", old={}, **{"def": {}})


def evolved(entry: TableEntry, *values: bytes) -> tuple[TableEntry, list[dict[str, Any]]]:
    """Decode all records with as many specs as it takes; nothing of them may be refused."""
    entry, rows, parts = evolve(entry, MadeRun([(None, value) for value in values]))
    assert [] == [each.error.message for part in parts for each in part.rejected]
    return entry, rows


def names(entry: TableEntry) -> dict[str, list[str]]:
    """Return the other names of columns."""
    return {name: column.sent_as for name, column in entry.spec.columns.items() if column.sent_as}


def test_a_renamed_column_keeps_its_name_and_its_values() -> None:
    """Also where it is renamed again, and where older records come again behind it."""
    entry, rows = evolved(
        entry_of(),
        row(1, name="Ada", visits=1), alter("change name full_name varchar(9)"), row(2, full_name="Bo", visits=2),
        alter("rename column full_name to `whole name`"), row(3, **{"whole name": None}, visits=3),
        row(4, name="Di", visits=4), row(5, full_name="Ed", visits=5),
    )  # fmt: skip

    assert {"name": ["full_name", "whole name"]} == names(entry)
    assert ["Ada", "Bo", None, "Di", "Ed"] == [each["name"] for each in rows]
    assert COLUMNS.keys() == entry.spec.columns.keys()
    assert 3 == entry.schema_version


def test_a_column_that_was_added_is_renamed_too_and_one_widens_under_its_new_name() -> None:
    """What its values need is found under any name."""
    entry, rows = evolved(
        entry_of(),
        row(1, name="a", visits=1, ward="A"), alter("rename column ward to unit, change visits seen bigint"),
        row(2, name="b", seen=2**40, unit="B"),
    )  # fmt: skip

    assert {"ward": ["unit"], "visits": ["seen"]} == names(entry)
    assert "long" == str(entry.spec.columns["visits"].type)
    assert [("1", "A"), (str(2**40), "B")] == [(str(each["visits"]), each["ward"]) for each in rows]


def test_what_maxwell_wrote_of_a_rename_is_read() -> None:
    """A column is added, renamed, altered and dropped while rows come."""
    lines = [value for value in CapturedRun(records("maxwell-stdout-all")).values() if value is not None]
    values = [value for value in lines if json.loads(value).get("table") == "customers"]
    columns = {"id": "long", "name": "string", "email": "string", "balance": "decimal(10,2)", "updated": "string"}
    entry, rows = evolved(entry_of(columns=columns), *values)

    assert {"extra": ["extra2"]} == names(entry)
    assert ["7"] == [row["extra"] for row in rows if "extra" in row]


@pytest.mark.parametrize(
    ("statement", "more"),
    [
        ("change name visits text", {}),  # a name that is another column's
        ("change id number int", {}),  # under another name it is another key
        ("change name _hg_op text", {}),  # ours
        ("change nobody somebody text", {}),
        ("add x int", {}),
        ("change name full_name text", {"unknown_columns": "ignore"}),
        ("change name full_name text", {"schema_changes": "pause"}),
    ],
)
def test_what_is_no_rename_of_a_column_changes_nothing(statement: str, more: dict[str, Any]) -> None:
    """The record is passed over, or stops the table, as its policies say."""
    entry, rows = evolved(entry_of(**more), row(1, name="Ada", visits=1), alter(statement))

    assert {} == names(entry)
    assert 1 == len(rows) == entry.schema_version


def test_a_rename_is_taken_from_what_is_kept_in_quarantine_too() -> None:
    """Somebody wants to see it, and the table goes on."""
    records = MadeRun([(None, value) for value in (row(1, name="a"), alter("change name full text"), row(2, full="b"))])
    entry, rows, parts = evolve(entry_of(schema_changes="quarantine"), records)

    assert {"name": ["full"]} == names(entry)
    assert ["a", "b"] == [each["name"] for each in rows]
    assert ["schema_change"] == [each.error.reason for part in parts for each in part.rejected]  # type: ignore[attr-defined]


def test_a_row_with_both_names_is_refused() -> None:
    """Nobody could tell which of them holds."""
    spec = entry_of(columns={**COLUMNS, "name": {"type": "string", "sent_as": ["full"]}}, unknown_columns="ignore")
    _, rows, parts = evolve(spec, MadeRun([(None, row(1, name="a", full="b")), (None, row(2, full="c"))]))

    assert ["duplicate_keys"] == [each.error.reason for part in parts for each in part.rejected]  # type: ignore[attr-defined]
    assert ["c"] == [each["name"] for each in rows]


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"id": {"type": "long", "sent_as": ["number"]}}, "another key"),
        ({"name": {"type": "string", "sent_as": ["visits"]}}, "visits is a column of its own"),
        ({"name": {"type": "string", "sent_as": ["x"]}, "visits": {"type": "int", "sent_as": ["x"]}}, "named twice: x"),
    ],
)
def test_other_names_that_cannot_be_are_refused(columns: dict[str, Any], why: str) -> None:
    """Before anything is read by them."""
    with pytest.raises(ValueError, match=why):
        entry_of(columns={**COLUMNS, **columns})


def test_a_format_that_does_not_look_for_other_names_says_so() -> None:
    """Debezium's records go by their own layouts."""
    entry = entry_of(format="debezium-json", columns={**COLUMNS, "name": {"type": "string", "sent_as": ["full"]}})

    with pytest.raises(ConfigurationError, match="column name: `sent_as` is not for format debezium-json"):
        format_of("debezium-json").decoder(entry, LimitsConfig())


def test_specs_without_other_names_are_written_as_before() -> None:
    """Older releases refuse a key that they do not know."""
    assert "sent_as" not in json.dumps(entry_of().model_dump(mode="json"))
