"""The lane of NORMALIZE that reads quarantined records again: what they become, and what sends them back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from connectors.formats.debezium_json import DebeziumDecoder
from connectors.transport.chunk import Assignment, Group, Headers, Run
from connectors.transport.producer import Outbox
from schemas.change import HEADER_FIRST_ORIGIN
from schemas.config import Config
from schemas.document import read_document
from schemas.errors import ConfigurationError, SourceUnavailable, TransactionAborted
from schemas.evolution import Evolved
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from sinks.quarantine import read_quarantined
from streams.chains import Chain, Chains
from streams.decoders import Decoders
from streams.evolving import TableEvolves
from streams.redriven import RedriveLane
from streams.stage import BaseStage
from streams.tables import TableDirectory
from tests.unit.fakes import Consumer, Message, Record, Writer

NAMES = TopicNames()
PATIENTS, WARDS = "clinic.public.patients", "clinic.public.wards"
COMMITTED = 1_795_219_394  # 2026-11-21T00:03:14Z
SPECS = [
    f"{{table: {name}, topics: [{topic}], key: [id], columns: {{id: int, name: string}}}}"
    for name, topic in (("patients", PATIENTS), ("wards", WARDS))
]


class Stage(BaseStage):
    """What the lane counts for."""

    name = "normalize"


class Bench:
    """A lane with what it is wired to; `now` is the time of its clock."""

    def __init__(self, *failures: TransactionAborted | SourceUnavailable, specs: Sequence[str] = SPECS) -> None:
        read = [read_document(text, TableSpec, name="spec") for text in specs]
        self.tables = TableDirectory({spec.table: TableEntry(spec=spec) for spec in read})
        self.writer, self.consumer, self.stage = Writer(*failures), Consumer(), Stage()
        self.kept: dict[bytes, bytes] = {}
        self.ensured: list[dict[str, int]] = []
        self.refused_outputs: set[str] = set()
        self.now = COMMITTED + 60.0
        self.lane = self.made()

    def made(self) -> RedriveLane:
        """Return a new worker's lane."""

        async def ensure(wanted: Mapping[str, int]) -> Mapping[str, int]:
            self.ensured.append(dict(wanted))
            for topic in sorted(self.refused_outputs & wanted.keys()):
                raise TransactionAborted(f"creating {topic}: the broker refuses", topic=topic)
            return wanted

        return RedriveLane(
            Config(), names=NAMES, tables=self.tables, writer=self.writer, stage=self.stage, ensure_outputs=ensure,
            chains=Chains(NAMES.normalize_previous, lambda: self.kept), clock=lambda: self.now,
        )  # fmt: skip

    def step(self, *runs: Run, lane: RedriveLane | None = None) -> None:
        """Have the lane work on a group."""
        asyncio.run((lane or self.lane).step(Group(list(runs), self.consumer)))
        self.kept |= {each.key: each.value for each in self.of(NAMES.normalize_previous) if each.key is not None}

    def of(self, topic: str) -> list[Record]:
        """Return what was written to a topic."""
        return [each for each in self.writer.records if each.topic == topic]

    def changes(self, table: str = "patients") -> list[Any]:
        """Return what was written to a table's output topic."""
        return [each.content for each in self.of(NAMES.changes(table))]

    def reasons(self) -> list[str]:
        """Return why records were put back."""
        return [read_quarantined(each.value).reason for each in self.of(NAMES.quarantine)]


def _event(lsn: int, row: int, op: str = "u", *, snapshot: str = "false") -> bytes:
    after = None if op in {"d", "t"} else {"id": row, "name": f"n{lsn}"}
    source = {
        "connector": "postgresql", "name": "clinic", "ts_us": COMMITTED * 1_000_000, "snapshot": snapshot, "db": "d",
        "sequence": json.dumps([None if op == "r" else f"{lsn - 1}", f"{lsn}"]), "schema": "public",
        "table": "patients", "txId": 7, "lsn": lsn,
    }  # fmt: skip
    return json.dumps({"before": None, "after": after, "source": source, "op": op}, separators=(",", ":")).encode()


def _headers(topic: str, partition: int, offset: int) -> Headers:
    return [("own", b"1"), (HEADER_FIRST_ORIGIN, json.dumps([topic, 0, partition, offset]).encode())]


def _sent(offset: int, value: bytes | None, first: int, *, topic: str = PATIENTS, row: int = 1) -> Message:
    return Message(offset, b'{"id":%d}' % row, value, _headers(topic, 2, first))


def _partition(generation: int = 0) -> Assignment:
    made = Assignment("redrive", NAMES.redrive, 2)
    made.generation = generation
    return made


def event_of(op: str) -> bytes:
    """Return a change of a row, or of the table."""
    return _event(9, 1, op)


def run_of(value: bytes) -> Run:
    """Return a run of one record that was read at offset 7 of partition 2 at first."""
    return Run(_partition(), [_sent(5, value, 7)])


def _origins(changes: Sequence[Any], name: str) -> list[Any]:
    return [change["source"][name] for change in changes]


def test_a_redriven_change_names_both_of_its_origins_and_goes_to_its_partition() -> None:
    """Its identity is where it was read now; the first one says what it was."""
    bench = Bench()

    bench.step(Run(_partition(), [_sent(5, _event(40, 1), 4711)]))

    (record,) = bench.of("headgate.changes.patients")
    assert 2 == record.partition
    assert [[NAMES.redrive, 0, 2, 5]] == _origins([record.content], "origin")
    assert [[PATIENTS, 0, 2, 4711]] == _origins([record.content], "first_origin")
    assert b"1" == record.headers["headgate.schema"]
    assert [{"headgate.changes.patients": 3}] == bench.ensured
    assert 1 == bench.stage.counts["redriven"]


def test_each_table_has_a_chain_of_its_own_that_outlives_the_worker() -> None:
    """`previous` is the last change of the same table in the partition; another worker reads on from what was kept."""
    bench, here = Bench(), _partition()

    bench.step(
        Run(here, [_sent(5, _event(1, 1), 1), _sent(6, _event(2, 1), 1, topic=WARDS), _sent(7, _event(3, 1), 2)])
    )
    bench.step(Run(here, [_sent(8, _event(4, 1), 2, topic=WARDS)]))
    bench.step(
        Run(_partition(), [_sent(9, _event(5, 1), 3), _sent(10, _event(6, 1), 3, topic=WARDS)]), lane=bench.made()
    )

    assert [None, 5, 7] == _origins(bench.changes(), "previous")
    assert [None, 6, 8] == _origins(bench.changes("wards"), "previous")
    assert {2: 11} == {each.assignment.partition: each.next_offset for each in bench.writer.advances}


def test_a_topic_made_anew_begins_new_chains() -> None:
    """Its offsets count from the beginning again."""
    bench = Bench()

    bench.step(Run(_partition(), [_sent(5, _event(1, 1), 1)]))
    bench.step(Run(_partition(generation=1), [_sent(0, _event(2, 1), 2)]))

    assert [None, None] == _origins(bench.changes(), "previous")


def test_what_an_aborted_attempt_wrote_is_nobodys_previous() -> None:
    """The next attempt begins where the last durable one ended."""
    bench, here = Bench(TransactionAborted("aborted")), _partition()
    run = Run(here, [_sent(5, _event(1, 1), 1), _sent(6, b"{", 2)])

    with pytest.raises(TransactionAborted):
        bench.step(run)
    bench.step(run)

    assert [None] == _origins(bench.changes(), "previous")
    assert (1, 1) == (bench.stage.counts["redriven"], bench.stage.counts["quarantined_broken_json"])


def test_what_is_written_again_without_transactions_leads_back_into_the_chain() -> None:
    """Readers drop the repeats, whatever they name; the first new one names the last of them."""
    bench = Bench()
    records = [_sent(5, _event(1, 1), 1), _sent(6, _event(2, 1), 2)]

    bench.step(Run(_partition(), records))
    bench.step(Run(_partition(), [*records, _sent(7, _event(3, 1), 3)]), lane=bench.made())

    assert [None, 5, None, 5, 6] == _origins(bench.changes(), "previous")


def test_rows_of_a_snapshot_stop_nothing_and_keep_their_order() -> None:
    """Rows of an initial snapshot may be sent again long after changes of their table."""
    bench = Bench()
    snapshot = _event(3, 2, "r", snapshot="true")

    bench.step(Run(_partition(), [_sent(5, _event(9, 1), 7), _sent(6, snapshot, 1, row=2), _sent(7, _event(10, 1), 8)]))

    assert ["update", "snapshot", "update"] == [change["op"] for change in bench.changes()]
    assert [None, 5, 6] == _origins(bench.changes(), "previous")
    assert [] == bench.reasons()


def test_records_are_decoded_as_if_they_stood_where_they_once_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """With some formats the offset is a part of the position; what is not in its first order is decoded apart."""
    bench, seen = Bench(), list[tuple[str, list[int]]]()
    decode = DebeziumDecoder.decode

    def noted(self: DebeziumDecoder, records: Any, memory: Any) -> Any:
        seen.append((records.topic, records.offsets()))
        return decode(self, records, memory)

    monkeypatch.setattr(DebeziumDecoder, "decode", noted)

    bench.step(
        Run(_partition(), [_sent(at, _event(at, 1), first) for at, first in ((5, 40), (6, 44), (7, 41), (8, 41))])
    )

    assert [(PATIENTS, [40, 44]), (PATIENTS, [41]), (PATIENTS, [41])] == seen
    assert [5, 6, 7, 8] == [origin[3] for origin in _origins(bench.changes(), "origin")]
    assert [40, 44, 41, 41] == [origin[3] for origin in _origins(bench.changes(), "first_origin")]
    assert [None, 5, 6, 7] == _origins(bench.changes(), "previous")


def test_a_truncate_goes_back_and_stops_nothing() -> None:
    """It would stop its table, and here all tables' records stand behind it."""
    bench = Bench()

    bench.step(Run(_partition(), [_sent(5, _event(9, 1, "t"), 7), _sent(6, _event(10, 1), 8)]))

    assert ["truncate"] == bench.reasons()
    assert 1 == len(bench.changes())


def test_what_fails_again_is_in_quarantine_as_it_was_at_first() -> None:
    """With its first origin and its own headers, so that it can be sent once more; and where it was read now."""
    bench = Bench()

    bench.step(Run(_partition(), [_sent(5, b"{", 4711), _sent(6, _event(1, 1), 4712)]))

    (entry,) = (read_quarantined(each.value) for each in bench.of(NAMES.quarantine))
    assert (PATIENTS, 0, 2, 4711) == entry.origin
    assert (NAMES.redrive, 0, 2, 5) == entry.redriven
    assert [("own", "MQ==")] == entry.headers
    assert ("normalize", "patients", "broken_json") == (entry.stage, entry.table, entry.reason)
    assert {("patients", "broken_json"): 1} == bench.stage.quarantined
    assert 1 == len(bench.changes())


def test_what_cannot_be_read_now_goes_back_alone() -> None:
    """A stranger's record, one of a removed table, one of a paused table: none of them holds up the others."""
    bench = Bench()
    paused = bench.tables["wards"].model_copy(update={"paused": "maintenance"})
    bench.tables.update({b"wards": paused.model_dump_json().encode()})
    run = Run(
        _partition(),
        [
            Message(5, None, b"x"),
            _sent(6, _event(1, 1), 1, topic="gone"),
            _sent(7, _event(1, 1), 1, topic=WARDS),
            _sent(8, _event(1, 1), 1),
        ],
    )

    bench.step(run)

    assert ["no_first_origin", "unregistered", "table_paused"] == bench.reasons()
    assert 1 == len(bench.changes())


def test_what_is_too_old_goes_back() -> None:
    """A delete that came after it may be forgotten: nothing is raised from the dead."""
    bench = Bench()
    bench.now = COMMITTED + 7 * 24 * 3_600 + 1

    bench.step(Run(_partition(), [_sent(5, _event(1, 1), 1)]))

    assert ["too_old_to_redrive"] == bench.reasons()
    assert [] == bench.changes()


@pytest.mark.parametrize("refused", [TransactionAborted, SourceUnavailable], ids=["aborted", "without transactions"])
def test_a_table_whose_output_refuses_has_its_records_put_back_and_the_others_go_on(
    refused: type[TransactionAborted | SourceUnavailable],
) -> None:
    """One bad table does not hold the lane up; the attempt after that is none of its business."""
    bench = Bench(refused("refused", topic="headgate.changes.wards"))
    run = Run(_partition(), [_sent(5, _event(1, 1), 1, topic=WARDS), _sent(6, _event(1, 1), 1)])

    with pytest.raises(refused):
        bench.step(run)
    bench.step(run)
    bench.step(Run(_partition(), [_sent(7, _event(2, 1), 2, topic=WARDS)]))

    assert ["output_refused"] == bench.reasons()
    assert (1, 1) == (len(bench.changes()), len(bench.changes("wards")))


def test_a_table_whose_output_cannot_be_made_has_its_records_put_back() -> None:
    """As one whose output refuses a write; it ends no worker."""
    bench = Bench()
    bench.refused_outputs.add("headgate.changes.wards")
    run = Run(_partition(), [_sent(5, _event(1, 1), 1, topic=WARDS), _sent(6, _event(1, 1), 1)])

    with pytest.raises(TransactionAborted):
        bench.step(run)
    bench.step(run)

    assert (["output_refused"], 1) == (bench.reasons(), len(bench.changes()))


def test_a_record_that_nobody_can_get_through_goes_back() -> None:
    """Its neighbours were tried apart before."""
    bench = Bench()

    asyncio.run(bench.lane.on_poison(Run(_partition(), [_sent(5, _event(1, 1), 1)]), KeyError("x")))

    assert ["bug"] == bench.reasons()
    assert [6] == [each.next_offset for each in bench.writer.advances]


def test_an_entry_of_a_newer_release_is_refused() -> None:
    """Going on would write over what it does not know."""
    chains = Chains(NAMES.normalize_previous, lambda: {b'["t",0,"p"]': b'{"v":2}'})

    with pytest.raises(ConfigurationError, match="version 2"):
        asyncio.run(chains.take_up([_partition()]))


def test_only_what_changed_is_written() -> None:
    """However many tables a topic has."""
    records: list[Any] = []
    chain = Chain({"a": 3, "b": 4})
    chain.reach("b", 9)
    chain.reach("c", None)

    Chains("t", dict).write(Outbox(lambda *record: records.append(record), 1_000), _partition(), chain)

    assert [("t", b'{"generation":0,"previous":9,"v":1}', b'["headgate.redrive",2,"b"]', 0)] == records


class Taking:
    """Takes up what is found at once, but for what it refuses."""

    def __init__(self, bench: Bench, *, refuses: bool = False) -> None:
        self.bench, self.refuses, self.found = bench, refuses, list[TableEvolves]()

    async def take_up(self, stop: TableEvolves) -> None:
        """Have the table evolve."""
        self.found.append(stop)
        columns = {name: [found] for name, found in stop.columns.items()}
        evolved = Evolved(table=stop.table, slot="w", revision=len(self.found), columns=columns)
        if not self.refuses:
            self.bench.tables.update({evolved.key: evolved.encoded()})


@pytest.mark.parametrize("refuses", [False, True])
def test_a_table_takes_up_what_redriven_records_have(*, refuses: bool) -> None:
    """Before one of them goes out; where it cannot, they are in quarantine once more, and the lane goes on."""
    bench = Bench()
    bench.tables.update({b"patients": bench.tables["patients"].model_dump_json().encode()})
    taking = Taking(bench, refuses=refuses)
    bench.lane._evolutions = taking  # type: ignore[assignment]  # noqa: SLF001 - in place of a broker
    bench.lane._evolving = Decoders(Config(), evolve=True)  # noqa: SLF001 - the same

    bench.step(Run(_partition(), [_sent(0, _event(5, 2**40), 41, row=2**40), _sent(1, _event(6, 1), 42)]))

    assert ["id"] == [name for stop in taking.found for name in stop.columns]
    assert (["out_of_range"] if refuses else []) == bench.reasons()
    assert ([1] if refuses else [str(2**40), "1"]) == [change["after"]["id"] for change in bench.changes()]
