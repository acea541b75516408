"""Two tenants of one installation, names and rows chosen to do harm: nothing leaks, clashes or leaves its place."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from confluent_kafka import Producer
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoPermissionError

from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from schemas.config import read_config
from schemas.feature import View
from sinks.lake.storage import open_catalog
from sinks.lake.table import load_table
from sinks.redis.layout import Layout, entity_text
from sinks.redis.read import read_entity
from sinks.redis.views import Views
from streams.tenant_rights import rights_of
from tests.integration.stages import Installation, event, until_off_loop
from tests.oracles.topic import Record, read_records
from tests.services import Kafka, RedisServer
from tests.unit.tenants.hostile import HOSTILE

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

TENANTS = ("acme", "zeta")
# Of another tenant's entity, made to be found by who looks for the other's: by a pattern, by a prefix.
AIMED = ["}:f:acme.person.1:1", "}:f:zeta.person.1:1", "1}:f:acme.person.1:x}:f:zeta.person.1:", "acme.person.1:1"]
TEXTS = [*HOSTILE, *AIMED]
SPEC = {
    "table": "people",
    "source_table": "public.people",
    "key": ["name"],
    "columns": {"name": "string", "whose": "string"},
    "features": [{"view": "person", "entity": "person", "columns": ["whose"]}],
}
PASSWORD = "s3cret: of @ a/reader"


@pytest.fixture
def installation(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> Iterator[Installation]:
    """Both tenants with a table of a topic each, a worker's user of Redis with the rights that are printed for one."""
    made = Installation(kafka.address, redis_server.address, tmp_path)
    (tmp_path / "tables" / "patients.yaml").unlink()
    templates = tmp_path / "templates"
    templates.mkdir()
    template = {**SPEC, "tenant": "{tenant}", "topics": [made.prefix + "-{tenant}.people"]}
    (templates / "people.yaml").write_text(json.dumps(template))
    add = ["tenants", "add", *TENANTS, "--template", str(templates), "--into", str(tmp_path / "tables")]
    assert ExitCode.OK == entry.run(add)
    for tenant in TENANTS:
        made.topic = f"{made.prefix}-{tenant}.people"
        made.make(2)
    user = f"worker-{made.prefix}"
    with Redis.from_url(redis_server.address) as client:
        client.execute_command("ACL", "SETUSER", user, *rights_of("acme", "worker", made.config).redis)
        client.execute_command("ACL", "SETUSER", user, "on", f">{PASSWORD}")
    address = as_user(redis_server, user)
    text = made.file.read_text().replace(redis_server.address, address) + "unregistered: quarantine\n"
    made.file.write_text(text)
    made.config = read_config(text, name="headgate.yaml")
    yield made
    with Redis.from_url(redis_server.address) as client:
        client.execute_command("ACL", "DELUSER", user)
    made.admin.delete([f"{made.prefix}-{tenant}.people" for tenant in TENANTS])
    made.close()


def as_user(server: RedisServer, user: str) -> str:
    """Return the address by which a user comes in."""
    return server.address.replace("redis://", f"redis://{user}:{quote(PASSWORD, safe='')}@")


def change(name: str, whose: str, number: int, table: str = "people") -> bytes:
    """Return the insert of a person, as Debezium sends it."""
    document = json.loads(event(number))
    document["after"] = {"name": name, "whose": whose}
    document["source"]["table"] = table
    return json.dumps(document).encode()


def fill(made: Installation) -> None:
    """Send all texts as keys of both tenants' rows, and as names of tables that nobody registered."""
    producer = Producer({"bootstrap.servers": made.kafka, "linger.ms": 5})
    for tenant in TENANTS:
        for number, text in enumerate(TEXTS):
            topic = f"{made.prefix}-{tenant}.people"
            producer.produce(topic, change(text, f"{tenant} {text}", number), json.dumps({"name": text}), number % 2)
            producer.produce(topic, change("nobody", tenant, number, table=text), b'{"name":"nobody"}', number % 2)
    assert producer.flush(30) == 0, "every record was delivered"


async def test_hostile_rows_and_names_stay_where_they_belong(
    installation: Installation, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the topics, the quarantine, Redis and the lake, of one tenant and the other; and on a terminal."""
    before = set(installation.folder.parent.iterdir())
    async with installation.running("normalize", "features", "lake"):
        await asyncio.to_thread(fill, installation)
        for tenant in TENANTS:
            topic = f"{installation.prefix}.changes.{tenant}.people"
            await until_off_loop(
                partial(is_whole, installation, redis_server, tenant), f"{topic}, its rows, the lake's"
            )
        await until_off_loop(
            lambda: len(records(installation, f"{installation.prefix}.quarantine")) >= 2 * len(TEXTS),
            "what is unregistered is in quarantine",
        )
    for tenant in TENANTS:
        found = {(c["key"]["name"], c["after"]["whose"]) for c in contents(installation, tenant)}
        assert {(text, f"{tenant} {text}") for text in TEXTS} == found
        assert {text: f"{tenant} {text}" for text in TEXTS} == await seen(redis_server, installation, tenant)
        folder, _, own = location(installation, tenant).rpartition("/")
        assert f"{installation.folder}/lake/headgate" == folder
        assert own.startswith(f"{tenant}.people-")
    assert before == set(installation.folder.parent.iterdir())
    quarantined = records(installation, f"{installation.prefix}.quarantine")
    assert 2 * len(TEXTS) == len(quarantined)

    await check_one_view_goes_and_the_other_stays(installation, redis_server)
    capsys.readouterr()
    assert ExitCode.OK == await installation.verb("quarantine", "list", "--latest", "1000")
    assert ExitCode.OK == await installation.verb("tenants", "list")
    said = capsys.readouterr()
    assert "public.people" not in said.out, "what is registered is not in quarantine"
    assert not {sign for sign in said.out + said.err if sign in "\0\x07\x1b\x9b\r\u202e\u2066"}


async def check_one_view_goes_and_the_other_stays(installation: Installation, server: RedisServer) -> None:
    """Take a view of one tenant away: rows of the other's whose entities name its keys stay."""
    async with Views(installation.config.redis) as views:
        await views.remove(["acme.person.1"])

    assert {text: f"zeta {text}" for text in TEXTS} == await seen(server, installation, "zeta")
    assert set() == held(server, installation, "acme")


async def test_a_reader_of_redis_sees_its_own_rows_alone(redis_server: RedisServer) -> None:
    """By the rights that are printed: own rows, and nothing of others, whatever their entities are called."""
    prefix = f"acl{uuid.uuid4().hex[:8]}"
    config = read_config(f"redis: {{url: '{redis_server.address}', key_prefix: {prefix}}}", name="c")
    layout, user = Layout(prefix, config.redis.buckets), f"reader-{prefix}"
    own, others = layout.values("acme.person.1", "1"), [layout.values("zeta.person.1", text) for text in ["1", *TEXTS]]
    with redis_server.client() as client:
        for key in (own, *others, layout.values("person.1", "1")):
            client.hset(key, mapping={"whose": "somebody's", ".p": "1"})
        for words in (["on", f">{PASSWORD}"], rights_of("acme", "reader", config, standings=True).redis[1:]):
            client.execute_command("ACL", "SETUSER", user, *words)
    try:
        address = as_user(redis_server, user)
        with Redis.from_url(address) as reader:
            assert {b"whose": b"somebody's", b".p": b"1"} == reader.hgetall(own)
            for key in (*others, layout.values("person.1", "1"), layout.tombstones("acme.person.1", 0), layout.marker):
                with pytest.raises(NoPermissionError):
                    reader.hgetall(key)
            writes = [["HSET", own, "whose", "mine"], ["DEL", own], ["EVAL", "return 1", "0"]]
            for command in (["SCAN", "0"], ["KEYS", "*"], ["INFO"], *writes):
                with pytest.raises(NoPermissionError):
                    reader.execute_command(*command)
        view = View(view="acme.person", entity="person", columns=["whose"])
        async with AsyncRedis.from_url(address) as client_of_reader:
            read = await read_entity(client_of_reader, config.redis, view, ["1"])
        assert read.row is not None
        assert {"whose": "somebody's"} == read.row.values
    finally:
        with redis_server.client() as client:
            client.execute_command("ACL", "DELUSER", user)
            client.delete(own, *others, layout.values("person.1", "1"))


def records(made: Installation, topic: str) -> list[Record]:
    """Return what stands on a topic."""
    return read_records(made.kafka, topic)


def contents(made: Installation, tenant: str) -> list[dict[str, Any]]:
    """Return a tenant's changes."""
    return [json.loads(each.value or b"") for each in records(made, f"{made.prefix}.changes.{tenant}.people")]


def is_whole(made: Installation, server: RedisServer, tenant: str) -> bool:
    """Tell whether all of a tenant's rows are at each end."""
    ends = (len(contents(made, tenant)), len(held(server, made, tenant)), lake_rows(made, f"{tenant}.people"))
    return ends == (len(TEXTS),) * len(ends)


def lake_rows(made: Installation, table: str) -> int:
    """Return how many rows a table of the lake has; nothing where there is no table yet."""
    catalog = open_catalog(made.config.lake)
    if not catalog.table_exists(("headgate", table)):
        return 0
    return int(load_table(catalog, "headgate", table).scan().to_arrow().num_rows)


def location(made: Installation, tenant: str) -> str:
    """Return where a tenant's table lies."""
    return load_table(open_catalog(made.config.lake), "headgate", f"{tenant}.people").location().removeprefix("file://")


def held(server: RedisServer, made: Installation, tenant: str) -> set[bytes]:
    """Return the keys of a tenant's rows, as they must begin."""
    with server.client() as client:
        found = set(client.scan_iter(match=f"{made.prefix}:*", count=1_000))
    begins = tuple(f"{Layout(made.prefix, 4).base(bucket)}f:{tenant}.person.1:".encode() for bucket in range(4))
    return {key for key in found if key.startswith(begins)}


async def seen(server: RedisServer, made: Installation, tenant: str) -> dict[str, str]:
    """Return what the read side says of each text of a tenant."""
    view = View(view=f"{tenant}.person", entity="person", columns=["whose"])
    found: dict[str, str] = {}
    async with AsyncRedis.from_url(server.address) as client:
        for text in TEXTS:
            read = await read_entity(client, made.config.redis, view, [entity_text([text])])
            if read.row is not None:
                found[text] = read.row.values["whose"]
    return found
