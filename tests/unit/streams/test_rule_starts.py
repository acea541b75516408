"""Where rules start: new and changed ones at the end of what they read, others where they did."""

from __future__ import annotations

from typing import Any

from schemas.config import read_config
from schemas.table import RuleStart, TableEntry, TableSpec
from schemas.topics import TopicNames
from streams.apply import check_specs, merge
from streams.rule_starts import topics_to_ask

NAMES = TopicNames("hg")
CONFIG = read_config("kafka: {bootstrap: 'x:9092'}\n", name="headgate.yaml")
BIG = {"rule": "big", "when": "after.level > 1"}
MOVED = {"rule": "moved", "kind": "change", "of": "level", "view": "v"}
OWN = {"rule": "own", "kind": "change", "of": "level"}


def spec_of(*rules: dict[str, Any], table: str = "patients") -> TableSpec:
    """Return a table, complete as it is registered."""
    spec = {
        "table": table,
        "topics": [f"src.{table}"],
        "key": ["id"],
        "columns": {"id": "long", "level": "int", "note": "string"},
        "features": [{"view": "v" if table == "patients" else f"v-{table}", "entity": "p", "columns": ["level"]}],
        "rules": list(rules),
    }
    return check_specs({table: TableSpec.model_validate(spec)}, CONFIG)[table]


def start(*offsets: int, topic_id: str = "id") -> RuleStart:
    """Return the end of a topic."""
    return RuleStart(topic_id=topic_id, offsets=list(offsets))


def merged(old: TableEntry | None, spec: TableSpec, starts: dict[str, RuleStart]) -> TableEntry:
    """Return what is registered."""
    entries = {} if old is None else {spec.table: old}
    return merge(entries, {spec.table: spec}, at="now", starts=starts, names=NAMES)[spec.table][1]


def test_new_rules_start_at_the_ends_of_what_they_read() -> None:
    """Changes for match rules, a view's updates for others; what does not exist yet is read from its first record."""
    spec = spec_of(BIG, MOVED, OWN)
    changes, updates = NAMES.changes("patients"), NAMES.features("v")
    own = NAMES.features(spec.features[-1].view)

    entry = merged(None, spec, {changes: start(3, 4), updates: start(7)})

    assert {changes, updates, own} == topics_to_ask({}, {"patients": spec}, NAMES)
    assert {"big": start(3, 4), "moved": start(7)} == entry.rules_from
    assert entry == TableEntry.model_validate_json(entry.model_dump_json())


def test_an_unchanged_rule_keeps_its_start() -> None:
    """Whatever else of its table changes; only topics of rules that are new or changed are asked for."""
    changes, updates = NAMES.changes("patients"), NAMES.features("v")
    old = merged(None, spec_of(BIG, MOVED), {changes: start(3), updates: start(7)})
    spec = spec_of(BIG, {**MOVED, "version": 2}, OWN)

    new = merged(old, spec, {changes: start(30), updates: start(70)})

    assert changes not in topics_to_ask({"patients": old}, {"patients": spec}, NAMES)
    assert {"big": start(3), "moved": start(70)} == new.rules_from
    assert {"big": start(3)} == merged(new, spec_of(BIG), {}).rules_from
    assert {"big": start(9)} == merged(merged(new, spec_of(), {}), spec_of(BIG), {changes: start(9)}).rules_from


def test_the_same_specs_again_change_nothing() -> None:
    """Nor is anything asked for."""
    spec = spec_of(BIG, MOVED, OWN)
    old = merged(None, spec, {NAMES.changes("patients"): start(3)})

    again = merged(old, spec_of(BIG, MOVED, OWN), {NAMES.changes("patients"): start(5)})

    assert set() == topics_to_ask({"patients": old}, {"patients": spec}, NAMES)
    assert again is old


def test_an_entry_of_before_there_were_starts_is_read() -> None:
    """Its rules judge what they did."""
    entry = TableEntry.model_validate({"spec": spec_of(BIG).model_dump(mode="json")})

    assert {} == entry.rules_from
    assert {} == merged(entry, spec_of(BIG, MOVED), {}).rules_from
