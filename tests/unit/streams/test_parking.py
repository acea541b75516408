"""A table that is paused, or has stopped, in a topic that others share: it is parked, and the others go on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from connectors.transport.chunk import Assignment, Group, Run
from schemas.change import HEADER_FIRST_ORIGIN, HEADER_MEMORY
from schemas.errors import TransactionAborted
from streams.chains import Chains
from streams.parking import PARKED_LANE
from tests.unit.fakes import Message, run_of
from tests.unit.streams.dms_specs import dms_spec
from tests.unit.streams.shared_topic import NAMES, TOPIC, Shared, partition
from tests.workloads.dms_topic import dms_record

P, V = "patients", "visits"


def _record(table: str, at: int, op: str = "insert", row: int = 1) -> bytes:
    return dms_record(table, at, {"id": row, "name": f"n{at}"}, op)


def _load(table: str) -> bytes:
    return dms_record(table, 0, {"id": 1, "name": "loaded"}, "load")


def _paused(shared: Shared, table: str = V, **changes: Any) -> None:
    shared.apply(dms_spec(table, TOPIC), paused="maintenance", **changes)


def test_records_of_a_paused_table_are_parked_as_they_are_and_the_others_go_on() -> None:
    """With own key, value and headers, and where each was read; in the partition of its origin's number."""
    shared, a = Shared(), partition(2, generation=3)
    _paused(shared)
    values = [_record(P, 1), _record(V, 2), _record(V, 3)]

    shared.step(Run(a, [Message(10 + at, b"k%d" % at, each, [("own", b"1")]) for at, each in enumerate(values)]))

    assert [(None, 10)] == shared.chain(P)
    assert [(2, b"k1", values[1]), (2, b"k2", values[2])] == [
        (each.partition, each.key, each.value) for each in shared.parked(V)
    ]
    assert [b"1", b"1"] == [each.headers["own"] for each in shared.parked(V)]
    assert [[TOPIC, 3, 2, at] for at in (11, 12)] == [
        json.loads(each.headers[HEADER_FIRST_ORIGIN] or b"") for each in shared.parked(V)
    ]
    assert [13] == [each.next_offset for each in shared.writer.advances]
    assert ({}, 2) == (shared.consumer.paused, shared.stage.counters()["parked"])
    assert {NAMES.parked(V): 3} in shared.ensured


def test_a_table_that_goes_on_flows_again_with_the_chain_that_it_had() -> None:
    """What was parked is no part of it."""
    shared, a = Shared(), partition()
    shared.step(run_of(a, 10, [_record(V, 1)]))
    _paused(shared)
    shared.step(run_of(a, 11, [_record(V, 2)]))

    shared.apply(dms_spec(V, TOPIC), resumed=1)
    shared.step(run_of(a, 12, [_record(V, 3)]))

    assert [(None, 10), (10, 12)] == shared.chain(V)
    assert ([11], {}) == (shared.parked_offsets(V), shared.stage.parking())


def test_a_table_that_a_record_stops_is_parked_from_there_on_in_that_partition() -> None:
    """Whichever table it is; what the decoder had seen of it goes along."""
    shared, a, b = Shared(), partition(0), partition(1)
    values = [_record(V, 1), _record(P, 2), _load(V), _record(P, 3), _load(P), _record(V, 4)]

    shared.step(run_of(a, 10, values), run_of(b, 10, [_load(V)]))
    shared.step(run_of(a, 16, [_record(V, 5)]))

    assert ([(None, 11), (11, 13)], [14]) == (shared.chain(P), shared.parked_offsets(P))
    assert ([(None, 10), (None, 10)], [12, 15, 16]) == (shared.chain(V), shared.parked_offsets(V))
    memories = [json.loads(each.headers.get(HEADER_MEMORY) or b"null") for each in shared.parked(V)]
    assert [True, None, True] == [memory and memory["streamed"] for memory in memories]
    assert {} == shared.consumer.paused
    assert "patients: " in str(shared.stage.last_error)
    assert "source_read_anew" == shared.stage.parking()[V].reason.partition(":")[0]


def test_what_stopped_a_table_outlives_the_worker_until_somebody_has_it_resumed() -> None:
    """Also in a new process; a pause and a resume before do not count."""
    shared, a = Shared(), partition()
    shared.apply(dms_spec(V, TOPIC), resumed=4)
    shared.step(run_of(a, 10, [_record(V, 1), _load(V)]))

    b = shared.restarted(a)
    shared.step(run_of(b, 12, [_record(V, 2)]))
    shared.apply(dms_spec(V, TOPIC), resumed=5)
    shared.step(run_of(b, 13, [_record(V, 3)]))

    assert ([11, 12], [(None, 10), (10, 13)]) == (shared.parked_offsets(V), shared.chain(V))


def test_a_table_that_stopped_stays_parked_where_the_topic_is_read_again_for_another() -> None:
    """Nobody has it resumed: all that comes of it is parked, also by the worker after that, until somebody has."""
    shared, a = Shared(), partition()
    values = [_record(V, 1), _record(P, 2), _load(V), _record(V, 3)]
    shared.step(run_of(a, 10, values))

    b = shared.read_again(a)
    shared.step(run_of(b, 11, values[1:3]))
    c = shared.restarted(b)
    shared.step(run_of(c, 13, values[3:]))

    assert ([(None, 10)], [12, 13, 12, 13]) == (shared.chain(V), shared.parked_offsets(V))
    assert [(None, 11), (None, 11)] == shared.chain(P)
    assert "source_read_anew" == shared.stage.parking()[V].reason.partition(":")[0]
    shared.apply(dms_spec(V, TOPIC), resumed=1)
    shared.step(run_of(c, 14, [_record(V, 4)]))
    assert [(None, 10), (None, 14)] == shared.chain(V)


def test_what_was_seen_of_a_table_does_not_contradict_what_is_read_again() -> None:
    """The topic is read from its beginning: what it holds is parked as if it had never been read."""
    shared, a = Shared(), partition()
    values = [_load(V), _record(V, 1), _load(V)]
    shared.step(run_of(a, 10, values))

    shared.step(run_of(shared.read_again(a), 10, values))

    memories = [json.loads(each.headers.get(HEADER_MEMORY) or b"null") for each in shared.parked(V)]
    assert ([12, 10, 11, 12], [True, False, False, False]) == (shared.parked_offsets(V), [*map(bool, memories)])


def test_another_life_of_the_topic_knows_nothing_of_what_stopped_a_table() -> None:
    """All of its tables have to be decided about there."""
    shared, a = Shared(), partition()
    shared.step(run_of(a, 10, [_record(V, 1), _load(V)]))

    shared.step(run_of(shared.read_again(a, topic_id="made anew"), 0, [_load(V), _record(V, 2)]))

    assert ([(None, 10), (None, 0), (0, 1)], [11]) == (shared.chain(V), shared.parked_offsets(V))


def test_what_is_kept_of_a_table_says_since_when_its_topic_has_this_life() -> None:
    """However often it was read again; and what was seen before the first parked record, of which it is the place."""
    shared, a = Shared(), partition()
    values = [_record(V, 1), _load(V), _record(V, 3)]
    shared.step(run_of(a, 10, values))
    c = shared.read_again(shared.read_again(a))
    chains = Chains(NAMES.normalize_previous, lambda: shared.kept)
    asyncio.run(chains.take_up({c}))

    shared.step(run_of(c, 11, values[1:]))
    d = shared.restarted(c)
    later = Chains(NAMES.normalize_previous, lambda: shared.kept)
    asyncio.run(later.take_up({d}))

    for chain in (chains.attempt(c), later.attempt(d)):
        assert (0, True) == (chain.since(V), chain.memory_at_head(V).streamed)
        assert not chain.memory(V).streamed
    anew = shared.read_again(d, topic_id="made anew")
    asyncio.run(later.take_up({anew}))
    assert (None, {}) == (later.attempt(anew).since(V), later.attempt(anew).parked())


async def test_what_is_parked_is_known_before_a_record_comes() -> None:
    """To whoever takes the partition over; a topic of one table is not asked about."""
    shared, a = Shared(), partition()
    await shared.stage.step(Group([run_of(a, 10, [_record(V, 1), _load(V)])], shared.consumer))
    shared.kept |= {each.key: each.value for each in shared.of(NAMES.normalize_previous) if each.key is not None}

    b = shared.restarted(a)
    assert {} == shared.stage.parking()
    assert {} == await shared.stage.starts([b, Assignment("main", "other", 0)])

    assert 1 == shared.stage.parking()[V].records


def test_an_aborted_attempt_parks_nothing() -> None:
    """Nor is a stop remembered that was not written."""
    shared, a = Shared(failures=[TransactionAborted("aborted")]), partition()
    run = run_of(a, 10, [_record(V, 1), _load(V), _record(P, 2)])

    with pytest.raises(TransactionAborted):
        shared.step(run)
    assert {} == shared.stage.parking()
    shared.step(run)

    assert ([11], 1) == (shared.parked_offsets(V), shared.stage.parking()[V].records)


def test_a_table_whose_output_refuses_is_parked_and_the_others_go_on() -> None:
    """A topic that it has alone is paused, as ever."""
    aborted = TransactionAborted("aborted", topic=NAMES.changes(V))
    shared, a = Shared(failures=[aborted]), partition()
    run = run_of(a, 10, [_record(P, 1), _record(V, 2)])

    with pytest.raises(TransactionAborted):
        shared.step(run)
    shared.step(run)
    shared.step(run_of(a, 12, [_record(V, 3)]))

    assert ([(None, 10)], []) == (shared.chain(P), shared.chain(V))
    assert ([11, 12], {}) == (shared.parked_offsets(V), shared.consumer.paused)
    assert shared.stage.parking()[V].reason.startswith("output_refused")


def test_a_table_whose_output_cannot_be_made_is_parked_until_it_can() -> None:
    """The others go on, and nobody asks the broker for it with each group."""
    shared, a = Shared(), partition()
    shared.refused_outputs.add(NAMES.changes(V))
    run = shared.consumer.run(a, 10, [_record(P, 1), _record(V, 2)])

    with pytest.raises(TransactionAborted):
        shared.step(run)
    shared.step(run)
    asked = len(shared.ensured)
    shared.step(run_of(a, 12, [_record(V, 3), _record(P, 4)]))
    again = shared.ensured[asked:]
    shared.refused_outputs.clear()
    shared.apply(dms_spec(V, TOPIC), resumed=1)
    shared.step(run_of(a, 14, [_record(V, 5)]))

    assert [(None, 10), (10, 13)] == shared.chain(P)
    assert ([11, 12], {}) == (shared.parked_offsets(V), shared.consumer.paused)
    assert not [topics for topics in again if NAMES.changes(V) in topics]
    assert [(None, 14)] == shared.chain(V)


def test_a_topic_of_parked_records_that_refuses_pauses_the_shared_one() -> None:
    """There is nowhere else to put them."""
    aborted = TransactionAborted("aborted", topic=NAMES.parked(V))
    shared, a = Shared(failures=[aborted]), partition()
    _paused(shared)

    with pytest.raises(TransactionAborted):
        shared.step(shared.consumer.run(a, 10, [_record(V, 1)]))

    assert ("output_refused", [(0, 10)]) == (shared.consumer.paused[TOPIC].reason, shared.consumer.seeks)


def test_a_full_partition_pauses_the_topic_at_the_first_record_that_has_no_room() -> None:
    """Nothing behind it goes out, and what stands before it is done."""
    shared, a = Shared(config="limits: {parked_bytes_max: 1024}"), partition()
    _paused(shared)
    shared.step(run_of(a, 10, [_record(V, at) for at in range(4)]))
    assert 1024 <= shared.stage.parking()[V].bytes

    shared.step(run_of(a, 14, [_record(P, 5), _record(V, 6), _record(P, 7)]))

    assert ("parked_full", [(None, 14)]) == (shared.consumer.paused[TOPIC].reason, shared.chain(P))
    assert [14, 15] == [each.next_offset for each in shared.writer.advances]
    assert [10, 11, 12, 13] == shared.parked_offsets(V)


def test_a_record_that_is_too_large_to_be_parked_goes_to_quarantine() -> None:
    """With our headers it is above the limit; its successors are parked."""
    shared, a = Shared(config="limits: {record_bytes_max: 4000000}"), partition()
    _paused(shared)
    large = dms_record(V, 1, {"id": 1, "name": "x" * 2**20})

    shared.step(run_of(a, 10, [large, _record(V, 2)]))

    assert [("visits", "output_too_large")] == [(each.table, each.reason) for each in shared.quarantined()]
    assert ([11], 1) == (shared.parked_offsets(V), shared.stage.parking()[V].records)


def test_a_table_that_has_its_topic_alone_is_not_parked() -> None:
    """Nobody waits for it: its topic is paused at the record, and read no more once somebody has paused it."""
    shared, a = Shared(dms_spec(V, TOPIC)), partition()

    shared.step(shared.consumer.run(a, 10, [_record(V, 1), _load(V)]))

    assert ("source_read_anew", []) == (shared.consumer.paused[TOPIC].reason, shared.parked(V))


def test_what_was_parked_is_read_unless_its_table_is_paused_or_gone() -> None:
    """Also what another worker has parked, once this one hears of the table again."""
    shared, a = Shared(), partition()
    _paused(shared)
    shared.step(run_of(a, 10, [_record(V, 1), _record(P, 2), _load(P)]))

    assert {PARKED_LANE: {NAMES.parked(P)}} == shared.consumer.added
    assert [TOPIC, NAMES.parked(P)] == shared.stage.topics()
    assert ("parked", "main") == (shared.stage.lane_of(NAMES.parked(P)), shared.stage.lane_of(TOPIC))

    shared.apply(dms_spec(V, TOPIC), resumed=1)
    assert [TOPIC, NAMES.parked(P), NAMES.parked(V)] == shared.stage.topics()
    asyncio.run(_removed(shared, V))
    assert [TOPIC, NAMES.parked(P)] == shared.stage.topics()


async def _removed(shared: Shared, table: str) -> None:
    await shared.stage.tables_changed(shared.tables.update({table.encode(): None}))


async def test_a_worker_that_starts_reads_what_others_have_parked() -> None:
    """It asks once, about all tables: one that has its topic alone now may have shared it before."""
    shared = Shared(dms_spec(P, TOPIC), dms_spec(V, TOPIC), dms_spec("bills", "other", source_table=None))
    shared.there = {NAMES.parked(V), NAMES.parked("bills"), NAMES.parked("gone")}

    await shared.stage.start()
    await asyncio.sleep(0)

    assert {PARKED_LANE: {NAMES.parked(V), NAMES.parked("bills")}} == shared.consumer.added
    assert ["dms-task", NAMES.parked("bills"), NAMES.parked(V), "other"] == shared.stage.topics()
    assert [{NAMES.parked(table) for table in (P, V, "bills")}] == shared.asked
