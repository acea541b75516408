"""Samples of formats whose changes come as events: their own unwrappers say where the rows are.

Few of these tools say which columns are the key. What a record says is taken; else what deletes carry alone, or a
column that is called as keys are. Such a guess is told as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from connectors.formats.event_decoder import EventFormat
from connectors.formats.events import Events
from connectors.inference.base import Sample, SampledRecord
from connectors.inference.bson import plain_values
from connectors.inference.debezium import objects, parted_key
from connectors.inference.fitting import UNREADABLE
from schemas.config import LimitsConfig
from schemas.table import Column, TableEntry, TableSpec
from schemas.types import parse_type

KeyOf = Callable[[dict[str, Any]], Any]
_NAMES = ("id", "_id", "uuid", "guid", "key")
_TABLES_MAX = 10_000
_ANY = TableEntry(spec=TableSpec(table="any", topics=["any"], columns={"key": Column(type=parse_type("string"))}))
_document = msgspec.json.Decoder(dict[str, Any]).decode


def _of_dms(document: dict[str, Any]) -> Any:
    return ((document.get("control") or {}).get("table-def") or {}).get("primary-key")


def _of_dynamodb(document: dict[str, Any]) -> Any:
    return list((document.get("dynamodb") or {}).get("Keys") or ())


# What a record says of the key's columns, by format; of a table whose columns it tells apart (see `_names`).
KEYS_OF: dict[str, KeyOf] = {
    "maxwell": lambda document: document.get("primary_key_columns"),
    "canal": lambda document: document.get("pkNames"),
    "goldengate": lambda document: document.get("primary_keys"),
    "dms": _of_dms,
    "dynamodb": _of_dynamodb,
    "debezium-mongodb": lambda _: ["_id"],
    "s3": lambda _: ["bucket", "key"],
}


class EventSampler:
    """The sampler of one such format; a topic may hold several tables."""

    by_topic = False

    def __init__(self, format_: EventFormat) -> None:
        """Know no table yet."""
        self.format = format_.name
        self._format = format_
        self._unwrapper = format_.unwrapper(_ANY, LimitsConfig())
        self._keys: dict[str, tuple[str, ...]] = {}  # told, or guessed from deletes, by table
        self._kinds: dict[str, set[str]] = {}

    def samples(self, record: SampledRecord) -> Sequence[Sample]:
        """Return the changes in a record; none of what is none."""
        if record.value is None:
            return ()
        try:
            document = _document(record.value)
            events = self._unwrapper.unwrap(One(record))
            told = KEYS_OF[self.format](document) if self.format in KEYS_OF else None
            if not events.indices:
                self._learn(document, told)
                return ()
            return [self._sample(record, events, place, told) for place in range(len(events.indices))]
        except (*UNREADABLE, AttributeError, TypeError):
            return ()

    def _learn(self, document: dict[str, Any], told: Any) -> None:
        """Take the key from a record that says nothing of a row: a definition that a tool sends along."""
        metadata = document.get("metadata")
        if told and isinstance(metadata, dict) and len(self._keys) < _TABLES_MAX:
            table = f"{metadata.get('schema-name')}.{metadata.get('table-name')}"
            self._keys[table] = tuple(map(str, told))

    def _sample(self, record: SampledRecord, events: Events, place: int, told: Any) -> Sample:
        table = events.source_table or record.topic
        after, before = self._object(events.afters, place), self._object(events.befores, place)
        key = self._object(events.keys, place)
        if key is None and self._format.keys_of_records:
            key = parted_key(record)
        columns = _names(told) or (tuple(key) if key else None)
        if columns is None:
            columns = self._guessed(table, after, before)
        else:
            self._keys[table] = columns
        if key is None and columns:
            row = after or before or {}
            key = {name: row[name] for name in columns if name in row}
        return Sample(
            table=table,
            origin=f"{events.connector}\0{events.source_name}",
            op=events.codes[place],
            connector=events.connector,
            key_columns=columns,
            key=key,
            row=after,
            before=before if after is None else None,
            dialect=events.dialect or self._format.dialect,
            forced=self._forced(table, events, place),
        )

    def _object(self, raws: Sequence[Any], place: int) -> dict[str, Any] | None:
        raw = raws[place] if place < len(raws) else None
        if raw is None:
            return None
        found = objects(raw)
        return plain_values(found) if self._format.dialect == "bson" else found

    def _guessed(
        self, table: str, after: dict[str, Any] | None, before: dict[str, Any] | None
    ) -> tuple[str, ...] | None:
        """Return the columns that look like the key: those of a delete that has no others, or one of a usual name."""
        if table not in self._keys and after is None and before:
            alone = tuple(name for name, value in before.items() if value is not None)
            if len(alone) < len(before) or len(alone) == 1:
                self._keys[table] = alone
        if table in self._keys:
            return self._keys[table]
        names = {name.lower(): name for name in after or before or ()}
        short = table.rpartition(".")[2].lower()
        wanted = (*_NAMES, f"{short}_id", f"{short.removesuffix('s')}_id", f"{short}id", f"{short.removesuffix('s')}id")
        return next(((names[name],) for name in wanted if name in names), None)

    def _forced(self, table: str, events: Events, place: int) -> dict[str, str]:
        """Return the type of a key whose values differ by type alone: as text, 1 and "1" would be one."""
        if self._format.dialect != "bson" or place >= len(events.keys) or events.keys[place] is None:
            return {}
        kinds = self._kinds.setdefault(table, set())
        for value in objects(events.keys[place] or b"{}").values():
            kinds.add(next(iter(value), "object") if isinstance(value, dict) else type(value).__name__)
        return {"_id": "json"} if len(kinds) > 1 else {}


def _names(told: Any) -> tuple[str, ...] | None:
    if isinstance(told, list) and told and all(isinstance(name, str) for name in told):
        return tuple(told)
    return None


class One:
    """A record as an unwrapper reads it: `Records` of one."""

    def __init__(self, record: SampledRecord) -> None:
        """Keep the record."""
        self._record = record
        self.topic, self.partition = record.topic, getattr(record, "partition", 0)

    def values(self) -> list[bytes | None]:
        """Return its value."""
        return [self._record.value]

    def keys(self) -> list[bytes | None]:
        """Return its key."""
        return [self._record.key]

    def offsets(self) -> list[int]:
        """Return its offset."""
        return [getattr(self._record, "offset", 0)]

    def timestamps(self) -> list[int]:
        """Return its time in milliseconds since 1970, -1 for none."""
        return [getattr(self._record, "timestamp", -1)]

    def headers(self, index: int, /) -> Sequence[tuple[str, bytes | None]]:
        """Return its headers."""
        found = getattr(self._record, "headers", None)
        return found(index) if found is not None else ()
