"""What a table's outputs are like, as specs say it, and the settings of a sink that reads one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.connect_sink import jdbc_sink_settings
from schemas.document import read_document
from schemas.errors import ConfigurationError
from schemas.output import Output
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from tests.unit.docs.pages import ROOT, blocks_of

SPEC: dict[str, Any] = {
    "table": "t",
    "topics": ["s"],
    "key": ["a", "b"],
    "columns": {"a": "long", "b": "int", "c": "string"},
}


def spec(**changes: Any) -> TableSpec:
    """Return a table."""
    return TableSpec.model_validate(SPEC | changes)


def test_what_is_the_default_is_left_out_when_written() -> None:
    """Older releases refuse a key that they do not know."""
    assert "output" not in spec().model_dump(mode="json")
    assert {"latest": True} == spec(output={"latest": True}).model_dump(mode="json")["output"]
    written = TableEntry(spec=spec(output={"latest": True, "latest_schema": True})).model_dump_json()
    assert Output(latest=True, latest_schema=True) == TableEntry.model_validate_json(written).spec.output


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"output": {"latest_schema": True}}, "write `latest: true`"),
        ({"output": {"latest": True}, "key": []}, "a table without a key"),
        ({"output": {"latest": True}, "columns": SPEC["columns"] | {".x": "int"}}, "begin with a dot are ours"),
        (
            {"output": {"latest": True}, "columns": SPEC["columns"] | {f"x{n}": "int" for n in range(998)}},
            "at most 1000",
        ),
        ({"output": {"lattest": True}}, "lattest"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], told: str) -> None:
    """At `apply`, and by whoever reads a spec."""
    with pytest.raises(ValueError, match=told):
        spec(**changes)


def test_a_sink_is_told_the_key_and_the_table() -> None:
    """It writes over rows of one key and deletes what has a tombstone; what was aborted it does not see."""
    settings = jdbc_sink_settings(
        spec(output={"latest": True, "latest_schema": True}), topic="hg.latest.t", url="jdbc:postgresql://db/x"
    )

    assert ("hg.latest.t", "jdbc:postgresql://db/x", "t", "a,b") == tuple(
        settings[name] for name in ("topics", "connection.url", "collection.name.format", "primary.key.fields")
    )
    assert ("upsert", "true", "record_key", "read_committed") == tuple(
        settings[name]
        for name in ("insert.mode", "delete.enabled", "primary.key.mode", "consumer.override.isolation.level")
    )
    assert all(isinstance(value, str) for value in settings.values())


def test_a_tenants_table_is_no_table_of_a_schema_in_the_sinks_database() -> None:
    """Which it would be with the dot of its name."""
    settings = jdbc_sink_settings(
        spec(table="ward-3.visits", tenant="ward-3", output={"latest": True, "latest_schema": True}), topic="x"
    )

    assert "ward-3_visits" == settings["collection.name.format"]


@pytest.mark.parametrize("output", [{}, {"latest": True}])
def test_a_sink_without_a_schema_block_is_refused(output: dict[str, bool]) -> None:
    """It would write nothing, or fail at its first record."""
    with pytest.raises(ConfigurationError, match="no latest topic that a sink") as caught:
        jdbc_sink_settings(spec(output=output), topic="x")

    assert "latest_schema: true" in caught.value.hint


def test_the_page_shows_the_settings_that_the_code_gives() -> None:
    """For the table that it shows, too."""
    written, row, settings = (block for block in blocks_of(ROOT / "docs" / "latest.md") if block.language)
    table = read_document(written.text, TableSpec, name=written.place)

    assert jdbc_sink_settings(table, topic=TopicNames().latest(table.table)) == json.loads(settings.text)
    assert list(table.columns) == list(json.loads(row.text))
