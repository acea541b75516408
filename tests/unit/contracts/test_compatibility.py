"""What differs between two contracts, and by which rule it is compatible or is not."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.compatibility import COMPATIBLE, WHY, CompatibilityRule, compare, differences, incompatible
from schemas.contract import contract_of
from schemas.table import TableSpec
from tests.unit.contracts.made import contract
from tests.unit.docs.pages import ROOT, rows
from tests.unit.lake.changes import spec_of

CONTRACT_PAGE = ROOT / "docs" / "contract.md"
COLUMNS = {
    "id": "long",
    "name": "string",
    "weight": "decimal(6,2)",
    "visits": "int",
    "tags": "list<int>",
    "wide": "long",
}


def rules(columns: dict[str, str], **changed: Any) -> list[tuple[str, str | None]]:
    """Return rule and column of each difference to the table above."""
    old = contract(COLUMNS, ["id"])
    return [(each.rule.value, each.column) for each in compare(old, contract(columns, **{"key": ["id"], **changed}))]


def test_the_same_contract_has_no_differences() -> None:
    """However its columns are ordered: they are found by their names."""
    assert [] == rules(COLUMNS)
    assert [] == rules(dict(reversed(COLUMNS.items())))


@pytest.mark.parametrize(
    ("column", "type_", "rule"),
    [
        ("visits", "long", "type_widened"),
        ("weight", "decimal(8,2)", "type_widened"),
        ("tags", "list<long>", "type_widened"),
        ("wide", "int", "type_narrowed"),
        ("weight", "decimal(5,2)", "type_narrowed"),
        ("weight", "decimal(8,3)", "type_changed"),
        ("visits", "double", "type_changed"),
        ("tags", "list<string>", "type_changed"),
        ("visits", "string", "type_became_text"),
        ("name", "json", "type_changed"),
    ],
)
def test_another_type_comes_under_a_rule(column: str, type_: str, rule: str) -> None:
    """Wider is what Iceberg promotes; all else is refused by what it is."""
    assert [(rule, column)] == rules(COLUMNS | {column: type_})


def test_columns_come_and_go() -> None:
    """In the older contract's order, and then what is new."""
    left = {name: type_ for name, type_ in COLUMNS.items() if name != "name"}

    assert [("column_removed", "name"), ("column_added", "born")] == rules({"born": "date", **left})


@pytest.mark.parametrize("key", [[], ["name"], ["id", "name"]])
def test_another_key_is_a_rule_of_its_own(key: list[str]) -> None:
    """Also where no column changed."""
    assert [("key_changed", None)] == rules(COLUMNS, key=key)


def test_the_order_of_a_keys_columns_is_part_of_it() -> None:
    """The record's key is text, and compaction compares it."""
    one, other = contract(COLUMNS, ["id", "name"]), contract(COLUMNS, ["name", "id"])

    assert ["key_changed"] == [each.rule.value for each in compare(one, other)]


@pytest.mark.parametrize(("one", "other"), [("int", "long"), ("long", "int")])
def test_a_key_that_becomes_text_or_a_number_is_another_key(one: str, other: str) -> None:
    """`{"id": 5}` and `{"id": "5"}` are two keys to everybody who compares records by them."""
    found = compare(contract({"id": one}, ["id"]), contract({"id": other}, ["id"]))

    assert [("key_changed", "id")] == [(each.rule.value, each.column) for each in found]
    wider = compare(contract({"id": "decimal(4,0)"}, ["id"]), contract({"id": "decimal(9,0)"}, ["id"]))
    assert ["type_widened"] == [each.rule.value for each in wider]


def test_the_row_as_it_was_and_the_tables_name_are_of_the_contract() -> None:
    """And the row before is missed once it is gone."""
    assert [("before_added", None)] == rules(COLUMNS, before="full")
    assert [("table_renamed", None)] == rules(COLUMNS, table="t2")
    removed = compare(contract(before="full"), contract())
    assert [("before_removed", "given", "null")] == [(each.rule.value, each.old, each.new) for each in removed]


@pytest.mark.parametrize(("one", "other"), [("json", "avro"), ("avro", "json")])
def test_another_form_of_changes_is_told_by_contracts_and_by_specs_once(one: str, other: str) -> None:
    """Whatever else differs: no reader of the one reads the other."""
    old, new = {"format": one}, {"format": other}

    found = compare(contract(output=old), contract(output=new))

    assert [("format_changed", None, one, other)] == [(e.rule.value, e.column, e.old, e.new) for e in found]
    assert found == incompatible(found)
    assert found == differences(spec_of(output=old), spec_of(output=new))


def test_how_a_table_is_read_is_not_of_the_contract() -> None:
    """Topics, wire, encodings and policies may change under the subscribers: specs say so, contracts do not."""
    old = spec_of()
    new = old.model_copy(update={"topics": ["elsewhere"], "format": "debezium-avro", "truncate": "apply"})
    new = TableSpec.model_validate(new.model_dump())

    assert [] == compare(contract_of(old), contract_of(new))
    assert [] == incompatible(differences(old, new))


def test_a_difference_says_what_it_was_and_why() -> None:
    """So that whoever reads it in CI knows what to do."""
    columns = spec_of().model_dump(mode="json")["columns"]
    (found,) = differences(spec_of(), spec_of(columns=columns | {"weight": "decimal(4,2)"}))

    assert ("weight", "decimal(6,2)", "decimal(4,2)") == (found.column, found.old, found.new)
    assert [found] == incompatible([found])
    assert "already" in found.why


def test_the_contracts_page_has_every_rule() -> None:
    """With whether it is compatible, and why."""
    told = {name.strip("`"): (compatible, why) for name, compatible, why in rows(CONTRACT_PAGE, "rule")}

    assert {rule.value: ("yes" if rule in COMPATIBLE else "no", WHY[rule]) for rule in WHY} == told


def test_every_rule_has_a_reason() -> None:
    """Also those that let a change pass."""
    assert set(CompatibilityRule) == set(WHY)
    assert COMPATIBLE < set(CompatibilityRule)
