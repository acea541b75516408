"""The contract of a table as an AsyncAPI 3 document: the topic, its messages with headers and key, and the broker.

Schemas in it are those of `schemas/contract_schema.py`, which AsyncAPI reads as its own (a superset of JSON Schema
draft 7); only how an origin is said differs between the drafts.
"""

from __future__ import annotations

from typing import Any

from schemas.change import HEADER_INTO, HEADER_REPLAY, HEADER_SCHEMA_VERSION, HEADER_TABLE
from schemas.config import KafkaConfig
from schemas.contract import KEYWORD, Contract
from schemas.contract_schema import change_schema, origin_schema, parts_schemas

ASYNCAPI = "3.0.0"
_BINDING = {"bindingVersion": "0.5.0"}
_SCHEMAS = "#/components/schemas/"
_MECHANISMS = {"PLAIN": "plain", "SCRAM-SHA-256": "scramSha256", "SCRAM-SHA-512": "scramSha512"}
RULE = (
    "Read with isolation.level=read_committed. For each origin topic, generation and partition apart: drop a change "
    "whose origin offset is not above the highest that you have seen; if its `previous` is not that highest, something "
    "is missing. Records of op `floor` stand outside of this rule: rows below their position are dead."
)


def asyncapi_document(contract: Contract, kafka: KafkaConfig) -> dict[str, Any]:
    """Return the document; the broker's address and how one proves oneself to it are in it, and no secret."""
    return {
        "asyncapi": ASYNCAPI,
        "id": f"urn:headgate:{contract.topic}",
        "info": {
            "title": f"Changes of {contract.table}",
            "version": f"{contract.schema_version}.0.0",
            "description": f"One record per change of a row of {contract.table}. {RULE}",
            KEYWORD: contract.document(),
        },
        "defaultContentType": "application/json",
        "servers": _servers(kafka),
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
            "messages": {"change": _message(contract)},
            "schemas": _schemas(contract),
            **({"securitySchemes": schemes} if (schemes := _security(kafka)) else {}),
        },
    }


def _servers(kafka: KafkaConfig) -> dict[str, Any]:
    """Return the brokers that clients begin with, one server each."""
    protocol = "kafka-secure" if kafka.tls is not None else "kafka"
    security = {"security": [{"$ref": "#/components/securitySchemes/sasl"}]} if _security(kafka) else {}
    hosts = [host.strip() for host in kafka.bootstrap.split(",") if host.strip()]
    return {f"kafka{number}": {"host": host, "protocol": protocol, **security} for number, host in enumerate(hosts, 1)}


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


def _message(contract: Contract) -> dict[str, Any]:
    # Not a reference: the binding's own schema takes that for several things at once.
    key = parts_schemas(contract)["key"] if contract.key else {"type": "null"}
    return {
        "name": "change",
        "title": f"A change of {contract.table}",
        "contentType": "application/json",
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
        "bindings": {"kafka": {"key": key, **_BINDING}},
    }


def _schemas(contract: Contract) -> dict[str, Any]:
    origin = origin_schema()
    # Draft 7 has the elements of an array in `items`, and what may follow them in another keyword.
    elements = {"items": origin.pop("prefixItems"), "additionalItems": origin.pop("items")}
    parts = parts_schemas(contract)
    return {"change": change_schema(contract, refs=_SCHEMAS), **parts, "origin": {**origin, **elements}}
