"""Several tables in one topic: each gets what it would have got from a topic of its own, with a chain of its own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from connectors.transport.chunk import Assignment, Run
from schemas.errors import TransactionAborted
from tests.unit.fakes import Message, run_of
from tests.unit.streams.dms_specs import dms_spec
from tests.unit.streams.shared_topic import NAMES, TOPIC, Shared, partition
from tests.workloads.dms_topic import control_record, dms_record

P, V = "patients", "visits"


def _record(table: str, at: int, op: str = "insert", row: int = 1) -> bytes:
    return dms_record(table, at, {"id": row, "name": f"n{at}"}, op)


def _load(table: str, row: int = 1) -> bytes:
    return dms_record(table, 0, {"id": row, "name": "loaded"}, "load")


def test_each_record_goes_to_the_table_that_it_names() -> None:
    """Control records and tombstones are counted once, and are no change of any table."""
    shared, a = Shared(), partition(2)

    shared.step(run_of(a, 10, [control_record(V), _record(P, 1), _record(V, 2), None, _record(P, 3)]))

    assert [(None, 11), (11, 14)] == shared.chain(P)
    assert [(None, 12)] == shared.chain(V)
    assert ["clinic.patients"] * 2 == [each["source"]["table"] for each in shared.changes(P)]
    assert {2} == {each.partition for each in shared.of(NAMES.changes(P)) + shared.of(NAMES.changes(V))}
    counts = shared.stage.counters()
    assert (5, 3, 1, 1) == tuple(
        counts[name] for name in ("read", "emitted", "skipped_schema_change", "skipped_tombstone")
    )
    assert [15] == [each.next_offset for each in shared.writer.advances]
    assert {NAMES.changes(P): 3, NAMES.changes(V): 3} == shared.ensured[-1]


def test_chains_are_unbroken_over_groups_and_a_restart() -> None:
    """Also that of a table which has had no change for long."""
    shared, a = Shared(), partition()

    shared.step(run_of(a, 10, [_record(V, 1), _record(P, 2)]), run_of(a, 12, [_record(P, 3)]))
    shared.step(run_of(a, 13, [_record(P, 4)]))
    b = shared.restarted(a)
    shared.step(run_of(b, 14, [_record(P, 5), _record(V, 6)]))

    assert [(None, 11), (11, 12), (12, 13), (13, 14)] == shared.chain(P)
    assert [(None, 10), (10, 15)] == shared.chain(V)
    assert 0 == max(each.partition for each in shared.of(NAMES.normalize_previous))


def test_partitions_have_chains_of_their_own() -> None:
    """As in a topic of one table."""
    shared = Shared()

    shared.step(run_of(partition(0), 5, [_record(P, 1)]), run_of(partition(1), 7, [_record(P, 2)]))

    assert [(None, 5), (None, 7)] == shared.chain(P)


def test_an_aborted_attempt_leaves_nothing_behind() -> None:
    """Neither a change nor a link nor what a decoder remembered."""
    shared, a = Shared(failures=[TransactionAborted("aborted")]), partition()
    run = run_of(a, 10, [_load(P), _record(P, 1), _record(V, 2)])

    with pytest.raises(TransactionAborted):
        shared.step(run)
    shared.step(run)

    assert [(None, 10), (10, 11)] == shared.chain(P)
    assert [(None, 12)] == shared.chain(V)
    assert 3 == shared.stage.counters()["emitted"]
    assert {} == shared.consumer.paused


def test_what_is_remembered_of_each_table_outlives_the_worker() -> None:
    """A load after changes of the same table stops it, in whichever process; after those of another it does not."""
    shared, a = Shared(), partition()

    shared.step(run_of(a, 10, [_record(P, 1)]))
    b = shared.restarted(a)
    shared.step(run_of(b, 11, [_load(V), _record(V, 2), _load(P), _record(V, 3)]))

    assert [13] == shared.parked_offsets(P)
    assert [(None, 11), (11, 12), (12, 14)] == shared.chain(V)
    assert [11, 15] == [each.next_offset for each in shared.writer.advances]


@pytest.mark.parametrize(("policy", "aside"), [("ignore", 0), ("quarantine", 2)])
def test_records_of_a_table_that_no_spec_names_are_unregistered(policy: str, aside: int) -> None:
    """They hold up nobody."""
    shared = Shared(config=f"unregistered: {policy}")

    shared.step(run_of(partition(), 10, [_record("bills", 1), _record(P, 2), _record("bills", 3)]))

    assert [(None, 11)] == shared.chain(P)
    found = shared.quarantined()
    assert [("unregistered", None)] * aside == [(each.reason, each.table) for each in found]
    assert all("clinic.bills of dms-task" in each.message for each in found)
    assert 2 == sum(n for name, n in shared.stage.counters().items() if name.endswith("_unregistered"))


def test_bad_records_are_in_quarantine_under_the_table_that_they_name() -> None:
    """What cannot be read, or names none although it is a change, is under none."""
    shared = Shared()
    bare = json.loads(_record(P, 1))
    del bare["metadata"]["table-name"]
    bad: Any = dms_record(V, 3, {"id": "no number"})

    shared.step(run_of(partition(), 10, [b"{", json.dumps(bare).encode(), bad, _record(V, 4)]))

    assert [("visits", "bad_type"), (None, "broken_json"), (None, "no_table")] == [
        (each.table, each.reason) for each in shared.quarantined()
    ]
    assert [12, 10, 11] == [each.origin[3] for each in shared.quarantined()]
    assert ([], [(None, 13)]) == (shared.chain(P), shared.chain(V))
    assert {("visits", "bad_type"): 1, ("", "broken_json"): 1, ("", "no_table"): 1} == shared.stage.quarantined


def test_a_record_that_no_attempt_gets_through_is_under_its_table() -> None:
    """Its successors go on with their chain."""
    shared, a = Shared(), partition()
    shared.step(run_of(a, 10, [_record(V, 1)]))

    asyncio.run(shared.stage.on_poison(run_of(a, 11, [_record(V, 2)]), KeyError("x")))
    b = shared.restarted(a)
    shared.step(run_of(b, 12, [_record(V, 3)]))

    assert [("visits", "bug")] == [(each.table, each.reason) for each in shared.quarantined()]
    assert [(None, 10), (10, 12)] == shared.chain(V)


def test_a_new_generation_begins_new_chains_and_remembers_nothing() -> None:
    """Its offsets count from the beginning again, and it may begin with a load."""
    shared, a = Shared(), partition()

    shared.step(run_of(a, 10, [_record(P, 1), _record(V, 2)]))
    anew = shared.restarted(a)
    anew.generation, anew.metadata = 1, ""
    shared.step(run_of(anew, 0, [_load(P), _record(V, 3)]))

    assert [(None, 10), (None, 0)] == shared.chain(P)
    assert [(None, 11), (None, 1)] == shared.chain(V)
    assert {} == shared.consumer.paused


def test_behind_a_gap_the_chain_of_every_table_breaks() -> None:
    """Also of one whose next change comes much later, to another worker; what is remembered stays."""
    shared, a = Shared(), partition()
    shared.step(run_of(a, 10, [_record(P, 1), _record(V, 2)]))
    b = shared.restarted(a)
    b.gap = (12, 50)

    shared.step(run_of(b, 50, [_record(P, 3)]))
    c = shared.restarted(b)
    shared.step(run_of(c, 51, [_record(V, 4), _load(V)]))

    assert [(None, 10), (None, 50)] == shared.chain(P)
    assert [(None, 11), (None, 51)] == shared.chain(V)
    assert [52] == shared.parked_offsets(V)


def test_a_topic_that_gets_a_second_table_keeps_the_chain_of_the_first() -> None:
    """Its spec gets a `source_table`; the new table begins, and nobody sees a gap; also on the way back."""
    whole = dms_spec(P, TOPIC, source_table=None)
    shared, a = Shared(whole), partition()
    shared.step(run_of(a, 10, [_record(P, 1)]))

    shared.apply(dms_spec(P, TOPIC), dms_spec(V, TOPIC))
    shared.step(run_of(a, 11, [_record(V, 2), _record(P, 3)]))
    asyncio.run(_removed(shared, V))
    shared.apply(whole)
    b = shared.restarted(a)
    shared.step(run_of(b, 13, [_record(P, 4), _load(P)]))

    assert [(None, 10), (10, 12), (12, 13)] == shared.chain(P)
    assert [(None, 11)] == shared.chain(V)
    assert "source_read_anew" == shared.consumer.paused[TOPIC].reason


async def _removed(shared: Shared, table: str) -> None:
    await shared.stage.tables_changed(shared.tables.update({table.encode(): None}))


def test_one_table_alone_takes_no_more_than_its_records() -> None:
    """A spec that says its `source_table` passes over what others of the topic are."""
    shared = Shared(dms_spec(V, TOPIC))

    shared.step(run_of(partition(), 10, [_record(P, 1), _record(V, 2)]))

    assert [(None, 11)] == shared.chain(V)
    assert 1 == shared.stage.counters()["skipped_unregistered"]


def test_what_comes_again_without_transactions_stops_nothing_and_leads_back_into_the_chain() -> None:
    """Links were written, and the worker died before it committed: a load comes again after its changes."""
    shared, a = Shared(), partition()
    values = [_load(P), _record(P, 1), _load(V), _record(P, 2)]

    shared.step(run_of(a, 10, values))
    shared.writer.advances.clear()
    b = shared.restarted(a)
    shared.step(run_of(b, 10, [*values, _record(P, 3), _record(V, 4)]))

    assert {} == shared.consumer.paused
    assert [10, 11, 13, 10, 11, 13, 14] == [offset for _, offset in shared.chain(P)]
    assert ((13, 14), (12, 15)) == (shared.chain(P)[-1], shared.chain(V)[-1])


def test_links_that_cannot_be_read_pause_the_shared_topics_alone() -> None:
    """A newer release wrote them, or somebody else: a wrong `previous` would look like a loss."""
    shared = Shared(dms_spec(P, TOPIC), dms_spec(V, TOPIC), dms_spec("bills", "other", source_table=None))
    shared.kept[b'["dms-task",0,"patients"]'] = b'{"v":2}'

    shared.step(
        run_of(partition(), 10, [_record(P, 1)]), run_of(Assignment("main", "other", 0), 5, [_record("bills", 1)])
    )

    assert "chains_unreadable" == shared.consumer.paused[TOPIC].reason
    assert ([], [(None, 5)]) == (shared.chain(P), shared.chain("bills"))


def test_a_change_that_is_too_large_is_its_tables_and_nobodys_previous() -> None:
    """The next one names the one before it."""
    shared, a = Shared(config="limits: {record_bytes_max: 4000000}"), partition()
    large = dms_record(V, 2, {"id": 1, "name": "x" * 2**20})

    shared.step(Run(a, [Message(10 + i, None, each) for i, each in enumerate([_record(V, 1), large, _record(V, 3)])]))

    assert [("visits", "output_too_large")] == [(each.table, each.reason) for each in shared.quarantined()]
    assert [(None, 10), (10, 12)] == shared.chain(V)
