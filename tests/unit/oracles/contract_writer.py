"""A history as the contract, the lake and Redis would hold it if all were right: what faults are planted in."""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from tests.oracles import Change, LakeChange, RowEvent, Shape, to_change
from tests.oracles.features import Stored, ViewShape, entity_of, expected_entities
from tests.oracles.topic import Record
from tests.workloads.installation import shapes_for
from tests.workloads.model import KEYS, OUT_OF_LINE

BUCKETS = 4
PARTITIONS = 2
SHAPES = shapes_for("pg", KEYS)


def contract_form(type_text: str, value: Any) -> Any:
    """Return a canonical value as the contract writes it."""
    if value is None:
        return None
    match value:
        case Decimal():
            return f"{value:f}"
        case bytes():
            return base64.b64encode(value).decode()
        case tuple():
            return list(value)
        case datetime():
            text = value.replace(tzinfo=None).isoformat(timespec="microseconds")
            return f"{text}Z" if type_text == "timestamptz" else text
        case _ if type_text == "date":
            return value.isoformat()
        case _ if type_text == "time":
            return value.isoformat(timespec="microseconds")
        case _ if type_text == "long":
            return str(value)
        case _:
            return value


def records_of(shape: Shape, events: Sequence[RowEvent], *, hidden: frozenset[str] = frozenset()) -> list[Record]:
    """Return a table's output topic: what a perfect NORMALIZE makes of `events`; `hidden` columns are unavailable."""
    records: list[Record] = []
    previous: dict[int, int] = {}
    nexts = dict.fromkeys(range(PARTITIONS), 0)
    topic = shape.topics[0]
    for number, event in enumerate(event for event in events if event.table == shape.table):
        key = _row(shape, dict(zip(shape.key, event.key, strict=True)))
        partition = zlib.crc32(json.dumps(key).encode()) % PARTITIONS
        offset = nexts[partition]
        nexts[partition] += 2 if event.op == "delete" else 1  # a tombstone follows
        missing = sorted(hidden - event.touched) if event.op == "update" else []
        after = None if event.row is None else _row(shape, {n: v for n, v in event.row.items() if n not in missing})
        source = {
            "connector": "postgresql",
            "name": "x",
            "table": f"public.{shape.table}",
            "tx": "1",
            "snapshot": False,
            "origin": [topic, 0, partition, offset],
            "first_origin": None,
            "previous": previous.get(partition),
        }
        value = {
            "op": event.op,
            "key": key,
            "old_key": _key(shape, event.old_key),
            "new_key": _key(shape, event.new_key),
            "before": None,
            "after": after,
            "position": f"{number + 1:045d}",
            "ts": "2026-11-20T19:45:57.123456Z",
            "unavailable": missing,
            "source": source,
        }
        data = json.dumps(value, ensure_ascii=False).encode()
        records.append(Record("out", partition, len(records), json.dumps(key).encode(), data))
        previous[partition] = offset
    return sorted(records, key=lambda record: (record.partition, record.offset))


def changes_of(shape: Shape, events: Sequence[RowEvent], *, hidden: frozenset[str] = frozenset()) -> list[Change]:
    """Return the same as the oracle reads it."""
    return [to_change(shape, record) for record in records_of(shape, events, hidden=hidden)]


def lake_of(shape: Shape, changes: Sequence[Change]) -> list[LakeChange]:
    """Return what a perfect LAKE makes of `changes`."""
    return [
        LakeChange(
            change.op,
            change.position,
            change.origin,
            change.previous,
            change.unavailable,
            change.old_key,
            change.new_key,
            {
                **dict.fromkeys(shape.columns),
                **(change.after or {}),
                **dict(zip(shape.key, change.key or (), strict=True)),
            },
        )
        for change in changes
    ]


def stored_of(view: ViewShape, rows: dict[tuple[Any, ...], dict[str, Any]]) -> Stored:
    """Return what a perfect FEATURES leaves in Redis."""
    entities = {}
    for entity, row in expected_entities(view, rows.values()).items():
        fields = {n: _redis_form(view.shape.columns[n], row[n]) for n in view.columns if row[n] is not None}
        nulls = [name for name in view.columns if row[name] is None]
        own = {".p": b"0" * 45, ".v": b"1", **({".null": json.dumps(nulls).encode()} if nulls else {})}
        if view.event_time:
            own[".t"] = _redis_form(view.shape.columns[view.event_time], row[view.event_time])
        entities[entity] = (zlib.crc32(entity.encode()) % BUCKETS, {**fields, **own})
    stored = Stored({view.id: entities}, Counter(), [])
    if view.shares:
        stored.ledgers[view.id] = {entity_of(key) for key in rows}
    return stored


def _redis_form(type_text: str, value: Any) -> bytes:
    form = contract_form(type_text, value)
    return (form if isinstance(form, str) else json.dumps(form)).encode()


def _row(shape: Shape, row: dict[str, Any]) -> dict[str, Any]:
    return {name: contract_form(shape.columns[name], value) for name, value in row.items()}


def _key(shape: Shape, key: tuple[Any, ...] | None) -> dict[str, Any] | None:
    return None if key is None else _row(shape, dict(zip(shape.key, key, strict=True)))


def of(history: list[RowEvent], table: str) -> tuple[Shape, list[Change]]:
    """A table's shape and its perfect output topic."""
    shape = SHAPES[table]
    return shape, changes_of(shape, history, hidden=OUT_OF_LINE[table])
