"""Records told apart by the table that they name: of every format that names one, in captures and made records."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import pytest

from connectors.formats.inspection import is_block
from connectors.formats.routing import Router, is_routed_alike
from schemas.errors import ConfigurationError
from schemas.table import TableSpec
from tests.unit.formats.captures import CapturedRun, configuration, records
from tests.unit.formats.envelopes import FOLDER as ENVELOPES
from tests.unit.formats.envelopes import records as made
from tests.unit.formats.envelopes import value_of
from tests.unit.formats.event_cases import FOLDER as EVENTS
from tests.workloads.dms_topic import control_record, dms_record

DEBEZIUM = ["pg-json-schemaless", "pg-json-with-schema", "mariadb-json-schemaless", "pg-heartbeat", "pg-toast"]


def names(format_name: str, *values: bytes | None, **spec: Any) -> list[str | None]:
    """Return the table that each value names."""
    document = {"table": "t", "topics": ["t"], "columns": {"id": "int"}, "format": format_name, "source_table": "s"}
    return Router(TableSpec.model_validate(document | spec)).names(values)


@pytest.mark.parametrize("case", DEBEZIUM)
def test_debeziums_changes_name_the_table_that_their_topic_is_named_after(case: str) -> None:
    """With and without schema blocks; tombstones and heartbeats name none."""
    run, prefix = CapturedRun(records(case)), f"{configuration(case)['topic.prefix']}."
    found = names("debezium-json", *run.values())

    for record, value, name in zip(records(case), run.values(), found, strict=True):
        document = json.loads(value) if value is not None else None
        payload = document["payload"] if is_block(document) else document
        is_change = isinstance(payload, dict) and payload.get("op") in {"c", "u", "d", "r"}
        assert (record["topic"].removeprefix(prefix) if is_change else None) == name
    assert len(set(found)) > 1


def test_maxwell_names_tables_of_rows_and_of_their_definitions() -> None:
    """Definitions of databases, and the ends of bootstraps, are of none."""
    values = [*CapturedRun(records("maxwell-stdout-all")).values(), *CapturedRun(records("maxwell-bootstrap")).values()]
    none = {"database-create", "database-alter", "database-drop", "bootstrap-start", "bootstrap-complete"}
    rows = [json.loads(value or b"")["type"] not in none for value in values]
    found = names("maxwell", *values)

    assert rows == [name is not None for name in found]
    assert {"shop.customers", "shop.items", "shop.nopk", None} < set(found)


@pytest.mark.parametrize("name", ["canal", "goldengate", "sequin"])
def test_made_events_name_the_table_that_their_format_says(name: str) -> None:
    """As `table_of` of the format does, one record at a time; definitions are their table's."""
    documents = [one for one in json.loads((EVENTS / f"{name}.json").read_text())["records"] if one is not None]
    table_of = import_module(f"connectors.formats.{name}").table_of

    assert list(map(table_of, documents)) == names(name, *(json.dumps(one).encode() for one in documents))
    assert set(map(table_of, documents)) - {None}


@pytest.mark.parametrize("name", sorted(path.name for path in ENVELOPES.iterdir() if path.name in {"dynamodb", "s3"}))
def test_envelopes_name_their_table_or_bucket(name: str) -> None:
    """Also those that other services wrap."""
    table_of = import_module(f"connectors.formats.{name}").table_of
    values = [value for record in made(name) if isinstance(record["value"], dict) and (value := value_of(record))]

    found = names(name, *values)

    assert [table_of(json.loads(value)) for value in values] == found
    assert set(found) - {None}


def test_cloudevents_and_mongodb_name_their_table() -> None:
    """In attributes, and in `source`."""
    run = CapturedRun(records("pg-cloudevents-json"))
    document: dict[str, Any] = {"op": "c", "source": {"connector": "mongodb", "db": "shop", "collection": "orders"}}
    documents: list[Any] = [document, {"schema": {}, "payload": document}, {"source": {}}]

    found = names("cloudevents", *run.values())

    assert {record["topic"].partition(".")[2] for record in records("pg-cloudevents-json")} >= set(found) - {None}
    assert set(found) - {None}
    assert ["shop.orders", "shop.orders", None] == names(
        "debezium-mongodb", *(json.dumps(one).encode() for one in documents)
    )


def test_dms_names_tables_of_changes_and_of_control_records() -> None:
    """Neither of the rows of its own tables, nor of what cannot be read."""
    good = dms_record("patients", 1, {"id": 1})
    odd = json.dumps({"metadata": {"record-type": "data", "table-name": "bare"}}).encode()
    wrong = json.dumps({"metadata": {"record-type": "data", "table-name": 7}}).encode()

    found = names("dms", good, None, control_record("patients"), dms_record("awsdms_status", 1, {}), b"{", odd, wrong)

    assert ["clinic.patients", None, "clinic.patients", None, None, "bare", None] == found
    assert [None, "clinic.patients"] == names("dms", b"\xff" + good, good)
    assert [] == names("dms")


def test_an_own_form_names_its_table_by_the_paths_of_the_option() -> None:
    """Their texts with dots between; a path that finds no text finds no table."""
    options = {"row": "$.row", "time": "$.at", "table": ["$.meta.schema", "$.meta.table"]}
    values = [{"meta": {"schema": "a", "table": "b"}}, {"meta": {"schema": "a"}}, {"meta": 1}, [1]]

    assert ["a.b", None, None, None] == names("json", *(json.dumps(one).encode() for one in values), options=options)
    with pytest.raises(ConfigurationError, match="no option says"):
        names("json", options={"row": "$.row", "time": "$.at"})


@pytest.mark.parametrize("name", ["debezium-avro", "debezium-flat", "qlik"])
def test_formats_that_name_no_table_are_refused_with_what_to_do(name: str) -> None:
    """Before a record is read."""
    with pytest.raises(ConfigurationError, match="cannot be told apart") as caught:
        names(name)

    assert "topic for each table" in caught.value.hint


def test_tables_of_one_topic_name_them_in_one_place() -> None:
    """One format, and in a form of your own the same paths."""

    def spec(format_name: str, **options: Any) -> TableSpec:
        document = {"table": "t", "topics": ["t"], "columns": {"id": "int"}, "format": format_name}
        return TableSpec.model_validate(document | {"options": options})

    own: dict[str, Any] = {"row": "$.row", "time": "$.at"}

    assert is_routed_alike(spec("dms"), spec("dms", before_image="was"))
    assert not is_routed_alike(spec("dms"), spec("canal"))
    assert is_routed_alike(spec("json", **own, table="$.t"), spec("json", **own, key="$.key", table=["$.t"]))
    assert not is_routed_alike(spec("json", **own, table="$.t"), spec("json", **own, table="$.u"))
