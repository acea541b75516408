"""Changes in Avro, read for subscribers by the schemas that a registry has of their ids.

Promise: a value says what its JSON would say, in the same forms, so that whoever types it does so once for both. What
is no change, or none by the schema of its id, is refused without a piece of it.
"""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import fastavro

from headgate.client.registry import Registry
from headgate.client.values import DoesNotFit
from schemas.contract_avro_values import Columns, change_from, columns_of, row_from
from schemas.errors import ConfigurationError

_ID_BYTES = 4
_FRAME_BYTES = 1 + _ID_BYTES  # a zero, and the id of the schema, as Confluent's serializers write them
_NOT_OURS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)  # what fields of another record give


class AvroReader:
    """Reads values and keys of the topics of changes; each schema is prepared once."""

    def __init__(self, registry: Registry) -> None:
        """Ask `registry` for the schemas of ids."""
        self._registry = registry
        self._known: dict[int, _Form] = {}

    def change(self, value: bytes) -> dict[str, Any]:
        """Return the change that a value holds, in the forms of the contract's JSON.

        Raises:
            DoesNotFit: it is none.
            RegistryUnavailable: the schema of its id cannot be had now.
        """
        form, raw = self._raw(value)
        try:
            return change_from(raw, form.columns("Row"), form.columns("Key"))
        except _NOT_OURS:
            raise DoesNotFit("the schema of its id is none of changes") from None

    def key(self, key: bytes) -> dict[str, Any] | None:
        """Return the key that a record's key holds, in the forms of the contract's JSON; raises as `change` does."""
        form, raw = self._raw(key)
        try:
            return row_from(raw, form.columns("Key"))
        except _NOT_OURS:
            raise DoesNotFit("the schema of its key's id is none of keys") from None

    def _raw(self, value: bytes) -> tuple[_Form, Any]:
        if len(value) < _FRAME_BYTES:
            raise DoesNotFit("it ends inside the id of its schema")
        number = int.from_bytes(value[1:_FRAME_BYTES], "big")
        form = self._known.get(number)
        if form is None:
            form = self._known[number] = _Form(self._registry.schema(number), number)
        return form, form.read(value[_FRAME_BYTES:])


class _Form:
    """One registered schema: what reads its values, and the columns of its records."""

    def __init__(self, text: str, number: int) -> None:
        self._columns: dict[str, Columns] = {}
        self._records: dict[str, list[dict[str, Any]]] = {}
        try:
            self._schema: Any = fastavro.parse_schema(_bare(json.loads(text), self._records))
        except Exception as exc:  # noqa: BLE001 - whatever json and fastavro make of what is no schema of ours
            raise DoesNotFit(f"the schema of its id, {number}, is none of ours ({type(exc).__name__})") from None

    def columns(self, record: str) -> Columns:
        """Return the columns of a record's fields; raises KeyError where there is none of this name."""
        found = self._columns.get(record)
        if found is None:
            try:
                found = self._columns[record] = columns_of(self._records[record])
            except ConfigurationError:
                raise DoesNotFit("the schema of its id has a type that this release does not know") from None
        return found

    def read(self, payload: bytes) -> Any:
        """Return the value that bytes are, all of them, without logical types."""
        stream = BytesIO(payload)
        try:
            found = fastavro.schemaless_reader(stream, self._schema, None)
        except Exception as exc:  # noqa: BLE001 - whatever fastavro makes of bytes that fit no schema
            raise DoesNotFit(f"its bytes do not fit the schema of its id ({type(exc).__name__})") from None
        if stream.read(1):
            raise DoesNotFit("bytes are left behind the value that the schema of its id has")
        return found


def _bare(node: Any, records: dict[str, list[dict[str, Any]]]) -> Any:
    """Return a schema without its logical types, so that values stay as their bytes are; note the fields of records."""
    match node:
        case list():
            return [_bare(branch, records) for branch in node]
        case {"type": "record", "name": str(name), "fields": list(fields)}:
            records[name.rpartition(".")[2]] = fields
            bare = [{"name": field["name"], "type": _bare(field["type"], records)} for field in fields]
            space = {"namespace": node["namespace"]} if "namespace" in node else {}
            return {"type": "record", "name": name, **space, "fields": bare}
        case {"type": "array", "items": items}:
            return {"type": "array", "items": _bare(items, records)}
        case {"type": inner}:
            return _bare(inner, records)
        case _:
            return node
