"""`headgate verify` tried beside the proof of the four ends: equal while changes flow, and what is planted is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import psycopg
import pyarrow as pa
from pyiceberg.catalog import load_catalog

from tests.proof.end_to_end import Running
from tests.services import RedisServer
from tests.workloads.installation import BUCKETS, NAMESPACE, ROOT
from tests.workloads.model import KEYS

SETTLE_SECONDS = 60.0  # under load: the lake commits each second, unless the machine stalls; equal rows wait for nobody
SETTLE_SECONDS_AT_REST = 1.0


def verify(running: Running, table: str, *arguments: str, settle: float) -> tuple[int, dict[str, Any]]:
    """Run the verb as people do; return its exit code and what it said."""
    command = [sys.executable, "-P", str(ROOT / "headgate" / "__main__.py"), "verify", table, "--json"]
    done = subprocess.run(
        [*command, "--settle-seconds", str(settle), *arguments],
        cwd=running.installation.folder,
        env={**os.environ, "HEADGATE_SOURCE": running.dsn},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def equal_under_load(running: Running) -> None:
    """See that no row counts as different that is only on its way."""
    expect_equal(running, "patients", settle=SETTLE_SECONDS)


def finds_what_is_planted(running: Running, redis_server: RedisServer) -> None:
    """See that all is equal at rest; then plant one wrong row each in Redis, in the lake and in the source."""
    for table in KEYS:
        expect_equal(running, table, settle=SETTLE_SECONDS_AT_REST)
    in_redis, in_lake, in_source = sorted(row["id"] for row in running.model.rows["patients"].values())[:3]
    plant_in_redis(running, redis_server, in_redis)
    plant_in_lake(running, in_lake)
    running.connector.stop()
    with psycopg.connect(running.dsn, autocommit=True) as connection:
        connection.execute("UPDATE patients SET email = 'nobody@example.org' WHERE id = %s", [in_source])

    code, said = verify(running, "patients", settle=SETTLE_SECONDS_AT_REST)
    assert code == 1
    assert sorted((f["place"], f["kind"], f["key"], f["columns"]) for f in said["findings"]) == [
        ("lake", "values", [str(in_lake)], ["name"]),
        ("redis patient.1", "values", [str(in_redis)], ["name"]),
        ("source", "values", [str(in_source)], ["email"]),
    ]
    assert "nobody" not in json.dumps(said), "values are never shown"
    within = ("--from", str(in_redis), "--to", str(in_redis), "--hide-keys")
    code, said = verify(running, "patients", *within, settle=SETTLE_SECONDS_AT_REST)
    assert (code, said["rows"], [f["place"] for f in said["findings"]]) == (1, 1, ["redis patient.1"])
    assert said["findings"][0]["key"] != [str(in_redis)]
    code, said = verify(running, "patients", f"--to={in_redis - 1}", settle=SETTLE_SECONDS_AT_REST)
    assert (code, said["rows"], said["findings"]) == (0, 0, []), "a range without rows is equal"


def expect_equal(running: Running, table: str, *, settle: float) -> None:
    """See that no difference is found, and that there was something to compare."""
    code, said = verify(running, table, settle=settle)
    assert (code, said["findings"], said["too_many"]) == (0, [], False), table
    assert said["rows"] > 0, table
    assert not said["unreadable"], table
    assert not said["not_compared"], table


def plant_in_redis(running: Running, redis_server: RedisServer, key: int) -> None:
    """Change a value of one entity behind the product's back."""
    with redis_server.client() as client:
        for bucket in range(BUCKETS):
            name = f"{running.installation.key_prefix}:{{b{bucket}}}:f:patient.1:{key}"
            if client.exists(name):
                client.hset(name, "name", "planted")
                return
    raise AssertionError(f"Redis has no patient {key}")


def plant_in_lake(running: Running, key: int) -> None:
    """Append a wrong row for one key, as if it were its newest change."""
    folder = running.installation.warehouse
    catalog = load_catalog("headgate", type="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=str(folder))
    table = catalog.load_table((NAMESPACE, "patients"))
    rows = table.scan(row_filter=f"id == {key}").to_arrow().sort_by("_hg_position")
    last = rows.slice(rows.num_rows - 1)
    for column, value in (("name", "planted"), ("_hg_offset", last["_hg_offset"][0].as_py() + 1)):
        at = last.schema.get_field_index(column)
        last = last.set_column(at, last.schema.field(at), pa.array([value], last.schema.field(at).type))
    table.append(last)
