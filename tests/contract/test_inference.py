"""Each capture decoded by the specs that its own records propose: as well as by specs made from the database's types."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from connectors.captured import OneRecord
from connectors.formats import PartitionMemory, format_of
from connectors.inference import Proposal, Sure, new_samples
from schemas.config import LimitsConfig
from schemas.table import TableEntry, TableSpec
from streams.final_rows import FinalRows
from streams.looked import CHANGE, Looker
from tests.contract.test_formats import LOSSY, NOT_COMPARED, NOT_FOLDED, STOPS, folded, tables
from tests.unit.formats.captures import CapturedRun, oracle, records, runs, spec_of, topic_of
from tests.unit.formats.likeness import differences

CASES = sorted({case for case, _ in tables()})
KNOWN = [entry for entry in tables() if entry not in NOT_FOLDED and entry not in STOPS]
# Columns that a schema block states, and that are proposed otherwise since a captured value has no form in its type.
WIDENED: dict[str, set[str]] = {}
# Columns of which a schema block does not say what they are.
UNSAID = {"mariadb-types-schema": {"js"}}


def one(run: CapturedRun, at: int) -> OneRecord:
    """Return one record of a run."""
    return OneRecord(run.topic, run.partition, run.offsets()[at], run.keys()[at], run.values()[at], run.headers(at))


@functools.cache
def proposals(case: str) -> dict[str, Proposal]:
    """Return what the records of a case propose, by topic."""
    samples = new_samples()
    for topic in dict.fromkeys(record["topic"] for record in records(case)):
        for run in runs(case, topic):
            for at in range(len(run)):
                samples.add(one(run, at))
    return {topic: proposal for proposal in samples.tables() for topic in proposal.spec.topics}


def refused(spec: TableSpec, case: str, topic: str) -> set[tuple[int, int]]:
    """Return partition and offset of each record that would go to quarantine."""
    found = set()
    for run in runs(case, topic):
        decoded = format_of(spec.format).decoder(TableEntry(spec=spec), LimitsConfig()).decode(run, PartitionMemory())
        found |= {(run.partition, run.offsets()[rejected.index]) for rejected in decoded.rejected}
    return found


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_refused_that_a_spec_by_hand_takes(case: str) -> None:
    """Values that were sampled have a form in what is proposed: not even infinity is refused."""
    by_hand = {topic_of(case, table): spec_of(case, table) for table in oracle(case)}
    for topic, proposal in proposals(case).items():
        ours = refused(proposal.spec, case, topic)
        try:
            theirs = refused(by_hand[topic], case, topic) if topic in by_hand else set()
        except Exception:
            theirs = set()

        assert set() == ours - theirs, topic
        assert not {"bad_type", "out_of_range"} & reasons(proposal.spec, case, topic)


def reasons(spec: TableSpec, case: str, topic: str) -> set[str]:
    """Return why records would go to quarantine."""
    found = set()
    for run in runs(case, topic):
        decoded = format_of(spec.format).decoder(TableEntry(spec=spec), LimitsConfig()).decode(run, PartitionMemory())
        found |= {rejected.error.reason for rejected in decoded.rejected}  # type: ignore[attr-defined]
    return found


def rows(case: str, table: str) -> list[dict[str, Any]]:
    """Return the rows that `decode --rows` gives of a table."""
    topic = topic_of(case, table)
    spec = proposals(case)[topic].spec
    looker, final = Looker({spec.table: spec}, LimitsConfig()), FinalRows(spec)
    for run in runs(case, topic):
        for at in range(len(run)):
            looked = looker.look(one(run, at))
            if looked.kind == CHANGE and looked.change is not None:
                final.apply(bytes(looked.change))
    return list(final.documents())


@pytest.mark.parametrize(("case", "table"), KNOWN)
def test_the_rows_have_the_keys_of_the_database(case: str, table: str) -> None:
    """The same as specs by hand give, and rows that those refuse."""
    known = oracle(case)[table]
    got = {json.dumps([str(row["key"][name]) for name in known["primary_key"]]) for row in rows(case, table)}

    assert folded(case, table).rows.keys() <= got
    assert got <= {json.dumps([str(row[name]) for name in known["primary_key"]]) for row in known["rows"]}


@pytest.mark.parametrize(("case", "table"), [entry for entry in KNOWN if entry])
def test_values_are_those_of_the_database_where_a_schema_block_says_what_they_are(case: str, table: str) -> None:
    """But for those that the source itself loses, as `test_formats.py` names them."""
    proposal, known = proposals(case)[topic_of(case, table)], oracle(case)[table]
    if not proposal.has_schema:
        pytest.skip("no schema block")
    expected = {json.dumps([str(row[name]) for name in known["primary_key"]]): row for row in known["rows"]}
    unlike: dict[str, str] = {}
    for document in rows(case, table):
        key = json.dumps([str(document["key"][name]) for name in known["primary_key"]])
        for name, sql_type in known["columns"].items():
            if sql_type in NOT_COMPARED or name not in expected[key] or name == "ia2":
                continue
            if difference := differences(sql_type, document["row"].get(name), expected[key][name]):
                unlike[name] = difference
    spared = LOSSY.get(case, {}).keys() | WIDENED.get(case, set()) | UNSAID.get(case, set())

    assert {} == {name: difference for name, difference in unlike.items() if name not in spared}
    assert {Sure.HIGH} == {evidence.sure for evidence in proposal.columns.values()}
