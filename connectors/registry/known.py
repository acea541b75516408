"""Schemas that are known without a registry: a file that says which id has which."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from connectors.formats.reasons import Rejection
from connectors.wire import Framing, Registered, SchemaId
from schemas.errors import ConfigurationError


class KnownSchemas:
    """Avro schemas by their id; it fits `Schemas`."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """`texts` are the schemas by the number, or the GUID, that records name."""
        self._texts = dict(texts)

    @property
    def framing(self) -> Framing:
        """Confluent's, and every other that a record's first bytes tell."""
        return Framing(ids_in="either")

    def schema(self, schema_id: SchemaId) -> Registered:
        """Return the schema of an id.

        Raises:
            Rejection: `unknown_schema`, where the file has none.
        """
        text = self._texts.get(str(schema_id.value))
        if text is None:
            raise Rejection("unknown_schema", f"the file has no schema {schema_id}")
        return Registered("AVRO", text)


def read_schemas(text: str, *, name: str) -> KnownSchemas:
    """Return the schemas of a JSON object of ids and Avro schemas, each as an object or as the text of one.

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
    return KnownSchemas({key: schema if _is_text(schema) else json.dumps(schema) for key, schema in found.items()})


def _is_text(schema: Any) -> bool:
    """Tell whether a schema is the text of one; the name of a primitive type is one, too, but not as JSON."""
    return isinstance(schema, str) and schema.lstrip()[:1] in {"{", "[", '"'}
