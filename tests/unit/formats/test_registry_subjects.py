"""Subjects of a registry: asked before anything is written, kept compatible, and waited for where it is away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectors.registry import http
from connectors.registry.subjects import Subjects
from schemas.config import Config, RegistryConfig
from schemas.document import read_document
from schemas.errors import ConfigurationError, RegistryUnavailable, TableStopped
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from streams.avro_outputs import OutputForms, check_outputs
from tests.services.registry import SchemaRegistry

SCHEMA = {"type": "record", "name": "a.B", "fields": []}
OTHER = {"type": "record", "name": "a.C", "fields": []}
TABLE = "table: t\ntopics: [s]\nkey: [id]\ncolumns: {id: long, n: int, name: string}\noutput: {format: avro}\n"


@pytest.fixture(params=["confluent", "apicurio 2", "apicurio 3"])
def registry(request: pytest.FixtureRequest) -> Iterator[SchemaRegistry]:
    """A registry without schemas, which answers as one of three does."""
    with SchemaRegistry(like=request.param) as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing between attempts."""
    monkeypatch.setattr(http, "PAUSES_SECONDS", (0.0, 0.0))


def subjects(registry: SchemaRegistry) -> Subjects:
    """Return its subjects."""
    return Subjects(RegistryConfig(urls=[registry.url]))


def test_a_schema_is_registered_once_and_its_subject_stays_compatible(registry: SchemaRegistry) -> None:
    """The same schema has the same id; the subject is told what each of its schemas must read."""
    ours = subjects(registry)

    assert ours.register("t-value", SCHEMA) == ours.register("t-value", SCHEMA)
    assert ours.register("t-value", OTHER) != ours.register("t-value", SCHEMA)
    assert {"t-value": "FULL_TRANSITIVE"} == registry.kept


def test_what_a_subject_does_not_take_is_said_before_it_is_written(registry: SchemaRegistry) -> None:
    """With the registry's reason; a subject that is not there yet takes all."""
    ours = subjects(registry)
    assert ours.refusal("t-value", SCHEMA) is None
    ours.register("t-value", SCHEMA)
    registry.refusals["t-value"] = "READER_FIELD_MISSING_DEFAULT_VALUE at /fields/1"

    silent = registry.like == "apicurio 3"  # it says why to who registers, not to who asks
    assert ("it does not say why" if silent else "READER_FIELD_MISSING") in (ours.refusal("t-value", OTHER) or "")
    assert ours.refusal("t-value", SCHEMA) is None
    with pytest.raises(TableStopped, match="t-value does not take") as caught:
        ours.register("t-value", OTHER)
    assert "READER_FIELD_MISSING" in caught.value.message
    assert 1 == len(registry.entries)


@pytest.mark.parametrize("manner", ["error", "busy", "html", "denied"])
def test_a_registry_that_is_away_is_waited_for(registry: SchemaRegistry, manner: str) -> None:
    """Or answers as no registry does: of the schema nothing is known."""
    registry.manner = manner  # type: ignore[assignment]

    with pytest.raises(RegistryUnavailable):
        subjects(registry).register("t-value", SCHEMA)


def test_apicurios_own_api_takes_no_schemas_of_ours() -> None:
    """It has Confluent's beside it."""
    with pytest.raises(ConfigurationError, match="only Confluent's API") as caught:
        Subjects(RegistryConfig(urls=["http://127.0.0.1:1"], api="apicurio"))

    assert "ccompat" in caught.value.hint


def test_a_tables_schemas_are_checked_and_nothing_is_written(registry: SchemaRegistry) -> None:
    """What `plan` and `apply` ask; a table of JSON is nobody's business."""
    spec = read_document(TABLE, TableSpec, name="t.yaml")
    config = Config(registry=RegistryConfig(urls=[registry.url]))
    plain = spec.model_copy(update={"output": type(spec.output)()})

    check_outputs(config, {"t": spec})
    assert [] == registry.entries
    OutputForms(config, TopicNames()).of(TableEntry(spec=spec))
    assert {"headgate.changes.t-key", "headgate.changes.t-value"} == {entry.subject for entry in registry.entries}
    registry.refusals["headgate.changes.t-value"] = "it became another type"
    check_outputs(config, {"t": spec})
    longer = spec.model_copy(update={"columns": {**spec.columns, "more": spec.columns["name"]}})
    long = spec.columns["id"]  # which is no other type of Avro than that of `n`
    other = longer.model_copy(update={"columns": {**longer.columns, "n": long, "name": long}})
    with pytest.raises(TableStopped) as caught:
        check_outputs(config, {"t": other})
    why = "" if registry.like == "apicurio 3" else "; it became another type"  # which does not say it to who asks
    assert caught.value.message.endswith(f"'s columns: column name is string there and long here{why}")
    with pytest.raises(ConfigurationError, match="t: output: format: avro needs a schema registry"):
        check_outputs(Config(), {"t": spec})
    check_outputs(Config(), {"t": plain})
