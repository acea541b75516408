"""What tables are called that nobody named, and which of their columns says when something was."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.inference import Proposal
from connectors.inference.event_times import event_time
from connectors.inference.names import named, table_name
from schemas.table import TableSpec
from schemas.types import parse_type

NAME = re.compile(r"[a-z][a-z0-9_.-]{0,127}")


def proposal(topic: str, source: str = "public.t", *, source_table: str | None = None, more: str = "") -> Proposal:
    """Return a proposal of a table of one topic, or of two."""
    topics = [topic, more] if more else [topic]
    spec = TableSpec.model_validate(
        {"table": "t", "topics": topics, "columns": {"id": "long"}, "source_table": source_table}
    )
    return Proposal(spec, source, "postgresql", has_schema=False, records=1, columns={})


def names(*proposals: Proposal, **more: object) -> list[str]:
    """Return the names of proposals, by topic."""
    return [each.spec.table for each in named(proposals, told=more.pop("told", {}), **more)]  # type: ignore[arg-type]


def test_a_table_is_called_as_its_topic() -> None:
    """The same whatever else is there, and without what the topics begin with."""
    one, other = proposal("clinic.public.visits"), proposal("shop.public.visits")

    assert ["clinic.public.visits", "shop.public.visits"] == names(other, one)
    assert ["visits", "shop.public.visits"] == names(one, other, without="clinic.public.")


def test_tables_of_one_topic_are_called_as_their_source_calls_them() -> None:
    """With the topic before it where two topics hold one of a name."""
    tables = [
        proposal("dms-a", "billing.invoices", source_table="billing.invoices"),
        proposal("dms-b", "billing.invoices", source_table="billing.invoices"),
        proposal("visits_1", "public.visits", more="visits_2"),
    ]

    assert ["billing.invoices", "dms-b.billing.invoices", "public.visits"] == names(*tables)


def test_no_name_is_given_twice_and_none_that_is_taken() -> None:
    """Letters that are none of a name become others, and may then clash."""
    tables = [proposal("Visits"), proposal("visits"), proposal("visits/")]

    assert ["visits_2", "visits_3", "visits_"] == names(*tables, taken={"visits"})


def test_a_name_that_is_told_is_used_as_it_is() -> None:
    """Nobody else gets it."""
    told = {("clinic.b", None): "clinic.a"}

    assert ["clinic.a_2", "clinic.a"] == names(proposal("clinic.a"), proposal("clinic.b"), told=told)


@given(st.lists(st.text(min_size=1, max_size=300), unique=True, max_size=20), st.text(max_size=5))
def test_names_can_be_used_and_are_unique(topics: list[str], without: str) -> None:
    """Whatever topics are called, and as names of files."""
    found = names(*map(proposal, topics), without=without)

    assert len(topics) == len(set(found))
    assert all(NAME.fullmatch(name) for name in found)


@given(st.text(max_size=300))
def test_a_source_gives_a_name_that_can_be_used(source: str) -> None:
    """Also where nothing of it can be kept."""
    assert NAME.fullmatch(table_name(source))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"id": "long", "taken_at": "timestamptz", "updated_at": "timestamptz"}, "taken_at"),
        ({"created_at": "timestamp", "updated_at": "timestamp"}, "updated_at"),
        ({"created_at": "timestamp"}, "created_at"),
        ({"EventTime": "timestamptz", "taken_at": "timestamptz"}, "EventTime"),
        ({"updated_at": "timestamp", "updated_on": "timestamptz"}, "updated_on"),
        ({"valid_until": "timestamptz", "deleted_at": "timestamptz", "born": "timestamp"}, None),
        ({"taken_at": "long", "note": "string"}, None),
        ({}, None),
    ],
)
def test_an_event_time_is_told_by_type_and_name(columns: dict[str, str], expected: str | None) -> None:
    """What happened goes before what was written down."""
    assert expected == event_time({name: parse_type(type_) for name, type_ in columns.items()})
