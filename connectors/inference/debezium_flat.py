"""Samples of Debezium's flattened records: the row without what the transformation added, told by its prefix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from connectors.formats.envelope import DIALECTS
from connectors.formats.flat_facts import DELETED, FlatOptions, names_of
from connectors.formats.inspection import side_record
from connectors.formats.schemablock import key_fields
from connectors.inference.base import Fields, Sample, SampledRecord
from connectors.inference.blocks import Blocks, read_key
from connectors.inference.fitting import UNREADABLE

_PREFIX = FlatOptions().prefix
_FACTS = names_of(_PREFIX, {})
_NULL = b"null"
_TRUE = frozenset({"true", True})
_row = msgspec.json.Decoder(dict[str, Any] | None, float_hook=Decimal).decode


class FlatSampler:
    """The sampler of `debezium-flat`."""

    format = "debezium-flat"
    by_topic = True

    def __init__(self) -> None:
        """Know no schema block yet."""
        self._values, self._keys = Blocks(_fields_of_rows), Blocks(key_fields)

    def samples(self, record: SampledRecord) -> Sequence[Sample]:
        """Return the row of a record, or the key of one that was deleted; none of any other record."""
        try:
            payload, fields = self._values.parted(record.topic, record.value or _NULL)
            found = _row(payload)
            key, stated = read_key(self._keys, record)
        except UNREADABLE:
            return ()
        if found is None:
            return (_sample(record.topic, {}, key=key, key_fields=stated, op="d"),) if key else ()
        if ("op" in found and "source" in found) or side_record(found) is not None:
            return ()
        row = {name: value for name, value in found.items() if not name.startswith(_PREFIX)}
        is_deleted = found.get(DELETED) in _TRUE
        facts = {fact: found[name] for name, fact in _FACTS.items() if isinstance(found.get(name), str)}
        return (
            _sample(
                record.topic,
                facts,
                op="d" if is_deleted else "c",
                key=key,
                row=None if is_deleted else row,
                before=row if is_deleted else None,
                fields=fields,
                key_fields=stated,
            ),
        )


def _fields_of_rows(schema: Any) -> Fields:
    return {name: field for name, field in key_fields(schema).items() if not name.startswith(_PREFIX)}


def _sample(topic: str, facts: Mapping[str, str], *, key: dict[str, Any] | None, op: str, **more: Any) -> Sample:
    connector = facts.get("connector", "")
    return Sample(
        table=_table(topic, facts),
        origin=topic,
        op=op,
        connector=connector,
        key_columns=None if key is None else tuple(key),
        key=key,
        dialect=DIALECTS.get(connector, "postgresql"),
        **more,
    )


def _table(topic: str, facts: Mapping[str, str]) -> str:
    """Return the table that the record names, else what the topic says behind the connector's name."""
    schema, table = facts.get("schema") or facts.get("db"), facts.get("table")
    if schema and table:
        return f"{schema}.{table}"
    _, _, behind = topic.partition(".")
    return behind if "." in behind else topic
