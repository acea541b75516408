"""Feature updates, read independently: numbered without a gap, each going on from the last, together what Redis holds.

A reader's rule (docs/features.md): per bucket and incarnation, what is not above the highest number seen is a repeat.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.oracles.features import Stored, ViewShape, entity_of
from tests.oracles.topic import Record
from tests.oracles.values import WrongForm, from_contract, from_redis
from tests.oracles.verdict import Verdict

_FIELDS = {
    "view", "version", "entity", "op", "before", "after", "unavailable_before", "unavailable", "table", "key",
    "position", "ts", "snapshot", "replay", "origin", "bucket", "incarnation", "number",
}  # fmt: skip
_GONE = None, frozenset[str]()
_OPS = {(False, True): "insert", (True, True): "update", (True, False): "delete", (False, False): "delete"}

Side = tuple[dict[str, Any] | None, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Update:
    """One record: whose it is, and what the entity showed before and after."""

    record: Record
    entity: str
    before: Side
    after: Side
    value: Mapping[str, Any]

    @property
    def stream(self) -> tuple[int, str]:
        """Bucket and incarnation: what numbers are counted in."""
        return self.value["bucket"], self.value["incarnation"]


def check_updates(
    views: Sequence[ViewShape],
    records: Mapping[str, Iterable[Record]],
    stored: Stored,
    *,
    buckets: int,
    at_least: int = 1,
) -> list[Verdict]:
    """Check the topics of `views`, which are all that emit; `records` are by view, as they lie in each partition."""
    kept: dict[str, list[Update]] = {}
    verdicts = []
    repeats: Counter[str] = Counter()
    for view in views:
        verdict = Verdict(f"updates of {view.id}, their form")
        updates = [update for record in records[view.view] if (update := _read(verdict, view, record, buckets))]
        kept[view.view] = _without_repeats(updates)
        _check_partitions(verdict, updates)
        repeats[view.view] = len(updates) - len(kept[view.view])
        verdicts.append(verdict)
    verdicts.append(_check_numbers([update for updates in kept.values() for update in updates]))
    for view in views:
        verdict = _check_chain(view, kept[view.view], stored)
        verdict.figures["repeats"] = repeats[view.view]
        verdict.at_least("updates", at_least)
        verdicts.append(verdict)
    return verdicts


def _read(verdict: Verdict, view: ViewShape, record: Record, buckets: int) -> Update | None:
    where = f"{record.topic}[{record.partition}]@{record.offset}"
    try:
        value = _value(record)
        update = Update(
            record, (record.key or b"").decode(), _side(view, value, "before"), _side(view, value, "after"), value
        )
    except (WrongForm, ValueError, KeyError) as exc:
        verdict.differ(f"{where}: {exc}")
        return None
    for wrong in _wrong(view, update, buckets):
        verdict.differ(f"{where}: {wrong}")
    return update


def _value(record: Record) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(record.value or b"")
    if value.keys() != _FIELDS:
        raise WrongForm(f"fields {sorted(value.keys() ^ _FIELDS)}")
    return value


def _side(view: ViewShape, value: Mapping[str, Any], name: str) -> Side:
    """Return one side with canonical values."""
    features, missing = value[name], value["unavailable" if name == "after" else "unavailable_before"]
    if features is None:
        return _GONE
    if odd := (features.keys() | set(missing)) - set(view.columns):
        raise WrongForm(f"{name} has columns that the view does not have: {sorted(odd)}")
    if both := features.keys() & set(missing):
        raise WrongForm(f"{name}: both there and unavailable: {sorted(both)}")
    read = {column: from_contract(view.shape.columns[column], each) for column, each in features.items()}
    return read, frozenset(missing)


def _wrong(view: ViewShape, update: Update, buckets: int) -> Iterable[str]:
    value = update.value
    alive = (update.before[0] is not None, update.after[0] is not None)
    if value["op"] != _OPS[alive]:
        yield f"op is {value['op']}, alive before and after are {alive}"
    if update.before == update.after != _GONE:  # gone before and after: a delete of what Redis did not know
        yield "before is after"
    if update.entity != entity_of(tuple(value["entity"][column] for column in view.entity_key)):
        yield "the record's key is not the entity's text"
    if value["bucket"] != zlib.crc32(update.entity.encode()) % buckets:
        yield f"bucket {value['bucket']} is not the entity's"
    if (value["view"], value["version"], value["table"]) != (view.view, view.version, view.shape.table):
        yield "of another view, version or table"
    if update.record.headers != (("view", view.view.encode()),):
        yield f"headers are {update.record.headers}"


def _check_partitions(verdict: Verdict, updates: Iterable[Update]) -> None:
    """Check that all updates of a bucket lie in one partition: only there they have an order."""
    partitions: dict[int, int] = {}
    for update in updates:
        at = partitions.setdefault(update.value["bucket"], update.record.partition)
        if at != update.record.partition:
            verdict.differ(f"bucket {update.value['bucket']} lies in partitions {at} and {update.record.partition}")


def _without_repeats(updates: Iterable[Update]) -> list[Update]:
    """Apply the reader's rule."""
    highest: dict[tuple[int, str], int] = {}
    kept = []
    for update in updates:
        if update.value["number"] > highest.get(update.stream, 0):
            highest[update.stream] = update.value["number"]
            kept.append(update)
    return kept


def _check_numbers(updates: Sequence[Update]) -> Verdict:
    """Check that each bucket and incarnation has every number from 1 on, over all views, once."""
    verdict = Verdict("numbers of updates")
    numbers: dict[tuple[int, str], Counter[int]] = defaultdict(Counter)
    for update in updates:
        numbers[update.stream][update.value["number"]] += 1
    for stream, seen in numbers.items():
        if missing := set(range(1, max(seen) + 1)) - seen.keys():
            verdict.differ(f"bucket {stream[0]}: {len(missing)} numbers are missing, the first is {min(missing)}")
        for number in [number for number, times in seen.items() if times > 1]:
            verdict.differ(f"bucket {stream[0]}: number {number} twice")
    verdict.figures = {"updates": len(updates), "buckets": len({bucket for bucket, _ in numbers})}
    verdict.figures["incarnations"] = len(numbers)
    return verdict


def _check_chain(view: ViewShape, updates: Sequence[Update], stored: Stored) -> Verdict:
    """Check that each update begins where the entity's last one of its incarnation ended, and the last are in Redis."""
    verdict = Verdict(f"updates of {view.id}, one after the other", {"updates": len(updates)})
    last: dict[tuple[str, str], Side] = {}
    shows: dict[str, Side] = {}
    for update in updates:
        known = (update.entity, update.value["incarnation"])
        if known in last and last[known] != update.before:
            verdict.differ(f"{update.entity}: before {update.before}, and it was {last[known]}")
        last[known] = shows[update.entity] = update.after
    for entity, fields in ((entity, fields) for entity, (_, fields) in stored.rows.get(view.id, {}).items()):
        if shows.pop(entity, _GONE) != (side := _stored(view, fields)):
            verdict.differ(f"{entity}: Redis shows {side}, and the last update does not say so")
    for entity in [entity for entity, side in shows.items() if side != _GONE]:
        verdict.differ(f"{entity} lives by its last update, and not in Redis")
    verdict.figures["entities in Redis"] = len(stored.rows.get(view.id, {}))
    return verdict


def _stored(view: ViewShape, fields: Mapping[str, bytes]) -> Side:
    """Return what an entity's hash shows."""
    null, missing = (set(json.loads(fields.get(name, b"[]"))) for name in (".null", ".unavailable"))
    found = {
        name: from_redis(view.shape.columns[name], fields[name]) if name in fields else None
        for name in view.columns
        if name in fields or name in null
    }
    return found, frozenset(name for name in missing if not name.startswith("."))
