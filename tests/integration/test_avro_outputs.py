"""A table whose changes become Avro by a registry: every stage goes on, over both forms, and so do other readers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest

from headgate.cli.codes import ExitCode
from headgate.client import Change, changes
from schemas.config import read_config
from schemas.contract import contract_of
from schemas.errors import TableStopped
from streams.apply import apply_folder
from tests.integration.stages import COLUMNS, Installation, filled, until_off_loop
from tests.oracles.topic import read_records
from tests.services import Kafka, RedisServer
from tests.services.registry import SchemaRegistry

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]
ROWS = 40
ALL = ("normalize", "features", "alerts", "lake")


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    """A registry without schemas."""
    with SchemaRegistry() as made:
        yield made


@pytest.fixture
def installation(
    kafka: Kafka, redis_server: RedisServer, tmp_path: Path, registry: SchemaRegistry
) -> Iterator[Installation]:
    """A table of four partitions, and a registry."""
    with filled(kafka, redis_server, tmp_path, rows=ROWS) as made:
        made.file.write_text(f"{made.file.read_text()}registry: {{urls: ['{registry.url}']}}\n")
        made.config = read_config(made.file.read_text(), name="headgate.yaml")
        yield made


async def all_have(installation: Installation, rows: int) -> None:
    """Wait until each end has so many rows."""
    await until_off_loop(lambda: installation.features() == rows, "Redis has all")
    await until_off_loop(lambda: installation.lake()[0] == rows, "the lake has all")
    await until_off_loop(lambda: len(set(installation.alerts())) == rows, "each has its alert")


def read_by_avro(registry: SchemaRegistry, value: bytes) -> dict[str, Any]:
    """Read a value as anybody does who asks the registry for the schema of its id."""
    number = int.from_bytes(value[1:5], "big")
    (entry,) = {entry.text: entry for entry in registry.entries if entry.number == number}.values()
    stream = BytesIO(value[5:])
    found: Any = fastavro.schemaless_reader(stream, fastavro.parse_schema(json.loads(entry.text)), None)
    assert stream.read() == b""
    return dict(found)


def given_to_a_subscriber(installation: Installation, registry: SchemaRegistry, count: int) -> dict[int, str]:
    """Return the rows of the first changes that our client is given, by its table's contract."""
    contract = contract_of(installation.registered(), topic=installation.output)
    assert contract.format == "avro"
    with changes(contract, bootstrap=installation.config.kafka.bootstrap, registry=registry.url) as stream:
        found = [next(stream) for _ in range(count)]
    rows = [each.after for each in found if isinstance(each, Change) and each.after is not None]
    return {row["id"]: row["name"] for row in rows}


async def test_a_table_that_becomes_avro_goes_on_at_every_end(
    installation: Installation, registry: SchemaRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its topic has both forms then; a form that its subject refuses is not applied."""
    async with installation.running(*ALL):
        await all_have(installation, ROWS)
    installation.spec(output={"format": "avro"})
    installation.fill(ROWS)
    async with installation.running(*ALL):
        await all_have(installation, 2 * ROWS)

    values = [record.value or b"" for record in read_records(installation.kafka, installation.output)]
    assert [ROWS, ROWS] == [sum(value.startswith(mark) for value in values) for mark in (b"{", b"\x00")]
    rows = [read_by_avro(registry, value)["after"] for value in values if value.startswith(b"\x00")]
    assert [{"id": n, "name": f"n{n}"} for n in range(ROWS, 2 * ROWS)] == sorted(rows, key=lambda row: row["id"])
    given = await asyncio.to_thread(given_to_a_subscriber, installation, registry, 2 * ROWS)
    assert {n: f"n{n}" for n in range(2 * ROWS)} == given
    assert (await asyncio.to_thread(installation.view, ROWS)).row is not None
    assert installation.lake()[1].ok
    subject = f"{installation.output}-value"
    assert "FULL_TRANSITIVE" == registry.kept[subject]

    registry.refusals[subject] = "TYPE_MISMATCH at /fields/1/type"
    installation.spec(output={"format": "avro"}, columns={**COLUMNS, "more": "string"})
    with pytest.raises(TableStopped, match="TYPE_MISMATCH"):
        await asyncio.to_thread(apply_folder, installation.config, installation.folder / "tables")
    assert "more" not in installation.registered().columns
    assert ExitCode.OK == await installation.verb("tables", "list")
    capsys.readouterr()
