"""Each capture decoded by the specs that its own records propose: as well as by those made from the database."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from connectors.captured import OneRecord
from connectors.formats import PartitionMemory, format_of
from connectors.inference import Proposal, Sure, new_samples
from connectors.inference.writing import as_yaml
from schemas.config import LimitsConfig
from schemas.document import read_document
from schemas.table import TableEntry, TableSpec
from streams.final_rows import FinalRows
from streams.looked import CHANGE, Looker
from tests.contract.test_formats import LEFT, LOSSY, NOT_COMPARED, NOT_FOLDED, STOPS, folded, tables
from tests.unit.formats.captures import CapturedRun, oracle, records, runs, spec_of, topic_of
from tests.unit.formats.likeness import differences

CASES = sorted({case for case, _ in tables()})
KNOWN = [entry for entry in tables() if entry not in NOT_FOLDED and entry not in STOPS]
# Records that no one key takes, by topic: what a spec by hand would have to choose as well.
KEY_CHANGED = {
    "capmddl.capmddl.t2": ("bad_key", "its key was (id), then (id, a): the newest is proposed"),
    "capddxs.public.t": ("bad_key", "its key was (id), then (id, a): the newest is proposed"),
    "capddls.public.t": ("no_key", "a delete came without a key, while the connector saw the key's change"),
}
UNREADABLE_BY_HAND = {"capident.Odd_Schema.Stra_e_mit.Punkt"}  # names with quotes: those columns are left out
# Keys whose type only a schema block would say.
UNTYPED_KEYS = {("pg-partitioned-root-false", "public.ev_02"): "a date without a schema block is a number"}


def one(run: CapturedRun, at: int) -> OneRecord:
    """Return one record of a run."""
    key, value, headers = run.keys()[at], run.values()[at], run.headers(at)
    return OneRecord(run.topic, run.partition, run.offsets()[at], key, value, headers, run.timestamps()[at])


@functools.cache
def proposals(case: str) -> dict[str, Proposal]:
    """Return what the records of a case propose, by topic."""
    samples = new_samples()
    for topic in dict.fromkeys(record["topic"] for record in records(case)):
        for run in runs(case, topic):
            for at in range(len(run)):
                samples.add(one(run, at))
    return {topic: proposal for proposal in samples.tables() for topic in proposal.spec.topics}


def refused(spec: TableSpec, case: str, topic: str) -> dict[tuple[int, int], str]:
    """Return why records would go to quarantine, by partition and offset."""
    found: dict[tuple[int, int], str] = {}
    for run in runs(case, topic):
        decoded = format_of(spec.format).decoder(TableEntry(spec=spec), LimitsConfig()).decode(run, PartitionMemory())
        for rejected in decoded.rejected:
            found[run.partition, run.offsets()[rejected.index]] = rejected.error.reason  # type: ignore[attr-defined]
    return found


def by_hand(case: str, topic: str) -> TableSpec | None:
    """Return the spec that knows the database, where the decoder reads its columns' names."""
    tables_of = {topic_of(case, table): table for table in oracle(case)}
    if topic not in tables_of or topic in UNREADABLE_BY_HAND:
        return None
    return spec_of(case, tables_of[topic])


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_refused_that_a_spec_by_hand_takes(case: str) -> None:
    """Values that were sampled have a form in what is proposed: not even infinity is refused."""
    assert proposals(case)
    for topic, proposal in proposals(case).items():
        ours, spec = refused(proposal.spec, case, topic), by_hand(case, topic)
        theirs = {} if spec is None else refused(spec, case, topic)

        beyond = {ours[place] for place in ours.keys() - theirs.keys()}

        assert ({KEY_CHANGED[topic][0]} if topic in KEY_CHANGED else set()) == beyond
        assert not {"bad_type", "out_of_range"} & set(ours.values())


def rows(case: str, table: str) -> list[dict[str, Any]]:
    """Return the rows that `decode --rows` gives of a table."""
    topic = topic_of(case, table)
    spec = proposals(case)[topic].spec
    looker, final = Looker({spec.table: spec}, LimitsConfig()), FinalRows(spec)
    for run in runs(case, topic):
        for at in range(len(run)):
            for looked in looker.look(one(run, at)):
                if looked.kind == CHANGE and looked.change is not None:
                    final.apply(bytes(looked.change))
    return list(final.documents())


@pytest.mark.parametrize(("case", "table"), [entry for entry in KNOWN if entry not in UNTYPED_KEYS])
def test_the_rows_have_the_keys_of_the_database(case: str, table: str) -> None:
    """The same as specs by hand give, and rows that those refuse."""
    known = oracle(case)[table]
    got = {json.dumps([str(row["key"][name]) for name in known["primary_key"]]) for row in rows(case, table)}

    assert folded(case, table).rows.keys() <= got
    expected = {json.dumps([str(row[name]) for name in known["primary_key"]]) for row in known["rows"]}
    assert got <= expected | LEFT.get((case, table), set())


@pytest.mark.parametrize(("case", "table"), KNOWN)
def test_values_are_those_of_the_database_where_their_type_can_be_known(case: str, table: str) -> None:
    """As a schema block says, or where values alone give what a spec by hand has; but for what the source loses."""
    proposal, known = proposals(case)[topic_of(case, table)], oracle(case)[table]
    by_hand_columns = spec_of(case, table).columns
    told = {
        name
        for name, column in proposal.spec.columns.items()
        if name in by_hand_columns and (proposal.has_schema or column == by_hand_columns[name])
    }
    taken_by_hand = folded(case, table).rows  # what those refuse, such as infinity, is not in LOSSY
    expected = {
        key: row
        for row in known["rows"]
        if (key := json.dumps([str(row[name]) for name in known["primary_key"]])) in taken_by_hand
    }
    unlike: dict[str, str] = {}
    for document in rows(case, table):
        row = expected.get(json.dumps([str(document["key"][name]) for name in known["primary_key"]]), {})
        for name in told & row.keys():
            sql_type = known["columns"][name]
            if sql_type in NOT_COMPARED or name == "ia2":
                continue
            if difference := differences(sql_type, document["row"].get(name), row[name]):
                unlike[name] = difference

    assert {} == {name: difference for name, difference in unlike.items() if name not in LOSSY.get(case, {})}
    assert not proposal.has_schema or {Sure.HIGH} == {evidence.sure for evidence in proposal.columns.values()}


@pytest.mark.parametrize("case", CASES)
def test_a_proposal_is_a_spec_that_people_can_keep(case: str) -> None:
    """Written as YAML and read again it is the same; and its decoder can be made."""
    for proposal in proposals(case).values():
        read = read_document(as_yaml(proposal), TableSpec, name="proposal")

        assert proposal.spec == read
        format_of(read.format).decoder(TableEntry(spec=read), LimitsConfig())


def test_a_schema_block_changes_no_name_and_no_key() -> None:
    """The same statements captured with and without it propose the same columns."""
    with_block, without = (
        {proposal.spec.table: proposal.spec for proposal in proposals(case).values()}
        for case in ("pg-json-with-schema", "pg-json-schemaless")
    )

    assert with_block.keys() == without.keys()
    for name, spec in with_block.items():
        assert (spec.key, list(spec.columns)) == (without[name].key, list(without[name].columns))
