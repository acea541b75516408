"""What a schema-change topic says of tables: types as a schema block would say them, though records have none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.captured import OneRecord
from connectors.inference import Definitions, Proposal, Sure, new_samples
from tests.unit.formats.captures import records, runs

# Types that no definition read here says, and times that only one of the captures has beyond a day.
NOT_DEFINED = {"b1", "b8", "b64", "u", "gp", "gg", "tm", "tm3", "tm6"}


def all_records(case: str) -> list[OneRecord]:
    """Return every record of a capture."""
    return [
        OneRecord(topic, 0, offset, key, value, ())
        for topic in sorted({record["topic"] for record in records(case)})
        for run in runs(case, topic)
        for offset, key, value in zip(run.offsets(), run.keys(), run.values(), strict=True)
    ]


def proposed(case: str, *, defined: bool) -> dict[str, Proposal]:
    """Return what a capture proposes by source table, with or without what its schema-change topic says."""
    definitions = Definitions()
    found = all_records(case)
    for record in found if defined else ():
        definitions.add(record)
    samples = new_samples(definitions=definitions)
    for record in found:
        samples.add(record)
    return {each.source: each for each in samples.tables()}


def test_definitions_say_what_a_schema_block_says() -> None:
    """Of the same table, captured with schema blocks and without."""
    (defined,) = proposed("mariadb-types", defined=True).values()
    (stated,) = proposed("mariadb-types-schema", defined=False).values()
    (guessed,) = proposed("mariadb-types", defined=False).values()

    def types(proposal: Proposal) -> dict[str, str]:
        return {name: evidence.type for name, evidence in proposal.columns.items() if name not in NOT_DEFINED}

    def differing(one: dict[str, str], other: dict[str, str]) -> dict[str, tuple[str, str]]:
        return {name: (one[name], other[name]) for name in one if one[name] != other[name]}

    assert {} == differing(types(defined), types(stated))
    assert len(differing(types(guessed), types(stated))) > 10
    assert defined.is_defined
    assert "defined by the schema-change topic" in defined.summary


@pytest.mark.parametrize("case", ["mariadb-json-schemaless", "mariadb-ddl", "mariadb-types"])
def test_what_is_defined_is_proposed_for_sure(case: str) -> None:
    """And takes every value: what does not is proposed as its values look."""
    for proposal in proposed(case, defined=True).values():
        sure = {name: evidence.why for name, evidence in proposal.columns.items() if evidence.sure is Sure.HIGH}
        assert "stated by the schema-change topic" in sure.values(), proposal.source


def definition(columns: list[dict[str, Any]], *, kind: str = "CREATE", key: list[str] | None = None) -> OneRecord:
    """Return a record of a schema-change topic."""
    table = {"primaryKeyColumnNames": ["id"] if key is None else key, "columns": columns}
    document = {
        "source": {"connector": "mysql", "name": "shop", "db": "shop"},
        "databaseName": "shop",
        "tableChanges": [{"type": kind, "id": '"shop"."orders"', "table": table}],
    }
    return OneRecord("shop", 0, 0, None, json.dumps(document).encode(), ())


def column(values: list[Any], type_name: str, **more: Any) -> tuple[str, str | None, str]:
    """Return type, encoding and reason of a column that is defined so and has these values."""
    definitions = Definitions()
    definitions.add(definition([{"name": "c", "typeName": type_name, **more}]))
    samples = new_samples(definitions=definitions)
    for at, value in enumerate(values):
        envelope = {
            "op": "c",
            "after": {"id": at, "c": value},
            "source": {"connector": "mysql", "name": "shop", "db": "shop", "table": "orders"},
        }
        samples.add(OneRecord("shop.shop.orders", 0, at, b'{"id":1}', json.dumps(envelope).encode(), ()))
    (proposal,) = samples.tables()
    found = proposal.columns["c"]
    return found.type, found.encoding, found.why


STATED = "stated by the schema-change topic"
MS, US = 1_795_219_394_000, 1_795_219_394_000_000


@pytest.mark.parametrize(
    ("values", "type_name", "more", "expected"),
    [
        (["AeJA"], "DECIMAL", {"length": 12, "scale": 2}, ("decimal(12,2)", None)),
        (["12.50", "-1.00"], "DECIMAL", {"length": 12, "scale": 2}, ("decimal(12,2)", "string")),
        ([12.5, 3.25], "DECIMAL", {"length": 12, "scale": 2}, ("decimal(12,2)", "double")),
        (["AeJA"], "DECIMAL", {"length": 65, "scale": 30}, ("string", "connect.Decimal(30)")),
        ([MS], "DATETIME", {}, ("timestamp", None)),
        ([US], "DATETIME", {"length": 6}, ("timestamp", "time.MicroTimestamp")),
        ([US], "DATETIME", {}, ("timestamp", "time.MicroTimestamp")),
        ([MS], "DATETIME", {"length": 6}, ("timestamp", None)),
        (["2026-11-20T19:45:57Z"], "TIMESTAMP", {}, ("timestamptz", None)),
        ([20_000], "DATE", {}, ("date", None)),
        ([1, None], "INT", {}, ("int", None)),
        ([2**40], "BIGINT", {}, ("long", None)),
        ([2**32 - 1], "INT UNSIGNED", {}, ("long", None)),
        (["a"], "VARCHAR", {"length": 50}, ("string", None)),
        (['{"a":1}'], "JSON", {}, ("json", None)),
    ],
)
def test_the_values_say_how_a_defined_type_arrives(
    values: list[Any], type_name: str, more: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    """For that is the connector's setting, which no definition has."""
    assert (*expected, STATED) == column(values, type_name, **more)


@pytest.mark.parametrize(
    ("values", "type_name"), [(["a"], "INT"), ([1], "GEOMETRY"), ([{}], "VARCHAR"), ([1], ""), ([1], "INT" * 99)]
)
def test_what_is_not_as_it_is_defined_is_told_by_its_values(values: list[Any], type_name: str) -> None:
    """A converter may have made another thing of it."""
    assert STATED != column(values, type_name)[2]


def test_a_table_without_keys_in_its_records_takes_that_of_its_definition() -> None:
    """Of the newest one, also where the table was dropped: its records are still there."""
    definitions = Definitions()
    columns = [{"name": "id", "typeName": "INT"}]
    assert definitions.add(definition(columns, key=["old"]))
    assert definitions.add(definition(columns, kind="ALTER"))
    dropped = {"type": "DROP", "id": '"shop"."orders"', "table": None}
    document = {"source": {"connector": "mysql", "name": "shop", "db": "shop"}, "tableChanges": [dropped]}
    assert definitions.add(OneRecord("shop", 0, 0, None, json.dumps(document).encode(), ()))

    found = definitions.of("mysql\0shop\0shop", "shop.orders")
    assert found is not None
    assert ("id",) == found.key


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff",
        b"[]",
        b"null",
        b'{"source":1,"tableChanges":[]}',
        b'{"source":{},"tableChanges":{}}',
        b'{"tableChanges":[1]}',
        b"[" * 100_000,
    ],
)
def test_what_says_nothing_of_tables_is_passed_over(value: bytes | None) -> None:
    """Nothing in a record raises."""
    assert not Definitions().add(OneRecord("t", 0, 0, None, value, ()))


@pytest.mark.parametrize(
    "change",
    [
        1,
        {},
        {"type": "CREATE", "id": None, "table": {}},
        {"type": "CREATE", "id": '"a"."b"', "table": {"columns": [1, {"name": None, "typeName": 7}]}},
        {"type": "CREATE", "id": '"a"."b"', "table": {"columns": {}, "primaryKeyColumnNames": "id"}},
        {"type": "CREATE", "id": '"a"."b"', "table": {"columns": [{"typeName": "DECIMAL", "length": "x"}]}},
    ],
)
def test_a_broken_definition_says_nothing_of_columns(change: Any) -> None:
    """It is taken for what it is."""
    document = {"source": {"connector": "mysql", "name": "s", "db": "a"}, "tableChanges": [change]}
    definitions = Definitions()

    assert definitions.add(OneRecord("s", 0, 0, None, json.dumps(document).encode(), ()))
    found = definitions.of("mysql\0s\0a", "a.b")
    assert found is None or "id" not in found.columns
