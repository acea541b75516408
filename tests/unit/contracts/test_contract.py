"""A contract is made of a spec, written into a file, and read back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.contract import CONTRACT_BYTES_MAX, KEYWORD, read_contract
from schemas.errors import ConfigurationError, VersionRefused
from tests.unit.contracts.made import OUTPUT, contract


def test_a_contract_says_topic_key_columns_and_version() -> None:
    """What a subscriber has to know, and nothing of how the table is read."""
    made = contract({"id": "long", "price": "decimal(12,2)"}, ["id"], before="full")

    assert ("t", OUTPUT, ("id",), 3) == (made.table, made.topic, made.key, made.schema_version)
    assert made.before
    assert {"id": "long", "price": "decimal(12,2)"} == {name: str(type_) for name, type_ in made.columns.items()}


def test_a_contract_is_read_back_from_its_document() -> None:
    """With every type."""
    made = contract()

    assert made == read_contract(json.dumps({KEYWORD: made.document()}).encode(), name="t.json")


def test_the_form_of_changes_is_of_the_contract() -> None:
    """JSON, unless the table's spec says otherwise; a file of before it was said is of a table in JSON."""
    avro = contract(output={"format": "avro"})
    unsaid = contract().document()
    del unsaid["format"]

    assert ("json", "avro") == (contract().format, avro.format)
    assert avro == read_contract(json.dumps({KEYWORD: avro.document()}).encode(), name="t.json")
    assert contract() == read_contract(json.dumps({KEYWORD: unsaid}).encode(), name="t.json")


def test_what_a_later_release_says_more_is_passed_over() -> None:
    """As releases before it pass over the form: the version of the file stays what it is."""
    document = contract().document() | {"later": {"more": 1}}

    assert contract() == read_contract(json.dumps({KEYWORD: document}).encode(), name="t.json")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cannot be read"),
        (b"[1]", "cannot be read"),
        (b"\xff{}", "cannot be read"),
        (b"{}", "no contract of ours"),
        (b"[" * 200_000, "cannot be read"),
        (b" " * (CONTRACT_BYTES_MAX + 1), "is above"),
    ],
)
def test_what_is_no_contract_is_refused(data: bytes, said: str) -> None:
    """A file of somebody else, or half a one: the hint says where contracts come from."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        read_contract(data, name="x.json")

    assert "headgate contract" in caught.value.hint


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"columns": {"id": "integer"}}, "'integer' is not a type"),
        ({"columns": {"id": "list<" * 20_000 + "int" + ">" * 20_000}}, "nested too deep"),
        ({"key": ["nope"]}, "no such key column: nope"),
        ({"schemaVersion": "3"}, "cannot be read"),
        ({"format": "protobuf"}, "cannot be read"),
        ({"table": None}, "cannot be read"),
    ],
)
def test_a_broken_contract_is_refused_by_what_is_wrong(changed: dict[str, Any], said: str) -> None:
    """Somebody edited it."""
    document = contract({"id": "long"}, ["id"]).document() | changed

    with pytest.raises(ConfigurationError, match=said):
        read_contract(json.dumps({KEYWORD: document}).encode(), name="x.json")


def test_a_contract_of_a_newer_release_is_refused() -> None:
    """Its words may mean something else there."""
    document = contract().document() | {"v": 2}

    with pytest.raises(VersionRefused, match="version 2"):
        read_contract(json.dumps({KEYWORD: document}).encode(), name="x.json")
