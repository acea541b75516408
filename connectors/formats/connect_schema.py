"""Kafka Connect's schemas and Avro's: each as the other, by the rules of the Avro converters of Confluent and Apicurio.

A Connect schema is a dict in the form of JsonConverter's schema blocks, which `schemablock.py` reads:

    {"type": "struct", "name": "a.Value", "fields": [{"type": "int32", "optional": false, "field": "id"}]}

`avro_of_connect` and `connect_of_avro` undo each other, but for names of fields that Avro does not allow: converters
write `odd-name` as `odd_name`, and no schema remembers it. `fields_of_envelope` gives what an Avro decoder needs to
read the rows of an envelope with the encodings of a schema block.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Any

from connectors.formats.avro_schema import MANY, TYPES_MAX, Type, bounds
from connectors.formats.reasons import Rejection
from connectors.formats.schemablock import key_fields

_DATA = "org.apache.kafka.connect.data."
DECIMAL = _DATA + "Decimal"
PRECISION = "connect.decimal.precision"
PRECISION_DEFAULT = 64  # what the converters write where Connect does not say: its Decimal has a scale only
NAMESPACE = "io.confluent.connect.avro"
STRUCT = f"{NAMESPACE}.ConnectDefault"  # the name of a struct that has none
MAP_ENTRY = "MapEntry"
INTERNAL = "connect.internal.type"

_TO_AVRO = {
    "int8": "int",
    "int16": "int",
    "int32": "int",
    "int64": "long",
    "float": "float",
    "double": "double",
    "boolean": "boolean",
    "string": "string",
    "bytes": "bytes",
}
_TO_CONNECT = {avro: connect for connect, avro in _TO_AVRO.items()} | {"enum": "string", "fixed": "bytes"}
_NARROW = frozenset({"int8", "int16"})
_LOGICAL = {_DATA + "Date": "date", _DATA + "Time": "time-millis", _DATA + "Timestamp": "timestamp-millis"}
# What Avro's own logical types are called where no converter wrote a name: as Connect or Debezium calls them.
_NAMES_OF_LOGICAL = {
    ("int", "date"): _DATA + "Date",
    ("int", "time-millis"): _DATA + "Time",
    ("long", "time-micros"): "io.debezium.time.MicroTime",
    ("long", "timestamp-millis"): _DATA + "Timestamp",
    ("long", "timestamp-micros"): "io.debezium.time.MicroTimestamp",
    ("long", "timestamp-nanos"): "io.debezium.time.NanoTimestamp",
    ("long", "local-timestamp-millis"): "io.debezium.time.Timestamp",
    ("long", "local-timestamp-micros"): "io.debezium.time.MicroTimestamp",
    ("long", "local-timestamp-nanos"): "io.debezium.time.NanoTimestamp",
    ("string", "uuid"): "io.debezium.data.Uuid",
    ("bytes", "decimal"): DECIMAL,
    ("fixed", "decimal"): DECIMAL,
}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")


def sanitised(name: str) -> str:
    """Return a name as Avro allows it, dots kept: what is no letter, digit or underscore becomes an underscore.

    This is what `field.name.adjustment.mode=avro` and `schema.name.adjustment.mode=avro` of Debezium do.
    """
    parts = [_NOT_IN_NAMES.sub("_", part) for part in name.split(".")]
    return ".".join(f"_{part}" if part[:1].isdigit() or not part else part for part in parts)


def avro_of_connect(schema: dict[str, Any]) -> Any:
    """Return the Avro schema, as the values of its JSON, of a Connect schema in the form of a schema block.

    Optional becomes a union with null, which stands behind where there is a default other than null. Names of Connect,
    versions, parameters, defaults and docs are kept in `connect.*` properties, int8 and int16 in `connect.type`. A map
    whose keys are no plain texts becomes an array of records of `key` and `value`.

    Raises:
        ValueError: a type that Kafka Connect does not have, or a default that does not fit its type.
    """
    return _Writer().of(schema)


class _Writer:
    """Writes one schema; a named type that comes again is written as its name."""

    def __init__(self) -> None:
        self._written: dict[str, str] = {}  # by name, what it means

    def of(self, schema: dict[str, Any]) -> Any:
        """Return the type of a schema, with null where it is optional."""
        plain = self._plain(schema)
        if not schema.get("optional", False):
            return plain
        return [plain, "null"] if schema.get("default") is not None else ["null", plain]

    def _plain(self, schema: dict[str, Any]) -> Any:
        physical, more = schema["type"], _properties(schema)
        if physical == "struct":
            return self._named(schema.get("name") or STRUCT, schema["fields"], more)
        if physical == "array":
            return {"type": "array", "items": self.of(schema["items"]), **more}
        if physical == "map":
            return self._map(schema, more)
        if physical not in _TO_AVRO:
            raise ValueError(f"{physical!r} is no type of Kafka Connect")
        more |= _logical(schema)
        if physical in _NARROW:
            more["connect.type"] = physical
        return {"type": _TO_AVRO[physical], **more} if more else _TO_AVRO[physical]

    def _map(self, schema: dict[str, Any], more: dict[str, Any]) -> Any:
        if _is_plain_text(schema["keys"]):
            return {"type": "map", "values": self.of(schema["values"]), **more}
        fields = [{**schema["keys"], "field": "key"}, {**schema["values"], "field": "value"}]
        entry = self._named(f"{NAMESPACE}.{MAP_ENTRY}", fields, {INTERNAL: MAP_ENTRY})
        return {"type": "array", "items": entry, **more, INTERNAL: MAP_ENTRY}

    def _named(self, name: str, fields: list[dict[str, Any]], more: dict[str, Any]) -> Any:
        """Return a record, or its name if an equal one was written; another one of that name gets a number."""
        meant = json.dumps([fields, more], sort_keys=True)
        full, number = sanitised(name), 1
        while self._written.get(full, meant) != meant:
            number += 1
            full = f"{sanitised(name)}{number}"
        if full in self._written:
            return full
        self._written[full] = meant
        # An empty namespace, or a name without a dot would be taken for one of the namespace around it.
        space = {} if "." in full else {"namespace": ""}
        return {"type": "record", "name": full, **space, "fields": [self._field(each) for each in fields], **more}

    def _field(self, field: dict[str, Any]) -> dict[str, Any]:
        made = {"name": sanitised(field["field"]), "type": self.of(field)}
        if field.get("default") is not None:
            made["default"] = _default(field, field["default"], _latin_of_base64, to_avro=True)
        elif field.get("optional", False):
            made["default"] = None
        return made


def _is_plain_text(keys: dict[str, Any]) -> bool:
    return keys.get("type") == "string" and {"type", "optional"} >= keys.keys() and not keys.get("optional", False)


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the `connect.*` properties of a type."""
    found = {f"connect.{key}": schema[key] for key in ("doc", "version", "parameters") if schema.get(key) is not None}
    if schema.get("default") is not None:
        found["connect.default"] = _default(schema, schema["default"], _latin_of_base64, to_avro=True)
    if schema.get("name") is not None:
        found["connect.name"] = schema["name"]
    return found


def _logical(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of Avro's own logical type, if Connect's name is one of those."""
    name, parameters = schema.get("name"), schema.get("parameters") or {}
    if name in _LOGICAL:
        return {"logicalType": _LOGICAL[name]}
    scale, precision = str(parameters.get("scale", "")), str(parameters.get(PRECISION, PRECISION_DEFAULT))
    if name != DECIMAL or not (scale.isdecimal() and precision.isdecimal()) or int(scale) > int(precision):
        return {}  # Avro has no scale below zero, nor above the precision; the parameters keep it
    return {"logicalType": "decimal", "scale": int(scale), "precision": int(precision)}


def connect_of_avro(root: Type) -> dict[str, Any]:
    """Return the Connect schema, in the form of a schema block, of an Avro schema.

    Of schemas that no converter of Connect wrote, enums are texts, fixed are bytes, and logical types are what Connect
    or Debezium calls them (`timestamp-micros`: `io.debezium.time.MicroTimestamp`).

    Raises:
        Rejection: `bad_registered_schema`, where Connect has no such type: null, unions of several, types in circles.
    """
    if bounds(root).deepest >= MANY:
        raise Rejection("bad_registered_schema", "the schema's types go in circles, which rows do not")
    return _Reader().of(root)


class _Reader:
    """Reads one schema; named types are written out wherever they stand, as schema blocks do."""

    def __init__(self) -> None:
        self._count = 0

    def of(self, node: Type, default: Any = None) -> dict[str, Any]:
        """Return the schema of a type; `default` is that of the field that it is the type of, in Avro's form."""
        self._count += 1
        if self._count > TYPES_MAX:
            raise Rejection("bad_registered_schema", f"the schema has more than {TYPES_MAX} types")
        if node.kind == "union":
            others = [branch for branch in node.branches if branch.kind != "null"]
            if len(others) != 1:
                raise Rejection("bad_registered_schema", "the schema has a union of several types")
            optional = len(others) < len(node.branches)
            return self.of(others[0], default) | ({"optional": True} if optional else {})
        made = {**self._physical(node), "optional": False, **_attributes(node)}
        found = node.raw.get("connect.default", default)
        if found is not None:
            try:
                made["default"] = _default(made, found, _base64_of_latin, to_avro=False)
            except (ValueError, TypeError, KeyError, AttributeError):
                raise Rejection("bad_registered_schema", "a default of the schema does not fit its type") from None
        return made

    def _physical(self, node: Type) -> dict[str, Any]:
        if node.kind in {"record", "error"}:
            return {"type": "struct", "fields": [self._field(each) for each in node.fields]}
        if node.kind == "map":
            assert node.items is not None, "a map has values"
            return {"type": "map", "keys": {"type": "string", "optional": False}, "values": self.of(node.items)}
        if node.kind == "array":
            assert node.items is not None, "an array has items"
            if is_map_entry(node):
                keys, values = (self.of(each.type) for each in node.items.fields)
                return {"type": "map", "keys": keys, "values": values}
            return {"type": "array", "items": self.of(node.items)}
        narrow = node.raw.get("connect.type")
        if node.kind == "int" and narrow in _NARROW:
            return {"type": narrow}
        if node.kind not in _TO_CONNECT:
            raise Rejection("bad_registered_schema", f"the schema has a type {node.kind} that Connect has not")
        return {"type": _TO_CONNECT[node.kind]}

    def _field(self, field: Any) -> dict[str, Any]:
        return {**self.of(field.type, field.raw.get("default")), "field": field.name}


def is_map_entry(node: Type) -> bool:
    """Tell whether an array stands for a map whose keys are no plain texts."""
    items = node.items
    if node.kind != "array" or items is None or items.kind != "record":
        return False
    marked = node.raw.get(INTERNAL) == MAP_ENTRY or items.name == f"{NAMESPACE}.{MAP_ENTRY}"
    return marked and [each.name for each in items.fields] == ["key", "value"]


def _attributes(node: Type) -> dict[str, Any]:
    """Return what a type says beside its form: name, version, parameters, doc."""
    raw = node.raw
    found = {key: raw[f"connect.{key}"] for key in ("doc", "version", "parameters") if f"connect.{key}" in raw}
    logical = raw.get("logicalType")
    name = raw.get("connect.name")
    if name is None and isinstance(logical, str):
        name = _NAMES_OF_LOGICAL.get((node.kind, logical))
    if name is None and node.kind == "record" and not node.name.startswith(STRUCT):
        name = node.name
    if name is not None:
        found["name"] = name
    if name == DECIMAL and "parameters" not in found and ("scale" in raw or "connect.name" not in raw):
        found["parameters"] = {"scale": str(raw.get("scale", 0))}
        if "precision" in raw:
            found["parameters"][PRECISION] = str(raw["precision"])
    return found


def _default(schema: dict[str, Any], value: Any, of_bytes: Callable[[str], str], *, to_avro: bool) -> Any:
    """Return a default in the other's form: they write bytes, and maps whose keys are no texts, in their own ways."""

    def inner(part: dict[str, Any], found: Any) -> Any:
        return _default(part, found, of_bytes, to_avro=to_avro)

    if value is None:
        return None
    match schema["type"]:
        case "bytes":
            return of_bytes(value)
        case "array":
            return [inner(schema["items"], each) for each in value]
        case "map" if _is_plain_text(schema["keys"]):
            return {key: inner(schema["values"], each) for key, each in value.items()}
        case "map":
            pairs = value if to_avro else [(each["key"], each["value"]) for each in value]
            turned = [(inner(schema["keys"], key), inner(schema["values"], each)) for key, each in pairs]
            return [{"key": key, "value": each} for key, each in turned] if to_avro else [list(pair) for pair in turned]
        case "struct":
            named = {sanitised(part["field"]) if to_avro else part["field"]: part for part in schema["fields"]}
            source = {sanitised(key): each for key, each in value.items()} if to_avro else value
            return {name: inner(part, source[name]) for name, part in named.items() if name in source}
        case _:
            return value


def _latin_of_base64(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("latin-1")
    except binascii.Error as exc:
        raise ValueError("a default of bytes is no base64") from exc


def _base64_of_latin(text: str) -> str:
    return base64.b64encode(text.encode("latin-1")).decode()


def fields_of_envelope(root: Type) -> dict[str, Any] | None:
    """Return the fields of the rows of an Avro schema of an envelope by name, as `schemablock.row_fields` does.

    Each is what `schemablock.encoding_of` takes. None if the schema describes no envelope.

    Raises:
        Rejection: `bad_registered_schema`, where rows have a type that Connect has not.
    """
    for field in root.fields:
        if field.name in {"after", "before"}:
            return fields_of_struct(field.type)
    return None


def fields_of_struct(node: Type) -> dict[str, Any]:
    """Return the fields of an Avro record, such as a key, by name, as `schemablock.key_fields` does.

    Raises:
        Rejection: `bad_registered_schema`, where it has a type that Connect has not.
    """
    return key_fields(connect_of_avro(node))
