"""Records of Avro made by tests: a schema of seven types, its rows behind frames, and a registry that knows it."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import fastavro

from connectors.formats import PartitionMemory, format_of
from connectors.formats.connect_schema import avro_of_connect
from connectors.formats.reasons import Rejection
from connectors.wire import Framing, Registered, SchemaId
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.errors import RegistryUnavailable
from schemas.table import TableEntry, TableSpec
from tests.unit.formats.made import envelope

COLUMNS = {
    "id": "int",
    "f": "float",
    "d": "double",
    "b": "binary",
    "n": "decimal(8,2)",
    "m": "json",
    "t": "list<string>",
}
SPEC = {"table": "made", "topics": ["made"], "key": ["id"], "columns": COLUMNS, "format": "debezium-avro"}
TEXT = {"type": "string", "optional": False}
DECIMAL = {
    "type": "bytes",
    "name": "org.apache.kafka.connect.data.Decimal",
    "parameters": {"scale": "2", "connect.decimal.precision": "8"},
}
ROW_FIELDS = [
    {"type": "int32", "optional": False, "field": "id"},
    {"type": "float", "optional": True, "field": "f"},
    {"type": "double", "optional": True, "field": "d"},
    {"type": "bytes", "optional": True, "field": "b"},
    {**DECIMAL, "optional": True, "field": "n"},
    {"type": "map", "keys": TEXT, "values": {"type": "string", "optional": True}, "optional": True, "field": "m"},
    {"type": "array", "items": {"type": "string", "optional": True}, "optional": True, "field": "t"},
]
MADE_ROW = {"id": 1, "f": 0.1, "d": -0.5, "b": b"\0\xff", "n": b"\x30\x39", "m": {"a": None}, "t": ["x:", None]}


def schema_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The Connect schema of an envelope of such rows."""
    row = {"type": "struct", "name": "made.Value", "fields": rows, "optional": True}
    kinds = {str: "string", int: "int64"}
    source = [
        {"type": kinds.get(type(value), "string"), "optional": True, "field": name}
        for name, value in envelope()["source"].items()
    ]
    fields = [
        {**row, "field": "before"},
        {**row, "field": "after"},
        {"type": "struct", "name": "made.Source", "fields": source, "optional": False, "field": "source"},
        {"type": "string", "optional": False, "field": "op"},
        {"type": "int64", "optional": True, "field": "ts_ms"},
    ]
    return {"type": "struct", "name": "made.Envelope", "fields": fields, "optional": False}


MADE = avro_of_connect(schema_of(ROW_FIELDS))
KEY = avro_of_connect({"type": "struct", "name": "made.Key", "fields": [ROW_FIELDS[0]], "optional": False})
KNOWN: dict[int, str | Registered] = {1: json.dumps(KEY), 2: json.dumps(MADE)}


def framed(number: int, schema: Any, value: Any) -> bytes:
    """A value behind the number of its schema."""
    stream = BytesIO()
    fastavro.schemaless_writer(stream, _parsed(json.dumps(schema).replace("logicalType", "ignored")), value)
    return bytes([0]) + number.to_bytes(4, "big") + stream.getvalue()


@functools.cache
def _parsed(text: str) -> Any:
    return fastavro.parse_schema(json.loads(text))


def record(row: dict[str, Any] | None = None, **changes: Any) -> tuple[bytes | None, bytes | None]:
    """A record of a row that was changed."""
    after = MADE_ROW | (row or {})
    return framed(1, KEY, {"id": after["id"]}), framed(2, MADE, envelope(after=after) | changes)


def made_spec(**changes: Any) -> TableSpec:
    """The spec of the made rows."""
    return TableSpec.model_validate({**SPEC, **changes})


class Known:
    """Schemas by number; a kind may stand before the text."""

    def __init__(self, texts: Mapping[int, str | Registered], framing: Framing | None = None) -> None:
        """Keep them."""
        self._texts = texts
        self.framing = framing or Framing()
        self.away = False

    def schema(self, schema_id: SchemaId, /) -> Registered:
        """Return one, or deny it."""
        if self.away:
            raise RegistryUnavailable("away", hint="come back")
        value = str(schema_id.value)  # a GUID is no number
        found = self._texts.get(int(value)) if value.isdecimal() else None
        if found is None:
            raise Rejection("unknown_schema", f"no {schema_id}")
        return found if isinstance(found, Registered) else Registered("AVRO", found)


def decoded(spec: TableSpec, run: Any, known: Any = None, **limits: int) -> Decoded:
    """What a new decoder makes of a run."""
    return (
        format_of(spec.format, known)
        .decoder(TableEntry(spec=spec), LimitsConfig(**limits))
        .decode(run, PartitionMemory())
    )
