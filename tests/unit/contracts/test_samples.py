"""What sample consumers are made of: the same program for JSON and Avro, but for how it reads a value."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from connectors.contract_wire import ChangeWriter
from headgate.contracts.samples import SAMPLES, samples
from schemas.config import RegistryConfig
from schemas.contract import Contract
from schemas.contract_avro import avro_key_schema, avro_value_schema
from tests.services.registry import SchemaRegistry
from tests.unit.contracts.made import contract, typed

PYTHON = ["kafka_python.py", "confluent_kafka.py"]
# What a line has that differs: what is to be installed, who asks, how a value is read and how it is shown.
DIFFER = ["pip install", "Needs kafka-clients", "settings` of `changes`", "json.loads", "JSON.readTree", "json.dumps"]


def avro() -> Contract:
    """Return the contract of a table whose changes are Avro."""
    return contract(output={"format": "avro"})


def reader_of(name: str, registry: SchemaRegistry) -> Callable[[bytes], dict[str, Any]]:
    """Return the function of a sample that reads a value; nothing of Kafka's runs."""
    config = RegistryConfig(urls=[f"{registry.url}/"])
    tree = ast.parse(samples(avro(), "127.0.0.1:9", config)[name])
    wanted: list[ast.stmt] = [
        node
        for node in tree.body
        if (isinstance(node, ast.Import | ast.ImportFrom) and "kafka" not in ast.unparse(node))
        or (isinstance(node, ast.FunctionDef) and node.name in {"schema", "read"})
        or (isinstance(node, ast.Assign) and ast.unparse(node).startswith("registry ="))
    ]
    space: dict[str, Any] = {}
    exec(compile(ast.Module(wanted, []), name, "exec"), space)  # noqa: S102 - the program under test
    read: Callable[[bytes], dict[str, Any]] = space["read"]
    return read


def writer_of(registry: SchemaRegistry) -> ChangeWriter:
    """Return what writes changes as NORMALIZE does, its schemas registered."""
    ids = [registry.register(str(n), json.dumps(schema(avro()))).number
           for n, schema in enumerate((avro_value_schema, avro_key_schema))]  # fmt: skip
    return ChangeWriter(avro(), *ids)


@pytest.mark.parametrize("name", PYTHON)
def test_a_sample_reads_a_change_as_avro_and_as_json(name: str) -> None:
    """The rule sees the same: an origin of four or five elements; values have Python's types, and nulls say why."""
    two = {"origin": ["s", 1, 2, 3, 1], "previous": 3, "rows": 2}
    changes = [typed(unavailable=["c_string"]), typed(source=two), typed(op="floor", key=None, after=None)]
    del changes[0]["after"]["c_int"]
    with SchemaRegistry() as registry:
        read, writer = reader_of(name, registry), writer_of(registry)
        texts = [json.dumps(change).encode() for change in changes]
        values = [writer.record(None, text)[1] for text in texts]
        found, asked = [read(value) for value in values], len(registry.asked)

        assert changes == [read(text) for text in texts]

    assert asked == 1, "an id is asked for once"
    for change, made in zip(changes, found, strict=True):
        assert change["source"]["origin"] == made["source"]["origin"]
        assert change["source"]["previous"] == made["source"]["previous"]
        assert (change["op"], change["position"]) == (made["op"], made["position"])
    row = found[0]["after"]
    assert (Decimal("-1234567890.12"), 2**63 - 1) == (row["c_decimal"], row["c_long"])
    assert UUID("b68a35a7-17ad-35b3-af2a-ae46edb4545a") == row["c_uuid"]
    assert (None, None) == (row["c_string"], row["c_int"])
    assert (["c_string"], ["c_int"]) == (found[0]["unavailable"], found[0]["absent"])


@pytest.mark.parametrize("name", SAMPLES)
def test_only_how_a_value_is_read_differs(name: str) -> None:
    """The rule, the consumer and the loop are line by line those of the sample that reads JSON."""
    json_lines, avro_lines = (samples(made, "b:1")[name].splitlines() for made in (contract(), avro()))
    gone = [line for line in json_lines if line not in avro_lines]

    assert all(any(word in line for word in DIFFER) for line in gone), gone
    assert len(gone) < 4
    assert [line for line in json_lines if "highest" in line.lower()] == [
        line for line in avro_lines if "highest" in line.lower()
    ]


def test_the_registry_is_named_where_it_is_asked_and_no_secret_of_it_is() -> None:
    """Samples of JSON know nothing of it; without a configuration the usual address stands there."""
    config = RegistryConfig.model_validate(
        {"urls": ["https://registry:8081/api/"], "username": "u", "password": "CANARY"}
    )
    for name in SAMPLES:
        assert '"SCHEMA_REGISTRY_URL", "https://registry:8081/api")' in samples(avro(), "b:1", config)[name]
        assert '"http://127.0.0.1:8081"' in samples(avro(), "b:1")[name]
    texts = [*samples(avro(), "b:1", config).values(), *samples(contract(), "b:1", config).values()]
    assert not any("CANARY" in text for text in texts)
    assert not any("registry" in text.lower() for text in samples(contract(), "b:1", config).values())
