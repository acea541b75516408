"""Which alerts a rule must raise, from the changes alone, and whether the receiver got each of them once in effect.

A rule's condition is a Python function here, written beside the workload that needs it; its SQL is the product's.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.oracles.topic import Change
from tests.oracles.verdict import Verdict, compare


@dataclass(frozen=True, slots=True)
class AlertKey:
    """What identifies a firing: rule, its version, table, key (as JSON) and position."""

    rule: str
    version: int
    table: str
    key: str
    position: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request that a receiver accepted: the id of its header, whether its signature was right, its body."""

    webhook_id: str
    signed: bool
    body: Mapping[str, Any]


Condition = Callable[[Change], Mapping[str, Any] | None]
"""The values of the alert that a change raises, or None."""


def expected_alerts(
    table: str, rules: Mapping[tuple[str, int], Condition], changes: Iterable[Change]
) -> dict[AlertKey, Mapping[str, Any]]:
    """Return the alerts that `changes` of `table` raise; what was read, not changed, raises none."""
    expected: dict[AlertKey, Mapping[str, Any]] = {}
    for change in changes:
        if change.snapshot or change.op == "snapshot":
            continue
        for (rule, version), condition in rules.items():
            values = condition(change)
            if values is not None:
                expected[AlertKey(rule, version, table, key_text(change.key_json), change.position)] = values
    return expected


Row = Mapping[str, Any]
Comparison = Callable[[Row | None, Row | None, Change], Mapping[str, Any] | None]
"""The values of the alert that a row raises by what it was and is (None: it was not, or is no more), or None."""


def expected_comparisons(
    table: str, rules: Mapping[tuple[str, int], Comparison], changes: Iterable[Change]
) -> dict[AlertKey, Mapping[str, Any]]:
    """Return the alerts of rules that compare with what was; `changes` come in the order of each key.

    What was read, not changed, raises none, and is what later changes are compared with. A column that a change does
    not carry stays as it was.
    """
    expected: dict[AlertKey, Mapping[str, Any]] = {}
    rows: dict[Any, Row] = {}
    for change in changes:
        was = rows.pop(change.key, None)
        now = None if change.op == "delete" or change.after is None else {**(was or {}), **change.after}
        if now is not None:
            rows[change.key] = now
        if change.snapshot or change.op == "snapshot" or was == now:
            continue
        for (rule, version), comparison in rules.items():
            values = comparison(was, now, change)
            if values is not None:
                expected[AlertKey(rule, version, table, key_text(change.key_json), change.position)] = values
    return expected


def key_text(key: Any) -> str:
    """Return a key's JSON, columns in alphabetical order."""
    return json.dumps(key, sort_keys=True, ensure_ascii=False)


def identity_of(alert: Mapping[str, Any]) -> AlertKey:
    """Return what identifies an alert as it was delivered."""
    return AlertKey(alert["rule"], alert["rule_version"], alert["table"], key_text(alert["key"]), alert["position"])


def check_deliveries(
    expected: Mapping[AlertKey, Mapping[str, Any]],
    deliveries: Sequence[Delivery],
    *,
    alert_of: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda body: body,
    at_least: int = 1,
) -> Verdict:
    """Check that the receiver got the expected alerts, each under one id, signed, with the right values.

    The same alert under the same id again is a repeat that a receiver drops: it is counted, and is no difference. One
    alert under two ids, or two under one, is.
    """
    verdict = Verdict("alerts at the receiver")
    ids: dict[AlertKey, set[str]] = defaultdict(set)
    identities: dict[str, set[AlertKey]] = defaultdict(set)
    for delivery in deliveries:
        if not delivery.signed:
            verdict.differ(f"{delivery.webhook_id}: the signature is wrong")
        alert = alert_of(delivery.body)
        key = identity_of(alert)
        ids[key].add(delivery.webhook_id)
        identities[delivery.webhook_id].add(key)
        if alert["id"] != delivery.webhook_id:
            verdict.differ(f"the header says {delivery.webhook_id}, the alert {alert['id']}")
        if key in expected and dict(alert["values"]) != dict(expected[key]):
            verdict.differ(f"{key}: values are {dict(alert['values'])}, {dict(expected[key])} by the oracle")
    for key, several in ids.items():
        if len(several) > 1:
            verdict.differ(f"{key} came under {len(several)} ids: {sorted(several)}")
    for webhook_id, several_keys in identities.items():
        if len(several_keys) > 1:
            verdict.differ(f"id {webhook_id} stands for {len(several_keys)} alerts")
    compare(verdict, expected, ids)
    fired = Counter(key.rule for key in expected)
    verdict.figures = {
        "deliveries": len(deliveries),
        "alerts": len(ids),
        "repeats under the same id": len(deliveries) - len(ids),
        **{f"of {rule}": count for rule, count in sorted(fired.items())},
    }
    verdict.at_least("alerts", at_least)
    return verdict
