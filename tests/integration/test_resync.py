"""A resync by way of Kafka, Redis and the lake: a source whose log begins anew, workers killed, and a real capture."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from redis import Redis

from headgate.cli.codes import ExitCode
from tests.integration.one_table import OneTable, one_table
from tests.integration.stages import (
    VIEW,
    Installation,
    document_of,
    event,
    filled,
    none_waits,
    paused,
    run_until_killed,
    until_off_loop,
)
from tests.oracles import require
from tests.oracles.features import ViewShape, check_all_views, read_stored
from tests.oracles.lake import check_latest, read_lake
from tests.oracles.shape import Shape
from tests.services import Kafka, RedisServer
from tests.unit.formats.captures import oracle, records

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]
CAPTURE = "pg-new-slot-new-snapshot"
FIRST_OF_SNAPSHOT = 14  # its offset in the capture
OLD, FIRST, END = 40, 20, 60  # rows 0..39 at first; the new snapshot holds 20..59
NEW_LSN = 3  # the restored server counts from the beginning: below nearly all that was
COPIES = {"view": "copies", "entity": "name", "entity_key": ["name"], "columns": ["id"]}


@pytest.fixture
def installation(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> Iterator[Installation]:
    """A table of four partitions, with a view whose entities rows share."""
    with filled(kafka, redis_server, tmp_path, rows=OLD) as made:
        made.document |= {"rules": [], "features": [VIEW, COPIES]}
        made.shape = Shape.of(made.document)
        made.spec()
        yield made


@pytest.fixture
def captured(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> Iterator[OneTable]:
    """The table of the capture, at its times; the first row of the new snapshot is alone in a partition."""
    document = {"table": "t", "key": ["id"], "columns": {"id": "int", "v": "string"}}
    found = [record for record in records(CAPTURE) if record["topic"].endswith(".public.t")]
    with one_table(kafka, redis_server, tmp_path, document) as made:
        producer = Producer({"bootstrap.servers": kafka.address})
        for record in found:
            key, value = (
                None if (text := record[name]) is None else base64.b64decode(text) for name in ("key", "value")
            )
            at = 1 if record["offset"] == FIRST_OF_SNAPSHOT else 0
            producer.produce(made.topic, value, key, at, timestamp=record["timestamp"])
        assert producer.flush(30) == 0, "every record was delivered"
        yield made


def _of_new_life(row: int, op: str = "r", *, mark: str = "true", name: str | None = None, lsn: int = NEW_LSN) -> bytes:
    document = json.loads(event(row))
    sequence = f'[null,"{lsn}"]' if op == "r" else f'["{lsn - 1}","{lsn}"]'
    document["source"] |= {"snapshot": mark if op == "r" else "false", "sequence": sequence, "lsn": lsn}
    after = None if op == "d" else {"id": row, "name": name or f"again{row}"}
    return json.dumps({**document, "op": op, "after": after}).encode()


def _produce(installation: Installation, records: list[tuple[int, bytes]]) -> None:
    producer = Producer({"bootstrap.servers": installation.kafka, "linger.ms": 5})
    for row, value in records:
        producer.produce(installation.topic, value, b'{"id":%d}' % row, row % 4)
    assert producer.flush(30) == 0, "every record was delivered"


def _rows() -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return what the source has in the end: of the old rows that are in no snapshot nothing."""
    names = {row: f"again{row}" for row in range(FIRST, END)} | {FIRST: "changed", END: "new"}
    del names[FIRST + 1]
    return {(row,): {"id": row, "name": name} for row, name in names.items()}


def _check_ends(installation: Installation) -> None:
    with Redis.from_url(installation.redis) as client:
        stored = read_stored(client, installation.prefix)
    for verdict in check_all_views(ViewShape.all_of(installation.shape), stored, {"patients": _rows()}, buckets=4):
        require(verdict)
    in_lake = read_lake(installation.folder / "lake", "headgate", installation.shape)
    require(check_latest(installation.shape, in_lake, _rows()))


async def test_after_a_new_snapshot_nothing_is_left_that_it_does_not_hold(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    """NORMALIZE dies with the floor in an open transaction, and again behind it; there is one floor."""
    async with installation.running("normalize", "features", "lake") as workers:
        await installation.emitted(OLD)
        await until_off_loop(lambda: installation.features() == OLD, "Redis has all")
        rows = [(row, _of_new_life(row, mark="last" if row == END - 1 else "true")) for row in range(FIRST, END)]
        _produce(installation, rows)
        await until_off_loop(lambda: paused(workers["normalize"]), "the table stands")
    changes = [
        (FIRST, _of_new_life(FIRST, "u", name="changed", lsn=5)),
        (FIRST + 1, _of_new_life(FIRST + 1, "d", lsn=7)),
        (END, _of_new_life(END, "c", name="new", lsn=9)),
    ]
    _produce(installation, changes)

    assert ExitCode.OK == await installation.verb("tables", "resync", "patients")
    assert 4 == capsys.readouterr().err.count("the table stops there: source_read_anew")
    for failpoint in ("resync.before_floor=kill", "resync.after_floor=kill"):
        assert -signal.SIGKILL == await asyncio.to_thread(run_until_killed, installation, failpoint)
    async with installation.running("normalize", "features", "lake") as workers:
        emitted = await installation.emitted(OLD + len(rows) + len(changes) + 4)
        await until_off_loop(lambda: installation.features() == len(_rows()), "Redis has the new rows")
        await until_off_loop(lambda: installation.lake()[0] == len(emitted) - 3, "the lake has all")
        await until_off_loop(lambda: not workers["features"].host.status()["tables"][0]["sweeping"], "swept")
        await none_waits(workers["normalize"])

    assert [("floor", "0001")] * 4 == [(each.op, each.position) for each in emitted if each.op == "floor"]
    assert installation.lake()[1].ok
    _check_ends(installation)


async def test_the_capture_of_a_lost_slot_comes_out_as_its_source(
    captured: OneTable, capsys: pytest.CaptureFixture[str]
) -> None:
    """With workers running, and no option: where the new life begins is found in the records."""
    rows = {(int(row["id"]),): {"id": int(row["id"]), "v": row["v"]} for row in oracle(CAPTURE)["public.t"]["rows"]}
    async with captured.running("normalize", "features", "lake") as workers:
        await until_off_loop(lambda: paused(workers["normalize"]), "the table stands")
        assert not captured.redis_verdict(rows).holds
        assert ExitCode.OK == await captured.verb("tables", "resync", "t", "--dry-run", "--json")
        said = document_of(capsys.readouterr().out)
        assert ExitCode.OK == await captured.verb("tables", "resync", "t")
        await until_off_loop(lambda: captured.redis_verdict(rows).holds, "Redis is as the source")
        await until_off_loop(lambda: _floors(captured) == 1, "the lake has the floor")
        await until_off_loop(
            lambda: workers["normalize"].host.status()["tables"][0]["resync"] is None, "it is complete"
        )
        assert ExitCode.FOUND == await captured.verb("tables", "resync", "t")
    assert "no_new_snapshot" not in (err := capsys.readouterr().err)
    assert ExitCode.OK == await captured.verb("decode", "--topic", captured.topic)
    decoded = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ExitCode.OK == await captured.verb("decode", "--topic", captured.topic, "--rows")
    final = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [14, 0, 0, 0] == [each["begins"] for each in said["topics"][0]["partitions"]]
    assert "the table stops there: source_read_anew" == said["topics"][0]["partitions"][0]["why"]
    assert (1, False) == (said["epoch"], said["written"])
    assert "no row of a new snapshot" in err
    assert captured.redis_verdict(rows).holds
    in_lake = read_lake(captured.folder / "lake", "headgate", captured.shape)
    require(check_latest(captured.shape, in_lake, rows))
    assert [row for _, row in sorted(rows.items())] == [each["row"] for each in final]
    positions = {each["change"]["position"] for each in decoded if each["kind"] == "change"}
    of_lake = {change.position for change in in_lake if change.op != "floor"}
    assert {each for each in of_lake if each.startswith("0001")} == {each for each in positions if each > "0001"}
    assert positions <= of_lake, "the first row of the new snapshot may have been emitted before it was known as one"


def _floors(captured: OneTable) -> int:
    in_lake = read_lake(captured.folder / "lake", "headgate", captured.shape)
    return sum(change.op == "floor" for change in in_lake)


async def test_by_word_a_table_is_emptied_that_has_no_row_any_more(installation: Installation) -> None:
    """No record ever says so: the snapshot of an empty table sends none."""
    async with installation.running("normalize", "features") as workers:
        await installation.emitted(OLD)
        await until_off_loop(lambda: installation.features() == OLD, "Redis has all")

        assert ExitCode.OK == await installation.verb("tables", "resync", "patients", "--from", "latest")
        said: dict[str, Any] = {}

        def begun() -> bool:
            for row in workers["normalize"].host.status()["tables"]:  # none while its partitions are taken up again
                said.update(row["resync"] or {})
            return said.get("begun") == 4

        await until_off_loop(begun, "all partitions are in the new epoch")
        assert ExitCode.OK == await installation.verb("tables", "resync", "patients", "--complete")
        await until_off_loop(lambda: installation.features() == 0, "Redis has nothing")

    assert {"epoch": 1, "rows": 0, "partitions": 4, "begun": 4, "snapshot": "open", "left": 4} == said
