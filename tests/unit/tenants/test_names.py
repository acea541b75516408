"""What a tenant's name does to those of its tables and views, and what no tenant, table or view may be called."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.document import read_document
from schemas.errors import ConfigurationError, TableStopped
from schemas.feature import View
from schemas.output import latest_view_name
from schemas.table import TableEntry, TableSpec, view_of, views_that_emit
from schemas.tenant import TENANT_PATTERN, is_tenant, under
from schemas.topics import TOPIC_NAME_MAX, TopicNames
from streams.apply import check_specs
from streams.latest_views import with_latest_view
from streams.rule_views import with_own_views
from streams.rules import RuleEngine
from streams.specs import SpecMistakes
from streams.tenants import check_names, check_tenants_stay
from tests.unit.streams.test_apply import CONFIG
from tests.unit.tenants.hostile import HOSTILE

DOCUMENT: dict[str, Any] = {
    "table": "patients",
    "tenant": "acme",
    "topics": ["acme-clinic.public.patients"],
    "key": ["id"],
    "columns": {"id": "int", "name": "string"},
    "features": [{"view": "patient", "entity": "patient", "columns": ["name"]}],
    "rules": [
        {"rule": "renamed", "kind": "change", "of": "name", "view": "patient"},
        {"rule": "moved", "kind": "change", "of": "name"},
    ],
}


def spec_of(**changes: Any) -> TableSpec:
    """Return the spec of a tenant's table, with changes; None leaves a key out."""
    return TableSpec.model_validate({name: value for name, value in (DOCUMENT | changes).items() if value is not None})


def test_a_tenant_sets_the_names_of_its_table_and_its_views() -> None:
    """Topics, keys of Redis and folders of the lake are named after these, so that all of them begin with it."""
    spec = spec_of()
    names = TopicNames()

    assert "acme.patients" == spec.table
    assert ["acme.patient"] == [view.view for view in spec.features]
    assert "headgate.changes.acme.patients" == names.changes(spec.table)
    assert "headgate.parked.acme.patients" == names.parked(spec.table)
    assert {"acme.patient", view_of(spec, spec.rules[1])} == views_that_emit(spec)
    assert view_of(spec, spec.rules[1]).startswith("acme.rule-moved-")


def test_the_views_that_rules_make_are_the_tenants_too() -> None:
    """Also once they stand in the entry, which is read again by every worker."""
    engine = RuleEngine()
    try:
        spec = with_own_views(spec_of(), engine)
    finally:
        engine.close()
    entry = TableEntry(spec=spec)

    assert ["acme.", "acme."] == [view.view[:5] for view in spec.features]
    assert entry == TableEntry.model_validate_json(entry.model_dump_json())


@pytest.mark.parametrize("changes", [{}, {"tenant": None, "table": "acme.patients"}], ids=["tenant", "nobody"])
def test_the_view_of_the_latest_rows_begins_as_the_table_does(changes: dict[str, Any]) -> None:
    """A tenant's reader may read it in Redis; and workers take the entry that holds it."""
    plain = spec_of(rules=[], features=[], output={"latest": True}, **changes)
    spec = with_latest_view(plain, 1)
    entry = TableEntry(spec=spec)

    assert [latest_view_name("acme.patients")] == [view.view for view in spec.features]
    assert spec.features[0].view.startswith("acme.latest-patients-")
    assert entry == TableEntry.model_validate_json(entry.model_dump_json())


@given(table=st.from_regex(r"[a-z][a-z0-9_.-]{0,127}", fullmatch=True))
def test_a_view_of_latest_rows_has_a_name_that_views_may_have(table: str) -> None:
    """Whatever the table is called."""
    View(view=latest_view_name(table), entity="row", columns=["id"])


def test_a_spec_that_was_written_is_read_as_the_same() -> None:
    """The name is put in front once: what is exported is applied again without a change."""
    spec = spec_of()

    assert spec == TableSpec.model_validate(spec.model_dump(mode="json", by_alias=True))
    assert spec == spec_of(table="acme.patients")


def test_without_a_tenant_the_entry_is_what_older_releases_read() -> None:
    """They refuse a key that they do not know."""
    spec = spec_of(tenant=None)

    assert "patients" == spec.table
    assert "tenant" not in spec.model_dump(mode="json")


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:30])
def test_a_hostile_name_is_refused_where_it_stands(name: str) -> None:
    """Of a tenant, a table or a view: what is left can go into a path, a key and a topic as it is."""
    hidden = [] if re.fullmatch(r"[a-z0-9_.-]{1,100}", name) else [f"p{name}"]  # a letter makes a name of the others
    tables: list[dict[str, Any]] = [
        {"table": each, "tenant": tenant} for each in (name, *hidden) for tenant in ("acme", None)
    ]
    for changes in [{"tenant": name}, *tables]:
        with pytest.raises(ValueError, match=r"should match pattern|nothing that begins with a letter"):
            spec_of(**changes, features=[], rules=[])
    for view in (name, *hidden):
        with pytest.raises(ValueError, match="should match pattern"):
            spec_of(features=[{"view": view, "entity": "patient", "columns": ["name"]}], rules=[])


@pytest.mark.parametrize("name", ["acme.x", "acme_x", "Acme", "9acme", "", "a" * 32, "acme\n"])
def test_a_tenant_is_one_part_of_a_name(name: str) -> None:
    """No dot, which ends it; no underscore, which Kafka takes for one."""
    assert not is_tenant(name)

    with pytest.raises(ValueError, match="tenant"):
        spec_of(tenant=name)


@given(st.from_regex(TENANT_PATTERN, fullmatch=True), st.from_regex(TENANT_PATTERN, fullmatch=True))
def test_no_tenants_names_begin_as_those_of_another(one: str, other: str) -> None:
    """A right on a prefix is a right on one tenant, also where the name of one begins with that of the other."""
    if one != other:
        assert not under(one, "patients").startswith(under(other, ""))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"table": "acme."}, "nothing that begins with a letter"),
        ({"table": "acme..x"}, "nothing that begins with a letter"),
        (
            {"tenant": None, "features": [{"view": "acme.patient", "entity": "p", "columns": ["name"]}]},
            "say whose it is",
        ),
        ({"features": [{"view": "zeta.patient", "entity": "p", "columns": ["name"]}]}, "should match pattern"),
    ],
)
def test_names_that_are_not_the_tenants_are_refused(changes: dict[str, Any], told: str) -> None:
    """Nothing behind its name, a tenant's view in a table of nobody, a view of another tenant."""
    with pytest.raises(ValueError, match=told):
        spec_of(rules=[], **changes)


def test_the_longest_names_are_names_of_topics() -> None:
    """A tenant, a view and the longest prefix together are no longer than Kafka takes."""
    view = "t" * 31 + "." + "v" * 63
    spec = spec_of(tenant="t" * 31, rules=[], features=[{"view": view, "entity": "p", "columns": ["name"]}])
    name = TopicNames("p" * 100).alerts_state(spec.features[0].view)

    assert len(name) <= TOPIC_NAME_MAX


def test_a_mistake_names_file_and_line() -> None:
    """As of any key of a spec."""
    text = "table: patients\ntenant: ../other\ntopics: [t]\ncolumns: {id: int}\n"

    with pytest.raises(ConfigurationError, match=r"patients\.yaml:2: tenant: no name that can be used"):
        read_document(text, TableSpec, name="patients.yaml")


def test_a_table_of_nobody_does_not_stand_among_those_of_a_tenant() -> None:
    """The tenant's readers could read it."""
    theirs = spec_of()
    stranger = spec_of(tenant=None, table="acme.secrets", topics=["secrets"], features=[], rules=[])

    with pytest.raises(ConfigurationError, match=r"acme\.secrets: it stands among the tables of tenant acme"):
        check_specs({theirs.table: theirs, stranger.table: stranger}, CONFIG)


def test_names_that_kafka_takes_for_one_are_refused() -> None:
    """The second topic would never be made."""
    specs = [spec_of(), spec_of(tenant=None, table="acme_patients", features=[], rules=[])]

    with pytest.raises(ConfigurationError, match=r"acme\.patients and acme_patients differ by dots and underscores"):
        check_names({spec.table: spec for spec in specs})


def test_each_tenants_mistake_is_told_where_others_of_its_template_are_right() -> None:
    """Specs of one template are compiled once: what is like one that is right is not what is otherwise."""
    wrong = [{"rule": "renamed", "kind": "change", "of": "nmae", "view": "patient"}]
    rules = {"acme": None, "zeta": None, "beta": wrong, "gamma": wrong}
    specs = [
        spec_of(tenant=name, topics=[name], **({} if other is None else {"rules": other}))
        for name, other in rules.items()
    ]
    by_table = {spec.table: spec for spec in specs}

    with pytest.raises(SpecMistakes) as told:
        check_specs(by_table, CONFIG)

    assert ["beta.patients", "gamma.patients"] == [mistake.table for mistake in told.value.mistakes]
    right = {name: spec for name, spec in by_table.items() if name[0] in "az"}
    complete = check_specs(right, CONFIG)
    assert complete == check_specs(complete, CONFIG)
    assert [2, 2] == [len(spec.features) for spec in complete.values()]


def test_tenants_of_the_same_tables_do_not_clash() -> None:
    """Each has a table and a view of the same names."""
    specs = [spec_of(tenant=name, topics=[f"{name}.patients"]) for name in ("acme", "acm", "acme-2", "zeta")]

    complete = check_specs({spec.table: spec for spec in specs}, CONFIG)

    assert 8 == len({view.view for spec in complete.values() for view in spec.features})


def _registered(*specs: TableSpec) -> dict[str, TableEntry]:
    return {spec.table: TableEntry(spec=spec) for spec in specs}


@pytest.mark.parametrize(("before", "after"), [("acme", "beta"), ("acme", None), (None, "acme")])
def test_a_table_that_another_tenant_would_have_is_another_table(before: str | None, after: str | None) -> None:
    """Topics, keys and folders all have other names: readers would wait for ever where nothing comes any more."""
    plain = {"features": None, "rules": None}
    old, new = spec_of(tenant=before, **plain), spec_of(tenant=after, **plain)

    with pytest.raises(TableStopped, match="under another tenant: tenant_changed") as caught:
        check_tenants_stay({new.table: new}, _registered(old))

    assert f"beside: {old.table}" in caught.value.hint
    beside = spec_of(tenant=after, beside=old.table, **plain)
    check_tenants_stay({beside.table: beside}, _registered(old))
    check_tenants_stay({old.table: old}, _registered(old))
    other = spec_of(tenant=after, topics=["elsewhere"], **plain)
    check_tenants_stay({other.table: other}, _registered(old))
