"""What a decision about topics that moved becomes, and what it says of records that are gone or left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from connectors.transport.chunk import Assignment
from connectors.transport.history import moved, offsets_lost, topic_made_anew
from schemas.errors import ConfigurationError, SourceMoved, TableStopped
from schemas.table import Decision, TableEntry
from schemas.topics import TopicNames
from streams.decide import Found, accept_output, asked_of, decide, read_start
from streams.tables import TableDirectory

ENTRY = TableEntry.model_validate({"spec": {"table": "patients", "topics": ["a", "b"], "columns": {"id": "long"}}})


def _at(topic: str, number: int, committed: int | None, low: int, high: int, generation: int = 0) -> Assignment:
    mine = Assignment("", topic, number)
    mine.committed, mine.low, mine.high, mine.generation = committed, low, high, generation
    return mine


def _found(topic: str, *partitions: Assignment, troubles: dict[int, SourceMoved] | None = None) -> Found:
    return Found(topic, f"id-{topic}", {each.partition: each for each in partitions}, troubles or {})


def _gap(topic: str = "a", generation: int = 0) -> Found:
    """Partition 1 lacks what stood at 7, 8 and 9; partition 0 is well."""
    gone = _at(topic, 1, 7, 10, 30, generation)
    trouble = moved(gone, "", 7)
    assert trouble is not None
    return _found(topic, _at(topic, 0, 5, 0, 9, generation), gone, troubles={1: trouble})


def _anew(topic: str = "b") -> Found:
    trouble = topic_made_anew(topic, "old", f"id-{topic}")
    return _found(topic, _at(topic, 0, None, 0, 12), troubles={0: trouble})


def test_a_gap_is_accepted_by_its_name_in_the_generation_that_is_read() -> None:
    """Another one, later, is not."""
    entry, said = decide(ENTRY, [_gap(generation=2), _found("b", _at("b", 0, 3, 0, 9))], anew=False, start="earliest")

    assert {"a": Decision(topic_id="id-a", generation=2, start="earliest", gaps={1: 7})} == entry.decisions
    assert (0, ["a[1] goes on at 10: 3 records are gone"]) == (entry.generation, said)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("latest", "a[1] goes on at 30: 3 records are gone, and 20 that are there are left out"),
        ({1: 12}, "a[1] goes on at 12: 3 records are gone, and 2 that are there are left out"),
        ({1: 3}, "a[1] goes on at 10: 3 records are gone"),
    ],
)
def test_what_is_left_out_beside_a_gap_is_said(start: Any, said: str) -> None:
    """By the number of records."""
    assert [said] == decide(ENTRY, [_gap()], anew=False, start=start)[1]


def test_what_cannot_be_gone_on_with_begins_a_generation_above_all_that_were() -> None:
    """Only the topics in trouble; the others go on where they are."""
    before = ENTRY.model_copy(update={"generation": 1})
    lost = _at("a", 0, None, 0, 40, 3)
    found = [_found("a", lost, troubles={0: offsets_lost(lost)}), _anew("b"), _found("c", _at("c", 0, 4, 0, 9))]

    entry, said = decide(before, found, anew=False, start="latest")

    assert {"a": 4, "b": 4} == {topic: decision.generation for topic, decision in entry.decisions.items()}
    assert (4, "latest") == (entry.generation, entry.decisions["b"].start)
    assert "a is read from its end as generation 4: 0 records, 40 are left out" == said[0]


def test_a_generation_is_above_those_of_all_tables_that_read_the_topic() -> None:
    """One that was replayed beside it has emitted its records in a generation of its own."""
    found = replace(_anew("b"), generation=6)

    entry, said = decide(ENTRY, [_gap(), found], anew=False, start="earliest")

    assert (7, 7) == (entry.generation, entry.decisions["b"].generation)
    assert "b is read from its beginning as generation 7: 12 records" == said[1]


def test_what_was_asked_of_a_topic_is_the_highest_of_its_tables() -> None:
    """By a replay of one, or a decision for one that workers have not reached yet; of a topic of nobody nothing was."""
    entries = {
        "patients": ENTRY,
        "patients_v2": TableEntry(spec=ENTRY.spec.model_copy(update={"table": "patients_v2", "beside": "patients"})),
    }
    names = TopicNames()

    def asked(**changes: Any) -> int:
        beside = entries["patients_v2"].model_copy(update=changes)
        return asked_of("a", names, TableDirectory({**entries, "patients_v2": beside}))

    assert (0, 4) == (asked(), asked(generation=4))
    assert 5 == asked(generation=4, decisions={"a": Decision(topic_id="id-a", generation=5)})
    assert 4 == asked(generation=4, decisions={"b": Decision(topic_id="id-b", generation=5)})
    assert 0 == asked_of("c", names, TableDirectory(entries))


def test_a_gap_can_be_read_anew_and_a_healthy_topic_only_by_its_name() -> None:
    """Nothing is read a second time because somebody wanted to be sure."""
    healthy = _found("b", _at("b", 0, 4, 0, 9))

    assert {"a": 1} == {
        t: d.generation for t, d in decide(ENTRY, [_gap(), healthy], anew=True, start="earliest")[0].decisions.items()
    }
    assert {} == decide(ENTRY, [healthy], anew=True, start="earliest")[0].decisions
    assert {"b"} == decide(ENTRY, [healthy], anew=True, start="earliest", topics=["b"])[0].decisions.keys()


def test_a_topic_that_the_table_does_not_have_is_refused() -> None:
    """With those that it has."""
    with pytest.raises(TableStopped, match="patients has no topic x") as refused:
        decide(ENTRY, [_gap()], anew=True, start="earliest", topics=["x"])

    assert "topics are a" == refused.value.hint


def test_an_output_topic_is_accepted_by_its_id() -> None:
    """What was decided about source topics stays."""
    entry, _ = decide(ENTRY, [_anew()], anew=True, start="earliest")

    accepted = accept_output(entry, "headgate.changes.patients", "id-out")

    assert {"b": 1, "headgate.changes.patients": 2} == {t: d.generation for t, d in accepted.decisions.items()}
    assert TableEntry.model_validate_json(accepted.model_dump_json()) == accepted


@pytest.mark.parametrize(
    ("text", "start"), [("earliest", "earliest"), ("latest", "latest"), ("0=47, 12=0", {0: 47, 12: 0})]
)
def test_a_place_is_read_as_it_is_written(text: str, start: Any) -> None:
    """A word, or offsets of partitions."""
    assert start == read_start(text)


@pytest.mark.parametrize(
    "text", ["", "47", "0=", "=4", "0=-1", "0=1,0=2", "0=1,", "0=1.5", "Latest", "0=²", "0=" + "9" * 19]
)
def test_a_place_that_is_none_is_refused(text: str) -> None:
    """With how places are written."""
    with pytest.raises(ConfigurationError) as refused:
        read_start(text)

    assert "0=4711" in refused.value.hint
