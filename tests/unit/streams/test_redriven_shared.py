"""Redriven records of topics that several tables share: each goes to the table that it names, or back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.transport.chunk import Assignment, Group, Run
from schemas.change import HEADER_FIRST_ORIGIN
from schemas.config import Config
from schemas.errors import TransactionAborted
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from sinks.quarantine import read_quarantined
from streams.chains import Chains
from streams.redriven import RedriveLane
from streams.stage import BaseStage
from streams.tables import TableDirectory
from tests.unit.fakes import Consumer, Message, Writer
from tests.unit.streams.dms_specs import dms_spec
from tests.workloads.dms_topic import control_record, dms_record

NAMES, TOPIC = TopicNames(), "dms-task"
NOW = 1_795_219_454.0  # a minute after the records were committed


class Stage(BaseStage):
    """What the lane counts for."""

    name = "normalize"


class Bench:
    """A lane for two tables of one topic."""

    def __init__(self, *failures: TransactionAborted, more: Sequence[TableSpec] = ()) -> None:
        specs = [dms_spec("patients", TOPIC), dms_spec("visits", TOPIC), *more]
        entries = {spec.table: TableEntry(spec=spec) for spec in specs}
        self.tables, self.writer, self.stage = TableDirectory(entries), Writer(*failures), Stage()
        self.ensured: list[dict[str, int]] = []

        async def ensure(wanted: Mapping[str, int]) -> Mapping[str, int]:
            self.ensured.append(dict(wanted))
            return wanted

        self.lane = RedriveLane(
            Config(), names=NAMES, tables=self.tables, writer=self.writer, stage=self.stage, ensure_outputs=ensure,
            chains=Chains(NAMES.normalize_previous, dict), clock=lambda: NOW,
        )  # fmt: skip

    def step(self, *values: bytes | None) -> None:
        """Have the lane work on these records, which were read at 100 and up."""
        messages = [
            Message(5 + i, None, value, [(HEADER_FIRST_ORIGIN, json.dumps([TOPIC, 0, 2, 100 + i]).encode())])
            for i, value in enumerate(values)
        ]
        run = Run(Assignment("redrive", NAMES.redrive, 2), messages)
        asyncio.run(self.lane.step(Group([run], Consumer())))

    def changes(self, table: str) -> list[Any]:
        """Return what was written to a table's output topic."""
        return [each.content["source"] for each in self.writer.records if each.topic == NAMES.changes(table)]

    def back(self) -> list[tuple[str | None, str, int]]:
        """Return table, reason and first offset of what was put back."""
        entries = [read_quarantined(each.value) for each in self.writer.records if each.topic == NAMES.quarantine]
        return [(each.table, each.reason, each.origin[3]) for each in entries]


def _record(table: str, at: int = 1) -> bytes:
    return dms_record(table, at, {"id": at, "name": "n"})


def test_each_record_goes_to_the_table_that_it_names() -> None:
    """With a chain for each, and its first origin."""
    bench = Bench()

    bench.step(_record("patients", 1), _record("visits", 2), _record("patients", 3))

    assert [(None, 5, 100), (5, 7, 102)] == [
        (each["previous"], each["origin"][3], each["first_origin"][3]) for each in bench.changes("patients")
    ]
    assert [(None, 6)] == [(each["previous"], each["origin"][3]) for each in bench.changes("visits")]
    assert [{NAMES.changes("patients"): 3, NAMES.changes("visits"): 3}] == bench.ensured


def test_what_names_no_table_or_one_without_a_spec_goes_back_alone() -> None:
    """What is no change is skipped, as in its topic."""
    bench = Bench()
    bad = dms_record("visits", 1, {"id": "no number"})
    bare = json.loads(_record("patients"))
    del bare["metadata"]["table-name"]

    bench.step(b"{", _record("bills"), json.dumps(bare).encode(), control_record("bills"), bad)

    assert [
        (None, "broken_json", 100),
        (None, "unregistered", 101),
        (None, "no_table", 102),
        ("visits", "bad_type", 104),
    ] == sorted(bench.back(), key=lambda each: each[2])
    assert 1 == bench.stage.counts["skipped_schema_change"]


def test_a_paused_table_has_its_records_put_back_and_the_other_goes_on() -> None:
    """The lane stops for no table, also of one topic."""
    bench = Bench()
    paused = bench.tables["visits"].model_copy(update={"paused": "maintenance"})
    bench.tables.update({b"visits": paused.model_dump_json().encode()})

    bench.step(_record("visits"), _record("patients"))

    assert [("visits", "table_paused", 100)] == bench.back()
    assert 1 == len(bench.changes("patients"))


def test_a_record_of_tables_beside_each_other_goes_to_all_of_them() -> None:
    """Whichever had it in quarantine: position makes it nothing new to the others. Back goes what one refuses still."""
    beside = {"source_table": "clinic.patients", "beside": "patients"}
    strict = dms_spec("strict", TOPIC, **beside, columns={"id": "long", "name": "int"})
    bench = Bench(more=[dms_spec("patients_v2", TOPIC, **beside), strict])

    bench.step(_record("patients"), _record("visits"))

    assert [[100], [100], [101]] == [
        [each["first_origin"][3] for each in bench.changes(table)] for table in ("patients", "patients_v2", "visits")
    ]
    assert [("strict", "bad_type", 100)] == bench.back()
