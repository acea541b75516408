"""NORMALIZE at a record that its table's spec does not take: what is out, what waits, and what comes of the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from connectors.transport.chunk import Assignment, Run
from schemas.errors import TableStopped
from schemas.evolution import Evolved, Found, joined
from schemas.table import TableSpec
from streams.evolving import TableEvolves
from streams.normalize import NormalizeStage
from tests.unit.fakes import Message, run_of
from tests.unit.streams.changing import envelope
from tests.unit.streams.dms_specs import dms_spec
from tests.unit.streams.shared_topic import TOPIC, Shared, partition
from tests.workloads.dms_topic import dms_record


class Evolving(Shared):
    """NORMALIZE whose tables take up what is found as soon as it is asked for."""

    def made(self) -> NormalizeStage:
        """Return a new worker's stage."""
        self.stops: list[tuple[str, TableEvolves]] = []
        self.found: dict[str, Mapping[str, list[Found]]] = {}
        made = super().made()
        made._evolutions = self  # type: ignore[assignment]  # noqa: SLF001 - in place of a broker
        made._emitter.decoders._evolve = True  # noqa: SLF001 - the same
        return made

    def begin(self, topic: str, stop: TableEvolves) -> None:
        """Note what was found, and have it in force."""
        self.stops.append((topic, stop))
        columns = {name: [found] for name, found in stop.columns.items()}
        found = self.found[stop.table] = joined(self.found.get(stop.table, {}), columns)
        evolved = Evolved(table=stop.table, slot="w", revision=len(self.stops), columns=found)
        self.tables.update({evolved.key: evolved.encoded()})

    def register(self, *specs: TableSpec) -> None:
        """Have the tables as they would be read from their topic."""
        self.apply(*specs)

    def read(self, mine: Assignment, values: list[bytes | None], first: int = 0) -> int:
        """Read these records until all are done, as the transport does after each pause; return how often."""
        for rounds in range(1, 20):
            at = self.writer.advances[-1].next_offset if self.writer.advances else first
            if at >= first + len(values):
                return rounds - 1
            self.step(run_of(mine, at, values[at - first :]))
        raise AssertionError("it would go on for ever")


WANTED: dict[str, Any] = {"unknown_columns": "add", "type_changes": "text"}
PATIENTS, VISITS = dms_spec("patients", TOPIC, **WANTED), dms_spec("visits", TOPIC)


def test_a_topic_of_several_tables_waits_for_one_and_loses_nothing_of_any() -> None:
    """What lies before the record is out, of all tables; the rest follows, each change once and in its chain."""
    shared = Evolving(PATIENTS, VISITS)
    shared.register(PATIENTS, VISITS)
    rows: list[tuple[str, dict[str, Any]]] = [
        ("patients", {"id": 1, "name": "a"}),
        ("visits", {"id": 1, "name": "b"}),
        ("patients", {"id": 2, "name": "c", "ward": 7}),
        ("visits", {"id": 2, "name": "d"}),
        ("patients", {"id": "three", "name": "e"}),
        ("patients", {"id": 4, "name": "f", "ward": "x"}),
    ]
    values: list[bytes | None] = [dms_record(table, at, row) for at, (table, row) in enumerate(rows)]
    rounds = shared.read(partition(), values)

    assert [(TOPIC, "patients")] * (rounds - 1) == [(topic, stop.table) for topic, stop in shared.stops]
    assert [(None, 0), (0, 2), (2, 5)] == shared.chain("patients")
    assert [(None, 1), (1, 3)] == shared.chain("visits")
    assert "x" == shared.changes("patients")[-1]["after"]["ward"]
    assert ["out_of_range", "bad_type", "bad_key", "no_key"].count(shared.quarantined()[0].reason) == 1
    assert 1 == len(shared.quarantined())


def test_the_topic_is_paused_for_as_long_as_its_table_evolves() -> None:
    """By a reason that says that nobody has to do anything; it is no error of the stage."""
    shared = Evolving(PATIENTS, VISITS)
    shared.register(PATIENTS, VISITS)
    shared.step(run_of(partition(), 0, [dms_record("patients", 0, {"id": 1, "name": "a", "ward": 7})]))

    stop = shared.consumer.paused[TOPIC]
    assert isinstance(stop, TableStopped)
    assert ("evolving", "patients takes up what its records have: ward long") == (stop.reason, stop.message)
    assert shared.stage.last_error is None
    assert [] == shared.consumer.done_runs
    assert 1 == shared.stage.counters()["evolutions"]


def test_partitions_that_are_read_together_part_where_one_of_them_evolves() -> None:
    """The others are done; what the stopped one remembers is that of what was written."""
    spec = TableSpec.model_validate(
        {"table": "t", "topics": [TOPIC], "key": ["id"], "columns": {"id": "int", "n": "int"}, "unknown_columns": "add"}
    )
    shared = Evolving(spec)
    shared.register(spec)
    shared.step(_run(0, {"n": 1}, {"n": 2**40}, {"n": 3}), _run(1, {"n": 4}, {"n": 5}), _run(2, {"n": 6, "new": "x"}))

    advances = [(each.assignment.partition, each.next_offset) for each in shared.writer.advances]
    assert [(0, 1), (1, 2), (2, 0)] == advances
    assert {"n", "new"} == {name for _, stop in shared.stops for name in stop.columns}
    assert {"n": "long", "new": "string"} == {
        name: str(column.type) for name, column in shared.tables["t"].spec.columns.items() if name != "id"
    }
    assert [[0, 1], [0, 2]] == [[run.first, run.next] for run in shared.consumer.done_runs]
    assert [] == shared.quarantined()


def _run(number: int, *rows: dict[str, Any]) -> Run:
    """Return inserts of rows in a partition."""
    keyed = [(json.dumps({"id": at}, separators=(",", ":")), {"id": at, **row}) for at, row in enumerate(rows)]
    return Run(
        partition(number),
        [Message(at, key.encode(), envelope(row, lsn=at + 1).encode()) for at, (key, row) in enumerate(keyed)],
    )
