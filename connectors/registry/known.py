"""Schemas that are known without a registry: a file that says which id has which."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from connectors.formats.reasons import Rejection
from connectors.wire import Framing, Registered, SchemaId
from schemas.errors import ConfigurationError


class KnownSchemas:
    """Schemas by their id; it fits `Schemas`."""

    def __init__(self, schemas: Mapping[str, Registered]) -> None:
        """`schemas` are by the number, or the GUID, that records name."""
        self._schemas = dict(schemas)
        numbers = frozenset(int(key) for key in schemas if key.isascii() and key.isdecimal())
        self.framing = Framing(ids_in="either", numbers=numbers)  # whatever a record's first bytes or headers tell

    def schema(self, schema_id: SchemaId) -> Registered:
        """Return the schema of an id.

        Raises:
            Rejection: `unknown_schema`, where the file has none.
        """
        found = self._schemas.get(str(schema_id.value))
        if found is None:
            raise Rejection("unknown_schema", f"the file has no schema {schema_id}")
        return found


def read_schemas(text: str, *, name: str) -> KnownSchemas:
    """Return the schemas of a JSON object of ids and schemas.

    A schema is Avro's or JSON Schema, as an object or as the text of one; or what a registry answers for its id,
    `{"schemaType": …, "schema": …}`.

    Raises:
        ConfigurationError: it is no such object; `name` is how errors call it.
    """
    hint = 'write {"1": {"type": "record", …}, "2": …}: ids and Avro schemas'
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{name}: not JSON", hint=hint) from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{name}: not an object", hint=hint)
    return KnownSchemas({key.lower(): _registered(schema) for key, schema in found.items()})


def _registered(schema: Any) -> Registered:
    if isinstance(schema, dict) and isinstance(schema.get("schema"), str) and "type" not in schema:
        return Registered(str(schema.get("schemaType", "AVRO")), schema["schema"])
    text = schema if _is_text(schema) else json.dumps(schema)
    return Registered(kind_of(text), text)


def kind_of(text: str) -> str:
    """Return which kind a schema is of that comes without a word of it, as they do from Apicurio's own API."""
    return "JSON" if _is_json_schema(text) else "AVRO"


def _is_text(schema: Any) -> bool:
    """Tell whether a schema is the text of one; the name of a primitive type is one, too, but not as JSON."""
    return isinstance(schema, str) and schema.lstrip()[:1] in {"{", "[", '"'}


def _is_json_schema(text: str) -> bool:
    """Tell JSON Schema from Avro, which has no such keys and calls no type `object`."""
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):  # no Avro either: whoever reads it says so
        return False
    return isinstance(schema, dict) and (
        "$schema" in schema or "properties" in schema or schema.get("type") == "object"
    )
