"""Samples of Debezium's flattened records: rows, less what the transformation added to them."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.formats.envelope import DIALECTS
from connectors.formats.flat_facts import DELETED
from connectors.formats.inspection import side_record
from connectors.formats.schemablock import key_fields
from connectors.inference.base import Sample, SampledRecord
from connectors.inference.debezium import Blocks, objects
from connectors.inference.fitting import UNREADABLE

_ADDED = "__"


class FlatSampler:
    """The sampler of `debezium-flat`, with the prefix that added fields have unless they are told another."""

    format = "debezium-flat"
    by_topic = True

    def __init__(self) -> None:
        """Know no schema block yet."""
        self._values, self._keys = Blocks(key_fields), Blocks(key_fields)

    def samples(self, record: SampledRecord) -> Sequence[Sample]:
        """Return the row of a record; none of a null, and of what is no row."""
        if record.value is None:
            return ()
        try:
            payload, fields = self._values.parted(record.topic, record.value)
            if payload == b"null":
                return ()
            found = objects(payload)
            if side_record(found) is not None or {"op", "source"} <= found.keys():
                return ()
            key = stated = None
            if record.key is not None:
                raw, stated = self._keys.parted(record.topic, record.key)
                key = objects(raw)
        except UNREADABLE:
            return ()
        row = {name: value for name, value in found.items() if not name.startswith(_ADDED)}
        deleted = found.get(DELETED) in ("true", True) or found.get(f"{_ADDED}op") == "d"
        connector = str(found.get("__source_connector") or found.get("__connector") or "")
        table = found.get("__source_table") or found.get("__table")
        schema = found.get("__source_schema") or found.get("__schema") or found.get("__source_db") or found.get("__db")
        if fields is not None:
            fields = {name: field for name, field in fields.items() if not name.startswith(_ADDED)}
        sample = Sample(
            table=".".join(map(str, filter(None, (schema, table)))) if table else record.topic,
            origin=record.topic,
            op="d" if deleted else "u",
            connector=connector,
            key_columns=None if key is None else tuple(key),
            key=key,
            row=None if deleted else row,
            before=row if deleted else None,
            fields=fields,
            key_fields=stated,
            dialect=DIALECTS.get(connector, "postgresql"),
        )
        return (sample,)
