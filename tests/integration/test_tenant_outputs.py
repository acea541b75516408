"""A tenant's tables with masks, Avro, latest rows, rules, a resync: its name is in front of all that comes of them."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer
from redis import Redis

from headgate.cli.codes import ExitCode
from headgate.client import changes
from headgate.client.events import Change
from schemas.config import read_config
from schemas.output import latest_view_name
from sinks.redis.layout import Layout
from streams.registration import load_tables
from streams.tenant_rights import rights_of
from tests.integration.stages import Installation, event, until_off_loop
from tests.integration.test_masks import CANARY, bytes_of, every_record, leaks, lying, stored
from tests.integration.test_tenants import PASSWORD, as_user, lake_rows
from tests.oracles.latest import compacted
from tests.oracles.topic import read_records
from tests.services import Kafka, RedisServer
from tests.services.registry import SchemaRegistry

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]
ROWS, PARTITIONS = 24, 2
OUTPUTS: dict[str, dict[str, Any]] = {
    "patients": {"cloud_events": True, "latest": True},
    "visits": {"format": "avro", "latest": True, "latest_schema": True},
}


def spec_of(table: str, topic: str) -> dict[str, Any]:
    """Return the spec of a table of the tenant, in which it has no name in front yet."""
    return {
        "table": table, "tenant": "ward-3", "topics": [topic], "key": ["id"],
        "columns": {"id": "int", "name": {"type": "string", "mask": "hash"}, "ward": "string"},
        "features": [{"view": table, "entity": "row", "columns": ["ward"], "emit": True}],
        "rules": [{"rule": "moved", "kind": "change", "of": "ward", "max_age_seconds": 86_400}],
        "output": OUTPUTS[table],
    }  # fmt: skip


@pytest.fixture
def installation(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> Iterator[Installation]:
    """One tenant with two tables, a registry, and the key of its masks in a file."""
    made = Installation(kafka.address, redis_server.address, tmp_path)
    (tmp_path / "secret").write_text("k" * 40)
    (tmp_path / "tables" / "patients.yaml").unlink()
    for table in OUTPUTS:
        made.topic = f"{made.prefix}-{table}"
        made.make(PARTITIONS)
        (tmp_path / "tables" / f"{table}.yaml").write_text(json.dumps(spec_of(table, made.topic)))
    with SchemaRegistry() as registry:
        with made.file.open("a") as file:
            file.write(f"registry: {{urls: ['{registry.url}']}}\n")
            file.write(f"masks: {{keys: {{default: 'file:{tmp_path / 'secret'}'}}}}\n")
        made.config = read_config(made.file.read_text(), name="headgate.yaml")
        yield made
    made.admin.delete([name for name in made.admin.names() if name.startswith(made.prefix)])


def send(made: Installation, ward: str, *, op: str = "c") -> None:
    """Change each row of both tables; their names are nobody's business."""
    producer = Producer({"bootstrap.servers": made.kafka, "linger.ms": 5})
    for table in OUTPUTS:
        for row in range(ROWS):
            document = json.loads(event(row + (ROWS if op == "u" else 0)))
            document |= {"op": op, "after": {"id": row, "name": f"{CANARY} {row}", "ward": ward}}
            value = json.dumps(document).encode()
            producer.produce(f"{made.prefix}-{table}", value, b'{"id":%d}' % row, row % PARTITIONS)
    assert producer.flush(30) == 0, "every record was delivered"


def send_broken(made: Installation) -> None:
    """Send a row whose ward is no text, for quarantine."""
    producer = Producer({"bootstrap.servers": made.kafka})
    value = event(ROWS).replace(f'"n{ROWS}"'.encode(), b'"%s", "ward": {}' % CANARY.encode())
    producer.produce(f"{made.prefix}-patients", value, b'{"id":%d}' % ROWS, 0)
    assert producer.flush(30) == 0, "the record was delivered"


def count(made: Installation, topic: str) -> int:
    """Return how many records a topic of ours has."""
    return len(read_records(made.kafka, f"{made.prefix}.{topic}"))


def latest(made: Installation, table: str) -> list[dict[str, Any]]:
    """Return what compaction leaves of a latest topic."""
    return list(compacted(read_records(made.kafka, f"{made.prefix}.latest.ward-3.{table}")).values())


async def moved_everywhere(made: Installation) -> None:
    """Wait until each row has come, and has moved to another ward, at all ends of both tables."""
    tables = list(OUTPUTS)
    await until_off_loop(lambda: [ROWS] * 2 == [len(latest(made, table)) for table in tables], "the latest rows")
    await asyncio.to_thread(send, made, "home", op="u")
    wards = [{"home"}] * 2
    await until_off_loop(lambda: wards == [{row["ward"] for row in latest(made, t)} for t in tables], "the moves")
    assert [2 * ROWS] * 2 == [count(made, f"changes.ward-3.{table}") for table in tables]
    await until_off_loop(lambda: len(set(made.alerts())) == 4 * ROWS, "an alert of each row that came, or moved")
    await until_off_loop(lambda: count(made, "quarantine") == 1, "what cannot be read")
    everything = [2 * ROWS] * 2
    await until_off_loop(lambda: everything == [lake_rows(made, f"ward-3.{t}") for t in tables], "the lake's rows")


async def test_all_that_comes_of_a_tenants_tables_begins_with_its_name(
    installation: Installation, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Topics, keys, folders, contracts, what is in quarantine; and a resync takes its rows alone."""
    made = installation
    async with made.running("normalize", "features", "alerts", "lake") as workers:
        await asyncio.to_thread(send, made, "icu")
        await asyncio.to_thread(send_broken, made)
        await moved_everywhere(made)
        await asyncio.to_thread(check_names, made)
        await asyncio.to_thread(check_what_a_reader_sees, made, redis_server)
        await asyncio.to_thread(check_quarantine_and_masks, made)
        await check_contract(made)
        assert ExitCode.OK == await made.verb("tables", "resync", "ward-3.patients", "--from", "latest")

        def begun() -> bool:
            rows = workers["normalize"].host.status()["tables"]
            return [PARTITIONS] == [row["resync"]["begun"] for row in rows if row["resync"]]

        await until_off_loop(begun, "all partitions are in the new epoch")
        assert ExitCode.OK == await made.verb("tables", "resync", "ward-3.patients", "--complete")
        await until_off_loop(lambda: latest(made, "patients") == [], "tombstones of the rows of before")

    assert ROWS == len(latest(made, "visits"))
    capsys.readouterr()


def check_names(made: Installation) -> None:
    """See that no topic, key of a view or folder of the lake has another name in front."""
    kinds = ("changes", "latest", "features", "alerts.state")
    starts = tuple(f"{made.prefix}.{kind}." for kind in kinds)
    found = {name.removeprefix(start) for name in made.admin.names() for start in starts if name.startswith(start)}
    assert 4 <= len(found) == sum(name.startswith("ward-3.") for name in found), found
    layout = Layout(made.prefix, 4)
    with Redis.from_url(made.redis) as client:
        keys = {key.decode() for key in client.scan_iter(match=f"{made.prefix}:*", count=1_000)}
    rows = [key.partition("}:")[2] for key in keys if key.startswith(f"{layout.prefix}:{{b")]
    of_views = {rest[2:].partition(":")[0] for rest in rows if rest[:2] in {"f:", "e:", "r:", "z:"}}
    assert 6 == len(of_views) == sum(name.startswith("ward-3.") for name in of_views), of_views
    folders = {
        folder.name[: -len("-") - len(str(uuid.uuid4()))] for folder in (made.folder / "lake/headgate").iterdir()
    }
    assert {"ward-3.patients", "ward-3.visits"} == folders


def check_what_a_reader_sees(made: Installation, server: RedisServer) -> None:
    """See that the rights that are printed for a reader reach the rows of its latest view, by their keys."""
    (view,) = (
        view
        for view in load_tables(made.config)["ward-3.patients"].spec.features
        if view.view == latest_view_name("ward-3.patients")
    )
    key = Layout(made.prefix, 4).values(f"{view.view}.{view.version}", "7")
    user = f"reader-{made.prefix}"
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", user, *rights_of("ward-3", "reader", made.config).redis)
        client.execute_command("ACL", "SETUSER", user, "on", f">{PASSWORD}")
        try:
            with Redis.from_url(as_user(server, user)) as reader:
                row = reader.hgetall(key)
        finally:
            client.execute_command("ACL", "DELUSER", user)
    assert {b"7", b"home"} <= set(row.values())


def check_quarantine_and_masks(made: Installation) -> None:
    """See that the entry names the whole table, and that nothing behind a mask lies anywhere."""
    (entry,) = read_records(made.kafka, f"{made.prefix}.quarantine")
    assert "ward-3.patients" == json.loads(entry.value or b"")["table"]
    found = leaks("a topic", map(bytes_of, every_record(made.kafka, made.prefix)))
    found += leaks("Redis", stored(made.redis, made.prefix)) + leaks("the lake", lying(made.folder / "lake"))
    assert [] == found


async def check_contract(made: Installation) -> None:
    """See that the documents name the topic as it is called, and that a subscriber reads by them."""
    out = made.folder / "contracts"
    for table in OUTPUTS:
        assert ExitCode.OK == await made.verb("contract", f"ward-3.{table}", "--out", str(out))
    channels = yaml.safe_load((out / "ward-3.patients.asyncapi.yaml").read_text())["channels"]
    assert {f"{made.prefix}.changes.ward-3.patients"} == {channel["address"] for channel in channels.values()}
    sink = json.loads((out / "ward-3.visits.jdbc-sink.json").read_text())
    assert f"{made.prefix}.latest.ward-3.visits" == sink["topics"]
    contract = out / "ward-3.patients.value.schema.json"

    def read() -> list[Any]:
        with changes(contract, bootstrap=made.kafka, idle_seconds=60.0) as stream:
            return [next(stream) for _ in range(2 * ROWS)]

    given = await asyncio.to_thread(read)
    assert 2 * ROWS == sum(isinstance(each, Change) for each in given)
    assert {64} == {len(each.after["name"]) for each in given}
