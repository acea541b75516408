"""The registered tables: read from the topic, found by source topic, kept apart, merged with what is applied."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from schemas.document import read_document
from schemas.errors import ConfigurationError, TableStopped
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from streams.apply import merge
from streams.tables import Readers, TableDirectory, check_topics, reads
from tests.unit.streams.dms_specs import dms_spec
from tests.workloads.dms_topic import dms_record


def _spec(
    table: str = "patients", topic: str = "clinic.public.patients", columns: str = "{id: long, name: string}"
) -> TableSpec:
    return read_document(f"table: {table}\ntopics: ['{topic}']\nkey: [id]\ncolumns: {columns}", TableSpec, name="spec")


def _record(entry: TableEntry) -> bytes:
    return entry.model_dump_json().encode()


def _entries(tables: TableDirectory, topic: str) -> list[TableEntry]:
    readers = tables.of_topic(topic)
    return [] if readers is None else list(readers.entries.values())


def test_the_directory_says_which_tables_changed() -> None:
    """Workers take up what changed and leave the rest alone."""
    tables = TableDirectory()
    entry = TableEntry(spec=_spec())

    assert {"patients"} == tables.update({b"patients": _record(entry)})
    assert set() == tables.update({b"patients": _record(entry)})
    assert [entry] == _entries(tables, "clinic.public.patients")
    assert {"patients"} == tables.update({b"patients": None})
    assert tables.of_topic("clinic.public.patients") is None


def test_an_entry_that_cannot_be_read_stops_no_other_table() -> None:
    """One bad thing stops one thing: the table stays as it was, and the error is kept for `status`."""
    tables = TableDirectory({"patients": TableEntry(spec=_spec())})

    changed = tables.update({b"patients": b'{"spec": 1}', b"visits": _record(TableEntry(spec=_spec("visits", "v")))})

    assert {"visits"} == changed
    assert ["patients", "visits"] == sorted(tables)
    assert ["patients"] == list(tables.unreadable)


def test_a_pattern_finds_its_topics() -> None:
    """A regular expression is one that Kafka's client takes: it begins with ^."""
    tables = TableDirectory({"p": TableEntry(spec=_spec("p", r"^clinic\.[a-z]+\.patients$"))})

    assert tables.of_topic("clinic.public.patients") is not None
    assert tables.of_topic("clinic.public.patients2") is None


def test_an_update_in_the_middle_of_a_look_is_seen_by_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers look on threads of their own: what one of them found of the table before is not kept for ever."""
    before, after = TableEntry(spec=_spec()), TableEntry(spec=_spec(), schema_version=2)
    tables = TableDirectory({"patients": before})
    updates = iter([{b"patients": _record(after)}])

    def slowly(entries: Sequence[TableEntry]) -> Readers:
        for update in updates:
            tables.update(update)
        return Readers(entries)

    monkeypatch.setattr("streams.tables.Readers", slowly)
    found = [_entries(tables, "clinic.public.patients") for _ in range(2)]

    assert [[before], [after]] == found


def test_each_topic_of_many_tables_is_found_by_name_and_by_pattern() -> None:
    """As if every spec were asked, which thousands of topics times thousands of specs would be too many of."""
    named = {f"t{number}": _spec(f"t{number}", f"topic-{number}") for number in range(30)}
    patterns = {f"p{number}": _spec(f"p{number}", f"^pattern-{number}-.*") for number in range(5)}
    specs = named | patterns | {"both": _spec("both", "^topic-3[0-9]$")}
    tables = TableDirectory({table: TableEntry(spec=spec) for table, spec in specs.items()})
    topics = [*(f"topic-{number}" for number in range(40)), *(f"pattern-{number}-x" for number in range(6)), "topic-1x"]

    for topic in topics:
        expected = sorted(table for table, spec in specs.items() if reads(spec, topic))
        assert expected == sorted(entry.spec.table for entry in _entries(tables, topic)), topic
    assert {"t1"} == tables.update({b"t1": None})
    assert tables.of_topic("topic-1") is None


def test_a_topic_that_two_patterns_catch_is_nobodys_until_the_specs_are_mended() -> None:
    """Whether two patterns meet is seen only when a topic of both comes."""
    specs = {"p": _spec("p", r"^clinic\.public\..*"), "q": _spec("q", r"^clinic\..*\.patients$")}
    check_topics(specs, "headgate")
    tables = TableDirectory({table: TableEntry(spec=spec) for table, spec in specs.items()})

    with pytest.raises(TableStopped, match=r"clinic.public.patients is read by p and q"):
        tables.of_topic("clinic.public.patients")
    assert [tables["p"]] == _entries(tables, "clinic.public.visits")


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("clinic.public.patients", "would feed both"),
        ("headgate.changes.patients", "is one of our own topics"),
        ("^headgate.*", "also catches"),
        ("^.*", "would feed both|also catches"),
        (r"^.*\.5s$", "also catches headgate.notify.retry.destination.5s"),
        (r"^.*\.redrive$", "also catches headgate.notify.redrive"),
        (r"^.*\.dead$", "also catches headgate.notify.dead"),
        (r"^.*status$", "also catches headgate.status"),
        ("^clinic.(", "no regular expression"),
        (r"^ward\.(?!private).*", "Kafka's client"),
        (r"^ward\.table_\d+$", "Kafka's client"),
    ],
)
def test_one_topic_feeds_one_table_and_none_is_ours(topic: str, said: str) -> None:
    """A table that read our own output would feed itself."""
    with pytest.raises(ConfigurationError, match=said):
        check_topics({"patients": _spec(), "other": _spec("other", topic)}, "headgate")


@pytest.mark.parametrize("topic", [r"^.*features\.latest$", r"^.*state\.latest$"])
def test_no_pattern_catches_what_a_view_emits(topic: str) -> None:
    """Updates, nor what rules remember of them."""
    view = {"view": "latest", "entity": "p", "columns": ["name"], "emit": True}
    emits = TableSpec.model_validate({**_spec().model_dump(mode="json"), "features": [view]})

    with pytest.raises(ConfigurationError, match="also catches headgate"):
        check_topics({"patients": emits, "other": _spec("other", topic)}, "headgate")


def test_applying_the_same_specs_again_changes_nothing() -> None:
    """People apply from their pipelines on each merge."""
    entry = TableEntry(spec=_spec(), schema_version=3, applied_at="then")

    change, merged = merge({"patients": entry}, {"patients": _spec()}, at="now", starts={}, names=TopicNames())[
        "patients"
    ]

    assert "unchanged" == change.action
    assert entry is merged


def test_a_change_of_columns_raises_the_schema_version_and_keeps_what_verbs_set() -> None:
    """A pause or an epoch is not undone by an apply."""
    entry = TableEntry(spec=_spec(), schema_version=3, epoch=2, paused="for the night")

    change, merged = merge(
        {"patients": entry},
        {"patients": _spec(columns="{id: long, name: string, age: int}")},
        at="now",
        starts={},
        names=TopicNames(),
    )["patients"]

    assert ("changed", 4) == (change.action, change.schema_version)
    assert ("for the night", 2, "now") == (merged.paused, merged.epoch, merged.applied_at)


def _of_task(table: str, **changes: Any) -> TableSpec:
    return dms_spec(table, "dms-task", **changes)


def test_tables_that_say_what_their_records_call_them_share_a_topic() -> None:
    """By name, by pattern, or one by each."""
    by_pattern = _of_task("visits", topics=["^dms-.*"])
    specs = {"patients": _of_task("patients"), "visits": by_pattern}

    check_topics(specs, "headgate")
    readers = TableDirectory({table: TableEntry(spec=spec) for table, spec in specs.items()}).of_topic("dms-task")

    assert readers is not None
    split = readers.split([dms_record("visits", 1, {}), None, dms_record("bills", 1, {}), dms_record("visits", 2, {})])
    assert (["patients", "visits"], "patients") == (list(readers.entries), readers.first.spec.table)
    assert ({"visits": [0, 3]}, [1], {"clinic.bills": [2]}) == (split.by_table, split.nameless, split.unregistered)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source_table": None}, "visits says no source_table, so it takes all records"),
        ({"source_table": "clinic.patients"}, "patients and visits both say source_table: clinic.patients"),
        ({"format": "maxwell"}, "patients and visits have not the same format"),
    ],
)
def test_tables_that_cannot_be_told_apart_do_not_share_a_topic(changes: dict[str, Any], said: str) -> None:
    """Applying says so; where patterns hide it, the topic is paused with the same words."""
    specs = {"patients": _of_task("patients"), "visits": _of_task("visits", **changes)}
    entries = {table: TableEntry(spec=spec) for table, spec in specs.items()}

    with pytest.raises(ConfigurationError, match=said) as caught:
        check_topics(specs, "headgate")
    with pytest.raises(TableStopped, match=said) as stopped:
        TableDirectory(entries).of_topic("dms-task")

    assert "dms-task would feed both patients and visits" in caught.value.message
    assert "source_table" in caught.value.hint
    assert "claimed_twice" == stopped.value.reason


def test_own_forms_share_a_topic_where_they_name_the_table_in_one_place() -> None:
    """The first one could not read the others' names."""
    own = {"row": "$.row", "time": "$.at"}
    specs = {
        table: _of_task(table, format="json", options=own | {"table": f"$.{path}"})
        for table, path in (("patients", "table"), ("visits", "name"))
    }

    with pytest.raises(ConfigurationError, match=r"have not the same options\.table"):
        check_topics(specs, "headgate")


def test_a_source_table_needs_records_that_name_theirs() -> None:
    """Also of a table that has its topic alone."""
    with pytest.raises(ConfigurationError, match="patients: source_table: records of debezium-avro cannot"):
        check_topics({"patients": _of_task("patients", format="debezium-avro")}, "headgate")


def test_a_spec_without_a_source_table_is_written_as_older_releases_read_it() -> None:
    """They refuse a key that they do not know."""
    assert "source_table" not in json.loads(TableEntry(spec=_spec()).model_dump_json())["spec"]
    assert "clinic.visits" == json.loads(TableEntry(spec=_of_task("visits")).model_dump_json())["spec"]["source_table"]
