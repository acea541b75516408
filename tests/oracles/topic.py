"""The output topics read independently (kafka-python, read_committed); the subscriber's rule checked on every record.

Also conservation: each record of a source topic is in exactly one place.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka import TopicPartition

from tests.oracles.clients import independent_consumer
from tests.oracles.shape import Shape
from tests.oracles.values import WrongForm, from_contract, row_from_contract
from tests.oracles.verdict import Verdict, compare

_FIELDS = {"op", "key", "old_key", "new_key", "before", "after", "position", "ts", "unavailable", "source"}
_SOURCE_FIELDS = {"connector", "name", "table", "tx", "snapshot", "origin", "first_origin", "previous"}
# By the connector of a change (docs/positions.md); of one that is not here the contract says nothing but "digits".
_POSITION_DIGITS = {"postgresql": 45, "mysql": 45, "mariadb": 45, "mongodb": 55, "maxwell": 56, "canal": 76, "dms": 56}
FLOOR = "floor"
_OPS = {"insert", "update", "delete", "snapshot", FLOOR}
NEXT_IN_ONE_GROUP = 500


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it lies in a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


# As written: topic, generation, partition, offset; and of each change of a record but the first, which one it is.
Origin = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One value of the contract with canonical values; `record` is where it stands on the output topic."""

    record: Record
    op: str
    key: tuple[Any, ...] | None
    old_key: tuple[Any, ...] | None
    new_key: tuple[Any, ...] | None
    after: dict[str, Any] | None
    position: str
    ts: str
    unavailable: frozenset[str]
    snapshot: bool
    origin: Origin
    previous: int | None
    rows: int = 1  # how many changes its record made
    key_json: Any = field(compare=False, default=None)


def read_records(bootstrap: str, topic: str, *, timeout_ms: int = 60_000) -> list[Record]:
    """Return all committed records of a topic, partition by partition in the order of offsets; [] if there is none.

    Raises:
        TimeoutError: the broker did not give all of them in time.
    """
    # The position is given to every partition that is read, so that a reset would be a fault.
    with independent_consumer(bootstrap, auto_offset_reset="none", max_poll_records=5_000) as consumer:
        if topic not in consumer.topics():
            return []
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        return _read(consumer, partitions, timeout_ms)


def _read(consumer: Any, partitions: list[Any], timeout_ms: int) -> list[Record]:
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    records: list[Record] = []
    idle_ms = 0
    # The end counts markers of transactions too, which are no records: the position passes them, a count would not.
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        polled = consumer.poll(timeout_ms=NEXT_IN_ONE_GROUP)
        idle_ms = 0 if polled else idle_ms + NEXT_IN_ONE_GROUP
        if idle_ms > timeout_ms:
            left = {str(p): (consumer.position(p), ends[p]) for p in partitions if consumer.position(p) < ends[p]}
            raise TimeoutError(f"read {len(records)} records, then none for {timeout_ms} ms; position and end: {left}")
        for messages in polled.values():
            records += [Record(m.topic, m.partition, m.offset, m.key, m.value, tuple(m.headers)) for m in messages]
    return sorted(records, key=lambda record: (record.partition, record.offset))


def to_change(shape: Shape, record: Record, *, position_digits: int = 0) -> Change:
    """Read a value of the contract; `position_digits` are those of a format whose connector has other ones, too.

    Raises:
        WrongForm: a field too many, too few, or in another form than docs/contract.md says.
    """
    assert record.value is not None, "an output topic has no tombstones"
    value = json.loads(record.value)
    if value.keys() != _FIELDS or value["source"].keys() - {"rows"} != _SOURCE_FIELDS:
        raise WrongForm(f"fields are {sorted(value)} and {sorted(value['source'])}")
    if value["op"] not in _OPS:
        raise WrongForm(f"op is {value['op']!r}")
    wide = position_digits or _POSITION_DIGITS.get(value["source"]["connector"], len(value["position"]))
    if not (len(value["position"]) == wide and value["position"].isdigit()):
        raise WrongForm(f"position is {value['position']!r}")
    from_contract("timestamptz", value["ts"])
    if (None if record.key is None else json.loads(record.key)) != value["key"]:
        raise WrongForm("the record's key is not the value's")
    source = value["source"]
    rows = source.get("rows", 1)
    _, _, _, offset, *row = source["origin"]
    if rows < 1 + ("rows" in source) or (row and (not 0 < row[0] < rows or source["previous"] != offset)):
        raise WrongForm(f"origin is {source['origin']}, previous {source['previous']}, rows {source.get('rows')}")
    return Change(
        record=record,
        op=value["op"],
        key=_key(shape, value["key"]),
        old_key=_key(shape, value["old_key"]),
        new_key=_key(shape, value["new_key"]),
        after=None if value["after"] is None else row_from_contract(shape.columns, value["after"]),
        position=value["position"],
        ts=value["ts"],
        unavailable=frozenset(value["unavailable"]),
        snapshot=source["snapshot"],
        origin=tuple(source["origin"]),
        previous=source["previous"],
        rows=rows,
        key_json=value["key"],
    )


def _key(shape: Shape, value: Any) -> tuple[Any, ...] | None:
    if value is None:
        return None
    if list(value) != list(shape.key):
        raise WrongForm(f"the key's columns are {list(value)}, {list(shape.key)} in the spec")
    return tuple(from_contract(shape.columns[column], value[column]) for column in shape.key)


def check_streams(changes: Sequence[Change], *, name: str, at_least: int = 1, repeats_allowed: bool = False) -> Verdict:
    """Check order, doubles and gaps of one table's output topic; `changes` in the order of partition and offset.

    Per origin topic, generation and partition the offsets rise, `previous` is the one before, and all lie in the output
    partition of that number; a record's changes are all there, in their order. Per key the positions rise;
    `repeats_allowed` where the source itself may repeat (Debezium after a crash of its own). Floors stand outside of
    all this: each lies once in every partition.
    """
    verdict = Verdict(f"order of {name}", {"changes": len(changes)})
    _check_floors(verdict, changes)
    changes = [change for change in changes if change.op != FLOOR]
    highest: dict[Origin, Change] = {}
    positions: dict[tuple[Any, ...], str] = {}
    for change in changes:
        stream, (offset, *row) = change.origin[:3], change.origin[3:]
        partition, last_one = change.origin[2], highest.get(stream)
        before = None if last_one is None else last_one.origin[3]
        if change.record.partition != partition:
            verdict.differ(f"{change.origin} lies in output partition {change.record.partition}")
        if last_one is not None and change.origin <= last_one.origin:
            what = "doubled" if offset == before else "doubled or out of order"
            verdict.differ(f"{change.origin} comes after offset {before}: {what}")
            continue
        if change.previous != before:
            verdict.differ(f"{change.origin}: previous is {change.previous}, {before} was seen")
        if row and (last_one is None or last_one.origin[3:] != ((offset, row[0] - 1) if row[0] > 1 else (offset,))):
            verdict.differ(f"{change.origin}: {last_one and last_one.origin} was before it")
        if not row and last_one is not None:
            _check_whole(verdict, last_one)
        highest[stream] = change
        if change.key is not None:
            last = positions.get(change.key)
            if last is not None and not repeats_allowed and change.position <= last:
                verdict.differ(f"{change.origin}: position {change.position} of key {change.key!r} is not above {last}")
            positions[change.key] = max(change.position, last or "")
    for last_one in highest.values():
        _check_whole(verdict, last_one)
    origins = Counter(change.origin for change in changes)
    verdict.figures |= {
        "streams": len(highest),
        "keys": len(positions),
        "doubled": sum(origins.values()) - len(origins),
    }
    verdict.at_least("changes", at_least)
    return verdict


def _check_floors(verdict: Verdict, changes: Sequence[Change]) -> None:
    floors: dict[Origin, list[Change]] = defaultdict(list)
    for change in changes:
        if change.op == FLOOR:
            floors[change.origin].append(change)
    partitions = sorted({change.record.partition for change in changes})
    for origin, copies in floors.items():
        if (found := sorted(copy.record.partition for copy in copies)) != partitions:
            verdict.differ(f"floor {origin} lies in output partitions {found}, changes in {partitions}")
        said = {(copy.key, copy.after, copy.previous, copy.position, copy.ts) for copy in copies}
        if len(said) > 1 or (copies[0].key, copies[0].after, copies[0].previous) != (None, None, None):
            verdict.differ(f"floor {origin} has a key, a row or a change before it, or says different things")
    verdict.figures["floors"] = len(floors)


def _check_whole(verdict: Verdict, last: Change) -> None:
    """Check that the last change seen of a record is its last."""
    row = last.origin[4] if last.origin[4:] else 0
    if row + 1 != last.rows:
        verdict.differ(f"{last.origin}: no more of its record, which made {last.rows} changes")


def check_conservation(
    inputs: Iterable[Record],
    *,
    emitted: Collection[Origin],
    quarantined: Collection[Origin],
    topics: Collection[str],
    skip_values: Collection[bytes | None] = (None,),
    at_least: int = 1,
) -> Verdict:
    """Check that each record of `topics` is in exactly one place: emitted, quarantined, or one of `skip_values`.

    Of a record of several changes the first one counts.
    """
    verdict = Verdict("conservation")
    per_partition: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    due: Counter[tuple[str, int, int]] = Counter()
    for record in inputs:
        where = per_partition[record.topic, record.partition]
        where["read"] += 1
        if record.value in skip_values:
            where["skipped"] += 1
        else:
            due[record.topic, record.partition, record.offset] += 1
    found: Counter[tuple[str, int, int]] = Counter()
    for kind, origins in (("emitted", emitted), ("quarantined", quarantined)):
        for topic, _, partition, offset in (origin for origin in origins if not origin[4:]):
            found[topic, partition, offset] += 1
            per_partition[topic, partition][kind] += 1
    compare(verdict, due.elements(), found.elements())
    for (topic, partition), counts in sorted(per_partition.items()):
        if topic not in topics:
            verdict.differ(f"{topic} is not a source topic")
        settled = counts["emitted"] + counts["skipped"] + counts["quarantined"]
        if counts["read"] != settled:
            verdict.differ(f"{topic} {partition}: {counts['read']} in, {settled} settled ({dict(counts)})")
    totals: Counter[str] = Counter()
    for counts in per_partition.values():
        totals.update(counts)
    verdict.figures = {name: totals[name] for name in ("read", "emitted", "skipped", "quarantined")}
    verdict.figures["partitions"] = len(per_partition)
    verdict.at_least("read", at_least)
    return verdict
