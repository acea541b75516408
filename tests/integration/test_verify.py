"""`headgate verify` on a real source: equal while changes flow; a wrong row in each of three places is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog

from tests.services import (
    Connect,
    Connector,
    Kafka,
    Postgres,
    RedisServer,
    register_postgres_connector,
    wait_until,
)
from tests.workloads.ends import wait_quiet
from tests.workloads.installation import BUCKETS, NAMESPACE, ROOT, SECRET, Installation, shapes_for
from tests.workloads.loader import Loader
from tests.workloads.model import KEYS, Model
from tests.workloads.postgres_player import PostgresPlayer
from tests.workloads.webhook import Webhook

CHANGES = 1_500
SETTLE_SECONDS = 8  # the lake commits each second, on a machine that may be busy


@dataclass(slots=True)
class Flow:
    """A database whose changes flow into an installation."""

    installation: Installation
    connector: Connector
    player: PostgresPlayer
    model: Model
    dsn: str

    def verify(self, table: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run the verb as people do; return its exit code and what it said."""
        command = [sys.executable, "-P", str(ROOT / "headgate" / "__main__.py"), "verify", table, "--json"]
        done = subprocess.run(
            [*command, "--settle-seconds", str(SETTLE_SECONDS), *arguments],
            cwd=self.installation.folder,
            env={**os.environ, "HEADGATE_SOURCE": self.dsn},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def flow(
    kafka: Kafka, redis_server: RedisServer, postgres: Postgres, connect: Connect, tmp_path: Path
) -> Iterator[Flow]:
    """A running installation of all tables of the model."""
    database = f"verify_{uuid.uuid4().hex[:10]}"
    dsn = postgres.create_database(database)
    model, player = Model(7), PostgresPlayer(postgres, database)
    player.play(model.initial(25))
    connector = register_postgres_connector(
        connect, postgres, [f"public.{t}" for t in KEYS], database=database, partitions=4
    )
    connector.wait_streaming()
    try:
        shapes = shapes_for(connector.prefix, KEYS)
        with (
            Webhook(SECRET) as webhook,
            Installation(tmp_path / "headgate", kafka.address, redis_server.address, webhook.url, shapes) as made,
        ):
            made.start()
            yield Flow(made, connector, player, model, dsn)
            made.stop()
    finally:
        player.close()
        connector.delete()


def test_it_is_equal_while_changes_flow_and_finds_what_is_planted(flow: Flow, redis_server: RedisServer) -> None:
    """No false difference under load; then one wrong row each in Redis, in the lake and in the source."""
    with Loader(flow.player.do, flow.model.steps(CHANGES), changes_per_second=100) as loader:
        loader.allow(CHANGES)
        loader.wait_committed(CHANGES // 5)
        expect_equal(flow, "patients")
    wait_quiet(flow.installation, records=sum(flow.player.ledger.records.values()), deadline_seconds=60)
    for table in KEYS:
        expect_equal(flow, table)

    in_redis, in_lake, in_source = sorted(row["id"] for row in flow.model.rows["patients"].values())[:3]
    plant_in_redis(flow, redis_server, in_redis)
    plant_in_lake(flow, in_lake)
    flow.connector.stop()
    with psycopg.connect(flow.dsn, autocommit=True) as connection:
        connection.execute("UPDATE patients SET email = 'nobody@example.org' WHERE id = %s", [in_source])

    code, said = flow.verify("patients")
    assert code == 1
    assert sorted((f["place"], f["kind"], f["key"], f["columns"]) for f in said["findings"]) == [
        ("lake", "values", [str(in_lake)], ["name"]),
        ("redis patient.1", "values", [str(in_redis)], ["name"]),
        ("source", "values", [str(in_source)], ["email"]),
    ]
    assert "nobody" not in json.dumps(said), "values are never shown"
    within = ("--from", str(in_redis), "--to", str(in_redis))
    code, said = flow.verify("patients", *within, "--hide-keys")
    assert (code, said["rows"], [f["place"] for f in said["findings"]]) == (1, 1, ["redis patient.1"])
    assert said["findings"][0]["key"] != [str(in_redis)]


def expect_equal(flow: Flow, table: str) -> None:
    """See that no difference is found, and that there was something to compare."""
    code, said = flow.verify(table)
    assert (code, said["findings"], said["too_many"]) == (0, [], False), table
    assert said["rows"] > 0, table
    assert not said["unreadable"], table
    assert not said["not_compared"], table


def plant_in_redis(flow: Flow, redis_server: RedisServer, key: int) -> None:
    """Change a value of one entity behind the product's back."""
    with redis_server.client() as client:
        for bucket in range(BUCKETS):
            name = f"{flow.installation.key_prefix}:{{b{bucket}}}:f:patient.1:{key}"
            if client.exists(name):
                client.hset(name, "name", "planted")
                return
    raise AssertionError(f"Redis has no patient {key}")


def plant_in_lake(flow: Flow, key: int) -> None:
    """Append a wrong row for one key, as if it were its newest change."""
    folder = flow.installation.warehouse
    catalog = load_catalog("headgate", type="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=str(folder))

    def append() -> bool:
        table = catalog.load_table((NAMESPACE, "patients"))
        rows = table.scan(row_filter=f"id == {key}").to_arrow().sort_by("_hg_position")
        last = rows.slice(rows.num_rows - 1)
        for column, value in (("name", "planted"), ("_hg_offset", last["_hg_offset"][0].as_py() + 1)):
            at = last.schema.get_field_index(column)
            last = last.set_column(at, last.schema.field(at), pa.array([value], last.schema.field(at).type))
        table.append(last)
        return True

    wait_until(append, "a wrong row in the lake", deadline_seconds=20)
