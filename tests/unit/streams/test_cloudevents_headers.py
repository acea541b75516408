"""Changes with the headers of CloudEvents: what the Kafka binding asks for, each on its record, by setting only."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest

from connectors.transport.producer import Outbox
from schemas.batch import Batch, rows_of
from schemas.config import Config
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from sinks.cloudevents import event_source
from streams.attempt import Produced, produce_changes
from streams.avro_outputs import OutputForms
from tests.unit.fakes import Record, assignment_of, run_of
from tests.unit.sinks.test_changes_topic import batch_of

ATTRIBUTE = re.compile(r"ce_[a-z0-9]{1,20}")  # CloudEvents 1.0, naming of attributes
NAMES = TopicNames("hg")


def produced(
    batch: Batch, *, cloud_events: bool = True, bytes_max: int = 10_000, outputs: dict[str, int] | None = None
) -> tuple[list[Record], Produced]:
    """Return the records of a batch that was read from the second partition of a topic, and what is said of them."""
    document = {
        "table": "t", "topics": ["s"], "key": ["id"], "columns": {"id": "int", "note": "string"}, "truncate": "apply",
        "output": {"cloud_events": cloud_events},
    }  # fmt: skip
    records: list[Record] = []

    def note(topic: str, value: bytes, key: bytes | None, partition: int, *rest: Any) -> None:
        records.append(Record(topic, partition, key, value, dict(rest[-1])))

    assignment = assignment_of("clinic.t", 1)
    assignment.generation = 2
    entry = TableEntry(spec=TableSpec.model_validate(document), schema_version=3)
    said = produce_changes(
        Outbox(note, bytes_max),
        OutputForms(Config(), NAMES),
        entry,
        run_of(assignment, 0, [b"x"]),
        batch,
        None,
        outputs or {},
    )
    return records, said


def test_each_change_is_an_event_as_the_kafka_binding_has_it() -> None:
    """Required attributes, a time, the type of the content; our own headers stay."""
    records, _ = produced(batch_of(["a", "b"]))

    assert 2 == len(records)
    for record, offset in zip(records, (10, 20), strict=True):
        headers = record.headers
        assert headers | {
            "ce_specversion": b"1.0", "ce_id": b"clinic.t:2:1:%d" % offset, "ce_source": b"/hg/changes/t",
            "ce_type": b"headgate.change.update", "content-type": b"application/json",
            "headgate.table": b"t", "headgate.schema": b"3",
        } == headers  # fmt: skip
        assert datetime.fromisoformat((headers["ce_time"] or b"").decode()).tzinfo is not None
        assert all(ATTRIBUTE.fullmatch(name) for name in headers if name.startswith("ce_"))


def test_the_changes_of_one_record_are_events_apart_and_a_repeat_is_the_same_event() -> None:
    """Source and id together are an event's identity."""
    batch = batch_of(["a", "b", "c"])
    batch.offsets, batch.rows = [4, 4, 5], rows_of([4, 4, 5])

    first, again = (
        [(r.headers["ce_source"], r.headers["ce_id"]) for r in records]
        for records in (produced(batch)[0], produced(batch)[0])
    )

    assert first == again
    assert [b"clinic.t:2:1:4", b"clinic.t:2:1:4:1", b"clinic.t:2:1:5"] == [id_ for _, id_ in first]


def test_a_floor_is_one_event_in_every_partition() -> None:
    """Who reads several partitions takes it once, which is all that it needs."""
    batch = batch_of(["a", "b"])
    batch.operations = ["floor", "update"]

    records, _ = produced(batch, outputs={"hg.changes.t": 3})

    floors = [r for r in records if r.headers["ce_type"] == b"headgate.change.floor"]
    assert [0, 1, 2] == [record.partition for record in floors]
    assert {b"clinic.t:2:1:10"} == {record.headers["ce_id"] for record in floors}
    assert [b"clinic.t:2:1:20"] == [r.headers["ce_id"] for r in records if r not in floors]


def test_what_the_headers_take_is_counted_before_anything_is_written() -> None:
    """What is too large with them is left out, and the others keep their own headers."""
    batch = batch_of(["a", "x" * 1_000, "c"])
    sizes = {on: produced(batch, cloud_events=on)[1].room for on in (False, True)}

    records, said = produced(batch, bytes_max=1_200)

    assert 100 < sizes[False] - sizes[True] < 300
    assert [20] == said.too_large
    assert [b"clinic.t:2:1:10", b"clinic.t:2:1:30"] == [record.headers["ce_id"] for record in records]


def test_without_the_setting_there_are_none() -> None:
    """And all records share one list of headers."""
    records, _ = produced(batch_of(["a", "b"]), cloud_events=False)

    assert [{"headgate.table": b"t", "headgate.schema": b"3"}] * 2 == [record.headers for record in records]


@pytest.mark.parametrize("table", ["t", "a.b_c-9"])
def test_a_source_is_a_reference(table: str) -> None:
    """RFC 3986: names of tables and prefixes have no character that would have to be escaped."""
    assert re.fullmatch(r"/[A-Za-z0-9._~-]+/changes/[A-Za-z0-9._~-]+", event_source("headgate", table))
