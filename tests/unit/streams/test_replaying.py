"""What a replay makes of records: changes of a generation of their own, and where they are put aside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from connectors.transport.chunk import Assignment, Run
from connectors.transport.producer import Outbox
from schemas.config import Config, read_config
from schemas.epoch import EpochStart
from schemas.replay import Replay, ReplayedTopic
from schemas.table import TableEntry
from sinks.quarantine import read_quarantined
from streams.attempt import Attempt, metadata_of
from streams.epochs import parted
from streams.replay_status import status_of_replay
from streams.replaying import Replaying
from tests.unit.fakes import Record, run_of
from tests.unit.streams.dms_specs import dms_spec
from tests.unit.streams.shared_topic import NAMES, TOPIC
from tests.workloads.dms_topic import control_record, dms_record

P, V = "patients", "visits"


def _record(table: str, at: int, op: str = "update", **row: Any) -> bytes:
    return dms_record(table, at, {"id": 1, "name": f"n{at}", **row}, op)


class Bench:
    """A replay of the visits, which share their topic; its live generation is 2."""

    def __init__(self, entry: TableEntry | None = None, config: Config | None = None, **changes: Any) -> None:
        topics = {TOPIC: ReplayedTopic(id="id", generation=2, ranges={0: (10, 20), 3: (0, 5)})}
        replay = Replay(generation=7, asked="text", at="2026-11-21T12:00:00Z", topics=topics)
        entry, config = entry or TableEntry(spec=dms_spec(V, TOPIC)), config or Config()
        self.replaying = Replaying(config, entry, replay.model_copy(update=changes), clock=lambda: 1.0)
        self.records: list[Record] = []
        self.mine = Assignment("replay", TOPIC, 0)
        self.mine.generation, self.mine.topic_id = 7, "id"

    def attempt(self, run: Run) -> Attempt:
        """Return what one attempt at a run comes to."""

        def note(topic: str, value: bytes, key: bytes | None, partition: int, *rest: Any) -> None:
            self.records.append(Record(topic, partition, key, value, dict(rest[-1]) if rest else {}))

        work = self.replaying.begun()
        advances = self.replaying.attempt(work, Outbox(note, 2**20), parted([run], work.readers))
        assert [work.nexts[self.mine]] == [each.next_offset for each in advances]
        self.mine.state = work.states[self.mine]
        return work

    def origins(self) -> list[Any]:
        """Return where the changes were read, and what each names before it."""
        changes = [each.content["source"] for each in self.records if each.topic == NAMES.changes(V)]
        return [(*change["origin"][1:], change["previous"]) for change in changes]


def test_only_the_tables_own_records_are_emitted_as_the_replays_generation() -> None:
    """With a chain of its own; what others of the topic are is passed over, and counted nowhere else."""
    bench = Bench()

    work = bench.attempt(run_of(bench.mine, 10, [_record(P, 1), _record(V, 2), control_record(V), None, b"{"]))
    bench.attempt(run_of(bench.mine, 15, [_record(P, 3)]))
    bench.attempt(run_of(bench.mine, 16, [_record(V, 4)]))

    assert [(7, 0, 11, None), (7, 0, 16, 11)] == bench.origins()
    assert {b"true"} == {each.headers["headgate.replay"] for each in bench.records}
    assert (5, 1) == (work.counts["read"], work.counts["emitted"])
    assert '"previous":16' in metadata_of(bench.mine.state)


def test_only_changes_between_the_positions_are_emitted() -> None:
    """Of a record all or none; the chain names what was emitted."""
    everything = Bench()
    everything.attempt(run_of(everything.mine, 10, [_record(V, at) for at in range(4)]))
    positions = [each.content["position"] for each in everything.records]

    bench = Bench(first_position=positions[1], end_position=positions[3])
    bench.attempt(run_of(bench.mine, 10, [_record(V, at) for at in range(4)]))

    assert [(7, 0, 11, None), (7, 0, 12, 11)] == bench.origins()


def test_a_record_that_stops_the_table_stops_the_replay_before_it() -> None:
    """As in NORMALIZE; what it has seen is its own, from where it began."""
    bench = Bench()

    work = bench.attempt(run_of(bench.mine, 10, [_record(V, 1), _record(P, 2), _record(V, 0, "load"), _record(V, 3)]))

    assert ("source_read_anew", 12) == (work.stops[bench.mine].reason, work.nexts[bench.mine])
    assert [(7, 0, 10, None)] == bench.origins()


def test_a_bad_record_is_in_quarantine_under_the_origin_that_it_had() -> None:
    """So that it is one record with its first entry, and can be redriven."""
    bench = Bench()

    bench.attempt(run_of(bench.mine, 10, [_record(P, 1), _record(V, 2, id="no number")]))

    (entry,) = [read_quarantined(each.value) for each in bench.records if each.topic == NAMES.quarantine]
    assert ("bad_type", V, (TOPIC, 2, 0, 11), "id") == (
        entry.reason, entry.table, tuple(entry.origin), entry.topic_id,
    )  # fmt: skip


def test_records_have_the_epochs_that_they_had() -> None:
    """What was read of the life before a resync stays of that, and is below its floor; its loads stop nothing."""
    start = EpochStart(epoch=1, topic_id="id", generation=0, offsets={0: 12})
    bench = Bench(TableEntry(spec=dms_spec(V, TOPIC), epoch=1, epochs={TOPIC: [start]}))

    work = bench.attempt(run_of(bench.mine, 10, [_record(V, 8), _record(V, 9), _record(V, 0, "load"), _record(V, 1)]))

    assert ["0000", "0000", "0001", "0001"] == [each.content["position"][:4] for each in bench.records]
    assert ({}, 14) == (work.stops, work.nexts[bench.mine])


def test_of_a_table_with_masks_a_replay_shows_what_the_masks_leave(tmp_path: Path) -> None:
    """What it cannot read is sealed."""
    (tmp_path / "key").write_text("k" * 32)
    config = read_config(f"masks: {{keys: {{default: 'file:{tmp_path / 'key'}'}}}}", name="c")
    columns = {"id": "long", "name": {"type": "string", "mask": "hash"}}
    bench = Bench(TableEntry(spec=dms_spec(V, TOPIC, columns=columns)), config)

    bench.attempt(run_of(bench.mine, 10, [_record(V, 1, name="canary"), _record(V, 2, id="canary")]))

    (bad,) = [read_quarantined(each.value) for each in bench.records if each.topic == NAMES.quarantine]
    assert ("bad_type", None, True) == (bad.reason, bad.value, bad.is_whole)
    assert [64] == [len(each.content["after"]["name"]) for each in bench.records if each.topic == NAMES.changes(V)]
    assert [] == [each for each in bench.records if b"canary" in each.value]


def test_a_replay_tells_of_itself_like_a_worker() -> None:
    """Before it has begun to read there is nothing to say of its topics."""
    status = status_of_replay(Bench().replaying, "2026-11-21T12:00:00+00:00")

    assert ("replay", V, 0, "running", 2, []) == tuple(
        status[name] for name in ("stage", "instance", "slot", "state", "assigned", "tables")
    )
    assert json.dumps(status)
