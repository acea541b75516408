"""No change is read by a spec that is older than the one it was written by."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.transport.chunk import Headers, Run
from schemas.change import HEADER_SCHEMA_VERSION
from schemas.topics import TopicNames
from streams.schema_gate import SchemaGate, last_of_stretches, version_of, versions_of
from tests.unit.fakes import CHANGES, Message, assignment_of


class Asked(Message):
    """A record that counts how often its headers are made."""

    made = 0

    def headers(self) -> Headers | None:
        """Make them."""
        Asked.made += 1
        return super().headers()


def run_of(*stretches: list[int], topic: str = CHANGES) -> Run:
    """Return a run of transactions whose records have these versions; a marker stands behind each."""
    messages: list[Message] = []
    offset = 10
    for versions in stretches:
        for version in versions:
            messages.append(Asked(offset, b"k", b"v", [(HEADER_SCHEMA_VERSION, b"%d" % version)]))
            offset += 1
        offset += 1
    return Run(assignment_of(topic), messages)


class Tables:
    """What a stage knows, and what it learns when it reads on."""

    def __init__(self, known: int | None, then: int | None = None) -> None:
        self.known, self.then, self.asked = known, then, 0
        self.gate = SchemaGate(TopicNames(), lambda _: self.known)
        self.gate.catch_up = self.catch_up

    async def catch_up(self) -> None:
        """Read on."""
        self.asked += 1
        self.known = self.then


async def test_what_is_known_passes_without_a_question() -> None:
    """As nearly every group does."""
    tables = Tables(2)
    let_in = await tables.gate.let_in([run_of([2, 2, 2])])

    assert (0, {}, frozenset()) == (tables.asked, let_in.stopped, let_in.older)


async def test_a_version_that_is_not_known_is_read_first() -> None:
    """It stands in the tables' topic: NORMALIZE wrote it before."""
    tables = Tables(2, then=3)
    let_in = await tables.gate.let_in([run_of([2, 2, 3]), run_of([2])])

    assert (1, {}, frozenset({CHANGES})) == (tables.asked, let_in.stopped, let_in.older)


async def test_a_version_that_nobody_knows_stops_its_topic_alone() -> None:
    """With the reason, and what to do."""
    tables = Tables(2, then=2)
    other = CHANGES.replace("patients", "bills")
    let_in = await tables.gate.let_in([run_of([5]), run_of([2], topic=other)])

    assert [CHANGES] == list(let_in.stopped)
    assert "schema_unknown" == let_in.stopped[CHANGES].reason
    assert (
        "headgate.changes.patients has changes of schema version 5, and headgate.tables has patients in version 2"
        == let_in.stopped[CHANGES].message
    )
    assert "tables resume TABLE" in let_in.stopped[CHANGES].hint


async def test_a_table_that_has_left_is_nobody_s_trouble() -> None:
    """The stage lets its records go."""
    let_in = await Tables(None).gate.let_in([run_of([5])])

    assert {} == let_in.stopped


@pytest.mark.parametrize("takeover", [[[1, 1, 2], [1, 1]], [[1], [2], [1], [1]], [[2, 3], [1, 2, 2], [1]]])
def test_a_worker_that_knew_less_hides_no_version(takeover: list[list[int]]) -> None:
    """Who takes a partition over may know less for a moment: first and last of the run alone would say 1."""
    assert max(max(versions) for versions in takeover) == max(versions_of([run_of(*takeover)]))


def test_the_records_before_gaps_are_found_wherever_they_are() -> None:
    """By halving."""
    assert [2, 3, 4] == last_of_stretches(run_of([1, 1, 1], [1], [1]))
    assert [0] == last_of_stretches(run_of([1]))


def test_few_records_of_a_run_are_looked_at() -> None:
    """A header costs microseconds; a run of one transaction costs two of them."""
    Asked.made = 0
    versions_of([run_of([1] * 5_000)])
    assert 2 == Asked.made

    Asked.made = 0
    versions_of([run_of([1] * 2_000, [1] * 1_000, [1] * 2_000)])
    assert 4 == Asked.made


@pytest.mark.parametrize("said", [b"", b"-1", b"x", b"1" * 5_000, "٣".encode(), None])
def test_a_header_that_is_none_of_ours_says_nothing(said: Any) -> None:
    """Whatever somebody else wrote there."""
    assert version_of([("other", b"1"), (HEADER_SCHEMA_VERSION, said)]) is None
    assert version_of([]) is None
    assert 17 == version_of([(HEADER_SCHEMA_VERSION, b"17")])
