"""The bench's events with their schema: in a block in front of each, or as Avro behind the id that a registry gave."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import fastavro
import msgspec

from connectors.formats.connect_schema import avro_of_connect
from schemas.table import TableSpec
from tests.bench.events import bench_spec, events


def _each(names: Sequence[str], field: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: dict(field) for name in names}


_DECIMAL = {
    "type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "version": 1,
    "parameters": {"scale": "2", "connect.decimal.precision": "12"},
}  # fmt: skip
_ROW: dict[str, dict[str, Any]] = {
    "id": {"type": "int64"},
    "patient_id": {"type": "int32"},
    "code": {"type": "string"},
    "amount": _DECIMAL,
    "taken_at": {"type": "string", "name": "io.debezium.time.ZonedTimestamp", "version": 1},
    "entered_at": {"type": "int64", "name": "io.debezium.time.MicroTimestamp", "version": 1},
    "day": {"type": "int32", "name": "io.debezium.time.Date", "version": 1},
    "final": {"type": "boolean"},
    "score": {"type": "double"},
    "device": {"type": "string", "name": "io.debezium.data.Uuid", "version": 1},
    "note": {"type": "string"},
    "attempt": {"type": "int32"},
}
_SNAPSHOT = {"allowed": "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"}
_SOURCE: dict[str, dict[str, Any]] = {
    **_each(("version", "connector", "name"), {"type": "string", "optional": False}),
    "ts_ms": {"type": "int64", "optional": False},
    "snapshot": {
        "type": "string", "name": "io.debezium.data.Enum", "version": 1, "parameters": _SNAPSHOT, "default": "false",
    },
    "db": {"type": "string", "optional": False},
    "sequence": {"type": "string"},
    **_each(("ts_us", "ts_ns"), {"type": "int64"}),
    **_each(("schema", "table"), {"type": "string", "optional": False}),
    **_each(("txId", "lsn", "xmin"), {"type": "int64"}),
    "origin": {"type": "string"},
    "origin_lsn": {"type": "int64"},
}  # fmt: skip
_TRANSACTION: dict[str, dict[str, Any]] = {
    "id": {"type": "string", "optional": False},
    **_each(("total_order", "data_collection_order"), {"type": "int64", "optional": False}),
}


def _struct(name: str, fields: dict[str, dict[str, Any]], **rest: Any) -> dict[str, Any]:
    listed = [{"optional": True, **each, "field": column} for column, each in fields.items()]
    return {"type": "struct", "fields": listed, "optional": True, "name": name, **rest}


def value_schema(topic: str) -> dict[str, Any]:
    """Return the Connect schema of the envelopes of a topic."""
    row = _struct(f"{topic}.Value", _ROW | {"id": {"type": "int64", "optional": False}})
    fields = {
        "before": row,
        "after": row,
        "source": _struct("io.debezium.connector.postgresql.Source", _SOURCE, optional=False, version=1),
        "transaction": _struct("event.block", _TRANSACTION, version=1),
        "op": {"type": "string", "optional": False},
        **_each(("ts_ms", "ts_us", "ts_ns"), {"type": "int64"}),
    }
    return _struct(f"{topic}.Envelope", fields, optional=False, version=2)


def key_schema(topic: str) -> dict[str, Any]:
    """Return the Connect schema of the keys of a topic."""
    return _struct(f"{topic}.Key", {"id": {"type": "int64", "optional": False}}, optional=False)


def block_spec(table: str, topic: str) -> TableSpec:
    """Return the spec of the bench's table; the block says the encodings."""
    spec = bench_spec(table, topic)
    columns = {name: column.model_copy(update={"encoding": None}) for name, column in spec.columns.items()}
    return spec.model_copy(update={"columns": columns})


def avro_spec(table: str, topic: str) -> TableSpec:
    """Return the spec of the bench's table as Avro."""
    return block_spec(table, topic).model_copy(update={"format": "debezium-avro"})


def block_events(n: int, topic: str) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield the same rows as `events`, each record and key behind its schema block of four kilobytes."""
    value_head, key_head = (_head(schema(topic)) for schema in (value_schema, key_schema))
    for key, value, row in events(n, topic):
        yield b"%b%b}" % (key_head, key), b"%b%b}" % (value_head, value), row


def _head(schema: dict[str, Any]) -> bytes:
    return b'{"schema":%b,"payload":' % msgspec.json.encode(schema)


@dataclass(frozen=True, slots=True)
class AvroEvents:
    """Makes the same rows as `events` in Avro; the ids are those under which a registry knows `schemas`."""

    key_id: int = 1
    value_id: int = 2

    @staticmethod
    def schemas(topic: str) -> tuple[str, str]:
        """Return the schemas of keys and of values as texts."""
        key, value = (json.dumps(avro_of_connect(schema(topic))) for schema in (key_schema, value_schema))
        return key, value

    def __call__(self, n: int, topic: str) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield key, value and a number to partition by."""
        key_schema_, value_schema_ = (
            # As the converters do: a decimal is its bytes.
            fastavro.parse_schema(json.loads(text.replace("logicalType", "left")))
            for text in self.schemas(topic)
        )
        read = msgspec.json.Decoder(type=dict[str, Any]).decode
        amount = msgspec.json.Decoder(type=bytes).decode
        for key, value, row in events(n, topic):
            event = read(value)
            event["after"]["amount"] = amount(b'"%b"' % event["after"]["amount"].encode())
            yield (
                self._framed(self.key_id, key_schema_, read(key)),
                self._framed(self.value_id, value_schema_, event),
                row,
            )

    @staticmethod
    def _framed(number: int, schema: Any, document: Any) -> bytes:
        stream = BytesIO()
        stream.write(b"\0" + number.to_bytes(4, "big"))
        fastavro.schemaless_writer(stream, schema, document)
        return stream.getvalue()
