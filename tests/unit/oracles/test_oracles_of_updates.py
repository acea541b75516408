"""The oracle of feature updates finds the fault that each is for, and drops what a reader drops."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.oracles import Shape, Verdict, ViewShape, check_updates
from tests.oracles.features import Stored
from tests.oracles.topic import Record

BUCKETS = 4
VIEW = ViewShape.all_of(
    Shape.of(
        {
            "table": "patients",
            "topics": ["clinic.patients"],
            "key": ["id"],
            "columns": {"id": "long", "name": "string", "ward": "int"},
            "features": [{"view": "ward", "entity": "patient", "columns": ["ward", "name"], "emit": True}],
        }
    )
)[0]

Updates = list[dict[str, Any]]


def bucket_of(entity: int) -> int:
    """Return the bucket of an entity."""
    return zlib.crc32(str(entity).encode()) % BUCKETS


def history() -> Updates:
    """Three entities, each inserted, updated with an unavailable name, and one deleted; numbered by bucket."""
    updates: Updates = []
    steps = [
        (n, before, after)
        for before, after in (
            (None, {"ward": 1, "name": "a"}),
            ({"ward": 1, "name": "a"}, {"ward": None}),
            ({"ward": None}, None),
        )
        for n in (1, 2, 3)
        if after is not None or n == 3
    ]
    numbers: Counter[int] = Counter()
    for entity, before, after in steps:
        bucket = bucket_of(entity)
        numbers[bucket] += 1
        updates.append(
            {
                "view": "ward", "version": 1, "entity": {"id": str(entity)},
                "op": "insert" if before is None else "delete" if after is None else "update",
                "before": before, "after": after, "unavailable_before": ["name"] if before == {"ward": None} else [],
                "unavailable": ["name"] if after == {"ward": None} else [], "table": "patients",
                "key": {"id": str(entity)}, "position": "1", "ts": "2026-11-20T19:45:57.123456Z", "snapshot": False,
                "replay": False, "origin": ["t", 0, 0, 1], "bucket": bucket, "incarnation": "first",
                "number": numbers[bucket],
            }
        )  # fmt: skip
    return updates


def records(updates: Updates) -> list[Record]:
    """Return updates as they lie in a topic."""
    return [
        Record("t", 0, n, str(each["entity"]["id"]).encode(), json.dumps(each).encode(), (("view", b"ward"),))
        for n, each in enumerate(updates)
    ]


def stored() -> Stored:
    """Return what Redis holds after `history`."""
    left = {str(n): (bucket_of(n), {".null": b'["ward"]', ".unavailable": b'["name"]'}) for n in (1, 2)}
    return Stored({"ward.1": left}, Counter(), [])


def judge(updates: Updates, held: Stored | None = None) -> list[Verdict]:
    """Ask the oracle."""
    return check_updates([VIEW], {"ward": records(updates)}, held or stored(), buckets=BUCKETS, at_least=7)


def test_a_history_without_fault_holds_also_where_some_of_it_was_written_again() -> None:
    """Repeats are counted, not differences."""
    updates = history()

    verdicts = judge([*updates[:4], *updates[2:4], *updates[1:]])

    assert [] == [str(verdict) for verdict in verdicts if not verdict.holds]
    assert verdicts[-1].figures["repeats"] == 5


def test_another_incarnation_begins_anew() -> None:
    """Its numbers and befores are its own."""
    again = [each | {"incarnation": "second"} for each in history()]

    assert all(verdict.holds for verdict in judge([*history(), *again]))


def changed(index: int, **fields: Any) -> Callable[[Updates], Updates]:
    """Return what changes one update."""
    return lambda updates: [each | fields if n == index else each for n, each in enumerate(updates)]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (lambda updates: updates[1:], "numbers are missing"),
        (lambda updates: updates[:-1], "lives by its last update"),
        (changed(3, before={"ward": 2, "name": "a"}), "and it was"),
        (changed(0, op="update"), "op is update"),
        (changed(0, after={"ward": 1.5, "name": "a"}), "is not how the contract writes int"),
        (changed(0, after={"ssn": "1"}), "columns that the view does not have"),
        (changed(3, unavailable=["ward", "name"]), "both there and unavailable"),
        (changed(3, after={"ward": 1, "name": "a"}, unavailable=[]), "before is after"),
        (changed(0, entity={"id": "9"}), "bucket"),
        (changed(0, bucket=99), "bucket 99 is not the entity's"),
        (changed(0, table="others"), "of another view"),
        (changed(0, more=1), "fields ['more']"),
        (changed(4, after={"ward": 5}, unavailable=["name"]), "Redis shows"),
    ],
)
def test_each_fault_is_found(fault: Callable[[Updates], Updates], told: str) -> None:
    """The oracle can fail, for each of its sentences."""
    verdicts = judge(fault(history()))

    assert told in "\n".join(map(str, verdicts))
    assert not all(verdict.holds for verdict in verdicts)


def test_an_entity_that_nobody_was_told_of_is_found() -> None:
    """It is in Redis, and no update made it."""
    held = stored()
    held.rows["ward.1"]["17"] = (bucket_of(17), {"ward": b"1", "name": b"x"})

    assert not judge(history(), held)[-1].holds


def test_a_bucket_in_two_partitions_is_found() -> None:
    """Its updates would have no order."""
    lying = records(history())
    lying[-1] = replace(lying[-1], partition=1)

    assert not check_updates([VIEW], {"ward": lying}, stored(), buckets=BUCKETS)[0].holds


def test_a_header_that_names_no_view_is_found() -> None:
    """Readers of several topics tell views apart by it."""
    bare = [Record(r.topic, r.partition, r.offset, r.key, r.value) for r in records(history())]

    assert not check_updates([VIEW], {"ward": bare}, stored(), buckets=BUCKETS)[0].holds
