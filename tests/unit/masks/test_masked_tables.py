"""NORMALIZE and the redrive of a table with masks: what is written, what is sealed, and what stops without a key."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from connectors.transport.chunk import Assignment, Group, Headers, Run
from schemas.change import HEADER_FIRST_ORIGIN
from schemas.config import Config, read_config
from schemas.document import read_document
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from sinks.quarantine import Quarantined, read_quarantined
from streams.chains import Chains
from streams.mask_keys import mask_keys_of
from streams.mask_values import hashed, id_of
from streams.normalize import NormalizeStage
from streams.output_topics import Output
from streams.redriven import RedriveLane
from streams.sealing import HEADER_SEALED, Sealing
from streams.stage import BaseStage
from streams.tables import TableDirectory
from tests.unit.fakes import Consumer, Message, Record, Writer

NAMES, TOPIC = TopicNames(), "clinic.public.patients"
CANARY, SECRET = "canary-4711", b"k" * 32
COLUMNS = """
columns:
  id: {type: string, mask: hash}
  name: {type: string, mask: encrypt}
  ssn: {type: string, mask: drop}
  born: {type: string, mask: null}
  ward: string
"""
HEAD = f"table: patients\ntopics: [{TOPIC}]\nkey: [id]\nbefore: full\n"
KEYLESS = "columns: {id: string, name: {type: string, mask: drop}, ward: string}"


def spec_of(columns: str = COLUMNS) -> TableSpec:
    """Return the table's spec."""
    return read_document(HEAD + columns, TableSpec, name="spec")


def event(lsn: int, row: Mapping[str, Any] | None, *, op: str = "c", before: Mapping[str, Any] | None = None) -> bytes:
    """Return a change of PostgreSQL."""
    source = {
        "connector": "postgresql", "name": "clinic", "ts_us": 1_795_219_394_000_000, "snapshot": "false", "db": "d",
        "sequence": f'["{lsn - 1}","{lsn}"]', "schema": "public", "table": "patients", "txId": 7, "lsn": lsn,
    }  # fmt: skip
    return json.dumps({"before": before, "after": row, "source": source, "op": op}, separators=(",", ":")).encode()


def row(number: int = 1, **more: Any) -> dict[str, Any]:
    """Return a row full of what nobody may see."""
    return {name: f"{CANARY}-{name}-{number}" for name in ("id", "name", "ssn", "born")} | {"ward": "w", **more}


class Bench:
    """NORMALIZE with both of its lanes, in memory; keys are those of a file."""

    def __init__(self, folder: Path, *, key: bytes | None = SECRET, columns: str = COLUMNS, **entry: Any) -> None:
        if key is not None:
            (folder / "key").write_bytes(key)
        keys = f"{{default: 'file:{folder / 'key'}'}}" if key is not None else "{}"
        self.config: Config = read_config(f"masks: {{keys: {keys}}}", name="c")
        self.tables = TableDirectory({"patients": TableEntry(spec=spec_of(columns), **entry)})
        self.writer, self.consumer = Writer(), Consumer()
        chains = Chains(NAMES.normalize_previous, dict)
        self.stage = NormalizeStage(
            self.config, names=NAMES, tables=self.tables, writer=self.writer, consumer=self.consumer, chains=chains,
            ensure_outputs=self._ensure,
        )  # fmt: skip
        self.lane = RedriveLane(
            self.config, names=NAMES, tables=self.tables, writer=self.writer, stage=BaseStage(), chains=chains,
            ensure_outputs=self._ensure_sizes, clock=lambda: 1_795_219_394.0,
        )  # fmt: skip

    async def _ensure(self, wanted: Mapping[str, Output]) -> dict[str, int]:
        return {topic: output.partitions for topic, output in wanted.items()}

    async def _ensure_sizes(self, wanted: Mapping[str, int]) -> Mapping[str, int]:
        return wanted

    def step(self, *values: bytes | None, keys: Sequence[bytes | None] = ()) -> None:
        """Have the stage work on records of the source."""
        run = Run(
            Assignment("main", TOPIC, 0),
            [
                Message(at, keys[at] if keys else None, value, [("h", CANARY.encode())])
                for at, value in enumerate(values)
            ],
        )
        asyncio.run(self.stage.step(Group([run], self.consumer)))

    def redrive(self, *sent: tuple[bytes | None, bytes | None, Headers]) -> None:
        """Have the lane work on records of the redrive topic."""
        messages = [Message(at, key, value, headers) for at, (key, value, headers) in enumerate(sent)]
        run = Run(Assignment("redrive", NAMES.redrive, 0), messages)
        asyncio.run(self.lane.step(Group([run], self.consumer)))

    def of(self, topic: str) -> list[Record]:
        """Return what was written to a topic."""
        return [each for each in self.writer.records if each.topic == topic]

    def quarantined(self) -> list[Quarantined]:
        """Return what is in quarantine."""
        return [read_quarantined(each.value) for each in self.of(NAMES.quarantine)]

    def written(self) -> bytes:
        """Return all bytes that were written anywhere."""
        whole = [part for each in self.writer.records for part in (each.key, each.value, repr(each.headers).encode())]
        return b"\n".join(part for part in whole if part is not None)


def sealed_record(entry: Quarantined) -> tuple[None, bytes, Headers]:
    """Return an entry as it stands on the redrive topic."""
    first: Headers = [(HEADER_SEALED, b"1"), (HEADER_FIRST_ORIGIN, json.dumps(entry.origin).encode())]
    assert isinstance(entry.sealed, str)
    return None, base64.b64decode(entry.sealed), first


def test_no_value_of_a_masked_column_is_written(tmp_path: Path) -> None:
    """In keys, old and new keys, images before and after."""
    bench = Bench(tmp_path)

    bench.step(
        event(1, row()),
        event(2, row(ward="x"), op="u", before=row()),
        event(3, None, op="d", before=row()),
        event(4, row(2, name=None)),
    )

    changes = [each.content for each in bench.of(NAMES.changes("patients"))]
    assert ["insert", "update", "delete", "insert"] == [change["op"] for change in changes]
    assert CANARY.encode() not in bench.written()
    key = hashed(SECRET)(f"{CANARY}-id-1")
    assert [key] * 3 == [change["key"]["id"] for change in changes[:3]]
    assert {"id", "name", "born", "ward"} == changes[0]["after"].keys()
    assert ("w", None) == (changes[0]["after"]["ward"], changes[0]["after"]["born"])
    assert changes[1]["before"]["name"] == changes[0]["after"]["name"]
    assert changes[3]["after"]["name"] is None


def test_what_cannot_be_read_is_sealed_and_comes_back_whole(tmp_path: Path) -> None:
    """With its key and headers; what is sent again is opened by the lane, and is written behind the masks."""
    bench = Bench(tmp_path, columns=COLUMNS.replace("ward: string", "ward: int"))
    poison = event(1, row())
    bench.step(poison, b"{" + CANARY.encode(), keys=[b'{"id":"%s-id-1"}' % CANARY.encode(), None])
    first, second = bench.quarantined()

    assert CANARY.encode() not in bench.written()
    assert ("bad_type", "broken_json") == (first.reason, second.reason)
    assert (None, None, []) == (first.key, first.value, first.headers)
    assert first.is_whole
    opened = Sealing(mask_keys_of(bench.config.masks)).opened(first)
    assert [["h", "Y2FuYXJ5LTQ3MTE="]] == [list(header) for header in opened.headers]
    assert len(poison) == opened.value_bytes

    mended = Bench(tmp_path)
    mended.redrive(sealed_record(first), sealed_record(second))

    (change,) = mended.of(NAMES.changes("patients"))
    assert hashed(SECRET)(f"{CANARY}-id-1") == change.content["key"]["id"]
    assert list(first.origin) == change.content["source"]["first_origin"]
    (again,) = mended.quarantined()
    assert (second.origin, second.sealed, "broken_json") == (again.origin, again.sealed, again.reason)
    assert CANARY.encode() not in mended.written()


def test_without_a_key_nothing_of_a_record_is_kept(tmp_path: Path) -> None:
    """Of a table whose masks need none: the source topic still has it."""
    bench = Bench(tmp_path, key=None, columns=KEYLESS)

    bench.step(b"{" + CANARY.encode(), keys=[CANARY.encode()])

    (entry,) = bench.quarantined()
    assert (None, None, [], False) == (entry.key, entry.value, entry.headers, entry.is_whole)
    assert not entry.sealed
    assert CANARY.encode() not in bench.written()


def test_a_record_that_no_attempt_gets_through_is_sealed_too(tmp_path: Path) -> None:
    """The way of a record that is too much for Kafka, or for us."""
    bench = Bench(tmp_path)
    run = Run(Assignment("main", TOPIC, 0), [Message(3, None, event(1, row()), [])])

    asyncio.run(bench.stage.on_poison(run, RuntimeError(CANARY)))

    (entry,) = bench.quarantined()
    assert ("bug", "RuntimeError") == (entry.reason, entry.message)
    assert entry.sealed
    assert CANARY.encode() not in bench.written()


def test_a_table_without_masks_is_quarantined_as_it_ever_was(tmp_path: Path) -> None:
    """And nothing of it is sealed."""
    bench = Bench(tmp_path, columns="columns: {id: string, ward: string}")

    bench.step(b"{broken")

    (entry,) = bench.quarantined()
    assert "e2Jyb2tlbg==" == entry.value
    assert b"sealed" not in bench.of(NAMES.quarantine)[0].value


def test_a_table_whose_key_is_missing_stops_at_its_first_record_and_goes_on_once_it_is_there(tmp_path: Path) -> None:
    """It says which key and what to do; nothing is written, clear or otherwise."""
    bench = Bench(tmp_path, key=None)

    bench.step(event(1, row()), b"{broken")

    stop = bench.consumer.paused[TOPIC]
    assert "mask_key_missing" == stop.reason
    assert "patients: the configuration has no mask key 'default'" in stop.message
    assert "headgate tables resume patients" in stop.hint
    assert b"" == bench.written()

    with_key = Bench(tmp_path)
    with_key.step(event(1, row()))
    assert 1 == len(with_key.of(NAMES.changes("patients")))


def test_secrets_are_read_before_a_record_waits_for_them(tmp_path: Path) -> None:
    """Where the tables are taken up, and not in the transaction of their first records."""
    bench = Bench(tmp_path)

    asyncio.run(bench.stage.tables_changed({"patients", "removed"}))
    (tmp_path / "key").unlink()
    bench.step(event(1, row()))

    assert 1 == len(bench.of(NAMES.changes("patients")))


def test_another_secret_under_the_same_name_stops_the_table(tmp_path: Path) -> None:
    """Its hashes would no longer be those of before, and nobody would be told."""
    begun = {"default": id_of(b"o" * 32)}
    bench = Bench(tmp_path, mask_keys=begun)

    bench.step(event(1, row()))

    assert "mask_key_changed" == bench.consumer.paused[TOPIC].reason
    assert b"" == bench.written()


def test_a_sealed_record_whose_key_is_gone_goes_back_as_it_is(tmp_path: Path) -> None:
    """It can be redriven once the key is there again."""
    other = tmp_path / "other"
    other.mkdir()
    writer = Bench(other, key=b"o" * 32)
    writer.step(b"{" + CANARY.encode())
    (entry,) = writer.quarantined()
    bench = Bench(tmp_path)

    bench.redrive(sealed_record(entry))

    (back,) = bench.quarantined()
    assert ("mask_key_missing", entry.sealed, entry.origin) == (back.reason, back.sealed, back.origin)


def test_a_record_sent_again_before_its_table_had_masks_is_sealed_when_it_fails(tmp_path: Path) -> None:
    """It stands on the redrive topic as it was then; in quarantine it does not any more."""
    bench = Bench(tmp_path)
    first: Headers = [(HEADER_FIRST_ORIGIN, json.dumps([TOPIC, 0, 0, 5]).encode())]

    bench.redrive((None, b"{" + CANARY.encode(), first), (None, event(1, row()), first))

    (entry,) = bench.quarantined()
    assert entry.sealed
    assert 1 == len(bench.of(NAMES.changes("patients")))
    assert CANARY.encode() not in bench.written()


@pytest.mark.parametrize(
    "value", [b"HGS1 ", b"HGS1 default", b"HGS1 default 00000000 " + b"0" * 100, b"HGS1 \xff \xfe " + b"0" * 90]
)
def test_what_only_looks_sealed_opens_to_nothing(tmp_path: Path, value: bytes) -> None:
    """Whoever wrote it there: it goes to quarantine, and the lane goes on."""
    bench = Bench(tmp_path)
    headers: Headers = [(HEADER_SEALED, b"1"), (HEADER_FIRST_ORIGIN, json.dumps([TOPIC, 0, 0, 5]).encode())]

    bench.redrive((None, value, headers))

    assert ["mask_key_missing"] == [entry.reason for entry in bench.quarantined()]


def test_one_record_is_masked_once_wherever_its_rows_stand(tmp_path: Path) -> None:
    """A change of a key says both keys, in two changes."""
    bench = Bench(tmp_path)
    keys = [json.dumps({"id": f"{CANARY}-id-{number}"}).encode() for number in (1, 2)]
    run = Run(
        Assignment("main", TOPIC, 0),
        [
            Message(1, keys[0], event(1, None, op="d", before=row()), [("__debezium.newkey", keys[1])]),
            Message(2, keys[1], event(2, row(2)), [("__debezium.oldkey", keys[0])]),
        ],
    )

    asyncio.run(bench.stage.step(Group([run], bench.consumer)))

    old, new = (hashed(SECRET)(f"{CANARY}-id-{n}") for n in (1, 2))
    deleted, inserted = (each.content for each in bench.of(NAMES.changes("patients")))
    assert (old, new) == (deleted["key"]["id"], deleted["new_key"]["id"])
    assert (new, old) == (inserted["key"]["id"], inserted["old_key"]["id"])
    assert CANARY.encode() not in bench.written()
