"""All that is generated of a contract, as documents and as the files that `--out` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from connectors.connect_sink import jdbc_sink_settings
from headgate.contracts.asyncapi import asyncapi_document
from headgate.contracts.odcs import odcs_document
from headgate.contracts.samples import samples
from schemas.config import KafkaConfig, RegistryConfig
from schemas.contract import Contract
from schemas.contract_avro import avro_key_schema, avro_value_schema
from schemas.contract_schema import key_schema, value_schema
from schemas.shown import shown_yaml
from schemas.table import TableSpec
from schemas.topics import TopicNames


def documents(
    contract: Contract,
    kafka: KafkaConfig,
    *,
    registry: RegistryConfig | None = None,
    spec: TableSpec | None = None,
) -> dict[str, Any]:
    """Return the documents by what they are; what stands in them depends on nothing else.

    The address of the `registry` is there for a table whose changes are Avro, and no secret of it; the settings of a
    sink of Kafka Connect are for the `spec` of a table whose latest topic such a sink reads.
    """
    return {
        "asyncapi": asyncapi_document(contract, kafka, registry),
        "odcs": odcs_document(contract, kafka),
        "valueSchema": value_schema(contract),
        "keySchema": key_schema(contract),
        "avroValueSchema": avro_value_schema(contract),
        "avroKeySchema": avro_key_schema(contract),
        "jdbcSink": None if spec is None else _jdbc_sink(spec, kafka),
        "samples": samples(contract, kafka.bootstrap, registry),
    }


def _jdbc_sink(spec: TableSpec, kafka: KafkaConfig) -> dict[str, str] | None:
    topic = TopicNames(kafka.topic_prefix).latest(spec.table)
    return jdbc_sink_settings(spec, topic=topic) if spec.output.latest_schema else None


def files(table: str, made: Mapping[str, Any]) -> dict[str, str]:
    """Return what goes into which file; a table without a key has no Avro schema of it, and few have a sink."""
    avro_key, sink = made["avroKeySchema"], made["jdbcSink"]
    return {
        f"{table}.asyncapi.yaml": as_yaml(made["asyncapi"]),
        f"{table}.odcs.yaml": as_yaml(made["odcs"]),
        f"{table}.value.schema.json": _as_json(made["valueSchema"]),
        f"{table}.key.schema.json": _as_json(made["keySchema"]),
        f"{table}.value.avsc": _as_json(made["avroValueSchema"]),
        **({} if avro_key is None else {f"{table}.key.avsc": _as_json(avro_key)}),
        **({} if sink is None else {f"{table}.jdbc-sink.json": _as_json(sink)}),
        **{f"{table}.{name}": text for name, text in made["samples"].items()},
    }


class _Dumper(yaml.SafeDumper):
    """Writes what occurs twice twice: anchors help nobody who reads."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never make one."""
        return True


def as_yaml(document: Any) -> str:
    """Return a document as YAML, in its own order."""
    return shown_yaml(yaml.dump, document, Dumper=_Dumper, sort_keys=False, width=120)


def _as_json(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
