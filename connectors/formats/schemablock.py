"""Schema blocks of Kafka Connect's JsonConverter: where a block ends, and which encodings its fields have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from connectors.formats.encodings import ENCODINGS
from connectors.formats.reasons import Rejection
from connectors.formats.structured import STRUCTURED

START = b'{"schema":'
_MIDDLE = b',"payload":'
_DEBEZIUM = "io.debezium."
_CONNECT = "org.apache.kafka.connect.data."
_PLAIN = {
    "int8": "int",
    "int16": "int",
    "int32": "int",
    "int64": "int",
    "float": "double",
    "double": "double",
    "boolean": "boolean",
    "string": "string",
    "bytes": "base64",
    "struct": "struct",
    "map": "map",
}
_SCALE = re.compile(r"-?[0-9]{1,10}")
_PHYSICAL_WINS = ("struct", "map", "array")  # a name such as geometry.Point says less than that it is a struct
_STRUCT_NAMES = frozenset({"data.VariableScaleDecimal", *STRUCTURED})
_NUMBERED = {"data.Bits": "length"}  # the parameter that its form needs


def prefix_of(value: bytes) -> bytes | None:
    """Return the bytes before the payload of a record as JsonConverter writes it, None for any other form."""
    if not (value.startswith(START) and value.endswith(b"}")):
        return None
    text = value.decode("utf-8")
    try:
        _, end = json.JSONDecoder().raw_decode(text, len(START))
    except (ValueError, RecursionError):  # also a number of more digits than Python reads
        return None
    length = len(text[:end].encode())
    if not value.startswith(_MIDDLE, length):
        return None
    return value[: length + len(_MIDDLE)]


def payload_behind(prefix: bytes, value: bytes) -> bytes:
    """Return the payload inside `value`, all of it without a prefix; empty, which is no JSON, behind another block."""
    if not prefix:
        return value
    return value[len(prefix) : -1] if value.startswith(prefix) and value.endswith(b"}") else b""


def payloads_behind(prefix: bytes, values: Iterable[bytes]) -> Iterator[bytes]:
    """Yield `payload_behind` of many; the prefix is one."""
    size = len(prefix)
    for value in values:
        yield value[size:-1] if value.startswith(prefix) and value.endswith(b"}") else b""


def row_fields(schema: Any) -> dict[str, Any] | None:
    """Return the fields of the rows of an envelope's schema by name, None if it describes no envelope."""
    for field in _fields(schema):
        if field.get("field") in ("after", "before") and isinstance(field.get("fields"), list):
            return key_fields(field)
    return None


def key_fields(schema: Any) -> dict[str, Any]:
    """Return the fields of a struct's schema by name."""
    return {str(field.get("field")): field for field in _fields(schema)}


def _fields(schema: Any) -> list[dict[str, Any]]:
    fields = schema.get("fields") if isinstance(schema, dict) else None
    return [field for field in fields if isinstance(field, dict)] if isinstance(fields, list) else []


def encoding_of(
    field: dict[str, Any], wanted: str | None = None, *, listed: bool = True, dialect: str = "postgresql"
) -> tuple[str, int | None]:
    """Return the encoding of a field, and its scale or length if it has one; of an array, those of its elements.

    A field without a semantic name is what the spec says it is (`wanted`): text in hex is only text to a schema block.
    Where the column is no list (`listed`), an array is a JSON document.

    Raises:
        Rejection: `bad_schema`, for a type that Kafka Connect does not have.
    """
    physical, name = field.get("type"), field.get("name")
    if physical == "array" and isinstance(field.get("items"), dict):
        return encoding_of(field["items"], wanted, dialect=dialect) if listed else ("array", None)
    plain = _PLAIN.get(str(physical))
    if plain is None:
        raise Rejection("bad_schema", "a field of the schema block has no type of Kafka Connect")
    if not isinstance(name, str):
        return wanted or plain, None
    if name.startswith(_CONNECT):
        # The block says bytes even where decimal.format=NUMERIC writes numbers: only the spec knows.
        return (wanted if wanted == "number" else f"connect.{name.removeprefix(_CONNECT)}"), _number(field, "scale")
    known = name.removeprefix(_DEBEZIUM) if name.startswith(_DEBEZIUM) else ""
    if known not in ENCODINGS or (physical in _PHYSICAL_WINS and known not in _STRUCT_NAMES):
        return wanted or plain, None
    if known == "data.Enum" and dialect == "mysql" and "\\" in _parameter(field, "allowed"):
        return "data.EnumEscaped", None  # its labels arrive escaped when streamed, plain by snapshot
    return known, _number(field, _NUMBERED[known]) if known in _NUMBERED else None


def _parameter(field: dict[str, Any], name: str) -> str:
    parameters = field.get("parameters")
    return str(parameters.get(name, "")) if isinstance(parameters, dict) else ""


def _number(field: dict[str, Any], name: str) -> int | None:
    text = _parameter(field, name)
    return int(text) if _SCALE.fullmatch(text) else None
