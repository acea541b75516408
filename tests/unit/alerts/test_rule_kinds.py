"""Rules that compare with what was: what is taken, what is refused and why, and the views that they make."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.document import read_document
from schemas.errors import ConfigurationError
from schemas.table import TableSpec, own_view_name, views_that_emit
from streams.rule_views import check_rules, with_own_views
from streams.rules import RuleEngine

COLUMNS = {
    "id": "long",
    "status": "string",
    "level": "decimal(6,2)",
    "ratio": "double",
    "active": "boolean",
    "born": "date",
    "doc": "json",
    "tags": "list<string>",
    "größe in cm": "int",
}


@pytest.fixture(scope="module")
def engine() -> RuleEngine:
    """One database for all tests of the module."""
    return RuleEngine()


def spec_of(*rules: dict[str, Any], **spec: Any) -> TableSpec:
    """Return a table with `rules`, named r0, r1, …."""
    named = [{"rule": f"r{at}", **rule} for at, rule in enumerate(rules)]
    table = {"table": "patients", "topics": ["t"], "key": ["id"], "columns": COLUMNS, "rules": named, **spec}
    return TableSpec.model_validate(table)


def read(text: str) -> TableSpec:
    """Return a spec read from YAML, with one rule."""
    document = f"table: t\ntopics: [t]\nkey: [id]\ncolumns: {{id: long, s: string}}\nrules:\n  - {{rule: r, {text}}}\n"
    return read_document(document, TableSpec, name="t.yaml")


TAKEN: list[dict[str, Any]] = [
    {"kind": "change", "of": "status"},
    {"kind": "change", "of": ["status", "lower(status) || 'x'", '"größe in cm"', "doc ->> '$.a'", "doc -> '$.a'"]},
    {"kind": "change", "of": "list_transform(tags, lambda x: upper(x))", "when": "op = 'update' AND key.id > 1"},
    {"kind": "change", "of": "STATUS IS NULL"},
    {"kind": "transition", "of": "status", "to": ["it's", None]},
    {"kind": "transition", "of": "level > 5", "from": [False], "to": [True]},
    {"kind": "transition", "of": "level", "from": [1, 1.5, "2.50", -3]},
    {"kind": "transition", "of": "born", "to": ["2024-02-29"]},
    {"kind": "transition", "of": "active", "to": [True, None]},
    {"kind": "threshold", "of": "level", "above": 6, "rearm_below": 5.5},
    {"kind": "threshold", "of": "ratio * -1", "below": -1e-3, "rearm_above": 0},
]


@pytest.mark.parametrize("rule", TAKEN, ids=str)
def test_a_rule_compiles_on_a_view_of_its_own_and_is_read_back(engine: RuleEngine, rule: dict[str, Any]) -> None:
    """With no more than the columns that it names, and the same when the entry is read by a worker."""
    spec = with_own_views(spec_of(rule), engine)

    check_rules(spec, engine)

    assert spec == TableSpec.model_validate_json(spec.model_dump_json())
    assert spec == with_own_views(spec, engine)
    view = spec.features[0]
    assert (own_view_name(spec, "r0"), {view.view}) == (view.view, views_that_emit(spec))
    named = str(rule["of"]).lower() + rule.get("when", "")
    assert [name for name in COLUMNS if name in named and f"key.{name}" not in named] == view.columns


def kind(name: str, **rule: Any) -> dict[str, Any]:
    """Return a rule of a kind."""
    return {"kind": name, "of": "status", **rule}


REFUSED: list[tuple[dict[str, Any], str]] = [
    (kind("change", of="after.status"), "write status alone"),
    (kind("change", of="doc.a"), "a column has no fields"),
    (kind("change", of="statsu"), "did you mean 'status'"),
    (kind("change", of="1"), "names no column"),
    (kind("change", of="op"), "has no column 'op'"),
    (kind("change", of="random() + level"), "volatile"),
    (kind("change", of="count(status)"), "aggregate"),
    (kind("change", of="status; SELECT 1"), "several statements"),
    (kind("change", of="list_transform(tags, lambda status: 'x')"), "is ours"),
    (kind("change", when="status = 'x'"), "did you mean after.status"),
    (kind("change", when="after.status"), "VARCHAR, not BOOLEAN"),
    (kind("change", values={"v": "now()"}), "volatile"),
    (kind("transition", to=[1]), "1 is no VARCHAR"),
    (kind("transition", to=[True]), "True is no VARCHAR"),
    (kind("transition", of="active", to=["yes"]), "'yes' is no BOOLEAN"),
    (kind("transition", of="level", to=[1.005]), "1.005 is no DECIMAL"),
    (kind("transition", of="level", to=[10**9]), "is no DECIMAL"),
    (kind("transition", of="level", to=["x'); DROP TABLE t; --"]), "is no DECIMAL"),
    (kind("transition", of="born", to=["2023-02-29"]), "is no DATE"),
    (kind("threshold", above=1, rearm_below=0), "VARCHAR, not a number"),
    (kind("threshold", of="tags", above=1, rearm_below=0), "not a number"),
]


@pytest.mark.parametrize(("rule", "said"), REFUSED, ids=str)
def test_what_cannot_be_compared_is_refused(engine: RuleEngine, rule: dict[str, Any], said: str) -> None:
    """With the rule's name, the reason and, where there is one, what to write instead."""
    with pytest.raises(ConfigurationError) as raised:
        with_own_views(spec_of(rule), engine)

    assert str(raised.value).startswith("rule r0")
    assert said in str(raised.value)


NOT_OF_ITS_KIND = {
    "kind: change": "a change rule has 'of'",
    "kind: chnge, of: s": "t.yaml:6: rules.0.kind",
    "kind: change, of: []": "a change rule has 'of'",
    "kind: change, of: s, to: [x]": "a change rule has no 'to'",
    "kind: change, of: s, view: nothing": "has no view nothing",
    "when: op = 'x', view: v": "a match rule has no 'view'",
    "when: op = 'x', of: s": "a match rule has no 'of'",
    "kind: transition, of: s": "has `from`, `to` or both",
    "kind: transition, of: [s, id], to: [x]": "about one expression",
    "kind: transition, of: s, to: [2024-01-01]": "quote dates",
    "kind: transition, of: s, to: [[a]]": "no simple value",
    "kind: transition, of: s, to: [.nan]": "not finite",
    "kind: transition, of: s, to: []": "rules.0.to",
    "kind: transition, of: s, too: [x]": "did you mean 'to'",
    "kind: threshold, of: id, above: 3": "`above` with `rearm_below`",
    "kind: threshold, of: id, above: 3, rearm_above: 2": "`above` with `rearm_below`",
    "kind: threshold, of: id, above: 3, rearm_below: 4": "armed again by the value that fires it",
    "kind: threshold, of: id, below: 3, rearm_above: 2": "armed again by the value that fires it",
    "kind: threshold, of: id, above: .inf, rearm_below: 4": "rules.0.above",
    "kind: threshold, of: id, above: 3, rearm_below: 3, when: op = 'x'": "write the condition into `of`",
}


@pytest.mark.parametrize("text", NOT_OF_ITS_KIND)
def test_a_rule_has_the_keys_of_its_kind(text: str) -> None:
    """And no others; the error names the line."""
    with pytest.raises(ConfigurationError) as raised:
        read(text)

    assert "t.yaml:" in str(raised.value)
    assert NOT_OF_ITS_KIND[text] in str(raised.value)


def test_a_table_without_a_key_has_nothing_to_compare_with() -> None:
    """It has no features."""
    with pytest.raises(ValueError, match="without a key"):
        spec_of({"kind": "change", "of": "status"}, key=[])


def test_a_rule_on_a_view_sees_the_columns_of_the_view_alone(engine: RuleEngine) -> None:
    """Others are not in its updates: they would be null, and the rule would never fire."""
    views = [{"view": "v", "entity": "p", "columns": ["status"], "emit": False}]
    spec = spec_of({"kind": "change", "of": "level", "view": "v"}, features=views)

    with pytest.raises(ConfigurationError, match="has no column 'level'"):
        check_rules(with_own_views(spec, engine), engine)
    assert {"v"} == views_that_emit(spec)


def test_a_view_of_a_rule_is_another_version_when_its_columns_are_others(engine: RuleEngine) -> None:
    """It is then filled anew; what the rule says beside them changes nothing, and its name is a view's."""

    def view(of: str, name: str = "r", **columns: str) -> Any:
        spec = spec_of({"rule": name, "kind": "change", "of": of}, columns={**COLUMNS, **columns})
        return with_own_views(spec, engine).features[0]

    assert view("status") == view("upper(status)")
    assert 3 == len({view("status").version, view("level").version, view("level", level="decimal(8,2)").version})
    assert view("status").view != view("status", name="r-").view
    assert 63 == len(view("status", name="r" * 63).view)
