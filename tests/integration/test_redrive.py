"""Quarantined records of five kinds, sent again while newer changes flow: final rows are right, none is resurrected."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from schemas.config import read_config
from schemas.table import TableSpec
from sinks.lake.storage import open_catalog
from sinks.lake.table import load_table
from sinks.lake.verify import verify
from sinks.lake.view import open_lake_sql
from streams.final_rows import FinalRows
from tests.integration.stages import Installation, filled, run_until_killed, until_off_loop
from tests.oracles import require
from tests.oracles.shape import Shape
from tests.oracles.topic import Change, check_streams, read_records, to_change
from tests.services import Kafka, RedisServer

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

PARTITIONS = 4
FLOWING = int(os.environ.get("HEADGATE_REDRIVE_FLOWING", "5000"))  # 50,000 is what was asked for: four minutes alone
KINDS = ("unknown_column", "bad_type", "out_of_range", "too_deep", "too_large")
BROKEN = {
    "unknown_columns": "quarantine",
    "type_changes": "quarantine",
    "columns": {"id": "int", "name": "string", "note": "decimal(10,2)", "amount": "int"},
}
MENDED = {
    "unknown_columns": "quarantine",
    "type_changes": "quarantine",
    "columns": {
        "id": "int",
        "name": "string",
        "amount": "long",
        "ward": "string",
        "note": {"type": "decimal(10,2)", "encoding": "data.VariableScaleDecimal"},
    },
}
MORE: dict[str, dict[str, Any]] = {
    "unknown_column": {"ward": "w"},
    "bad_type": {"note": {"scale": 2, "value": "BNI="}},
    "out_of_range": {"amount": 2**40},
}
DEEP: list[Any] = [[[[[[[[]]]]]]]]


class Source:
    """A source whose log counts on; `rows` is what it holds: the name of each row that lives."""

    def __init__(self, installation: Installation) -> None:
        self._topic, self.lsn, self.rows, self.sent = installation.topic, 0, dict[int, str](), 0
        self._producer = Producer({"bootstrap.servers": installation.kafka, "linger.ms": 5})

    def change(self, row: int, op: str = "u", *, broken: str = "") -> None:
        """Change a row; `broken` says in which way the record cannot be read yet."""
        self.lsn += 1
        self.sent += 1
        name = f"n{self.lsn}" + "x" * (3_000 if broken == "too_large" else 0)
        after: dict[str, Any] = {"id": row, "name": name}
        after |= MORE.get(broken, {})
        source = {
            "connector": "postgresql", "name": "clinic", "ts_us": int(time.time() * 1e6), "snapshot": "false",
            "db": "d", "sequence": f'["{self.lsn - 1}","{self.lsn}"]', "schema": "public", "table": "patients",
            "txId": 7, "lsn": self.lsn, **({"extra": DEEP} if broken == "too_deep" else {}),
        }  # fmt: skip
        value = json.dumps({"before": None, "after": None if op == "d" else after, "source": source, "op": op})
        self._producer.produce(self._topic, value.encode(), b'{"id":%d}' % row, row % PARTITIONS)
        self._producer.poll(0)
        if op == "d":
            del self.rows[row]
        else:
            self.rows[row] = name

    def flush(self) -> None:
        """Return once every record was delivered."""
        assert self._producer.flush(60) == 0, "every record was delivered"


def configured(installation: Installation, *, mended: bool, guarantee: str) -> None:
    """Write configuration and spec, either as they were at first or mended."""
    text = installation.file.read_text().partition("limits:")[0]
    if "guarantee" not in text:
        text = text.replace("kafka: {", f"kafka: {{guarantee: {guarantee}, ", 1)
    if not mended:
        text += "limits: {record_depth_max: 6, record_bytes_max: 2048}\n"
    installation.file.write_text(text)
    installation.config = read_config(text, name="headgate.yaml")
    spec = MENDED if mended else BROKEN
    installation.spec(**spec)
    installation.shape = Shape.of(installation.document | spec)


@pytest.fixture
def installation(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> Iterator[Installation]:
    """A table without a record."""
    with filled(kafka, redis_server, tmp_path, rows=0) as made:
        yield made


def listed(installation: Installation, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return what `quarantine list` says."""
    capsys.readouterr()
    assert ExitCode.OK == entry.run(
        ["quarantine", "list", "--latest", "0", "--json", "--config", str(installation.file)]
    )
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def break_rows(source: Source, count: int) -> None:
    """Insert rows, change each in one of five ways that cannot be read, then some again; delete some."""
    for row in range(count):
        source.change(row, "c")
    for row in range(count):
        source.change(row, broken=KINDS[row % len(KINDS)])
    for row in range(count):
        if row % 7 == 0:
            source.change(row, "d")
        elif row % 3 == 0:
            source.change(row)
    source.flush()


def flow(source: Source, count: int, quarantined: int) -> None:
    """Change other rows, and some of those whose older changes are sent again at the same time."""
    for number in range(count):
        row = quarantined + number % 500 if number % 10 else (number // 10) % quarantined
        if row >= quarantined:
            source.change(row, "u" if row in source.rows else "c")
        elif row in source.rows and row % 4 == 1:
            source.change(row)
    source.flush()


@pytest.mark.parametrize(
    ("guarantee", "quarantined", "flowing"), [("exactly_once", 500, FLOWING), ("at_least_once", 50, 1_000)]
)
async def test_what_is_sent_again_passes_nothing_that_came_later(
    installation: Installation, capsys: pytest.CaptureFixture[str], guarantee: str, quarantined: int, flowing: int
) -> None:
    """Final rows are the source's in topic, Redis and lake; each change reaches subscribers once, with its chain."""
    source = Source(installation)
    configured(installation, mended=False, guarantee=guarantee)
    async with installation.running("normalize", "features", "lake"):
        await asyncio.to_thread(break_rows, source, quarantined)
        await installation.emitted(source.sent - quarantined)
        assert ExitCode.FOUND == await installation.verb("quarantine", "redrive", "--table", "patients")
    found = listed(installation, capsys)
    assert (quarantined, quarantined) == (found["total"], found["open"])
    assert dict.fromkeys(KINDS, quarantined // 5) == {row["reason"]: row["open"] for row in found["counts"]}

    configured(installation, mended=True, guarantee=guarantee)
    async with installation.running("normalize", "features", "lake"):
        flowing_on = asyncio.create_task(asyncio.to_thread(flow, source, flowing, quarantined))
        limit = str(quarantined * 2 // 5)
        assert ExitCode.OK == await installation.verb("quarantine", "redrive", "--table", "patients", "--limit", limit)
        await flowing_on
        await installation.emitted(source.sent - quarantined + int(limit))
    assert quarantined - int(limit) == listed(installation, capsys)["open"]
    async with installation.running("normalize", "features", "lake"):  # others, who read the chains
        for _ in range(2):  # the second has nothing left to send
            assert ExitCode.OK == await installation.verb("quarantine", "redrive", "--until", "2100-01-01")
        await installation.emitted(source.sent)
        await until_off_loop(lambda: installation.lake()[0] >= source.sent, "the lake has all")
        await until_off_loop(lambda: not differing(installation, source, quarantined), "Redis has all")
    settled = listed(installation, capsys)["counts"]
    assert (0, quarantined) == (sum(row["open"] for row in settled), sum(row["redriven"] for row in settled))
    check_ends(installation, source, quarantined)


async def test_a_worker_that_dies_sending_them_doubles_and_loses_none(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed with them in an open transaction, and behind it; the next ones go on in the same chain."""
    source, quarantined = Source(installation), 40
    configured(installation, mended=False, guarantee="exactly_once")
    async with installation.running("normalize"):
        await asyncio.to_thread(break_rows, source, quarantined)
        await installation.emitted(source.sent - quarantined)
    configured(installation, mended=True, guarantee="exactly_once")
    with installation.file.open("a") as file:
        file.write("limits: {chunk_records_max: 2, group_records_max: 2}\n")
    async with installation.running():  # applies the mended spec
        assert ExitCode.OK == await installation.verb("quarantine", "redrive", "--table", "patients")

    for killed_at in ("transaction.before_commit=kill@2", "transaction.after_commit=kill@2"):
        assert -signal.SIGKILL == await asyncio.to_thread(run_until_killed, installation, killed_at)
    async with installation.running("normalize"):
        await installation.emitted(source.sent)

    changes = check_topic(installation, source, quarantined)
    assert source.sent == len(changes)
    assert 0 == listed(installation, capsys)["open"]


def differing(installation: Installation, source: Source, count: int) -> list[int]:
    """Return the rows, of those that were in quarantine, that Redis has otherwise than the source."""
    found = ((row, installation.view(row).row) for row in range(count))
    return [
        row for row, seen in found if (seen.values.get("name") if seen is not None else None) != source.rows.get(row)
    ]


def check_ends(installation: Installation, source: Source, quarantined: int) -> None:
    """Compare topic and lake with the source, and look at the chains."""
    check_topic(installation, source, quarantined)
    report = verify(load_table(open_catalog(installation.config.lake), "headgate", "patients"))
    assert ([], source.sent) == (report.findings, report.rows)
    with open_lake_sql(installation.config.lake) as connection:
        latest = dict(connection.execute("SELECT id, name FROM patients_latest").fetchall())
    assert source.rows == latest


def check_topic(installation: Installation, source: Source, quarantined: int) -> list[Change]:
    """Compare the rows that the output topic comes to with the source's, and look at its chains; return its changes."""
    document = installation.document | MENDED
    records = read_records(installation.kafka, installation.output)
    changes = [to_change(installation.shape, record) for record in records]
    require(check_streams(changes, name="output", at_least=source.sent, repeats_allowed=True))
    again = [
        json.loads(record.value or b"")["source"] for record in records if b'first_origin":[' in (record.value or b"")
    ]
    assert quarantined == len(again) == len({tuple(each["first_origin"]) for each in again})
    assert {f"{installation.prefix}.redrive"} == {each["origin"][0] for each in again}
    by_partition: dict[int, list[int]] = {}
    for each in again:
        by_partition.setdefault(each["first_origin"][2], []).append(each["first_origin"][3])
    assert all(offsets == sorted(offsets) for offsets in by_partition.values())

    rows = FinalRows(TableSpec.model_validate(document))
    for record in records:
        rows.apply(record.value or b"")
    final = {int(each["key"]["id"]): each["row"]["name"] for each in rows.documents()}
    assert source.rows == final
    return changes
