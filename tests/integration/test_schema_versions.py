"""A table's columns are added, widened, turned to text and dropped while its workers run: every end has every value."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from schemas.errors import SourceUnavailable
from schemas.feature import View
from sinks.lake.view import open_lake_sql
from sinks.redis.read import get_entity
from streams import host
from streams.app import Worker
from streams.apply import apply_folder
from tests.integration.one_table import OneTable, one_table
from tests.integration.stages import until_off_loop
from tests.oracles import read_records
from tests.services import Kafka, RedisServer

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

STAGES = ("normalize", "features", "alerts", "lake", "lake")
KEYS, CHANGES = 60, 240  # of each version
MOMENT = "2026-01-01T00:00:00.000001Z"
ZONED: dict[str, Any] = {"type": "timestamptz", "encoding": "time.ZonedTimestamp"}
NARROW: dict[str, Any] = {"type": "decimal(6,2)", "encoding": "string"}
WIDE: dict[str, Any] = {"type": "decimal(8,2)", "encoding": "string"}
VIEW: dict[str, Any] = {"view": "all", "entity": "row", "columns": ["amount", "flag", "at"]}
VERSIONS: list[dict[str, Any]] = [
    {"id": "int", "amount": "int", "flag": "boolean", "at": ZONED, "share": NARROW},
    {"id": "long", "amount": "long", "flag": "boolean", "at": ZONED, "share": WIDE, "note": "string"},
    {"id": "long", "amount": "string", "flag": "string", "at": "string", "share": WIDE, "note": "string"},
    {"id": "string", "amount": "string", "flag": "string", "at": "string", "note": "string", "more": "list<int>"},
]
TOTAL = CHANGES * len(VERSIONS)


def sent(n: int) -> dict[str, Any]:
    """Return the row of change n as the source sends it, in the version of its time."""
    rows: list[dict[str, Any]] = [
        {"id": n % KEYS, "amount": n, "flag": n % 2 == 0, "at": MOMENT, "share": "12.50"},
        {"id": n % KEYS, "amount": 5_000_000_000 + n, "flag": None, "at": MOMENT, "share": "123456.50", "note": "x"},
        {"id": n % KEYS, "amount": f"{n} apples", "flag": "maybe", "at": "soon", "share": "1.00", "note": None},
        {"id": f"row {n % KEYS}", "amount": f"{n} pears", "flag": "yes", "at": None, "note": "y", "more": [n, None]},
    ]
    return rows[n // CHANGES]


def shown(n: int) -> dict[str, Any]:
    """Return what it is in the end: what became a text has the text that the contract had for it."""
    row = {"share": None, "note": None, "more": None, **sent(n)}
    flag = {True: "true", False: "false"}.get(row["flag"], row["flag"])
    return {**row, "id": str(row["id"]), "amount": str(row["amount"]), "flag": flag}


def rows() -> dict[str, dict[str, Any]]:
    """Return the rows that all changes leave, by key."""
    return {row["id"]: row for row in map(shown, range(TOTAL))}


@pytest.fixture
def table(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> Iterator[OneTable]:
    """An installation of one table, in its first version."""
    rules = [{"rule": "any", "when": "after.amount IS NOT NULL", "max_age_seconds": 86_400}]
    document = {"table": "accounts", "key": ["id"], "columns": VERSIONS[0], "rules": rules}
    with one_table(kafka, redis_server, tmp_path, document) as made:
        made.document = {**made.document, "features": [VIEW]}
        made.spec()
        yield made


def send(table: OneTable, version: int) -> None:
    """Have the source make the changes of a version."""
    for n in range(version * CHANGES, (version + 1) * CHANGES):
        row = sent(n)
        source = {
            "connector": "postgresql", "name": "clinic", "ts_us": int(time.time() * 1e6), "snapshot": "false",
            "sequence": f'["{n}","{n + 1}"]', "schema": "public", "table": "accounts", "db": "d", "txId": 7,
            "lsn": n + 1,
        }  # fmt: skip
        value = {"before": None, "after": row, "source": source, "op": "u"}
        table.send(n % 4, json.dumps({"id": row["id"]}).encode(), json.dumps(value).encode())
    table.flush()


def is_emitted(table: OneTable, count: int) -> bool:
    """Say whether so many changes stand on the output topic."""
    return count == len(read_records(table.kafka, table.output))


async def redis_rows(table: OneTable) -> dict[str, dict[str, Any]]:
    """Return what Redis shows of every key, nulls named."""
    found = {}
    async with Redis.from_url(table.redis) as client:
        for key in rows():
            row = await get_entity(client, table.config.redis, View.model_validate(VIEW), [key])
            if row is not None:
                found[key] = {**row.values, **dict.fromkeys(row.null)}
    return found


def lake_rows(table: OneTable, relation: str, order: str) -> list[dict[str, Any]]:
    """Return what DuckDB reads of the lake."""
    with open_lake_sql(table.config.lake, [table.table]) as connection:
        columns = 'id, amount, flag, "at", share::varchar AS share, note, more'
        query = f"SELECT {columns} FROM {relation} ORDER BY {order}"
        found: list[dict[str, Any]] = connection.sql(query).to_arrow_table().to_pylist()
    return found


async def a_broker_that_is_away_is_told(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for what the tables' topic holds does not wait for ever."""
    with monkeypatch.context() as patch:
        patch.setattr(host, "CATCH_UP_SECONDS_MAX", 0.2)
        patch.setattr(worker.host._reader, "ends", lambda: {0: 1_000_000})  # noqa: SLF001 - it does not get there
        with pytest.raises(SourceUnavailable):
            await worker.host.catch_up()


async def test_every_end_follows_the_columns_of_a_table(table: OneTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two LAKE workers, FEATURES and ALERTS look at their tables only when a change of a new version comes."""
    monkeypatch.setattr(host, "GATHER_SILENCE_SECONDS", 3_600.0)
    async with table.running(*STAGES) as workers:
        for version, columns in enumerate(VERSIONS):
            await until_off_loop(partial(is_emitted, table, version * CHANGES), "all before is emitted")
            table.spec(columns=columns)
            await asyncio.to_thread(apply_folder, table.config, table.folder / "tables", force=True)
            await workers["normalize"].host.catch_up()
            await asyncio.to_thread(send, table, version)
        await until_off_loop(lambda: table.lake()[0] == TOTAL, f"{TOTAL} changes are in the lake")
        await until_off_loop(lambda: len(table.alerts()) == TOTAL, f"{TOTAL} alerts are written")
        wanted = {key: {name: row[name] for name in VIEW["columns"]} for key, row in rows().items()}
        await until_off_loop(lambda: asyncio.run(redis_rows(table)) == wanted, "Redis shows the rows")
        await a_broker_that_is_away_is_told(workers["lake"], monkeypatch)
        known = {name: worker.host.tables["accounts"].schema_version for name, worker in workers.items()}

    assert dict.fromkeys(workers, len(VERSIONS)) == known
    assert [] == table.quarantined()
    assert [shown(n) for n in range(TOTAL)] == lake_rows(table, "accounts", "_hg_position")
    assert rows() == {row["id"]: row for row in lake_rows(table, "accounts_latest", "id")}
    assert await table.lake_is_proved()
