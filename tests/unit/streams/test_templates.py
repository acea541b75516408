"""Templates make a table of each topic that comes: with a name of the topic's, of what its records show."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from connectors.captured import OneRecord
from schemas.errors import ConfigurationError, HeadgateError, RegistryUnavailable, TableStopped
from schemas.mask import Masks
from schemas.removed import removed_of
from schemas.table import TableEntry, TableSpec
from schemas.template import Named, named_by
from streams.source_topics import foreseen_tables
from streams.tables import TableDirectory, check_topics
from streams.template_tables import check_template, standing, still_wanted, table_of, wanted_tables
from streams.templates import AGAIN_SECONDS, LOOK_SECONDS, TOPICS_AT_ONCE_MAX, Templates
from tests.unit.streams.changing import envelope
from tests.unit.streams.test_apply import CONFIG

PATTERN = r"^clinic[.]public[.]visits_([0-9a-z]+)$"
TEMPLATE = TableSpec.model_validate(
    {
        "table": "visits",
        "template": "visits_{1}",
        "topics": [PATTERN],
        "columns": {"id": "long"},
        "key": ["id"],
        "unknown_columns": "add",
        "before": "full",
        "lake": {"time_zone": "Europe/Berlin"},
    }
)
TOPIC = "clinic.public.visits_2024"
VISITS = Named("visits_2024", None)


def _directory(*specs: TableSpec) -> TableDirectory:
    return TableDirectory({spec.table: TableEntry(spec=spec) for spec in (TEMPLATE, *specs)})


def _table(table: str, topic: str) -> TableSpec:
    return TableSpec.model_validate({"table": table, "topics": [topic], "columns": {"id": "long"}})


def _records(*rows: dict[str, Any]) -> list[OneRecord]:
    return [OneRecord(TOPIC, 0, at, None, envelope(row, lsn=at).encode(), ()) for at, row in enumerate(rows)]


def _wanted(tables: TableDirectory, *topics: str) -> dict[str, str]:
    return {topic: named.table for topic, (_, named) in wanted_tables(standing(tables), topics, "headgate").items()}


def test_a_template_is_no_table() -> None:
    """No stage sees it; it is registered all the same, and what it catches may be a table's."""
    tables = _directory(_table("mine", TOPIC))
    check_topics({table: entry.spec for table, entry in tables.registered.items()}, "headgate")
    readers = tables.of_topic(TOPIC)

    assert (["mine"], ["visits"], ["mine", "visits"]) == (
        list(tables), list(tables.templates), sorted(tables.registered),
    )  # fmt: skip
    assert readers is not None
    assert ["mine"] == list(readers.entries)
    data = TableEntry(spec=TEMPLATE).model_dump_json().encode()
    assert set() == tables.update({b"visits": None})
    assert ({}, set()) == (tables.templates, tables.update({b"visits": data}))
    assert ["visits"] == list(tables.templates)


def test_each_topic_that_nobody_reads_becomes_a_table() -> None:
    """Not one that a table reads, by name or by pattern, nor one of ours, nor one whose table was removed."""
    old = "clinic.public.visits_old"
    tables = _directory(_table("mine", old), _table("all", "^clinic[.]public[.]visits_all$"))
    removed = removed_of(TableEntry(spec=_table("visits_gone", "t")), at="", by="")
    tables.update({removed.key: removed.encoded()})
    others = [f"clinic.public.visits_{end}" for end in ("all", "gone", "Ü")]

    assert {TOPIC: "visits_2024"} == _wanted(tables, TOPIC, old, *others, "clinic.public.wards")


def test_topics_of_a_table_that_was_removed_are_left_alone() -> None:
    """By name and by pattern: a template would show what its masks hid, or go on with what somebody has ended."""
    tables = _directory()
    for table, topic in (("private", TOPIC), ("all", "^clinic[.]public[.]visits_a")):
        removed = removed_of(TableEntry(spec=_table(table, topic)), at="", by="")
        tables.update({removed.key: removed.encoded()})
    topics = [TOPIC, "clinic.public.visits_all", "clinic.public.visits_2025"]

    assert {"clinic.public.visits_2025": "visits_2025"} == _wanted(tables, *topics)
    tables.update({b"removed/private": None})
    assert {TOPIC: "visits_2024", "clinic.public.visits_2025": "visits_2025"} == _wanted(tables, *topics)


def test_a_plan_foresees_the_tables_that_workers_will_make() -> None:
    """None of a topic that a removed table has read, unless that table is registered again, by name."""
    topics = [TOPIC, "clinic.public.visits_2025"]
    removed = {"private": removed_of(TableEntry(spec=_table("private", TOPIC)), at="", by="")}

    def foreseen(*others: TableSpec) -> dict[str, dict[str, str]]:
        specs = {spec.table: spec for spec in (TEMPLATE, *others)}
        return foreseen_tables(specs, removed, ["visits"], topics, "headgate")

    assert {"visits": {"clinic.public.visits_2025": "visits_2025"}} == foreseen()
    again = foreseen(_table("private", "elsewhere"))
    assert {"visits": {TOPIC: "visits_2024", "clinic.public.visits_2025": "visits_2025"}} == again


def test_of_several_templates_the_first_by_name_makes_the_table() -> None:
    """In whatever order they came: two workers, and a look and what is written by it, must not differ."""
    other = TEMPLATE.model_copy(update={"table": "any", "template": "any_{1}"})
    entries = {spec.table: TableEntry(spec=spec) for spec in (TEMPLATE, other)}

    assert {TOPIC: "any_2024"} == _wanted(TableDirectory(entries), TOPIC)
    assert {TOPIC: "any_2024"} == _wanted(TableDirectory(dict(reversed(entries.items()))), TOPIC)


MASKING = TEMPLATE.model_copy(update={"masks": Masks.model_validate({"unknown_columns": "hash"})})


@pytest.mark.parametrize(
    ("meanwhile", "made"),
    [
        ({}, ["visits_2024"]),
        ({b"other": TableEntry(spec=_table("other", "elsewhere"))}, ["visits_2024"]),
        ({b"visits": None}, []),
        ({b"visits": TableEntry(spec=MASKING)}, []),
        ({b"visits_2024": TableEntry(spec=_table("visits_2024", "elsewhere"))}, []),
        ({b"private": TableEntry(spec=_table("private", TOPIC))}, []),
        ({b"removed/private": removed_of(TableEntry(spec=_table("private", TOPIC)), at="", by="")}, []),
    ],
)
def test_what_was_changed_while_records_were_looked_at_holds(meanwhile: dict[bytes, Any], made: list[str]) -> None:
    """A template that is gone or masks more, a topic or a name that somebody has taken, or has ended."""
    spec = table_of(TEMPLATE, TOPIC, VISITS, _records({"id": 1}), None)
    tables = _directory()
    tables.update({key: None if each is None else each.model_dump_json().encode() for key, each in meanwhile.items()})

    found = still_wanted(
        {"visits_2024": spec}, {"visits_2024": TableEntry(spec=TEMPLATE)}, standing(tables), "headgate"
    )

    assert made == list(found)


async def test_what_is_away_is_asked_more_and_more_seldom() -> None:
    """Each look may open the door that people go through; others who were quicker are no reason to wait."""
    looks = Templates(CONFIG, _directory(), jitter=lambda: 0.5)
    away = RegistryUnavailable("the registry does not answer")

    def fail(error: HeadgateError) -> Callable[[], list[str]]:
        def look() -> list[str]:
            raise error

        return look

    pauses = []
    for error in (away, away, *[away] * 8, TableStopped("changed_meanwhile", "somebody else was quicker")):
        await looks.take(fail(error))
        pauses.append(looks.pause())
    await looks.take(list)

    assert [2 * LOOK_SECONDS, 4 * LOOK_SECONDS] == pauses[:2]
    assert [AGAIN_SECONDS] * 3 == pauses[-3:]
    assert LOOK_SECONDS == looks.pause()


def test_a_name_that_is_taken_makes_no_table() -> None:
    """It would be written over."""
    assert {} == _wanted(_directory(_table("visits_2024", "elsewhere")), TOPIC)


def test_a_table_has_what_the_template_says_and_what_records_show() -> None:
    """The template's own columns go first, and win."""
    made = table_of(TEMPLATE, TOPIC, VISITS, _records({"id": 1, "note": "a", "ward": 7}), None)

    assert ("visits_2024", [TOPIC], None, ["id"]) == (made.table, made.topics, made.template, made.key)
    assert {"id": "long", "note": "string", "ward": "long"} == {
        name: str(column.type) for name, column in made.columns.items()
    }
    assert ("full", "add", "Europe/Berlin") == (made.before, made.unknown_columns, made.lake.time_zone)


def test_records_that_show_no_table_make_none() -> None:
    """Somebody has to look."""
    with pytest.raises(ConfigurationError, match="show 0 tables of debezium-json"):
        table_of(TEMPLATE, TOPIC, VISITS, [OneRecord(TOPIC, 0, 0, None, b"{", ())], None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"template": "visits"}, "names a group"),
        ({"template": "visits_{2}"}, "has 1 groups"),
        ({"topics": [TOPIC]}, "is one topic"),
        ({"topics": ["^visits_("]}, "no regular expression"),
        ({"rules": [{"rule": "r", "when": "true"}]}, "are of one table"),
        ({"beside": "other"}, "are of one table"),
        ({"tenant": "{2}"}, "has 1 groups"),
        ({"template": None, "tenant": "{1}"}, "is a group of a template's pattern"),
    ],
)
def test_a_template_that_could_name_no_table_is_refused(changes: dict[str, Any], said: str) -> None:
    """Where it is written."""
    with pytest.raises(ValueError, match=said):
        TableSpec.model_validate({**TEMPLATE.model_dump(mode="json"), **changes})


def test_a_format_that_shows_no_columns_is_refused() -> None:
    """Only people know what such records mean."""
    with pytest.raises(ConfigurationError, match="cannot be told from records of json"):
        check_template(TEMPLATE.model_copy(update={"format": "json"}), None)
    check_template(TEMPLATE, None)


@pytest.mark.parametrize(
    ("template", "pattern", "topic", "name"),
    [
        ("{0}", "^.*$", "clinic.public.Visits", "clinic.public.visits"),
        ("t_{1}", "^(.*)$", "a/../b\u202e", "t_a_.._b_"),
        ("{1}", "^(.*)$", "2024", None),
        ("t{1}", "^(.*)$", "x" * 200, None),
        ("{2}_{1}", "^(a|b)_(.*)$", "a_c", "c_a"),
        ("t_{1}", "^x(y)?z$", "xz", "t_"),
        ("t_{1}", "^x(.)$", "other", None),
    ],
)
def test_names_are_made_of_groups_whatever_the_topic_is_called(
    template: str, pattern: str, topic: str, name: str | None
) -> None:
    """Lower case, allowed characters, or none at all."""
    named = named_by(template, [pattern], topic)

    assert name == (None if named is None else named.table)


OF_TENANTS = r"^([a-z0-9_./-]+)[.]public[.](visits|wards)$"


@pytest.mark.parametrize(
    ("topic", "named"),
    [
        ("ward-3.public.visits", Named("ward-3.visits", "ward-3")),
        ("ward-3.public.wards", Named("ward-3.wards", "ward-3")),
        ("ward_3.public.visits", None),
        ("../x.public.visits", None),
        ("3.public.visits", None),
        (f"{'w' * 32}.public.visits", None),
    ],
)
def test_a_tenant_is_what_the_pattern_caught_or_nothing_is_made(topic: str, named: Named | None) -> None:
    """Made to fit, two that differ by an underscore would be one, and read each other's rows."""
    assert named == named_by("{2}", [OF_TENANTS], topic, tenant="{1}")
    assert (None if named is None else Named(f"ours.{topic.rpartition('.')[2]}", "ours")) == (
        named and named_by("{2}", [OF_TENANTS], topic, tenant="ours")
    )


def test_tables_of_a_template_are_their_tenants() -> None:
    """With its name in front; a table of each, of one template."""
    spec = {**TEMPLATE.model_dump(mode="json"), "tenant": "{1}", "template": "{2}", "topics": [OF_TENANTS]}
    template = TableSpec.model_validate(spec)
    tables = TableDirectory({"visits": TableEntry(spec=template)})
    topics = [f"ward-{number}.public.visits" for number in range(3)]
    wanted = wanted_tables(standing(tables), topics, "headgate")

    made = [table_of(template, topic, wanted[topic][1], _records({"id": 1}), None) for topic in topics]

    assert [(f"ward-{number}.visits", f"ward-{number}") for number in range(3)] == [
        (spec.table, spec.tenant) for spec in made
    ]


def test_columns_that_the_template_does_not_name_have_the_mask_of_unknown_ones() -> None:
    """As those that come later: nothing that nobody has looked at goes out as it is."""
    spec = {**TEMPLATE.model_dump(mode="json"), "masks": {"unknown_columns": "hash"}}

    made = table_of(TableSpec.model_validate(spec), TOPIC, VISITS, _records({"id": 1, "note": "a"}), None)

    mask = made.columns["note"].mask
    assert mask is not None
    assert (None, "hash") == (made.columns["id"].mask, mask.how)


def test_topics_that_have_no_rows_keep_nobody_waiting() -> None:
    """New ones go first, then those that were not looked at for longest; what makes nothing is left alone a while."""
    now = 100.0
    looks = Templates(CONFIG, _directory(), clock=lambda: now)
    topics = [f"t{number:03d}" for number in range(TOPICS_AT_ONCE_MAX + 10)]

    first, second = looks.due(topics), looks.due(topics)
    assert topics[:TOPICS_AT_ONCE_MAX] == first
    assert topics[TOPICS_AT_ONCE_MAX:] == second[:10]
    bad = TableSpec.model_validate({**_table("bad", "t000").model_dump(), "start": "latest"})
    assert [] == looks.entries_of({"bad": bad}, _directory())
    now += 1
    assert "t000" not in looks.due(["t000", "t001"])
    now += AGAIN_SECONDS
    assert ["t000"] == looks.due(["t000"])


def test_a_table_that_is_not_right_keeps_no_other_waiting() -> None:
    """Whether it is so by itself, or beside the others."""
    bad = TableSpec.model_validate({**_table("bad", "t1").model_dump(), "start": "latest"})
    specs = {"bad": bad, "good": _table("good", "t2"), "twin": _table("twin", "t2"), "late": _table("late", "t3")}

    made = Templates(CONFIG, _directory()).entries_of(specs, _directory())

    assert ["good", "late"] == [entry.spec.table for entry in made]


def test_a_spec_without_it_is_written_as_older_releases_read_it() -> None:
    """They refuse a key that they do not know."""
    assert "template" not in json.loads(TableEntry(spec=_table("t", "t")).model_dump_json())["spec"]
