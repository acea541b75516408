"""Redis, key by key: a view holds its table's rows and nothing else (the layout is docs/redis.md's).

`<prefix>:{b<n>}:f:<view>.<version>:<entity>` is a row: a field per column that has a value; `.null` and `.unavailable`
name the others; what begins with a dot is the ledger's. Tombstones, offsets and the layout's marker are the only other
keys.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from tests.oracles.shape import Shape
from tests.oracles.values import WrongForm, from_redis
from tests.oracles.verdict import Verdict, compare

_SCAN_COUNT = 2_000
# Offsets, standings, floors, what rows told entities, their ranks, where they were before, what waits for a
# change of a key, updates that wait, their numbers.
_OWN_KINDS = (b"at", b"view", b"floor", b"e", b"z", b"g", b"m", b"k", b"out", b"in")
_KEY = re.compile(rb"(?P<prefix>[^:{}]+):\{b(?P<bucket>\d+)\}:(?P<kind>[a-z]+)(?::(?P<rest>.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ViewShape:
    """One view of a table; `entity_key` are the columns that name its entities."""

    shape: Shape
    view: str
    version: int
    columns: tuple[str, ...]
    event_time: str | None
    entity_key: tuple[str, ...]
    emits: bool = False

    @classmethod
    def all_of(cls, shape: Shape) -> list[ViewShape]:
        """Return the views that a spec names."""
        return [
            cls(
                shape,
                view["view"],
                view.get("version", 1),
                tuple(view["columns"]),
                view.get("event_time"),
                tuple(view.get("entity_key") or shape.key),
                view.get("emit", False),
            )
            for view in shape.document.get("features", [])
        ]

    @classmethod
    def made_by_rules(cls, shape: Shape, stored_ids: Iterable[str]) -> list[ViewShape]:
        """Return the views of rules that compare and name none; of those that are stored, by their documented names.

        Such a rule of the workload compares one column, which is all that its view has.
        """
        rules = [r for r in shape.document.get("rules", []) if r.get("kind", "match") != "match" and "view" not in r]
        found: list[ViewShape] = []
        for rule in rules:
            pattern = re.compile(rf"(rule-{re.escape(rule['rule'])}-[0-9a-f]{{8}})\.(\d+)")
            found += [
                cls(shape, match[1], int(match[2]), (rule["of"],), None, shape.key, emits=True)
                for match in filter(None, map(pattern.fullmatch, stored_ids))
            ]
        return found

    @property
    def shares(self) -> bool:
        """Whether several rows share an entity."""
        return self.entity_key != self.shape.key

    @property
    def id(self) -> str:
        """Name and version, as keys have them."""
        return f"{self.view}.{self.version}"


@dataclass(slots=True)
class Stored:
    """What lies under one prefix: what entities show and in which bucket, ledgers apart from it, and unknown keys."""

    rows: dict[str, dict[str, tuple[int, dict[str, bytes]]]]
    tombstones: Counter[str]
    unknown: list[bytes]
    ledgers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def read_stored(client: redis.Redis, prefix: str) -> Stored:
    """Read every key under `prefix`."""
    stored = Stored({}, Counter(), [])
    keys = sorted(set(client.scan_iter(match=f"{prefix}:*", count=_SCAN_COUNT)))
    row_keys: list[tuple[bytes, int, str, str]] = []
    for key in keys:
        match = _KEY.fullmatch(key)
        kind = match["kind"] if match else b""
        if match and kind == b"f":
            view, _, entity = match["rest"].decode().partition(":")
            row_keys.append((key, int(match["bucket"]), view, entity))
        elif match and kind == b"x":
            stored.tombstones[match["rest"].decode()] += int(client.hlen(key))
        elif match and kind == b"r":
            view, _, row_key = match["rest"].decode().partition(":")
            stored.ledgers[view].add(row_key)
        elif not (match and kind in _OWN_KINDS) and key != f"{prefix}:layout".encode():
            stored.unknown.append(key)
    for start in range(0, len(row_keys), _SCAN_COUNT):
        part = row_keys[start : start + _SCAN_COUNT]
        with client.pipeline(transaction=False) as pipe:
            for key, *_ in part:
                pipe.hgetall(key)
            for (_, bucket, view, entity), fields in zip(part, pipe.execute(), strict=True):
                row = {name.decode(): value for name, value in fields.items()}
                stored.rows.setdefault(view, {})[entity] = (bucket, row)
    return stored


def entity_of(key: tuple[Any, ...]) -> str:
    """Return the text of an entity or a row's key: its parts joined by colons, `%` and `:` inside a part escaped."""
    parts = [part if isinstance(part, str) else json.dumps(part) for part in key]
    return parts[0] if len(parts) == 1 else ":".join(part.replace("%", "%25").replace(":", "%3A") for part in parts)


def expected_entities(view: ViewShape, rows: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the row that each entity shows: where several share one, that of the latest event time."""
    shown: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        entity = entity_of(tuple(row[column] for column in view.entity_key))
        before = shown.get(entity)
        if before is None or (view.event_time is not None and row[view.event_time] > before[view.event_time]):
            shown[entity] = row
    return shown


def check_view(
    view: ViewShape,
    stored: Stored,
    rows: Mapping[tuple[Any, ...], Mapping[str, Any]],
    *,
    buckets: int,
    at_least: int = 1,
) -> Verdict:
    """Check that Redis holds exactly `rows`, value by value, each in its bucket, and no live key beside them.

    A column that a row lacks is absent: it has no field, and is not named as null.
    """
    verdict = Verdict(f"Redis view {view.id}")
    expected = expected_entities(view, rows.values())
    found = stored.rows.get(view.id, {})
    for entity in sorted(expected.keys() - found.keys()):
        verdict.differ(f"missing: {entity}")
    for entity in sorted(found.keys() - expected.keys()):
        verdict.differ(f"a live key too much: {entity}: {sorted(found[entity][1])}")
    for entity in expected.keys() & found.keys():
        bucket, fields = found[entity]
        if bucket != zlib.crc32(entity.encode()) % buckets:
            verdict.differ(f"{entity} lies in bucket {bucket}")
        row = expected[entity]
        _check_fields(verdict, view, entity, {name: row[name] for name in view.columns if name in row}, fields)
        if view.event_time and row[view.event_time] is not None:
            type_text = view.shape.columns[view.event_time]
            _check_value(verdict, f"{entity} event time", type_text, row[view.event_time], fields.get(".t"))
    if view.shares:
        compare(verdict, {f"ledger {entity_of(key)}" for key in rows}, {f"ledger {k}" for k in stored.ledgers[view.id]})
    for key in stored.unknown:
        verdict.differ(f"a key that the layout does not know: {key!r}")
    verdict.figures = {
        "entities": len(found),
        "rows of the source": len(rows),
        "tombstones": stored.tombstones[view.id],
    }
    verdict.at_least("rows of the source", at_least)
    return verdict


def _check_fields(
    verdict: Verdict, view: ViewShape, entity: str, row: Mapping[str, Any], fields: Mapping[str, bytes]
) -> None:
    nulls, unavailable = (set(json.loads(fields.get(name, b"[]"))) for name in (".null", ".unavailable"))
    own = {name for name in fields if name.startswith(".")}
    if unavailable:
        verdict.differ(f"{entity}: unavailable, though the stream had it: {sorted(unavailable)}")
    if extra := (fields.keys() - own | nulls) - row.keys():
        verdict.differ(f"{entity}: fields that the view or the row does not have: {sorted(extra)}")
    if both := nulls & fields.keys():
        verdict.differ(f"{entity}: both null and there: {sorted(both)}")
    for name, value in row.items():
        if value is None and (name not in nulls or name in fields):
            verdict.differ(
                f"{entity}.{name}: null in the source, {'a field' if name in fields else 'not named in .null'} in Redis"
            )
        elif value is not None:
            _check_value(verdict, f"{entity}.{name}", view.shape.columns[name], value, fields.get(name))


def _check_value(verdict: Verdict, where: str, type_text: str, value: Any, field: bytes | None) -> None:
    if field is None:
        verdict.differ(f"{where}: missing, {value!r} in the source")
        return
    try:
        found = from_redis(type_text, field)
    except (WrongForm, ValueError) as exc:
        verdict.differ(f"{where}: {exc}")
        return
    if found != value:
        verdict.differ(f"{where}: {found!r}, {value!r} in the source")


def check_all_views(
    views: Sequence[ViewShape],
    stored: Stored,
    rows: Mapping[str, Mapping[tuple[Any, ...], Mapping[str, Any]]],
    *,
    buckets: int,
) -> list[Verdict]:
    """Check each view against its table's rows, and that no other view lies there."""
    verdicts = [check_view(view, stored, rows[view.shape.table], buckets=buckets) for view in views]
    others = Verdict("Redis, other views", {"views": len(stored.rows)})
    for view_id in sorted(stored.rows.keys() - {view.id for view in views}):
        others.differ(f"{view_id} has {len(stored.rows[view_id])} rows")
    return [*verdicts, others]
