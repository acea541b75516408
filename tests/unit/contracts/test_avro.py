"""The Avro schemas of a contract: what fastavro takes, and what a hostile column name makes of itself."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest

from schemas.contract_avro import COLUMN, TYPE, avro_key_schema, avro_value_schema, field_of, namespace_of
from schemas.errors import ConfigurationError
from tests.unit.contracts.made import contract

HOSTILE = ["weight (kg)", "weight [kg]", "1st", "größe", "a-b", "../x", "\x00", "שם", '"', "a.b", "x" * 255, "🚑"]


def parsed(schema: Any) -> Any:
    """Return what fastavro makes of a schema, from its text."""
    return fastavro.parse_schema(json.loads(json.dumps(schema)))


def fields(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the fields of a record that a field of a schema is, by name."""
    (found,) = (field for field in schema["fields"] if field["name"] == name)
    (record,) = (branch for branch in found["type"] if isinstance(branch, dict))
    return {field["name"]: field for field in record["fields"]}


def test_every_type_has_a_schema_that_avro_takes() -> None:
    """And says beside it what the column's type is."""
    schema = avro_value_schema(contract())

    parsed(schema)
    row = fields(schema, "before")
    assert {name: str(type_) for name, type_ in contract().columns.items()} == {n: f[TYPE] for n, f in row.items()}
    assert all(field["type"][0] == "null" and field["default"] is None for field in row.values())


def test_a_change_is_written_and_read_by_it() -> None:
    """A key has no null, and the fields have defaults, so that a field may be added."""
    schema = parsed(avro_value_schema(contract({"id": "int", "name": "string"}, ["id"])))
    origin = {"topic": "clinic.public.t", "generation": 0, "partition": 1, "offset": 4711}
    source = {"connector": "postgresql", "name": "clinic", "table": "t", "snapshot": False, "origin": origin}
    change = {"op": "delete", "key": {"id": 1}, "position": "1", "ts": 0, "absent": ["name"], "source": source}
    data = io.BytesIO()
    fastavro.schemaless_writer(data, schema, change)
    data.seek(0)

    read: Any = fastavro.schemaless_reader(data, schema, None)

    assert ({"id": 1}, None, ["name"]) == (read["key"], read["after"], read["absent"])
    assert ({**origin, "row": 0}, 1) == (read["source"]["origin"], read["source"]["rows"])


def test_the_key_is_a_schema_of_its_own() -> None:
    """The same as in the change, and none without a key."""
    keyed = contract({"id": "long", "part": "uuid"}, ["part", "id"])
    schema = avro_key_schema(keyed)

    assert schema is not None
    parsed(schema)
    assert ["part", "id"] == [field["name"] for field in schema["fields"]]
    assert schema["fields"] == list(fields(avro_value_schema(keyed), "key").values())
    assert avro_key_schema(contract({"id": "long"}, [])) is None


def test_names_that_avro_does_not_take_become_names_that_nothing_else_has() -> None:
    """By the column alone: another column changes nothing, and the field says which column it is."""
    named = {column: field_of(column) for column in HOSTILE}
    schema = avro_value_schema(contract({"id": "long", **dict.fromkeys(HOSTILE, "string")}, ["id"]))

    parsed(schema)
    assert len(HOSTILE) == len(set(named.values()))
    assert {**{field: column for column, field in named.items()}, "id": "id"} == {
        name: field.get(COLUMN, name) for name, field in fields(schema, "before").items()
    }


def test_two_columns_of_one_name_are_refused() -> None:
    """Nobody names a column so by chance."""
    other = field_of("a b")

    with pytest.raises(ConfigurationError, match=f"columns a b and {other}"):
        avro_value_schema(contract({"a b": "int", other: "int"}, []))


@pytest.mark.parametrize(("table", "namespace"), [("patients", "patients"), ("a-b.2.c", "a_b._2.c")])
def test_the_namespace_is_made_of_the_tables_name(table: str, namespace: str) -> None:
    """In the letters that Avro takes."""
    made = contract({"id": "int"}, [], table=table)

    assert f"headgate.changes.{namespace}" == namespace_of(made)
    parsed(avro_value_schema(made))
