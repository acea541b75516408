"""The oracles of Redis and of the receiver find the fault that each is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.oracles import (
    Delivery,
    RowEvent,
    ViewShape,
    check_all_views,
    check_deliveries,
    check_view,
    expected_alerts,
    expected_rows,
)
from tests.oracles.features import Stored
from tests.unit.oracles.contract_writer import BUCKETS, SHAPES, of, stored_of
from tests.workloads.rules import RULES


def patient_view(history: list[RowEvent]) -> tuple[ViewShape, dict[Any, Any], Stored]:
    """The view of patients, its source rows, and a perfect Redis."""
    view = ViewShape.all_of(SHAPES["patients"])[0]
    rows = expected_rows(history, "patients")
    return view, rows, stored_of(view, rows)


def planted_in_redis(stored: Stored, view: ViewShape, fault: str) -> None:
    """Damage one entity, or add one."""
    entities = stored.rows[view.id]
    entity, (bucket, fields) = next(
        (e, found) for e, found in entities.items() if "email" in found[1] and ".null" in found[1]
    )
    match fault:
        case "missing":
            del entities[entity]
        case "live":
            entities["deleted long ago"] = (0, fields)
        case "value":
            fields["balance"] = b"0.01"
        case "form":
            fields["balance"] = b"1e-2"
        case "null and there":
            fields[".null"] = fields[".null"].replace(b"[", b'["email", ')
        case "null lost":
            del fields[".null"]
        case "unavailable":
            fields[".unavailable"] = b'["email"]'
        case "field":
            fields["ssn"] = b"1"
        case "bucket":
            entities[entity] = (bucket + 1, fields)
        case "unknown key":
            stored.unknown.append(b"proof:{b1}:z:what")


@pytest.mark.parametrize(
    "fault",
    [
        "missing",
        "live",
        "value",
        "form",
        "null and there",
        "null lost",
        "unavailable",
        "field",
        "bucket",
        "unknown key",
    ],
)
def test_redis_finds(history: list[RowEvent], fault: str) -> None:
    """An entity that is not the source's row, and a key that should not be."""
    view, rows, stored = patient_view(history)
    planted_in_redis(stored, view, fault)

    verdict = check_view(view, stored, rows, buckets=BUCKETS)

    assert 1 <= verdict.total <= 2, fault


@pytest.mark.parametrize("fault", ["another row", "ledger lost", "ledger too much"])
def test_redis_finds_in_a_view_that_rows_share(history: list[RowEvent], fault: str) -> None:
    """An entity that shows another row than the latest, and a ledger that has other rows than the source."""
    view = next(view for view in ViewShape.all_of(SHAPES["patients"]) if view.shares)
    rows = expected_rows(history, "patients")
    stored = stored_of(view, rows)
    assert len(stored.rows[view.id]) < len(rows)
    match fault:
        case "another row":
            earliest = dict(sorted(rows.items(), key=lambda item: item[1]["seen"])[: len(rows) // 2])
            stored.rows = stored_of(view, earliest).rows
        case "ledger lost":
            stored.ledgers[view.id].pop()
        case "ledger too much":
            stored.ledgers[view.id].add("deleted long ago")

    assert not check_view(view, stored, rows, buckets=BUCKETS).holds


def test_redis_finds_another_view(history: list[RowEvent]) -> None:
    """A view that no spec names has no rows."""
    view, rows, stored = patient_view(history)
    stored.rows["patient.7"] = stored.rows[view.id]

    assert ["patient.7 has"] == [
        v.differences[0][:13]
        for v in check_all_views([view], stored, {"patients": rows}, buckets=BUCKETS)
        if not v.holds
    ]


def deliveries_of(history: list[RowEvent]) -> tuple[dict[Any, Any], list[Delivery]]:
    """The alerts of a history, and a receiver that got each once."""
    _, changes = of(history, "patients")
    expected = expected_alerts("patients", RULES["patients"], changes)
    keys = {(change.position, change.op): change.key_json for change in changes}
    by_position = {position: key for (position, _), key in keys.items()}
    deliveries = []
    for number, (key, values) in enumerate(expected.items()):
        body = {
            "id": f"id-{number}",
            "rule": key.rule,
            "rule_version": key.version,
            "table": key.table,
            "key": by_position[key.position],
            "position": key.position,
            "values": dict(values),
        }
        deliveries.append(Delivery(f"id-{number}", signed=True, body=body))
    return expected, deliveries


def test_alerts_once_in_effect_pass(history: list[RowEvent]) -> None:
    """A repeat under the same id is a repeat that the receiver drops."""
    expected, deliveries = deliveries_of(history)

    verdict = check_deliveries(expected, [*deliveries, deliveries[0]], at_least=20)

    assert [] == verdict.differences
    assert 1 == verdict.figures["repeats under the same id"]
    assert all(verdict.figures[f"of {rule}"] > 0 for rule, _ in RULES["patients"])


@pytest.mark.parametrize(
    ("fault", "damage"),
    [
        ("lost", lambda found: found[1:]),
        (
            "nobody expected it",
            lambda found: [*found, Delivery("x", signed=True, body={**found[0].body, "id": "x", "position": "1"})],
        ),
        ("a second id", lambda found: [*found, Delivery("x", signed=True, body={**found[0].body, "id": "x"})]),
        ("not signed", lambda found: [replace(found[0], signed=False), *found[1:]]),
        ("header and body differ", lambda found: [replace(found[0], webhook_id="x"), *found[1:]]),
        ("values", lambda found: [replace(found[0], body={**found[0].body, "values": {"a": 1}}), *found[1:]]),
    ],
)
def test_alerts_find(history: list[RowEvent], fault: str, damage: Callable[[list[Delivery]], list[Delivery]]) -> None:
    """An alert that is missing, too much, under two ids, unsigned or other than the rule says."""
    expected, deliveries = deliveries_of(history)

    assert not check_deliveries(expected, damage(deliveries)).holds, fault
