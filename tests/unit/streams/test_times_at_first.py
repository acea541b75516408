"""A change that says no time has the one that Kafka had of its record at first, whoever reads it, and where."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from connectors.transport.chunk import Assignment, Group, Headers, Run
from connectors.transport.producer import Outbox
from schemas.change import HEADER_FIRST_ORIGIN, HEADER_MEMORY, HEADER_TIME
from schemas.config import read_config
from schemas.table import TableSpec
from streams.apart import TOO_OLD
from streams.chains import Chains
from streams.mask_keys import mask_keys_of
from streams.originals import Original
from streams.parked import ParkedLane
from streams.poison import parted, time_at_first
from streams.quarantine import OPEN, Held
from streams.quarantine_redrive import produce_again
from streams.redriven import RedriveLane
from streams.sealing import Sealing, TableSeal
from streams.stage import BaseStage
from tests.unit.fakes import Message, Record
from tests.unit.streams.shared_topic import NAMES, TOPIC, Shared, partition

NOW = 1_795_219_394  # 2026-11-21T00:03:14Z
AT_FIRST, READ_AT = (NOW - 3_600) * 1_000, NOW * 1_000
AT_FIRST_TEXT = "2026-11-20T23:03:14.000000Z"
OLD, NEW = "patients", "patients_v2"
ORIGIN = b'["dms-task",0,0,10]'


def _flat(table: str, **changes: Any) -> TableSpec:
    columns = {"id": "long", "name": "string"}
    return TableSpec.model_validate(
        {"table": table, "topics": [TOPIC], "format": "debezium-flat", "key": ["id"], "columns": columns, **changes}
    )


def _sent(offset: int, *, at_ms: int = AT_FIRST) -> Message:
    return Message(offset, b'{"id":1}', b'{"id":1,"name":"Ada"}', [], at_ms=at_ms)


class Bench(Shared):
    """Two versions of a table whose changes say no time, and the lanes that read their records again."""

    def __init__(self, folder: Path, *, masked: bool = False) -> None:
        (folder / "key").write_bytes(b"k" * 32)
        mask = {"mask": "hash"} if masked else {}
        self.new, self.narrow = (
            _flat(NEW, beside=OLD, columns={"id": "long", "name": {"type": type_, **mask}}, type_changes="quarantine")
            for type_ in ("string", "long")
        )
        self.config = read_config(f"masks: {{keys: {{default: 'file:{folder / 'key'}'}}}}", name="c")
        super().__init__(_flat(OLD), self.new, config=f"masks: {{keys: {{default: 'file:{folder / 'key'}'}}}}")

    def _wired(self) -> dict[str, Any]:
        async def ensure(wanted: Mapping[str, int]) -> Mapping[str, int]:
            return wanted

        chains = Chains(NAMES.normalize_previous, lambda: self.kept)
        return {
            "names": NAMES,
            "tables": self.tables,
            "writer": self.writer,
            "chains": chains,
            "ensure_outputs": ensure,
        }

    def read_parked(self, records: list[Record]) -> None:
        """Have the lane of parked records work on what was parked of the new version, read now."""
        lane = ParkedLane(self._config, consumer=self.consumer, stage=self.stage, **self._wired())
        run = Run(Assignment("parked", NAMES.parked(NEW), 0), _as_read(records))
        self.consumer.handed_out.append(run)
        asyncio.run(lane.step(Group([run], self.consumer)))

    def redrive(self, records: list[Record]) -> None:
        """Have the lane of redriven records work on some, read now."""
        lane = RedriveLane(self._config, stage=BaseStage(), clock=lambda: float(NOW), **self._wired())
        run = Run(Assignment("redrive", NAMES.redrive, 0), _as_read(records))
        asyncio.run(lane.step(Group([run], self.consumer)))

    def times(self, table: str = NEW) -> list[str]:
        """Return the times of a table's changes."""
        return [change["ts"] for change in self.changes(table)]


def _as_read(records: list[Record]) -> list[Message]:
    return [
        Message(at, each.key, each.value, list(each.headers.items()), at_ms=READ_AT) for at, each in enumerate(records)
    ]


def _redriven(*originals: Original, seal: TableSeal | None = None, bench: Bench) -> list[Record]:
    """Return originals as they stand on the redrive topic."""
    records: list[Record] = []

    def note(topic: str, value: bytes, key: bytes | None, number: int, *rest: Any) -> None:
        records.append(Record(topic, number, key, value, dict(rest[-1])))

    (entry,) = bench.quarantined()
    for original in originals:
        produce_again(Outbox(note, 2**20), NAMES, Held(("id", 0, 0), entry, OPEN), original, seal)
    return records


def test_both_of_two_versions_have_kafkas_time(tmp_path: Path) -> None:
    """Whether one table reads the records or several."""
    bench = Bench(tmp_path)

    bench.step(Run(partition(), [_sent(10), _sent(11, at_ms=READ_AT)]))

    assert [AT_FIRST_TEXT, "2026-11-21T00:03:14.000000Z"] == bench.times(OLD) == bench.times(NEW)


@pytest.mark.parametrize("masked", [False, True])
def test_what_was_parked_has_the_time_that_it_had_at_first(tmp_path: Path, masked: bool) -> None:
    """Not the one at which it was parked; sealed or not."""
    bench = Bench(tmp_path, masked=masked)
    bench.apply(bench.new, paused="maintenance")
    bench.step(Run(partition(), [_sent(10), _sent(11)]))
    bench.apply(bench.new, resumed=1)

    bench.read_parked(bench.parked(NEW))

    assert [AT_FIRST_TEXT] * 2 == bench.times()
    assert {HEADER_TIME: not masked, HEADER_FIRST_ORIGIN: True} == {
        name: name in bench.parked(NEW)[0].headers for name in (HEADER_TIME, HEADER_FIRST_ORIGIN)
    }


@pytest.mark.parametrize("masked", [False, True])
def test_what_is_redriven_has_the_time_that_it_had_at_first_however_often(tmp_path: Path, masked: bool) -> None:
    """The quarantine keeps it, also of what comes back; so what is too old is told, and nothing else is too old."""
    bench = Bench(tmp_path, masked=masked)
    bench.apply(bench.narrow)
    bench.step(Run(partition(), [_sent(10)]))
    seal = Sealing(mask_keys_of(bench.config.masks)).of(bench.tables.of_topic(TOPIC), NEW)
    assert masked == (seal is not None)
    original = Original(b'{"id":1}', b'{"id":1,"name":"Ada"}', [], bench.quarantined()[0].time_ms)  # type: ignore[arg-type]
    (sent,) = _redriven(original, seal=seal, bench=bench)

    bench.redrive([sent])
    assert [AT_FIRST] * 2 == [each.time_ms for each in bench.quarantined()]
    bench.apply(bench.new)
    bench.redrive([sent])

    assert [AT_FIRST_TEXT] == bench.times()


def test_what_no_time_is_known_of_is_too_old_to_be_sent_again(tmp_path: Path) -> None:
    """A delete that came after it may be forgotten; and so is what was committed long ago."""
    bench = Bench(tmp_path)
    bench.apply(bench.narrow)
    bench.step(Run(partition(), [_sent(10)]))
    bench.apply(bench.new)
    none, old = (Original(b'{"id":1}', b'{"id":1,"name":"Ada"}', [], at) for at in (-1, AT_FIRST - 400 * 86_400_000))

    bench.redrive(_redriven(none, old, bench=bench))

    assert [TOO_OLD] * 4 == [each.reason for each in bench.quarantined()[1:]]


@pytest.mark.parametrize(
    ("headers", "own", "at"),
    [
        ([("own", b"1"), (HEADER_TIME, b"12"), (HEADER_FIRST_ORIGIN, ORIGIN)], 1, 12),
        ([(HEADER_TIME, b"12"), (HEADER_MEMORY, b"{}"), (HEADER_FIRST_ORIGIN, ORIGIN)], 0, 12),
        ([(HEADER_TIME, b"9"), (HEADER_TIME, b"12"), (HEADER_FIRST_ORIGIN, ORIGIN)], 1, 12),
        ([(HEADER_TIME, b"soon"), (HEADER_FIRST_ORIGIN, ORIGIN)], 0, -1),
        ([(HEADER_TIME, None), (HEADER_FIRST_ORIGIN, ORIGIN)], 0, -1),
        ([("own", b"1"), (HEADER_FIRST_ORIGIN, ORIGIN)], 1, -1),
        ([(HEADER_TIME, b"12"), ("own", b"1"), (HEADER_FIRST_ORIGIN, ORIGIN)], 2, -1),
        ([(HEADER_TIME, b"12")], 1, -1),
    ],
)
def test_the_time_stands_before_what_else_is_ours(headers: Headers, own: int, at: int) -> None:
    """A header of that name elsewhere is the source's."""
    assert (own, at) == (len(parted(headers)[0]), time_at_first(headers))
