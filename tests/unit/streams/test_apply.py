"""Specs applied: read from files, checked as a whole, all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.config import Config, read_config
from schemas.document import read_document
from schemas.errors import ConfigurationError
from schemas.output import Output, latest_view_name
from schemas.table import Column, TableEntry, TableSpec
from schemas.topics import TopicNames
from schemas.types import parse_type
from streams import rule_database, rules
from streams.apply import check_specs, merge, read_specs
from streams.latest_views import check_latest
from tests.bench.events import bench_spec

CONFIG: Config = read_config("kafka: {bootstrap: 'x:9092'}\nnotify: {}\n", name="headgate.yaml")


def _specs(*names: str) -> dict[str, TableSpec]:
    return {name: bench_spec(name, f"clinic.public.{name}") for name in names}


def _with_rule(spec: TableSpec, **rule: Any) -> TableSpec:
    return TableSpec.model_validate({**spec.model_dump(by_alias=True, mode="json"), "rules": [{"rule": "r", **rule}]})


def test_the_rules_of_many_tables_are_compiled_in_one_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening one costs ten times what a table's rules do; it is closed when the last table is checked."""
    opened = []

    def open_database() -> Any:
        opened.append(real())
        return opened[-1]

    real = rule_database.open_database
    monkeypatch.setattr(rules, "open_database", open_database)

    check_specs(_specs("a", "b", "c"), CONFIG)

    assert 1 == len(opened)
    with pytest.raises(Exception, match="closed"):
        opened[0].sql("SELECT 1")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda spec: _with_rule(spec, when="after.amount"), "not BOOLEAN"),
        (lambda spec: _with_rule(spec, when="after.amuont > 1"), "did you mean 'amount'"),
        (lambda spec: _with_rule(spec, when="random() > 1"), "volatile"),
        (lambda spec: _with_rule(spec, when="true", values={"x": "nothing(1)"}), "there is no function nothing"),
        (lambda spec: _with_rule(spec, when="true", destinations=["nobody"]), "names the destination nobody"),
        (lambda spec: spec.model_copy(update={"features": bench_spec("a", "t").features}), "is one of a already"),
        (lambda spec: spec.model_copy(update={"topics": ["clinic.public.a"]}), "would feed both"),
        (lambda spec: spec.model_copy(update={"format": "morse"}), "morse"),
        (lambda spec: spec.model_copy(update={"start": "latest"}), "c: start: latest is not built yet"),
    ],
)
def test_a_mistake_of_the_last_table_is_found(changed: Callable[[TableSpec], TableSpec], said: str) -> None:
    """What stands before it and is right hides nothing."""
    specs = _specs("a", "b", "c")

    with pytest.raises(ConfigurationError, match=said):
        check_specs({**specs, "c": changed(specs["c"])}, CONFIG)


@pytest.mark.parametrize(
    "changed",
    [
        lambda spec: _with_rule(spec, when="after.amuont > 1"),
        lambda spec: spec.model_copy(update={"format": "morse"}),
    ],
)
def test_a_mistake_is_named_with_its_table(changed: Callable[[TableSpec], TableSpec]) -> None:
    """Rules of many tables have the same names."""
    specs = _specs("a", "b", "c")

    with pytest.raises(ConfigurationError) as raised:
        check_specs({**specs, "b": changed(specs["b"])}, CONFIG)

    assert raised.value.message.startswith("b: ")
    assert raised.value.hint


def test_every_mistake_of_every_file_is_named(tmp_path: Path) -> None:
    """People mend them in one go."""
    (tmp_path / "a.yaml").write_text("table: a\ntopics: [t]\ncolumns: {id: lng}\n")
    (tmp_path / "b.yml").write_text("table: b\ntopics: [t\n")
    (tmp_path / "c.yaml").write_bytes(b"table: \xff")
    for name in ("d.yaml", "e.yaml"):
        (tmp_path / name).write_text("table: d\ntopics: [t]\ncolumns: {id: long}\n")

    with pytest.raises(ConfigurationError) as caught:
        read_specs(tmp_path)

    said = caught.value.message
    assert all(name in said for name in ("a.yaml:3", "b.yml:3", "c.yaml", "e.yaml:1: table d stands in another file"))


def test_a_spec_in_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    """JSON is YAML: what `tables list --json` or a pipeline writes is taken as well."""
    spec = bench_spec("a", "clinic.public.a")
    (tmp_path / "a.yaml").write_text(spec.model_dump_json())

    assert {"a": spec} == read_specs(tmp_path)
    assert spec == read_document(spec.model_dump_json(indent=2), TableSpec, name="a")


def _latest(spec: TableSpec, *, schema: bool = False, **changes: Any) -> TableSpec:
    return spec.model_copy(update={"output": Output(latest=True, latest_schema=schema), **changes})


def _merged(old: TableEntry | None, spec: TableSpec) -> tuple[str, TableEntry]:
    entries = {spec.table: old} if old is not None else {}
    ((change, entry),) = merge(entries, {spec.table: spec}, at="now", starts={}, names=TopicNames()).values()
    return change.action, entry


def test_the_view_of_a_latest_topic_is_made_by_apply() -> None:
    """The same file again changes nothing; other columns are another version; without the setting it is gone."""
    written = _latest(bench_spec("a", "t"))
    fewer = written.model_copy(update={"columns": dict(list(written.columns.items())[:-1])})

    added, entry = _merged(None, written)
    same, again = _merged(entry, written)
    changed, narrower = _merged(entry, fewer)
    _, without = _merged(narrower, fewer.model_copy(update={"output": Output()}))

    assert ("added", "unchanged", "changed") == (added, same, changed)
    views = [each.spec.features[-1] for each in (entry, again, narrower)]
    assert {latest_view_name("a")} == {view.view for view in views}
    assert views[0] == views[1]
    assert views[0].version != views[2].version
    assert list(fewer.columns) == views[2].columns
    assert latest_view_name("a") not in {view.view for view in without.spec.features}


@pytest.mark.parametrize(
    "changed",
    [
        lambda spec: _latest(spec, schema=True),
        lambda spec: _latest(spec, key=[*spec.key, next(name for name in spec.columns if name not in spec.key)]),
        lambda spec: _latest(
            spec, columns={**spec.columns, **dict.fromkeys(spec.key, Column(type=parse_type("string")))}
        ),
    ],
)
def test_a_latest_topic_keeps_the_keys_that_it_has(changed: Callable[[TableSpec], TableSpec]) -> None:
    """Rows under keys that nobody writes any more would stay for ever; what makes a column wider alters no key."""
    spec = bench_spec("a", "t")
    entries = {"a": TableEntry(spec=_latest(spec))}

    with pytest.raises(ConfigurationError, match="would have other keys") as refused:
        check_latest(CONFIG, entries, {"a": changed(spec)})

    assert f"features forget {latest_view_name('a')}" in refused.value.hint
    check_latest(CONFIG, entries, {"a": _latest(spec)})
    narrow = {"a": TableEntry(spec=_latest(spec, columns={**spec.columns, "id": Column(type=parse_type("int"))}))}
    check_latest(CONFIG, narrow, {"a": _latest(spec, columns={**spec.columns, "id": Column(type=parse_type("long"))})})
