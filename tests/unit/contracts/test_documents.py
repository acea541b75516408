"""The documents of a contract by the schemas of their own standards, and the JSON Schemas by real changes."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastavro
import jsonschema_rs
import pytest
import yaml

from headgate.contracts.asyncapi import asyncapi_document
from headgate.contracts.documents import documents, files
from headgate.contracts.odcs import odcs_document
from schemas.config import Config, KafkaConfig, RegistryConfig
from schemas.contract import Contract, contract_of, read_contract
from schemas.contract_avro import avro_key_schema, avro_value_schema
from schemas.contract_schema import key_schema, value_schema
from schemas.table import TableSpec
from tests.unit.contracts.made import OUTPUT, ROW, contract, typed
from tests.unit.contracts.test_avro import HOSTILE

FIXTURES = Path(__file__).parents[2] / "fixtures" / "contracts"
SASL = {"mechanism": "SCRAM-SHA-512", "username": "headgate", "password": "CANARY"}
BROKERS = [
    {},
    {"bootstrap": "kafka-1:9092, kafka-2:9092", "tls": {}, "sasl": SASL, "changes_retention_hours": 5},
    {"sasl": {"mechanism": "OAUTHBEARER", "token_endpoint_url": "https://id", "client_id": "a", "client_secret": "b"}},
]
REGISTRY = RegistryConfig.model_validate({"urls": ["http://registry-1:8081/api", "http://b"], "token": "CANARY"})
CONTRACTS = {
    "all types": contract(before="full"),
    "no key": contract({"a": "int"}, []),
    "several key columns": contract({"a": "int", "b": "uuid", "c": "list<list<date>>"}, ["b", "a"]),
    "hostile names": contract({"id": "long", **dict.fromkeys(HOSTILE, "string")}, ["id"], table="a-b.2.c"),
}
CONTRACTS |= {f"{name}, Avro": replace(made, format="avro") for name, made in CONTRACTS.items()}


@functools.cache
def validator(name: str) -> Any:
    """Return the validator of a standard, by the schema that its makers publish."""
    return jsonschema_rs.validator_for(json.loads((FIXTURES / name).read_text("utf-8")))


def faults(judge: Any, document: Any) -> list[str]:
    """Return what a validator has against a document."""
    return [
        f"{'/'.join(map(str, error.instance_path))}: {error.message[:200]}" for error in judge.iter_errors(document)
    ]


def judge_of(schema: dict[str, Any]) -> Any:
    """Return the validator of one of our JSON Schemas, which must be one itself."""
    jsonschema_rs.meta.validate(schema)
    return jsonschema_rs.validator_for(schema)


@pytest.mark.parametrize("made", CONTRACTS.values(), ids=CONTRACTS.keys())
@pytest.mark.parametrize("registry", [None, REGISTRY], ids=["alone", "with a registry"])
@pytest.mark.parametrize("broker", BROKERS)
def test_the_asyncapi_document_is_one_of_its_standard(
    made: Contract, broker: dict[str, Any], registry: RegistryConfig | None
) -> None:
    """Whatever the table and the broker are; read back from the YAML that is written."""
    kafka = KafkaConfig.model_validate(broker)
    text = files("t", documents(made, kafka, registry=registry))["t.asyncapi.yaml"]

    assert [] == faults(validator("asyncapi-3.0.0.json"), yaml.safe_load(text))
    assert "CANARY" not in text


@pytest.mark.parametrize("made", CONTRACTS.values(), ids=CONTRACTS.keys())
@pytest.mark.parametrize("broker", BROKERS)
def test_the_odcs_document_is_one_of_its_standard(made: Contract, broker: dict[str, Any]) -> None:
    """As the other one."""
    text = files("t", documents(made, KafkaConfig.model_validate(broker)))["t.odcs.yaml"]

    assert [] == faults(validator("odcs-3.1.0.json"), yaml.safe_load(text))
    assert "CANARY" not in text


@pytest.mark.parametrize("name", ["asyncapi-3.0.0.json", "odcs-3.1.0.json"])
def test_a_broken_document_is_found(name: str) -> None:
    """The validators of these tests can fail: inside of what the documents have, too."""
    asyncapi, odcs = asyncapi_document(contract(), KafkaConfig()), odcs_document(contract(), KafkaConfig())
    asyncapi["components"]["schemas"]["row"]["properties"]["c_int"]["minimum"] = "none"
    odcs["schema"][0]["properties"][1]["properties"][0]["logicalType"] = "decimal"

    assert [] != faults(validator(name), asyncapi if name.startswith("asyncapi") else odcs)


def test_brokers_and_how_to_reach_them_are_in_the_asyncapi_document() -> None:
    """One server each, by TLS and SASL as the configuration has them."""
    document = asyncapi_document(contract(), KafkaConfig.model_validate(BROKERS[1]))

    servers = document["servers"]
    assert ["kafka-1:9092", "kafka-2:9092"] == [each["host"] for each in servers.values()]
    assert {"kafka-secure"} == {each["protocol"] for each in servers.values()}
    assert {"sasl": {"type": "scramSha512"}} == document["components"]["securitySchemes"]
    assert 5 * 3_600_000 == document["channels"]["changes"]["bindings"]["kafka"]["topicConfiguration"]["retention.ms"]


def test_the_asyncapi_document_of_changes_in_avro_says_so() -> None:
    """Its payload and key are the schemas of the registry, which its servers name; a JSON table has nothing of it."""
    avro = contract(output={"format": "avro"})
    document = asyncapi_document(avro, KafkaConfig(), REGISTRY)
    message, binding = _said_of_avro(document)

    assert "application/avro" == document["defaultContentType"] == message["contentType"]
    payload = document["components"]["schemas"]["change"]
    assert "application/vnd.apache.avro;version=1.9.0" == payload["schemaFormat"]
    assert avro_value_schema(avro) == payload["schema"]
    assert avro_key_schema(avro) == binding["key"]
    assert ("payload", "confluent") == (binding["schemaIdLocation"], binding["schemaIdPayloadEncoding"])
    (server,) = document["servers"].values()
    asked = server["bindings"]["kafka"]
    assert ("http://registry-1:8081/api", "confluent") == (asked["schemaRegistryUrl"], asked["schemaRegistryVendor"])
    assert "registry-1" not in str(asyncapi_document(contract(), KafkaConfig(), REGISTRY))


def test_without_a_registry_no_document_says_how_its_ids_are_written() -> None:
    """The binding forbids it, where no server names one."""
    document = asyncapi_document(contract(output={"format": "avro"}), KafkaConfig())
    _, binding = _said_of_avro(document)

    assert {"key", "bindingVersion"} == binding.keys()
    assert all("bindings" not in server for server in document["servers"].values())


def _said_of_avro(document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the message of a document, and what its binding says."""
    message = document["components"]["messages"]["change"]
    return message, message["bindings"]["kafka"]


def test_a_broken_schema_in_avro_is_found() -> None:
    """The validator looks into payload and key, not only at what stands around them."""
    for place in ("payload", "key"):
        document = asyncapi_document(contract(output={"format": "avro"}), KafkaConfig(), REGISTRY)
        schemas = {
            "payload": document["components"]["schemas"]["change"]["schema"],
            "key": _said_of_avro(document)[1]["key"],
        }
        schemas[place]["fields"][0]["name"] = "no name"

        assert [] != faults(validator("asyncapi-3.0.0.json"), document), place


def test_the_odcs_document_names_the_form_of_changes() -> None:
    """With the fields that only Avro has: what is absent, and the parts of an origin."""

    def said(made: Contract) -> tuple[str, set[str], str]:
        document = odcs_document(made, KafkaConfig())
        properties = {each["name"]: each for each in document["schema"][0]["properties"]}
        source = {each["name"]: each for each in properties["source"]["properties"]}
        return document["servers"][0]["format"], properties.keys() & {"absent"}, source["origin"]["logicalType"]

    assert ("json", set(), "array") == said(contract())
    assert ("avro", {"absent"}, "object") == said(contract(output={"format": "avro"}))


def test_the_odcs_document_has_the_fields_of_the_schema_in_avro() -> None:
    """All of them, each once, and of `source` and an origin too."""
    avro = contract(output={"format": "avro"})
    (described,) = odcs_document(avro, KafkaConfig())["schema"]
    parsed: Any = fastavro.parse_schema(avro_value_schema(avro))

    def names(fields: list[dict[str, Any]]) -> dict[str, Any]:
        return {each["name"]: each for each in fields}

    own, ours = names(parsed["fields"]), names(described["properties"])
    assert own.keys() == ours.keys()
    own, ours = names(own["source"]["type"]["fields"]), names(ours["source"]["properties"])
    assert own.keys() == ours.keys()
    assert names(own["origin"]["type"]["fields"]).keys() == names(ours["origin"]["properties"]).keys()


def test_the_schema_of_the_asyncapi_document_judges_a_change() -> None:
    """Not only well-formed: the payload that it describes is the change, by the drafts' own words for an origin."""
    document = asyncapi_document(contract(), KafkaConfig())
    schemas = document["components"]["schemas"]
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/components/schemas/change"}
    judge = judge_of({**schema, "components": {"schemas": schemas}})

    assert [] == faults(judge, typed())
    assert [] != faults(judge, typed(source={"origin": ["s", 0, 0]}))
    assert [] != faults(judge, typed(source={"origin": ["s", 0, 0, 1, 1, 1]}))
    assert [] != faults(judge, typed(after={**ROW, "c_long": 5}))


def test_a_contract_is_read_back_from_its_json_schema() -> None:
    """By `contract diff` and by the subscribers' client."""
    made = contract()
    text = files("t", documents(made, KafkaConfig()))["t.value.schema.json"]

    assert made == read_contract(text.encode(), name="t.value.schema.json")


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_json_schemas_are_valid_by_their_draft(name: str) -> None:
    """2020-12, whatever the names of columns."""
    for schema in (value_schema(CONTRACTS[name]), key_schema(CONTRACTS[name])):
        assert "https://json-schema.org/draft/2020-12/schema" == schema["$schema"]
        judge_of(schema)


def test_changes_of_every_type_and_operation_are_valid() -> None:
    """With values, without, with columns that are absent or unknown, and a field that a later release adds."""
    judge = judge_of(value_schema(contract(before="full")))
    key = {"c_long": ROW["c_long"]}
    nulls = {**dict.fromkeys(ROW), **key}
    fine = [
        typed(),
        typed(op="insert", old_key=key),
        typed(op="update", before=dict(ROW)),
        typed(op="snapshot", source={"snapshot": True, "previous": None, "tx": None}),
        typed(op="delete", after=None, new_key=key),
        typed(after=nulls),
        typed(after=key, unavailable=["c_string"]),
        typed(after={**ROW, "later": [1]}, later=1),
        typed(source={"origin": ["s", 1, 2, 3, 1], "first_origin": ["t", 0, 0, 9], "rows": 2}),
        typed(op="floor", key=None, after=None, position="0002"),
        typed(after={**ROW, "c_date": "-0043-03-15", "c_float": 1e300, "c_decimal": "0.00", "c_long": "-1"}),
        typed(after={**ROW, "c_timestamp": "+10000-01-01T00:00:00.000000", "c_binary": "", "c_list": []}),
    ]

    assert [] == [fault for change in fine for fault in faults(judge, change)]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("c_boolean", 1),
        ("c_int", "5"),
        ("c_int", 2**31),
        ("c_int", 0.5),
        ("c_long", 5),
        ("c_long", "05"),
        ("c_long", "1" * 20),
        ("c_float", "nan"),
        ("c_double", "1.5"),
        ("c_decimal", 1.5),
        ("c_decimal", "1.5"),
        ("c_decimal", "12345678901.00"),
        ("c_date", "2024-2-29"),
        ("c_date", "2024-02-29T00:00:00"),
        ("c_time", "24:00:00.000000"),
        ("c_timestamp", "2024-02-29T13:45:06.789123Z"),
        ("c_timestamptz", "2024-02-29T13:45:06.789123"),
        ("c_timestamptz", "2024-02-29 13:45:06.789123Z"),
        ("c_string", 5),
        ("c_json", {}),
        ("c_uuid", "B68A35A7-17AD-35B3-AF2A-AE46EDB4545A"),
        ("c_binary", "AP/"),
        ("c_list", "1"),
        ("c_list", [1]),
        ("c_lists", [["1.55"]]),
    ],
)
def test_a_value_of_another_form_is_not_valid(column: str, value: Any) -> None:
    """In a row, and in a key."""
    judge = judge_of(value_schema(contract()))
    assert [] != faults(judge, typed(after={**ROW, column: value}))

    keyed = contract(key=[column])
    assert [] == faults(judge_of(key_schema(keyed)), {column: ROW[column]})
    assert [] != faults(judge_of(key_schema(keyed)), {column: value})


@pytest.mark.parametrize(
    "changed",
    [
        {"op": "truncate"},
        {"op": "floor"},
        {"op": "insert", "after": None},
        {"op": "delete"},
        {"key": None},
        {"key": {}},
        {"key": {"c_long": None}},
        {"key": {"c_long": "1", "more": 1}},
        {"after": {**ROW, "c_long": None}},
        {"position": 5},
        {"ts": "2026-11-20T19:45:57.123456"},
        {"unavailable": "note"},
        {"source": {"origin": ["s", 0, 0]}},
        {"source": {"origin": ["s", 0, 0, -1]}},
        {"source": {"origin": ["s", 0, 0, 1, 0]}},
        {"source": {"rows": 1}},
        {"source": {"snapshot": "no"}},
    ],
)
def test_a_change_that_is_none_is_not_valid(changed: dict[str, Any]) -> None:
    """Another operation, a field of another kind, a key without its column."""
    judge = judge_of(value_schema(contract()))

    assert [] != faults(judge, typed(**changed))


@pytest.mark.parametrize("field", ["op", "key", "after", "position", "ts", "unavailable", "source"])
def test_a_change_without_a_field_is_not_valid(field: str) -> None:
    """All of them are always there."""
    change = typed()
    del change[field]

    assert [] != faults(judge_of(value_schema(contract())), change)


def test_the_same_contract_gives_the_same_files() -> None:
    """So that a repository that keeps them shows what changed."""
    names = {
        "t.asyncapi.yaml", "t.odcs.yaml", "t.value.schema.json", "t.key.schema.json", "t.value.avsc", "t.key.avsc",
        "t.confluent_kafka.py", "t.kafka_python.py", "t.headgate_client.py", "t.Subscriber.java",
    }  # fmt: skip
    made = files("t", documents(contract(), Config().kafka))

    assert made == files("t", documents(contract(), Config().kafka))
    assert names == made.keys()
    assert names - {"t.key.avsc"} == files("t", documents(contract({"a": "int"}, []), KafkaConfig())).keys()
    assert all(OUTPUT in text for name, text in made.items() if name.endswith((".yaml", "kafka.py", ".java")))


def test_a_sink_of_kafka_connect_has_its_settings_where_it_can_read_the_table() -> None:
    """Of the latest topic of this installation; other tables have no such file."""
    spec = {"table": "t", "topics": ["a"], "key": ["id"], "columns": {"id": "long"}}
    kafka = KafkaConfig(topic_prefix="clinic")

    def written(**output: bool) -> dict[str, str]:
        table = TableSpec.model_validate(spec | {"output": output})
        return files("t", documents(contract_of(table), kafka, spec=table))

    assert "t.jdbc-sink.json" not in written()
    assert "t.jdbc-sink.json" not in written(latest=True)
    assert "clinic.latest.t" == json.loads(written(latest=True, latest_schema=True)["t.jdbc-sink.json"])["topics"]
