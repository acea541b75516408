"""A topic that tables share comes to what topics of their own would, however their records stand among each other."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.transport.chunk import Assignment, Run
from schemas.errors import TransactionAborted
from tests.unit.fakes import Message, run_of
from tests.unit.streams.dms_specs import dms_spec
from tests.unit.streams.shared_topic import TOPIC, Shared, partition
from tests.workloads.dms_topic import control_record, dms_record

TABLES = ("patients", "visits", "wards")
ALONE = {table: f"alone-{table}" for table in TABLES}
KINDS = ("load", "insert", "update", "delete", "rekey", "broken", "nothing")
RECORDS = st.lists(
    st.tuples(st.sampled_from((*TABLES, "bills")), st.sampled_from(KINDS), st.integers(1, 3)), max_size=30
)
CUTS = st.sets(st.integers(0, 30), max_size=6)


def _value(table: str, kind: str, row: int, at: int) -> bytes | None:
    if kind == "nothing":
        return None if row == 1 else control_record(table)
    content: dict[str, Any] = {"id": "x"} if kind == "broken" else {"id": row, "name": f"n{at}"}
    before = {"id": row + 1} if kind == "rekey" else None  # a delete and an insert, of one record
    return dms_record(table, at, content, {"broken": "insert", "rekey": "update"}.get(kind, kind), before)


def _pieces(values: list[bytes | None], cuts: set[int]) -> list[tuple[int, list[bytes | None]]]:
    """Return the values as runs, each with its first offset."""
    places = sorted({0, *(cut for cut in cuts if cut < len(values)), len(values)})
    return [(begin, values[begin:end]) for begin, end in pairwise(places)]


def _without_topic(change: Any) -> Any:
    """Return a change without the name of the topic that it was read from."""
    source = {**change["source"], "origin": change["source"]["origin"][1:]}
    return {**change, "source": source}


@settings(deadline=None, max_examples=150)
@given(records=RECORDS, cuts=CUTS, restarts=CUTS, aborts=CUTS)
def test_each_table_gets_what_a_topic_of_its_own_would_give(
    records: list[tuple[str, str, int]], cuts: set[int], restarts: set[int], aborts: set[int]
) -> None:
    """Also one that a record stops: what comes of it from there on is parked, and the others go on.

    Over runs, restarts and attempts that were aborted.
    """
    values = [_value(table, kind, row, at) for at, (table, kind, row) in enumerate(records)]
    shared = Shared(*(dms_spec(table, TOPIC) for table in TABLES))
    mine = partition()
    for begin, some in _pieces(values, cuts | restarts | aborts):
        if begin in restarts:
            mine = shared.restarted(mine)
        run = run_of(mine, begin, some)
        if begin in aborts:
            shared.writer.failures.append(TransactionAborted("aborted"))
            with pytest.raises(TransactionAborted):
                shared.step(run)
        shared.step(run)

    alone = Shared(*(dms_spec(table, ALONE[table], source_table=None) for table in TABLES))
    stopped: dict[str, list[int]] = {}
    for table in TABLES:
        offsets = [at for at, (named, kind, _) in enumerate(records) if named == table and kind != "nothing"]
        if offsets:
            messages = [Message(at, None, values[at]) for at in offsets]
            alone.step(Run(Assignment("main", ALONE[table], 0), messages))
            done = alone.writer.advances[-1].next_offset
            stopped[table] = [at for at in offsets if at >= done]

    assert {} == shared.consumer.paused
    assert {ALONE[table] for table, left in stopped.items() if left} == set(alone.consumer.paused)
    for table in TABLES:
        assert list(map(_without_topic, alone.changes(table))) == list(map(_without_topic, shared.changes(table)))
        assert stopped.get(table, []) == [at for at in shared.parked_offsets(table) if records[at][1] != "nothing"]
    assert _aside(alone) == _aside(shared)


def _aside(shared: Shared) -> list[tuple[str, str, int]]:
    """Return what is in quarantine, but for what is of no table."""
    return sorted((each.table, each.reason, each.origin[3]) for each in shared.quarantined() if each.table is not None)
