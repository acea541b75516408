"""Records of several changes on their way through the stages, by a format made up for it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.captured import OneRecord
from connectors.formats import PartitionMemory
from connectors.formats.base import Records
from connectors.transport.chunk import Assignment, Group, Run
from headgate.cli.quarantine import describe
from schemas.batch import Batch, Decoded, Rejected, rows_of
from schemas.config import LimitsConfig, read_config
from schemas.errors import PoisonRecord, TransactionAborted
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from sinks.quarantine import read_quarantined
from streams.chains import Chains
from streams.looked import Looker
from streams.normalize import NormalizeStage
from streams.poison import Quarantine
from streams.quarantine import Held
from streams.stage import BaseStage
from streams.tables import TableDirectory
from streams.together import decode_together
from tests.unit.alerts.test_alerts_stage import BIG, Bench, entry
from tests.unit.alerts.test_alerts_stage import value as contract_value
from tests.unit.fakes import Consumer, Message, Writer, assignment_of

TOPIC = "clinic.rows"
SPEC = TableSpec.model_validate({"table": "patients", "topics": [TOPIC], "key": ["id"], "columns": {"id": "int"}})


class Numbers:
    """A format whose values are the ids of the rows inserted, `1 2 3`; a record with another word is bad.

    Row 9 is larger than the broker takes.
    """

    name, alone = "numbers", False

    def decoder(self, entry: TableEntry, limits: LimitsConfig) -> Numbers:
        """Return itself."""
        return self

    def decode(self, records: Records, memory: PartitionMemory) -> Decoded:
        """Return a change for each number."""
        decoded = Decoded(Batch("patients", "made", "up", "rows"), skipped=Counter())
        for index, (offset, value) in enumerate(zip(records.offsets(), records.values(), strict=True)):
            words = (value or b"").decode().split()
            if not words:
                decoded.skipped["tombstone"] += 1
            elif not all(map(str.isdigit, words)):
                decoded.rejected.append(Rejected(index, PoisonRecord("bad_row", "a row is no number")))
            else:
                _add(decoded.batch, offset, [_row(word) for word in words])
        decoded.batch.rows = rows_of(decoded.batch.offsets)
        if decoded.batch.positions:
            memory.saw(max(decoded.batch.positions))
        return decoded


def _row(word: str) -> dict[str, Any]:
    return {"id": int(word), **({"note": "x" * 2**20} if word == "9" else {})}


def _add(batch: Batch, offset: int, rows: Sequence[dict[str, Any]]) -> None:
    none: list[Any] = [None] * len(rows)
    batch.offsets += [offset] * len(rows)
    batch.operations += ["insert"] * len(rows)
    batch.keys += [{"id": row["id"]} for row in rows]
    batch.afters += rows
    for column in (batch.old_keys, batch.new_keys, batch.befores, batch.transactions):
        column.extend(none)
    batch.positions += [f"{offset:035d}{row:010d}" for row in range(len(rows))]
    batch.ts += ["2026-11-20T19:45:57.123456Z"] * len(rows)
    batch.unavailable += [[] for _ in rows]
    batch.snapshots += [False] * len(rows)


@pytest.fixture(autouse=True)
def numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table has this format."""
    for module in ("decoders", "looked"):
        monkeypatch.setattr(f"streams.{module}.format_of", lambda *_: Numbers())


def normalize(writer: Writer) -> NormalizeStage:
    """Return NORMALIZE with the table."""

    async def ensure(wanted: Any) -> dict[str, int]:
        return {topic: output.partitions for topic, output in wanted.items()}

    return NormalizeStage(
        read_config("", name="c"), names=TopicNames(), tables=TableDirectory({"patients": TableEntry(spec=SPEC)}),
        writer=writer, consumer=Consumer(), ensure_outputs=ensure, chains=Chains(TopicNames().normalize_previous, dict),
    )  # fmt: skip


def run_of(values: Sequence[bytes | None], first: int = 10, assignment: Assignment | None = None) -> Run:
    """Return a run of these values."""
    messages = [Message(first + at, None, value) for at, value in enumerate(values)]
    return Run(assignment or Assignment("main", TOPIC, 2), messages)


def _held(entry: dict[str, Any]) -> Held:
    return Held(("id", 0, 0), read_quarantined(json.dumps(entry).encode()), "open")


def places(writer: Writer) -> list[tuple[Any, ...]]:
    """Return the offset, the number in its record, `previous` and the count of each change written."""
    sources = [record.content["source"] for record in writer.records if record.topic.startswith("headgate.changes.")]
    return [(*(source["origin"] + [0])[3:5], source["previous"], source.get("rows")) for source in sources]


def step(stage: NormalizeStage, *runs: Run) -> None:
    """Hand over a group."""
    asyncio.run(stage.step(Group(list(runs), Consumer())))


def test_all_changes_of_a_record_go_out_in_one_transaction_to_one_partition() -> None:
    """In their order, and the chain goes on behind them, also after a successor has taken over."""
    writer, run = Writer(), run_of([b"1", b"2 3 4", None, b"5 6"])
    step(normalize(writer), run)
    successor = Assignment("main", TOPIC, 2)
    successor.metadata = writer.advances[-1].metadata
    step(normalize(writer), run_of([b"7"], 14, successor))

    expected = [(10, 0, None, None), (11, 0, 10, 3), (11, 1, 11, 3), (11, 2, 11, 3), (13, 0, 11, 2), (13, 1, 13, 2)]
    assert [*expected, (14, 0, 13, None)] == places(writer)
    assert {("headgate.changes.patients", 2)} == {(each.topic, each.partition) for each in writer.records}
    assert [14, 15] == [advance.next_offset for advance in writer.advances]


def test_a_record_with_one_bad_row_is_quarantined_whole() -> None:
    """Once; and what an aborted attempt had of it does not count."""
    writer = Writer(TransactionAborted("aborted"))
    stage, run = normalize(writer), run_of([b"1 2", b"3 x 4", b"5 6"])
    with pytest.raises(TransactionAborted):
        step(stage, run)
    step(stage, run)

    assert [(10, 0, None, 2), (10, 1, 10, 2), (12, 0, 10, 2), (12, 1, 12, 2)] == places(writer)
    assert [[TOPIC, 0, 2, 11]] == [r.content["origin"] for r in writer.records if r.topic == "headgate.quarantine"]
    assert (4, 1) == (stage.counters()["emitted"], stage.counters()["quarantined_bad_row"])


def test_a_record_of_which_one_change_is_too_large_is_quarantined_whole() -> None:
    """Once, and its neighbours go out."""
    writer = Writer()
    stage = normalize(writer)
    step(stage, run_of([b"1", b"1 9 3 9", b"4 5"]))

    assert stage.emitted.total() == 3
    assert [(10, 0, None, None), (12, 0, 10, 2), (12, 1, 12, 2)] == places(writer)
    bad = [record.content for record in writer.records if record.topic == "headgate.quarantine"]
    assert [("output_too_large", [TOPIC, 0, 2, 11])] == [(each["reason"], each["origin"]) for each in bad]


@given(st.lists(st.lists(st.sampled_from([b"1", b"2 3", b"4 5 6", b"", b"x", b"7 x"]), min_size=1, max_size=4),
                min_size=2, max_size=6))  # fmt: skip
def test_side_by_side_says_what_alone_says(runs_of: list[list[bytes]]) -> None:
    """Short runs are parted again between records, never within one."""
    runs = [run_of(values, 100 * at, Assignment("main", TOPIC, at)) for at, values in enumerate(runs_of)]
    table = TableEntry(spec=SPEC)
    together = decode_together(Numbers(), table, runs, [PartitionMemory() for _ in runs])

    assert together is not None
    for run, parted in zip(runs, together, strict=True):
        alone = Numbers().decode(run, PartitionMemory())
        assert (alone.batch.offsets, alone.batch.keys) == (parted.batch.offsets, parted.batch.keys)
        assert (alone.batch.rows or [0] * len(alone.batch)) == (parted.batch.rows or [0] * len(parted.batch))
        assert [bad.index for bad in alone.rejected] == [bad.index for bad in parted.rejected]


def test_decode_shows_each_change_of_a_record() -> None:
    """Under its own origin, and the next record behind them."""
    looker = Looker({"patients": SPEC}, LimitsConfig())
    looks = [looker.look(OneRecord(TOPIC, 0, offset, None, value, ())) for offset, value in enumerate([b"1 2", b"3"])]

    assert [[(TOPIC, 0, 0, 0), (TOPIC, 0, 0, 0, 1)], [(TOPIC, 0, 0, 1)]] == [[o.origin for o in of] for of in looks]
    assert [[[TOPIC, 0, 0, 0], [TOPIC, 0, 0, 0, 1]], [[TOPIC, 0, 0, 1]]] == [
        [json.loads(bytes(o.change or b""))["source"]["origin"] for o in of] for of in looks
    ]


def fires(offset: int, row: int, **fields: Any) -> bytes:
    """Return a change that a rule fires for: one of the three that its record made."""
    value = json.loads(contract_value(offset, **fields))
    value["source"] |= {"origin": ["src", 0, 0, offset, *([row] if row else [])], "rows": 3}
    return json.dumps(value).encode()


async def test_each_change_of_a_record_fires_once_although_it_is_repeated() -> None:
    """With at_least_once: within a run, between runs and, by the committed metadata, after a restart."""
    bench = Bench(entry(BIG), guarantee="at_least_once")
    first = bench.run(fires(1, 0), fires(1, 1), fires(1, 0), fires(1, 1), fires(1, 2), fires(2, 0), fires(2, 1))
    await bench.step(first)
    restarted = Bench(entry(BIG), guarantee="at_least_once")
    successor = Assignment("alerts", first.topic, 0)
    successor.metadata = bench.consumer.metadata[first]
    again = [*(fires(offset, row) for offset in (1, 2) for row in range(3)), contract_value(3)]
    alerts = await restarted.step(restarted.run(*again, first=7, assignment=successor))

    assert [[1], [1, 1], [1, 2], [2], [2, 1]] == [alert["origin"][3:] for alert in bench.alerts()]
    assert [[2, 2], [3]] == [alert["origin"][3:] for alert in alerts]
    assert 2 == bench.stage.counters()["repeats_dropped"]


async def test_rows_without_a_key_are_told_apart_within_their_record() -> None:
    """Each has an alert with an id of its own, also where they stand at one position."""
    bench = Bench(entry(BIG, key=()))
    alerts = await bench.step(bench.run(*(fires(1, row, key=None) for row in range(3))))

    assert 3 == len({alert["id"] for alert in alerts})


async def test_an_entry_of_quarantine_says_which_change_of_a_record_it_was() -> None:
    """Beside its origin, which releases before know how to read; of an ordinary record it says nothing."""
    writer = Writer()
    stage = BaseStage()
    stage.name = "lake"
    quarantine = Quarantine(read_config("", name="c"), names=TopicNames(), stage=stage, writer=writer)
    for value in (fires(1, 2), fires(1, 0), contract_value(2)):
        await quarantine.put(Run(assignment_of(), [Message(7, None, value)]), PoisonRecord("bad", "it is"))
    entries = [record.content for record in writer.records]

    assert [["src", 0, 0, 1], ["src", 0, 0, 1], ["src", 0, 0, 2]] == [each["origin"] for each in entries]
    assert [2, None, None] == [each.get("row") for each in entries]
    assert [2, None, None] == [describe(_held(each)).get("row") for each in entries]
