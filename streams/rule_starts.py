"""Where new and changed rules start: at the ends of the topics that they read, as they are when the rules are applied.

No clock has a say in it. An unchanged rule keeps its start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from connectors.transport.topics import TopicAdmin
from schemas.rule import Rule
from schemas.table import RuleStart, TableEntry, TableSpec, view_of
from schemas.topics import TopicNames


def topic_of(spec: TableSpec, rule: Rule, names: TopicNames) -> str:
    """Return the topic that a rule of `spec` reads."""
    return names.features(view_of(spec, rule)) if rule.reads_updates else names.changes(spec.table)


def rules_to_start(old: TableEntry | None, spec: TableSpec) -> list[Rule]:
    """Return the rules of `spec` that are new, or not as they were."""
    before = {rule.rule: rule for rule in old.spec.rules} if old is not None else {}
    return [rule for rule in spec.rules if before.get(rule.rule) != rule]


def topics_to_ask(entries: Mapping[str, TableEntry], specs: Mapping[str, TableSpec], names: TopicNames) -> set[str]:
    """Return the topics whose ends are wanted to apply `specs`."""
    return {
        topic_of(spec, rule, names)
        for table, spec in specs.items()
        for rule in rules_to_start(entries.get(table), spec)
    }


def starts_now(admin: TopicAdmin, topics: Iterable[str]) -> dict[str, RuleStart]:
    """Return the ends of the topics that exist, all asked for at once; open transactions count as written."""
    described = admin.describe(topics)
    keys = [(topic, number) for topic, said in described.items() for number in range(said.partitions)]
    logs = admin.watermarks_now(keys) if keys else {}
    return {
        topic: RuleStart(topic_id=said.topic_id, offsets=[logs[topic, number][1] for number in range(said.partitions)])
        for topic, said in described.items()
        if all((topic, number) in logs for number in range(said.partitions))
    }


def rules_from(
    old: TableEntry | None, spec: TableSpec, starts: Mapping[str, RuleStart], names: TopicNames
) -> dict[str, RuleStart]:
    """Return where each rule of `spec` starts; one whose topic does not exist yet has none, it judges all there is."""
    kept = old.rules_from if old is not None else {}
    new = rules_to_start(old, spec)
    found = {
        rule.rule: starts.get(topic_of(spec, rule, names)) if rule in new else kept.get(rule.rule)
        for rule in spec.rules
    }
    return {rule: start for rule, start in found.items() if start is not None}
