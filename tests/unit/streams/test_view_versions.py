"""When a view needs another version, so that no row of before is taken for one of it."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import ConfigurationError
from schemas.feature import View
from schemas.output import latest_view_name
from schemas.removed import removed_of
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from schemas.views_left import views_left
from streams.apply import merge
from streams.view_versions import check_versions
from tests.bench.events import bench_spec

SPEC = bench_spec("a", "t")
(VIEW, *OTHERS) = SPEC.features
FEWER = VIEW.model_copy(update={"columns": VIEW.columns[1:]})


def _with(*views: View, table: str = "a") -> dict[str, TableSpec]:
    return {table: SPEC.model_copy(update={"table": table, "features": [*views, *OTHERS]})}


def _merged(old: TableEntry | None, specs: dict[str, TableSpec], **options: Any) -> TableEntry:
    ((table, spec),) = specs.items()
    entries = {} if old is None else {table: old}
    return merge(entries, {table: spec}, at="now", starts={}, names=TopicNames(), **options)[table][1]


def test_a_view_of_other_columns_needs_another_version() -> None:
    """Rows that are in Redis would stay as they are until they change; the order of columns says nothing."""
    turned = VIEW.model_copy(update={"columns": VIEW.columns[::-1]})
    entries = {"a": TableEntry(spec=SPEC)}

    with pytest.raises(ConfigurationError, match="has the same version") as refused:
        check_versions(entries, _with(FEWER), {})
    assert f"version: {VIEW.version + 1}" in refused.value.hint
    check_versions(entries, _with(FEWER.model_copy(update={"version": VIEW.version + 1})), {})
    check_versions(entries, _with(turned), {})
    check_versions({}, _with(FEWER), {})


def test_so_does_one_that_was_taken_out_meanwhile() -> None:
    """Its rows are in Redis still; as it was it may come back, and then nothing is left of it."""
    out = _merged(TableEntry(spec=SPEC), _with())

    with pytest.raises(ConfigurationError, match="was one of a, and is not as it was"):
        check_versions({"a": out}, _with(FEWER), {})
    check_versions({"a": out}, _with(FEWER.model_copy(update={"version": VIEW.version + 1})), {})
    check_versions({"a": out}, _with(VIEW), {})
    assert {VIEW.id: VIEW.read_by} == out.views_left
    assert {} == _merged(out, _with(VIEW)).views_left


def test_so_does_one_of_another_table() -> None:
    """Positions of one table say nothing about rows of another."""
    out = _merged(TableEntry(spec=SPEC), _with())

    with pytest.raises(ConfigurationError, match="was one of a"):
        check_versions({"a": out}, _with(VIEW, table="b"), {})


def test_so_does_one_of_a_table_that_was_removed() -> None:
    """Registered again with the views that it had, it goes on; with others under their versions it does not."""
    removed = {"a": removed_of(_merged(TableEntry(spec=SPEC), _with()), at="", by="")}

    with pytest.raises(ConfigurationError, match="was one of a, and is not as it was"):
        check_versions({}, _with(FEWER), removed)
    check_versions({}, _with(VIEW), removed)
    assert {VIEW.id} == _merged(None, _with(), removed=removed).views_left.keys()


def test_of_views_that_rules_and_latest_topics_make_nothing_is_kept() -> None:
    """Their versions are made of what they hold."""
    latest = View(view=latest_view_name("a"), entity="a", columns=["id"])

    assert {VIEW.id: VIEW.read_by} == views_left({}, _with(VIEW, latest)["a"], None)
