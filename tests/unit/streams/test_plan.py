"""A plan says what an apply does to the lake, Redis, rules and readers; it is applied only as it was told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.errors import ConfigurationError, TableStopped
from schemas.replay import Replay, ReplayedTopic
from schemas.table import TableEntry, TableSpec
from streams.plan import Plan, check_as_planned, plan_table
from streams.source_topics import Notice

VIEW = {"view": "patient", "entity": "patient", "columns": ["name"]}
RULE = {"rule": "old", "when": "after.age > 99"}
DOCUMENT: dict[str, Any] = {
    "table": "patients",
    "topics": ["clinic.public.patients"],
    "key": ["id"],
    "columns": {"id": "long", "name": "string", "age": "int"},
    "features": [VIEW],
    "rules": [RULE],
}


def entry(**changes: Any) -> TableEntry:
    """Return the entry of the document with changes."""
    return TableEntry(spec=TableSpec.model_validate({**DOCUMENT, **changes}), applied_by="ann@ward", applied_at="then")


def template(**changes: Any) -> TableEntry:
    """Return the entry of a template of the table's name, with changes."""
    spec = {name: DOCUMENT[name] for name in ("table", "key", "columns")}
    more = {"topics": ["^clinic[.]public[.]patients_([0-9]+)$"], "template": "patients_{1}"}
    return TableEntry(spec=TableSpec.model_validate({**spec, **more, **changes}))


def plan_of(before: TableEntry | None, after: TableEntry) -> Plan:
    """Return a plan of this one table."""
    action = "unchanged" if before == after else "changed" if before else "added"
    made = plan_table(action, before, after)  # type: ignore[arg-type]
    return Plan({"patients": made}, [])


def test_a_new_table_says_what_it_makes() -> None:
    """Nobody reads it yet."""
    (plan,) = plan_of(None, entry()).changes

    assert ("added", [], {""}) == (plan.action, plan.contract, set(plan.lake))
    assert {"patient.1": "is new: pending until it is filled from the output topic, or the lake"} == plan.views
    assert ["old"] == list(plan.rules)


def test_columns_become_what_they_become_in_the_lake() -> None:
    """As LAKE does it, in place."""
    columns = {"id": "long", "name": "string", "age": "string", "note": "json"}
    said = {"rules": [], "type_changes": "text"}

    (plan,) = plan_of(entry(**said), entry(columns=columns, **said)).changes

    assert {
        "age": "is added as string",
        "_hg_age__int": "keeps what age was",
        "note": "is added as string",
    } == plan.lake
    assert [] == plan.breaks


def test_what_the_lake_cannot_become_is_said() -> None:
    """LAKE would pause the table at 3 am."""
    columns = {"id": "long", "name": "string", "age": "boolean"}

    (plan,) = plan_of(entry(rules=[]), entry(columns=columns, rules=[])).changes

    assert "LAKE would pause" in plan.lake[""]
    assert ["type_changed"] == [said.rule for said in plan.breaks]


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ([], {"patient.1": "is kept up no more"}),
        ([VIEW | {"version": 2}], {"patient.2": "is filled anew", "patient.1": "stays as it is for its readers"}),
        ([VIEW | {"emit": True}], {"patient.1": "feature updates begin"}),
        ([VIEW, VIEW | {"view": "more"}], {"more.1": "is new"}),
        ([VIEW], {}),
    ],
)
def test_keys_in_redis_are_told_of_by_view_and_version(features: list[Any], said: dict[str, str]) -> None:
    """What is left for its readers, what is filled anew."""
    (plan,) = plan_of(entry(), entry(features=features, before="full")).changes

    assert said.keys() == plan.views.keys()
    assert all(plan.views[view].startswith(text) for view, text in said.items())


def test_rules_that_come_change_and_go_are_told_of() -> None:
    """Which fire from now on."""
    rules = [RULE | {"when": "after.age > 100"}, {"rule": "young", "when": "after.age < 1"}]

    (plan,) = plan_of(entry(rules=[RULE, RULE | {"rule": "gone"}]), entry(rules=rules)).changes

    assert {"old": "is another", "young": "is new", "gone": "goes"} == {
        rule: what.partition(":")[0] for rule, what in plan.rules.items()
    }


def test_a_change_that_breaks_readers_is_refused_with_the_rule_and_three_ways_out() -> None:
    """Another version beside the old, what is compatible, or force."""
    plan = plan_of(entry(), entry(columns={"id": "long", "name": "string"}, rules=[]))

    (refusal,) = plan.refusals(force=False)

    assert "patients would change under those who read it: column_removed: age int: who reads it" in refusal.message
    assert all(way in refusal.hint for way in ("beside: patients", "leave the column in the spec", "--force"))
    assert [] == plan.refusals(force=True)
    assert not plan.document()["tables"][0]["compatible"]


def test_a_table_that_would_become_a_template_is_refused() -> None:
    """A template is no table: nothing more would come of it, for whoever reads its topic, lake or views."""
    plan = plan_of(entry(), template())

    (refusal,) = plan.refusals(force=False)

    assert "table_renamed: from patients to a template of patients_{1}: another name" in refusal.message
    assert [] == plan.refusals(force=True)
    (made,) = plan.changes
    assert ({"": "gets no more rows; what is there stays"}, {"old": "goes"}) == (made.lake, made.rules)
    assert made.views["patient.1"].startswith("is kept up no more")


def test_nobody_reads_a_template() -> None:
    """Another one in its place, or a table, surprises nobody."""
    other = template(key=["name"])

    (plan,) = plan_of(template(), other).changes
    assert ([], {}, {}, {}) == (plan.contract, plan.lake, plan.views, plan.rules)
    assert [] == plan_of(template(), entry()).refusals(force=False)


def test_while_a_replay_is_not_through_no_other_spec_is_taken() -> None:
    """The rest of it would be written by the spec of before, also what the other one masks; whatever force says."""
    topics = {"clinic.public.patients": ReplayedTopic(id="id", ranges={0: (0, 9)})}
    replay = Replay(generation=1, asked="all", at="then", topics=topics)
    replayed = entry().model_copy(update={"replay": replay})
    masked = entry(columns={**DOCUMENT["columns"], "name": {"type": "string", "mask": "hash"}}, rules=[])

    for after in (masked, template()):
        said = [each.message for each in plan_of(replayed, after).refusals(force=True)]
        assert ["patients: a replay of it is not through"] == said
    (refusal,) = plan_of(replayed, masked).refusals(force=True)
    assert "replay patients --cancel" in refusal.hint
    assert [] == plan_of(replayed, replayed).refusals(force=True)


def test_a_claim_to_a_topic_of_others_is_refused_whatever_force_says() -> None:
    """Nobody could read it."""
    plan = plan_of(None, entry())
    plan.tables["patients"].notices = [Notice("patients", "claimed_twice", "t is read by two", "mend it", refuses=True)]

    assert ["patients: t is read by two"] == [each.message for each in plan.refusals(force=True)]


def test_a_plan_is_applied_only_as_it_was_told() -> None:
    """Also after it went through a file; who has applied meanwhile is named, and so are files that were edited."""
    told = json.loads(json.dumps(plan_of(entry(), entry(before="full")).document()))

    check_as_planned(plan_of(entry(), entry(before="full")), told, {})
    with pytest.raises(TableStopped, match=r"what runs is not what .* patients was applied by ann@ward at then"):
        check_as_planned(plan_of(entry(truncate="ignore"), entry(before="full")), told, {"patients": entry()})
    with pytest.raises(TableStopped, match="files are not those of the plan"):
        check_as_planned(plan_of(entry(), entry(before="full", truncate="ignore")), told, {"patients": entry()})


@pytest.mark.parametrize("broken", [{}, {"tables": [{}]}, {"tables": 7}, {"tables": ["patients"]}])
def test_what_is_no_plan_is_refused(broken: dict[str, Any]) -> None:
    """With what to do."""
    with pytest.raises(ConfigurationError, match="no plan"):
        check_as_planned(plan_of(None, entry()), broken, {})


def test_a_table_that_stays_as_it_is_says_nothing() -> None:
    """And is not among the changes."""
    plan = plan_of(entry(), entry())

    assert [] == plan.changes
    assert {"added": 0, "changed": 0, "unchanged": 1} == plan.document()["counts"]
