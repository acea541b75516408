"""What the rules of `specs/` mean, in Python: the other half of the oracle of alerts."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tests.oracles import Change
from tests.oracles.alerts import Comparison, Condition, Row

HIGH_READING = Decimal(950)
MUCH_REVISED = 9_000


def in_debt(change: Change) -> Mapping[str, Any] | None:
    """A patient whose balance is below zero."""
    row = change.after
    if change.op not in {"insert", "update"} or row is None or row["balance"] >= 0:
        return None
    return {"balance": str(row["balance"]), "patient_name": row["name"]}


def even_removed(change: Change) -> Mapping[str, Any] | None:
    """A patient with an even key is gone; a changed key is a delete too."""
    assert change.key is not None, "the table has a key"
    return {} if change.op == "delete" and change.key[0] % 2 == 0 else None


def much_revised(change: Change) -> Mapping[str, Any] | None:
    """A note that was revised very often; it may be a change that does not carry the text."""
    row = change.after
    if change.op != "update" or row is None or row["revision"] < MUCH_REVISED:
        return None
    return {"revision": row["revision"]}


def high_reading(change: Change) -> Mapping[str, Any] | None:
    """A reading above what a meter should show."""
    row = change.after
    if change.op == "delete" or row is None or row["value"] <= HIGH_READING:
        return None
    return {"value": str(row["value"]), "unit": row["unit"]}


RULES: dict[str, dict[tuple[str, int], Condition]] = {
    "patients": {("in-debt", 1): in_debt, ("even-removed", 2): even_removed},
    "notes": {("much-revised", 1): much_revised},
    "readings": {("high-reading", 1): high_reading},
}


def ward_changed(was: Row | None, now: Row | None, change: Change) -> Mapping[str, Any] | None:
    """A patient was moved to another ward, or out of one; by a view of the rule's own."""
    if was is None or now is None or was["ward"] == now["ward"]:
        return None
    return {"from": was["ward"], "to": now["ward"]}


def released(was: Row | None, now: Row | None, change: Change) -> Mapping[str, Any] | None:
    """A patient who was active is so no more; by the table's view, and however the row came to it."""
    before, after = (row["active"] if row is not None else None for row in (was, now))
    return {} if before is True and after is False else None


COMPARISONS: dict[str, dict[tuple[str, int], Comparison]] = {
    "patients": {("ward-changed", 1): ward_changed, ("released", 1): released},
}
