"""A table without masks beside one that has some: both get the same records, so those are sealed for both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from connectors.transport.chunk import Assignment, Group, Headers, Run
from connectors.transport.producer import Outbox
from schemas.change import HEADER_FIRST_ORIGIN
from schemas.config import read_config
from schemas.replay import Replay, ReplayedTopic
from schemas.table import TableEntry, TableSpec
from sinks.quarantine import read_quarantined
from streams.chains import Chains
from streams.mask_keys import mask_keys_of
from streams.parked import ParkedLane
from streams.redriven import RedriveLane
from streams.replaying import Replaying
from streams.sealing import HEADER_SEALED, Sealing
from streams.stage import BaseStage
from tests.unit.fakes import Message, Record, run_of
from tests.unit.streams.dms_specs import dms_spec
from tests.unit.streams.shared_topic import NAMES, TOPIC, Shared, partition
from tests.workloads.dms_topic import dms_record

BEDS, PATIENTS, VISITS = "beds", "patients", "visits"  # the one without masks is the first by name
CANARY = "canary-4711"
MASKED = {"id": "long", "ssn": {"type": "string", "mask": "drop"}, "ward": "string"}
SUBSET = {"id": "long", "ward": "int"}


def _specs(columns: Mapping[str, Any] = MASKED, **changes: Any) -> tuple[TableSpec, TableSpec]:
    """Return the subset and the table that it stands beside."""
    subset = dms_spec(BEDS, TOPIC, columns=SUBSET, beside=PATIENTS, unknown_columns="ignore", **changes)
    return subset, dms_spec(PATIENTS, TOPIC, columns=columns, **changes)


def _record(at: int, ward: Any = "icu", table: str = PATIENTS) -> bytes:
    return dms_record(table, at, {"id": 1, "ssn": CANARY, "ward": ward}, "update")


class Bench(Shared):
    """A stage of both tables, which take all records of the topic unless told apart by their source's name."""

    def __init__(self, folder: Path, *more: TableSpec, key: bool = True, **changes: Any) -> None:
        if key:
            (folder / "key").write_bytes(b"k" * 32)
        keys = f"{{default: 'file:{folder / 'key'}'}}" if key else "{}"
        self.subset, self.masked = _specs(**{"source_table": f"clinic.{PATIENTS}" if more else None} | changes)
        super().__init__(self.subset, self.masked, *more, config=f"masks: {{keys: {keys}}}")
        self.config = self._config
        self.sealing = Sealing(mask_keys_of(self.config.masks))

    async def _ensure_sizes(self, wanted: Mapping[str, int]) -> Mapping[str, int]:
        return wanted

    def _chains(self) -> Chains:
        return Chains(NAMES.normalize_previous, lambda: self.kept)

    def read_parked(self, records: list[Record], error: Exception | None = None) -> None:
        """Have the lane of parked records work on some of the subset; with an error, as on what nobody gets through."""
        lane = ParkedLane(
            self.config, names=NAMES, tables=self.tables, writer=self.writer, consumer=self.consumer, stage=self.stage,
            chains=self._chains(), ensure_outputs=self._ensure_sizes, clock=lambda: 1.0,
        )  # fmt: skip
        messages = [Message(at, each.key, each.value, list(each.headers.items())) for at, each in enumerate(records)]
        run = Run(Assignment("parked", NAMES.parked(BEDS), 0), messages)
        self.consumer.handed_out.append(run)
        asyncio.run(lane.step(Group([run], self.consumer)) if error is None else lane.on_poison(run, error))

    def redrive(self, *sent: tuple[bytes, Headers]) -> None:
        """Have the lane of redriven records work on some."""
        lane = RedriveLane(
            self.config, names=NAMES, tables=self.tables, writer=self.writer, stage=BaseStage(), chains=self._chains(),
            ensure_outputs=self._ensure_sizes, clock=lambda: 1_795_219_394.0,
        )  # fmt: skip
        messages = [Message(at, None, value, headers) for at, (value, headers) in enumerate(sent)]
        asyncio.run(lane.step(Group([Run(Assignment("redrive", NAMES.redrive, 0), messages)], self.consumer)))

    def seen(self) -> bool:
        """Tell whether anything that was written has what the mask hides."""
        whole = [part for e in self.writer.records for part in (e.key, e.value, repr(e.headers).encode()) if part]
        return any(CANARY.encode() in part for part in whole)

    def opened(self) -> list[str]:
        """Return what is in quarantine as who has the key reads it: the table and whether the value is there."""
        found = [(each.table, self.sealing.opened(each)) for each in self.quarantined()]
        return [f"{table} {each.value is not None}" for table, each in found]


@pytest.mark.parametrize("told_apart", [False, True])
def test_what_the_table_without_masks_refuses_is_sealed(tmp_path: Path, told_apart: bool) -> None:
    """The other one takes it; who has the key reads it all the same."""
    bench = Bench(tmp_path, *([dms_spec(VISITS, TOPIC)] if told_apart else []))

    bench.step(run_of(partition(), 10, [_record(1)]))

    assert 1 == len(bench.changes(PATIENTS))
    assert ["beds True"] == bench.opened()
    assert not bench.seen()


def test_what_no_attempt_gets_through_is_sealed(tmp_path: Path) -> None:
    """Whichever table it is put aside for."""
    bench = Bench(tmp_path)

    asyncio.run(bench.stage.on_poison(run_of(partition(), 10, [_record(1)]), KeyError(CANARY)))

    assert ["beds True"] == bench.opened()
    assert not bench.seen()


def test_what_is_parked_of_the_table_without_masks_is_sealed_and_flows_on(tmp_path: Path) -> None:
    """Also one that is refused then, or that nobody gets through: it is in quarantine as it was parked."""
    bench = Bench(tmp_path)
    bench.apply(bench.subset, paused="maintenance")
    bench.step(run_of(partition(), 10, [_record(1, 4), _record(2)]))
    records = bench.parked(BEDS)

    assert [HEADER_SEALED] * 2 == [next(iter(each.headers)) for each in records]
    assert not bench.seen()

    bench.apply(bench.subset, resumed=1)
    bench.read_parked(records)
    bench.read_parked(records[1:], KeyError(CANARY))

    assert [4] == [change["after"]["ward"] for change in bench.changes(BEDS)]
    assert ["beds True"] * 2 == bench.opened()
    assert not bench.seen()


def test_what_stands_in_clear_on_our_topics_from_before_the_mask_is_sealed_when_it_fails(tmp_path: Path) -> None:
    """Parked or redriven: the quarantine gets no more of it."""
    before = Bench(tmp_path, columns={**MASKED, "ssn": "string"})
    before.apply(before.subset, paused="maintenance")
    before.step(run_of(partition(), 10, [_record(1)]))
    bench = Bench(tmp_path)

    bench.read_parked(before.parked(BEDS))
    bench.read_parked(before.parked(BEDS), KeyError(CANARY))
    bench.redrive((_record(1), [(HEADER_FIRST_ORIGIN, json.dumps([TOPIC, 0, 0, 10]).encode())]))

    assert before.seen()
    assert ["beds True"] * 3 == bench.opened()
    assert not bench.seen()


def test_without_a_key_nothing_is_kept_of_either(tmp_path: Path) -> None:
    """The quarantine has no bytes, and where one of them waits the topic does: it says which key there is none of."""
    keyless = {"columns": {"id": "long", "ssn": {"type": "string", "mask": "drop"}, "ward": "string"}}
    bench = Bench(tmp_path, key=False, **keyless)
    bench.step(run_of(partition(), 10, [_record(1)]))
    bench.apply(bench.subset, paused="maintenance")

    bench.step(run_of(partition(), 11, [_record(2)]))

    assert ["beds False"] == bench.opened()
    assert ([], "mask_key_missing") == (bench.parked(BEDS), bench.consumer.paused[TOPIC].reason)
    assert "'default'" in bench.consumer.paused[TOPIC].message
    assert not bench.seen()


def test_a_replay_of_the_table_without_masks_seals_what_it_puts_aside(tmp_path: Path) -> None:
    """It reads for that table alone, and knows of the other one all the same."""
    bench = Bench(tmp_path)
    topics = {TOPIC: ReplayedTopic(id="id", generation=2, ranges={0: (10, 20)})}
    replay = Replay(generation=7, asked="text", at="2026-11-21T12:00:00Z", topics=topics)
    beside = bench.tables.beside(BEDS)
    replaying = Replaying(bench.config, bench.tables.unmasked(BEDS), replay, beside=beside, clock=lambda: 1.0)
    values: list[bytes] = []

    replaying.attempt(
        replaying.begun(),
        Outbox(lambda _, value, *__: values.append(value), 2**20),
        [run_of(partition(generation=7), 10, [_record(1)])],
    )

    (entry,) = map(read_quarantined, values)
    assert entry.sealed
    assert bench.sealing.opened(entry).value is not None
    assert [PATIENTS] == [each.spec.table for each in beside]


def test_what_another_table_of_the_topic_refuses_stays_as_it_is(tmp_path: Path) -> None:
    """It gets other records: nobody needs a key to read those."""
    bench = Bench(tmp_path, dms_spec(VISITS, TOPIC, columns={"id": "int", "ward": "int"}, unknown_columns="ignore"))

    bench.step(run_of(partition(), 10, [_record(1, table=VISITS)]))

    (entry,) = bench.quarantined()
    assert (VISITS, True) == (entry.table, entry.value is not None)


def test_a_table_and_its_version_seal_with_the_key_of_the_one_that_has_masks(tmp_path: Path) -> None:
    """So whoever only knows the first table of a topic by name seals as well; two with masks seal by their own."""
    bench = Bench(tmp_path)
    readers = bench.tables.of_topic(TOPIC)
    assert readers is not None
    other = bench.subset.model_copy(update={"columns": bench.masked.columns, "masks": bench.masked.masks})
    other = TableSpec.model_validate({**other.model_dump(mode="json"), "masks": {"key": "other"}})

    assert ["default"] * 3 == [getattr(bench.sealing.of(readers, t), "name", "") for t in (BEDS, PATIENTS, None)]
    assert readers.table_of(_record(1)) == BEDS

    bench.tables.update({BEDS.encode(): TableEntry(spec=other).model_dump_json().encode()})
    both = bench.tables.of_topic(TOPIC)
    assert ["other", "default"] == [getattr(bench.sealing.of(both, t), "name", "") for t in (BEDS, PATIENTS)]


def test_versions_are_beside_each_other_wherever_they_stand_in_the_chain(tmp_path: Path) -> None:
    """Also where the first is registered no more."""
    bench = Bench(tmp_path)
    third = dms_spec("wards", TOPIC, columns=SUBSET, beside=BEDS, source_table=None)

    bench.apply(third)
    assert [BEDS, PATIENTS] == sorted(each.spec.table for each in bench.tables.beside("wards"))
    bench.tables.update({PATIENTS.encode(): None})

    assert [[BEDS], ["wards"], [BEDS, "wards"]] == [
        [each.spec.table for each in bench.tables.beside(table)] for table in ("wards", BEDS, PATIENTS)
    ]


def test_secrets_are_not_needed_where_no_table_has_masks() -> None:
    """Two versions without masks are put aside as they are."""
    shared = Shared(*_specs({**MASKED, "ssn": "string"}, source_table=None))
    sealing = Sealing(mask_keys_of(read_config("", name="c").masks))

    assert sealing.of(shared.tables.of_topic(TOPIC), BEDS) is None
