"""The contract of a table as an AsyncAPI 3 document: the topic, its messages with headers and key, and the broker.

Schemas in it are those of `schemas/contract_schema.py`, which AsyncAPI reads as its own (a superset of JSON Schema
draft 7); only how an origin is said differs between the drafts. Of a table whose changes are Avro they are those of
`schemas/contract_avro.py`, and its servers name the schema registry.
"""

from __future__ import annotations

from typing import Any

from schemas.change import HEADER_INTO, HEADER_REPLAY, HEADER_SCHEMA_VERSION, HEADER_TABLE
from schemas.config import KafkaConfig, RegistryConfig
from schemas.contract import KEYWORD, Contract
from schemas.contract_avro import avro_key_schema, avro_value_schema
from schemas.contract_schema import change_schema, origin_schema, parts_schemas

ASYNCAPI = "3.0.0"
_BINDING = {"bindingVersion": "0.5.0"}
# The text of 0.5.0 takes a key in Avro, and the schema that is published with it does not; 0.4.0 has the same fields,
# and both take one (https://github.com/asyncapi/bindings/tree/master/kafka).
_AVRO_BINDING = {"bindingVersion": "0.4.0"}
_AVRO = "application/vnd.apache.avro;version=1.9.0"
_CONTENT_TYPES = {"json": "application/json", "avro": "application/avro"}
_SCHEMAS = "#/components/schemas/"
_MECHANISMS = {"PLAIN": "plain", "SCRAM-SHA-256": "scramSha256", "SCRAM-SHA-512": "scramSha512"}
RULE = (
    "Read with isolation.level=read_committed. For each origin topic, generation and partition apart: drop a change "
    "whose origin offset is not above the highest that you have seen; if its `previous` is not that highest, something "
    "is missing. Records of op `floor` stand outside of this rule: rows below their position are dead."
)


def asyncapi_document(contract: Contract, kafka: KafkaConfig, registry: RegistryConfig | None = None) -> dict[str, Any]:
    """Return the document; the broker's address and how one proves oneself to it are in it, and no secret.

    The `registry` is named where changes are Avro.
    """
    used = registry if contract.format == "avro" else None
    return {
        "asyncapi": ASYNCAPI,
        "id": f"urn:headgate:{contract.topic}",
        "info": {
            "title": f"Changes of {contract.table}",
            "version": f"{contract.schema_version}.0.0",
            "description": f"One record per change of a row of {contract.table}. {RULE}",
            KEYWORD: contract.document(),
        },
        "defaultContentType": _CONTENT_TYPES[contract.format],
        "servers": _servers(kafka, used),
        "channels": {"changes": _channel(contract, kafka)},
        "operations": {
            "sendChanges": {
                "action": "send",
                "title": f"Headgate sends each change of {contract.table} once",
                "channel": {"$ref": "#/channels/changes"},
                "messages": [{"$ref": "#/channels/changes/messages/change"}],
            }
        },
        "components": {
            "messages": {"change": _message(contract, is_registered=used is not None)},
            "schemas": _schemas(contract),
            **({"securitySchemes": schemes} if (schemes := _security(kafka)) else {}),
        },
    }


def _servers(kafka: KafkaConfig, registry: RegistryConfig | None) -> dict[str, Any]:
    """Return the brokers that clients begin with, one server each."""
    said: dict[str, Any] = {}
    if registry is not None:
        asked = {"schemaRegistryUrl": registry.urls[0], "schemaRegistryVendor": registry.api}
        said = {"bindings": {"kafka": {**asked, **_BINDING}}}
    protocol = "kafka-secure" if kafka.tls is not None else "kafka"
    security = {"security": [{"$ref": "#/components/securitySchemes/sasl"}]} if _security(kafka) else {}
    hosts = [host.strip() for host in kafka.bootstrap.split(",") if host.strip()]
    return {
        f"kafka{number}": {"host": host, "protocol": protocol, **security, **said}
        for number, host in enumerate(hosts, 1)
    }


def _security(kafka: KafkaConfig) -> dict[str, Any]:
    """Return how a client proves itself; a token's own server is the subscriber's business."""
    mechanism = _MECHANISMS.get(kafka.sasl.mechanism) if kafka.sasl is not None else None
    return {} if mechanism is None else {"sasl": {"type": mechanism}}


def _channel(contract: Contract, kafka: KafkaConfig) -> dict[str, Any]:
    kept = {"cleanup.policy": ["delete"], "retention.ms": kafka.changes_retention_hours * 3_600_000}
    return {
        "address": contract.topic,
        "title": f"The output topic of {contract.table}",
        "description": "Each change stands in the partition of its origin's number, in the source's order per key.",
        "messages": {"change": {"$ref": "#/components/messages/change"}},
        "bindings": {"kafka": {"topic": contract.topic, "topicConfiguration": kept, **_BINDING}},
    }


def _message(contract: Contract, *, is_registered: bool) -> dict[str, Any]:
    return {
        "name": "change",
        "title": f"A change of {contract.table}",
        "contentType": _CONTENT_TYPES[contract.format],
        "headers": {
            "type": "object",
            "properties": {
                HEADER_TABLE: {"const": contract.table},
                HEADER_SCHEMA_VERSION: {"type": "string", "description": "The version of the table's columns."},
                HEADER_REPLAY: {"type": "string", "description": "There on a replay only."},
                HEADER_INTO: {"type": "string", "description": "Of a replay that is not for all stages: for which."},
            },
            "required": [HEADER_TABLE, HEADER_SCHEMA_VERSION],
        },
        "payload": {"$ref": f"{_SCHEMAS}change"},
        "bindings": {"kafka": _binding(contract, is_registered=is_registered)},
    }


def _binding(contract: Contract, *, is_registered: bool) -> dict[str, Any]:
    """Return how the record is framed; its key is no reference, which the binding's schema takes for several things."""
    if contract.format == "avro":
        # How ids are written may be said only where a server says which registry they are of.
        ids = {"schemaIdLocation": "payload", "schemaIdPayloadEncoding": "confluent"} if is_registered else {}
        return {"key": avro_key_schema(contract) or {"type": "null"}, **ids, **_AVRO_BINDING}
    return {"key": parts_schemas(contract)["key"] if contract.key else {"type": "null"}, **_BINDING}


def _schemas(contract: Contract) -> dict[str, Any]:
    if contract.format == "avro":
        return {"change": {"schemaFormat": _AVRO, "schema": avro_value_schema(contract)}}
    origin = origin_schema()
    # Draft 7 has the elements of an array in `items`, and what may follow them in another keyword.
    elements = {"items": origin.pop("prefixItems"), "additionalItems": origin.pop("items")}
    parts = parts_schemas(contract)
    return {"change": change_schema(contract, refs=_SCHEMAS), **parts, "origin": {**origin, **elements}}
