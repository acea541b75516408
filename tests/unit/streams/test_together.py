"""Short runs decoded side by side say what each would have said alone."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.formats import PartitionMemory, format_of
from connectors.transport.chunk import Assignment, Run
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.table import TableEntry
from streams.together import decode_together
from tests.bench.events import bench_spec, events
from tests.unit.fakes import Message
from tests.unit.formats.made import spec as made_spec
from tests.unit.formats.sources import db2, of_xstream
from tests.unit.streams.dms_specs import dms_spec
from tests.workloads.dms_topic import dms_record

TOPIC = "clinic.public.results"
ENTRY = TableEntry(spec=bench_spec("results", TOPIC))
EVENTS = list(events(60, TOPIC))
BROKEN = b'{"op":"c"'


def _runs(sizes: list[int], broken: set[int]) -> list[Run]:
    assignments = [Assignment("main", TOPIC, n) for n in range(3)]
    runs, at = [], 0
    for number, size in enumerate(sizes):
        taken = EVENTS[at : at + size]
        values = [BROKEN if at + i in broken else value for i, (_, value, _) in enumerate(taken)]
        keys = [key for key, _, _ in taken]
        messages = [
            Message(1_000 * number + i, key, value) for i, (key, value) in enumerate(zip(keys, values, strict=True))
        ]
        runs.append(Run(assignments[number % 3], messages))
        at += size
    return runs


def _memories(runs: list[Run]) -> list[PartitionMemory]:
    memories = {run.assignment: PartitionMemory() for run in runs}
    return [memories[run.assignment] for run in runs]


def _said(decoded: Decoded) -> tuple[object, ...]:
    return msgspec.to_builtins(decoded.batch), [(bad.index, str(bad.error)) for bad in decoded.rejected]


@given(st.lists(st.integers(1, 6), min_size=2, max_size=9), st.sets(st.integers(0, 50), max_size=6))
def test_side_by_side_says_what_alone_says(sizes: list[int], broken: set[int]) -> None:
    """Batches, rejections and memories are the same; only the counts of a group stand together."""
    runs = _runs(sizes, broken)
    decoder = format_of("debezium-json").decoder(ENTRY, LimitsConfig())
    alone_memories, memories = _memories(runs), _memories(runs)

    together = decode_together(decoder, ENTRY, runs, memories)
    alone = [decoder.decode(run, memory) for run, memory in zip(runs, alone_memories, strict=True)]

    assert together is not None
    assert [_said(each) for each in alone] == [_said(each) for each in together]
    assert alone_memories == memories


@pytest.mark.parametrize("op", ["r", "t"])
def test_a_snapshot_or_a_truncate_is_decoded_alone(op: str) -> None:
    """There the order within one partition decides whether the table stops."""
    runs = _runs([2, 2], set())
    value = EVENTS[0][1].replace(b'"op":"c"', b'"op":"%s"' % op.encode())
    if op == "r":
        value = value.replace(b'"snapshot":"false"', b'"snapshot":"first"')
    runs.append(Run(runs[0].assignment, [Message(9_000, EVENTS[0][0], value)]))
    decoder = format_of("debezium-json").decoder(ENTRY, LimitsConfig())

    assert decode_together(decoder, ENTRY, runs, _memories(runs)) is None


MONGO = {
    "op": "u",
    "after": '{"_id":1}',
    "source": {"connector": "mongodb", "name": "m", "db": "d", "collection": "c", "ts_ms": 1_700_000_000_000, "ord": 1},
}
UNCOUNTED = {
    "oracle": (made_spec(), b'{"id":1}', of_xstream()),
    "db2": (made_spec(), b'{"id":1}', db2()),
    "mongodb": (
        made_spec(format="debezium-mongodb", key=["_id"], columns={"_id": "int"}),
        b'{"id":"1"}',
        json.dumps(MONGO).encode(),
    ),
}


@pytest.mark.parametrize("connector", UNCOUNTED)
def test_an_offset_in_a_position_is_that_of_its_record(connector: str) -> None:
    """Where a connector counts no further, the offset orders changes: side by side they have places as well."""
    spec, key, value = UNCOUNTED[connector]
    entry = TableEntry(spec=spec)
    runs = [
        Run(Assignment("main", "made", number), [Message(start + i, key, value) for i in range(3)])
        for number, start in ((0, 700), (1, 40), (0, 703))
    ]
    decoder = format_of(spec.format).decoder(entry, LimitsConfig())
    together = decode_together(decoder, entry, runs, _memories(runs))
    alone = [decoder.decode(run, memory) for run, memory in zip(runs, _memories(runs), strict=True)]

    assert together is not None
    assert [_said(each) for each in alone] == [_said(each) for each in together]
    assert [700, 701, 702] == [int(position[-20:]) for position in together[0].batch.positions]


def _dms(at: int, *, placed: bool = True, op: str = "update") -> bytes:
    """Return a change; with `placed` it says where it stands in its source's log."""
    document = json.loads(dms_record("results", at, {"id": 1, "name": f"n{at}"}, op))
    if not placed:
        for name in ("transaction-id", "transaction-record-id", "commit-timestamp", "stream-position"):
            del document["metadata"][name]
    return json.dumps(document).encode()


def _dms_runs(*values: list[bytes]) -> list[Run]:
    return [
        Run(Assignment("main", TOPIC, number), [Message(100 + i, None, value) for i, value in enumerate(some)])
        for number, some in enumerate(values)
    ]


def _dms_entry(epoch: int = 0) -> TableEntry:
    return TableEntry(spec=dms_spec("results", TOPIC, source_table=None), epoch=epoch)


def test_less_order_than_before_is_found_in_short_runs() -> None:
    """Whichever partition had more of it: its run is decoded alone then, and stops its table."""
    entry = _dms_entry()
    decoder = format_of("dms").decoder(entry, LimitsConfig())
    (before,), memories = _dms_runs([_dms(1)]), [PartitionMemory(), PartitionMemory()]
    decoder.decode(before, memories[1])
    exact, lost = [[_dms(2)], [_dms(3)]], [[_dms(2, placed=False)], [_dms(3, placed=False)]]

    assert decode_together(decoder, entry, _dms_runs(*lost), memories) is None
    assert decode_together(decoder, entry, _dms_runs(*lost), [PartitionMemory(), PartitionMemory()]) is not None
    alone = [decoder.decode(run, memory.copy()) for run, memory in zip(_dms_runs(*lost), memories, strict=True)]
    assert decode_together(decoder, entry, _dms_runs(*exact), memories) is not None
    assert [None, "order_lost"] == [each.stop and each.stop.reason for each in alone]


def test_the_end_of_a_load_is_seen_in_short_runs() -> None:
    """A format without a mark at the end of its load says it by the first change behind it."""
    entry = _dms_entry(epoch=2)
    decoder = format_of("dms").decoder(entry, LimitsConfig())
    memories = [PartitionMemory(epoch=2), PartitionMemory(epoch=2)]
    decoder.decode(_dms_runs([_dms(0, op="load")])[0], memories[1])
    runs = _dms_runs([_dms(1)], [_dms(2)])

    assert (1, False) == (memories[1].loaded, memories[1].ended)
    assert decode_together(decoder, entry, runs, memories) is None
    decoder.decode(runs[1], memories[1])
    assert memories[1].ended
    assert decode_together(decoder, entry, runs, memories) is not None
    of_the_life_before = [PartitionMemory(epoch=1, loaded=3), PartitionMemory(epoch=1, loaded=3)]
    assert decode_together(decoder, entry, runs, of_the_life_before) is not None
