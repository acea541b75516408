"""A table with masks that waits beside others: what is parked of it is sealed, and flows on behind its masks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from connectors.transport.chunk import Assignment, Group, Headers, Run
from schemas.change import HEADER_FIRST_ORIGIN, HEADER_MEMORY
from schemas.epoch import EpochStart
from schemas.table import TableSpec
from streams.chains import Chains
from streams.mask_values import hashed
from streams.parked import ParkedLane
from streams.parking import Waiting
from streams.sealing import HEADER_SEALED
from tests.unit.fakes import Message, Record, run_of
from tests.unit.streams.dms_specs import dms_spec
from tests.unit.streams.shared_topic import NAMES, TOPIC, Shared, partition
from tests.workloads.dms_topic import dms_record

P, V = "patients", "visits"
PARKED = NAMES.parked(V)
CANARY, SECRET = "canary-4711", b"k" * 32
MASKED = {"id": {"type": "string", "mask": "hash"}, "name": {"type": "string", "mask": "encrypt"}, "beds": "int"}
KEYLESS = {"id": "string", "name": {"type": "string", "mask": "drop"}}


def _record(at: int, op: str = "update", *, beds: Any = 4, table: str = V) -> bytes:
    return dms_record(table, at, {"id": f"{CANARY}-id", "name": f"{CANARY} {at}", "beds": beds}, op)


class Bench(Shared):
    """A stage whose visits have masks, and the lane that reads what is parked of them."""

    def __init__(self, folder: Path, *, key: bytes | None = SECRET, columns: Any = MASKED) -> None:
        if key is not None:
            (folder / "key").write_bytes(key)
        keys = f"{{default: 'file:{folder / 'key'}'}}" if key is not None else "{}"
        self.masked = dms_spec(V, TOPIC, columns=columns)
        patients = dms_spec(P, TOPIC, columns={"id": "string", "name": "string"}, unknown_columns="ignore")
        super().__init__(patients, self.masked, config=f"masks: {{keys: {keys}}}")
        self.lane = self.made_lane()

    def made_lane(self) -> ParkedLane:
        """Return a new worker's lane."""

        async def ensure(wanted: Mapping[str, int]) -> Mapping[str, int]:
            return wanted

        return ParkedLane(
            self._config, names=NAMES, tables=self.tables, writer=self.writer, consumer=self.consumer, stage=self.stage,
            chains=Chains(NAMES.normalize_previous, lambda: self.kept), ensure_outputs=ensure, clock=lambda: 1.0,
        )  # fmt: skip

    def park(self, first: int, *values: bytes) -> list[Record]:
        """Have the stage park these records, and return them as they stand on their topic."""
        before = len(self.parked(V))
        self.apply(self.masked, paused="maintenance")
        messages = [Message(first + at, CANARY.encode(), value, [("own", b"1")]) for at, value in enumerate(values)]
        self.step(Run(partition(), messages))
        return self.parked(V)[before:]

    def resume(self, spec: TableSpec | None = None, **entry: Any) -> None:
        """Have the table go on."""
        self.apply(spec or self.masked, **{"resumed": 1, **entry})

    def read(self, first: int, records: list[Record], assignment: Assignment | None = None) -> None:
        """Have the lane work on records of the parked topic."""
        messages = [
            Message(first + at, each.key, each.value, list(each.headers.items())) for at, each in enumerate(records)
        ]
        run = Run(assignment or Assignment("parked", PARKED, 0), messages)
        self.consumer.handed_out.append(run)
        asyncio.run(self.lane.step(Group([run], self.consumer)))

    def written(self) -> bytes:
        """Return all bytes that were written anywhere but of the table without masks."""
        own = [each for each in self.writer.records if each.topic != NAMES.changes(P)]
        return b"\n".join(part for e in own for part in (e.key, e.value, repr(e.headers).encode()) if part is not None)

    def positions(self) -> list[str]:
        """Return epoch, key and beds of each change of the visits."""
        return [
            f"{each['position'][:4]} {each['key']['id'] == hashed(SECRET)(f'{CANARY}-id')} {each['after']['beds']}"
            for each in self.changes(V)
        ]


def test_what_is_parked_of_a_table_with_masks_is_sealed_and_flows_on_behind_them(tmp_path: Path) -> None:
    """Key, value and own headers; what was read there at first stands beside, as for any other."""
    bench = Bench(tmp_path)
    bench.step(run_of(partition(), 9, [_record(1)]))
    records = bench.park(10, _record(2, beds=5), _record(3, beds=6), _record(4, table=P))

    assert CANARY.encode() not in bench.written()
    assert [(0, None)] * 2 == [(each.partition, each.key) for each in records]
    assert [HEADER_SEALED, HEADER_MEMORY, HEADER_FIRST_ORIGIN] == [*records[0].headers]
    assert [HEADER_SEALED, HEADER_FIRST_ORIGIN] == [*records[1].headers]
    assert [10, 11] == bench.parked_offsets(V)
    assert (1, {}) == (len(bench.changes(P)), bench.consumer.paused)

    bench.resume()
    bench.read(0, records)

    assert ["0000 True 4", "0000 True 5", "0000 True 6"] == bench.positions()
    assert [TOPIC, 0, 0, 11] == bench.changes(V)[-1]["source"]["first_origin"]
    assert CANARY.encode() not in bench.written()


def test_a_parked_record_has_the_epoch_that_it_had_where_it_was_read(tmp_path: Path) -> None:
    """A resync begins amid what is parked: its rows are of the new life, and stop nothing."""
    bench = Bench(tmp_path)
    records = bench.park(10, _record(1, beds=1), _record(0, "load", beds=2), _record(2, beds=3))
    start = EpochStart(epoch=1, topic_id="", generation=0, offsets={0: 11})

    bench.resume(epoch=1, epochs={TOPIC: [start]})
    bench.read(0, records)

    assert ["0000 True 1", "0001 True 2", "0001 True 3"] == bench.positions()
    assert {} == bench.consumer.paused


def test_a_bad_parked_record_is_in_quarantine_as_sealed_as_it_was(tmp_path: Path) -> None:
    """And one that no attempt gets through; both name where they were read at first, and hold their own headers."""
    bench = Bench(tmp_path)
    records = bench.park(10, _record(1, beds="many"), _record(2))
    bench.resume()

    bench.read(0, records)
    message = Message(7, None, records[1].value, list(records[1].headers.items()))
    asyncio.run(bench.lane.on_poison(Run(Assignment("parked", PARKED, 0), [message]), KeyError(CANARY)))

    found = bench.quarantined()
    assert [("bad_type", 10), ("bug", 11)] == [(each.reason, each.origin[3]) for each in found]
    assert CANARY.encode() not in bench.written()
    opened = [bench.lane.sealing.opened(each) for each in found]
    assert [[["own", "MQ=="]]] * 2 == [[list(header) for header in each.headers] for each in opened]
    assert [True, True] == [each.is_whole and each.value is not None for each in opened]


@pytest.mark.parametrize("columns", [KEYLESS, MASKED])
def test_without_a_key_nothing_is_parked_and_the_topic_waits(tmp_path: Path, columns: Any) -> None:
    """What stands before the first such record is done; nothing of the table is kept anywhere."""
    bench = Bench(tmp_path, key=None, columns=columns)
    records = bench.park(10, _record(1, table=P), _record(2), _record(3, table=P))

    assert ("mask_key_missing", []) == (bench.consumer.paused[TOPIC].reason, records)
    assert ([11], 1) == ([each.next_offset for each in bench.writer.advances], len(bench.changes(P)))
    assert CANARY.encode() not in bench.written()
    assert {} == bench.stage.parking()


def test_a_table_that_its_missing_key_stops_holds_up_the_topic(tmp_path: Path) -> None:
    """There is nothing to seal its records with: they stay where they are."""
    bench = Bench(tmp_path, key=None)

    bench.step(run_of(partition(), 10, [_record(1, table=P), _record(2)]))

    assert "mask_key_missing" == bench.consumer.paused[TOPIC].reason
    assert ([], 1) == (bench.parked(V), len(bench.changes(P)))


def test_what_a_lost_key_has_sealed_waits_or_is_put_aside_as_it_is(tmp_path: Path) -> None:
    """Where the masks have no key at all the records wait; where it is another one now they are for the quarantine."""
    old = tmp_path / "old"
    old.mkdir()
    writer = Bench(old, key=b"o" * 32)
    records = writer.park(10, _record(1), _record(2))

    none = Bench(tmp_path, key=None)
    none.read(0, records)
    assert ("mask_key_missing", [], []) == (none.consumer.paused[PARKED].reason, none.quarantined(), none.changes(V))
    assert [0] == [each.next_offset for each in none.writer.advances]

    other = Bench(tmp_path)
    other.read(0, records)
    assert [("mask_key_missing", 10), ("mask_key_missing", 11)] == [
        (each.reason, each.origin[3]) for each in other.quarantined()
    ]
    opened = [writer.lane.sealing.opened(each) for each in other.quarantined()]
    assert [True, True] == [each.value is not None for each in opened]


def test_what_was_parked_before_its_table_had_masks_is_masked_all_the_same(tmp_path: Path) -> None:
    """It stands there as it was put; what comes of it does not."""
    bench = Bench(tmp_path, columns={"id": "string", "name": "string", "beds": "int"})
    records = bench.park(10, _record(1), _record(2, beds="many"))
    assert CANARY.encode() in bench.written()

    masked = Bench(tmp_path)
    masked.read(0, records)

    assert ["0000 True 4"] == masked.positions()
    assert CANARY.encode() not in masked.written()


def test_what_only_looks_sealed_goes_to_quarantine(tmp_path: Path) -> None:
    """Whoever wrote it there; the lane goes on."""
    bench = Bench(tmp_path)
    headers: Headers = [(HEADER_SEALED, b"1"), (HEADER_FIRST_ORIGIN, f'["{TOPIC}",0,0,5]'.encode())]
    record = Record(PARKED, 0, None, b"HGS1 default 00000000 " + b"0" * 100, dict(headers))

    bench.read(0, [record])

    assert ["mask_key_missing"] == [each.reason for each in bench.quarantined()]
    assert [1] == [each.next_offset for each in bench.writer.advances]


def test_what_is_parked_is_counted_as_it_stands_there(tmp_path: Path) -> None:
    """The room of a partition is that of sealed bytes."""
    bench = Bench(tmp_path)
    records = bench.park(10, _record(1), _record(2))

    assert Waiting(2, sum(len(each.value) for each in records)) == bench.stage.parking()[V]
