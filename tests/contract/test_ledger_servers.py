"""What the ledger promises on every server it runs on: Redis, one in cluster mode, and Valkey where it is installed."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa
import pytest
import redis
from redis.asyncio import Redis as AsyncRedis

from schemas.config import RedisConfig
from schemas.errors import BugError, ConfigurationError, OutboxFull, SinkUnavailable, VersionRefused
from schemas.table import TableSpec, views_that_emit
from sinks.redis.fold import Gatherer
from sinks.redis.layout import offset_field, offset_text
from sinks.redis.ledger import Applied, Ledger, Move, OutboxTerms, commands
from sinks.redis.outbox import Outboxes
from sinks.redis.read import read_entity, row_of
from sinks.redis.rows import TableRows
from sinks.redis.sharing import tellings
from sinks.redis.store import FeatureStore
from sinks.redis.sweep import Horizon, sweep_tombstones
from sinks.redis.updates import updates_of
from sinks.redis.views import Views
from streams.floor_sweeps import raise_floors
from streams.verify.places import RedisPlace
from tests.services.runner import NativeProcess
from tests.services.system import require_program
from tests.services.waiting import free_port, wait_until
from tests.unit.features.changes import change, floor

SPEC = TableSpec.model_validate(
    {
        "table": "patients",
        "topics": ["clinic.patients"],
        "key": ["id"],
        "columns": {"id": "long", "name": "string", "note": "string", "ward": "int"},
        "features": [
            {"view": "latest", "entity": "patient", "columns": ["name", "note"]},
            {"view": "by_ward", "entity": "ward", "entity_key": ["ward"], "columns": ["name"]},
        ],
    }
)
TABLE = TableRows(SPEC, SPEC.features)
FIELD = offset_field("latest.1", "t", 0)
CLUSTER = "--cluster-enabled"
SERVERS = {"redis": ["redis-server"], "cluster": ["redis-server", CLUSTER, "yes"]}
if shutil.which("valkey-server"):
    SERVERS["valkey"] = ["valkey-server"]


class Server:
    """A server of this module alone, and a ledger on it."""

    def __init__(self, folder: Path, program: str, *options: str) -> None:
        self.port = free_port()
        path = require_program(program) if program == "redis-server" else program
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        if CLUSTER in options:  # else its second port is the first plus 10,000, which may be somebody else's
            own += ["--cluster-port", str(free_port())]
        self.process = NativeProcess(program, [path, *own, *options], log_path=folder / "log", data=folder)
        self.process.start()
        self.client = redis.Redis(port=self.port)
        try:
            wait_until(self._answers, "the server answers")
            if CLUSTER in options:
                self.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
                wait_until(self._is_a_cluster, "a cluster")
        except BaseException as error:
            error.add_note(self.process.log_tail())
            self.close()
            raise

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def _is_a_cluster(self) -> bool:
        return "ok" in str(self.ask("CLUSTER", "INFO")).partition("cluster_state")[2][:8]

    def ask(self, *command: object) -> Any:
        """Return the answer to a command."""
        return self.client.execute_command(*command)  # type: ignore[no-untyped-call]

    def hash(self, key: str) -> dict[bytes, bytes]:
        """Return what HGETALL says."""
        return cast("dict[bytes, bytes]", self.client.hgetall(key))

    def config(self, **changes: object) -> RedisConfig:
        """Return the settings of a ledger here."""
        return RedisConfig.model_validate({"url": f"redis://127.0.0.1:{self.port}/0", "buckets": 8} | changes)

    def close(self) -> None:
        """Leave nothing running."""
        self.client.close()
        self.process.close()


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each kind of server."""
    found = Server(tmp_path_factory.mktemp("ledger"), *SERVERS[request.param])
    yield found
    found.close()


@pytest.fixture
def empty(server: Server) -> Server:
    """The server, with nothing on it and nothing set."""
    server.client.flushall()
    server.client.script_flush()
    return server


async def apply(ledger: Ledger, values: list[bytes], moves: dict[int, list[Move]] | None = None) -> Applied:
    """Write contract values, and tell entities."""
    layout = ledger.layout
    gatherer = Gatherer(layout, 65_536)
    gatherer.add(TABLE, TABLE.decode(values), lambda i: f"id|0|{i}", value_bytes_max=900)
    applied = await ledger.apply(commands(layout, gatherer.sections, moves or {}, now_ms=1), moves or {})
    told = (await ledger.apply(commands(layout, gatherer.sharing, {}, now_ms=1), {})).told
    plans = {plan.id: plan for plan in TABLE.plans}
    await ledger.apply(commands(layout, tellings(layout, told, plans), {}, now_ms=1), {})
    return applied


async def test_rows_of_many_buckets_arrive(empty: Server) -> None:
    """Every key of a call is in one slot, or a cluster would refuse it."""
    ledger = Ledger(empty.config())
    await ledger.open()
    values = [change(key, key + 1, {"name": f"n{key}", "ward": key % 3}, ["note"]) for key in range(100)]

    await apply(ledger, [*values, *(change(key, 200 + key, None) for key in range(50))])

    keys = [ledger.layout.values("latest.1", str(key)) for key in range(100)]
    rows = [row_of(empty.hash(key)) for key in keys]
    assert [None] * 50 == rows[:50]
    assert [f"n{key}" for key in range(50, 100)] == [row.values["name"] for row in rows[50:] if row]
    wards = [row_of(empty.hash(ledger.layout.values("by_ward.1", str(ward)))) for ward in range(3)]
    assert ["n99", "n97", "n98"] == [row.values["name"] for row in wards if row]
    await ledger.close()


async def test_tombstones_behind_the_horizon_are_given_back(empty: Server) -> None:
    """With what their rows have left; the others, and those written anew meanwhile, stay."""
    ledger = Ledger(empty.config())
    await ledger.open()
    rows = [change(key, 1 + key, {"name": "n", "note": "x", "ward": key % 3}) for key in range(100)]
    await apply(ledger, rows)
    await apply(ledger, [change(key, 200 + key, None) for key in range(100)])  # the delete of row n is offset n
    before = {view: _tombstones(empty, ledger, view) for view in ("latest.1", "by_ward.1")}

    async def ask(calls: Sequence[Sequence[Any]]) -> list[Any]:
        if calls[0][0] == "EVAL":  # row 7 is deleted anew between the look and the call
            bucket = ledger.layout.bucket("7")
            empty.client.hset(ledger.layout.tombstones("latest.1", bucket), "7", "0001|id|0|7|9")
        return await ledger.ask(calls)

    behind = Horizon("id", {0: 60}, applied_before_ms=2)
    for horizon in (
        Horizon("id", {0: 60}, 1),
        Horizon("id", {1: 60}, 2),
        Horizon("id", {}, 2),
        Horizon("id", {0: 0}, 2),
    ):
        assert await sweep_tombstones(ledger.ask, ledger.layout, "latest.1", horizon) == 0
    swept = [
        await sweep_tombstones(ask, ledger.layout, "latest.1", behind),
        await sweep_tombstones(ledger.ask, ledger.layout, "by_ward.1", behind),
        await sweep_tombstones(ledger.ask, ledger.layout, "by_ward.1", Horizon("another", {0: 0}, 2)),
    ]

    assert {"latest.1": 100, "by_ward.1": 100} == {view: len(found) for view, found in before.items()}
    assert [59, 60, 40] == swept
    assert {7, *range(60, 100)} == _tombstones(empty, ledger, "latest.1")
    assert set() == _tombstones(empty, ledger, "by_ward.1")
    assert [] == list(empty.client.scan_iter(match="*:m:by_ward.1"))
    await ledger.close()


WARDS = {"view": "newest", "entity": "ward", "entity_key": ["ward"], "columns": ["name"], "event_time": "at"}
TIMED_SPEC = SPEC.model_validate(
    SPEC.model_dump() | {"columns": {"id": "long", "name": "string", "ward": "int", "at": "int"}}
    | {"features": [{"view": "latest", "entity": "patient", "columns": ["name"]}, WARDS]}
)  # fmt: skip
TIMED = TableRows(TIMED_SPEC, TIMED_SPEC.features)


async def test_a_floor_hides_rows_at_once_and_the_sweep_takes_them_away(empty: Server) -> None:
    """Also where rows share an entity: one that lives is shown in the place of a dead one before the sweep."""
    store, config = FeatureStore(empty.config(), clock=lambda: 1.0), empty.config()
    await store.ensure()
    rows = [change(key, 10 + key, {"name": f"n{key}", "ward": key % 3, "at": -key}) for key in range(100)]
    await _write(store, rows)
    await _write(store, [floor(95), floor(50)])

    async def seen(view: int, keys: range) -> list[str | None]:
        async with AsyncRedis(port=empty.port) as client:
            read = [await read_entity(client, config, TIMED_SPEC.features[view], [str(key)]) for key in keys]
        floors = await store.floors([plan.id for plan in TIMED.plans])
        assert {each.sweeping for each in read} == {bool(each.sweeping) for each in floors.values()}
        return [None if each.row is None else each.row.values["name"] for each in read]

    columns = {name: column.type for name, column in TIMED_SPEC.columns.items()}
    with closing(duckdb.connect()) as workspace:
        place = RedisPlace(config, TIMED_SPEC, TIMED_SPEC.features[0], columns, workspace)
        verified = place.rows(pa.table({"id": pa.array(range(100), pa.int64())}))["id"].to_pylist()
    shown = empty.hash(Ledger(config).layout.values("newest.1", "0"))[b"name"]
    at_once = await seen(0, range(100)), await seen(1, range(4))
    await _write(store, [rows[7], change(7, 200, {"name": "again", "ward": 1, "at": 5}), floor(95)])
    for plan in TIMED.plans:
        await store.sweep_floor(plan, (await store.floors([plan.id]))[plan.id])
    swept = await seen(0, range(100)), await seen(1, range(4))
    rows_left = [sum(1 for _ in empty.client.scan_iter(match=f"*:{kind}:*")) for kind in ("f:latest.1", "r:newest.1")]
    tombstones = list(empty.client.scan_iter(match="*:x:*"))
    async with Views(config) as views:
        await views.remove({"latest.1", "newest.1"})
    await store.close()

    names = [None] * 85 + [f"n{key}" for key in range(85, 100)]
    assert list(range(85, 100)) == verified
    assert b"n0" == shown  # a dead row, to whoever reads the hash alone
    assert (names, ["n87", "n85", "n86", None]) == at_once
    names[7] = "again"
    assert (names, ["n87", "again", "n86", None]) == swept
    assert ([16, 16], []) == (rows_left, tombstones)
    assert [f"{config.key_prefix}:layout".encode()] == empty.client.keys()  # also the floors


async def _write(store: FeatureStore, values: list[bytes]) -> None:
    gatherer = store.gatherer()
    for at in gatherer.add(TIMED, TIMED.decode(values), lambda i: f"id|0|{i}", value_bytes_max=900):
        raise_floors(gatherer, TIMED, values[at])
    await store.write([gatherer], {})


def _tombstones(server: Server, ledger: Ledger, view: str) -> set[int]:
    """Return the rows of a view that have one."""
    keys = [ledger.layout.tombstones(view, bucket) for bucket in range(ledger.layout.buckets)]
    return {int(row) for key in keys for row in server.hash(key)}


async def test_offsets_move_only_from_what_was_last_seen(empty: Server) -> None:
    """A refused move says what its field holds, or that it holds nothing."""
    ledger = Ledger(empty.config())
    await ledger.open()
    await ledger.begin({0: [(FIELD, "id")]})
    good, stale = Move(FIELD, "id:0", "id:5"), Move(FIELD, "id:3", "id:9")
    unknown = Move(offset_field("gone.1", "t", 0), "id:0", "id:5")

    assert [] == (await ledger.apply(commands(ledger.layout, {}, {0: [good]}, now_ms=1), {0: [good]})).refused
    moves = {0: [stale, unknown, good]}
    refused = (await ledger.apply(commands(ledger.layout, {}, moves, now_ms=1), moves)).refused

    assert [(0, stale, offset_text("id", 5)), (0, unknown, None)] == [tuple(refusal) for refusal in refused]
    assert [[offset_text("id", 5)], [None]] == (await ledger.offsets([FIELD]))[:2]
    await ledger.close()


@pytest.mark.parametrize(
    ("off", "on"),
    [
        (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
        (["SCRIPT", "FLUSH"], ["PING"]),
        (["CONFIG", "SET", "min-replicas-to-write", "3"], ["CONFIG", "SET", "min-replicas-to-write", "0"]),
    ],
    ids=["OOM", "NOSCRIPT", "NOREPLICAS"],
)
async def test_a_server_that_cannot_take_rows_now_is_unavailable(empty: Server, off: list[str], on: list[str]) -> None:
    """The rows are sent again once it can."""
    ledger = Ledger(empty.config())
    await ledger.open()
    row = change(1, 1, {"name": "a", "note": "b"})
    empty.ask(*off)
    try:
        with pytest.raises(SinkUnavailable):
            await apply(ledger, [row])
    finally:
        empty.ask(*on)
    await ledger.open()

    assert 1 == (await apply(ledger, [row])).changed
    await ledger.close()


async def test_updates_are_appended_beside_the_entity_and_removed_by_id(empty: Server) -> None:
    """All keys of a call are in one slot, with the outbox; one that is full refuses."""
    spec = SPEC.model_copy(update={"features": [view.model_copy(update={"emit": True}) for view in SPEC.features]})
    table, ledger = TableRows(spec, spec.features, views_that_emit(spec)), Ledger(empty.config())
    outboxes, buckets = Outboxes(empty.config()), range(8)
    await ledger.open()

    async def write(*rows: bytes, bytes_max: int = 1_000_000) -> int:
        gatherer, terms = Gatherer(ledger.layout, 65_536), OutboxTerms("life", "born", bytes_max)
        gatherer.add(table, table.decode(rows), lambda i: f"id|0|{i}", value_bytes_max=900)
        appended = 0
        told: list[Any] = []
        for sections in (gatherer.sections, gatherer.sharing):
            applied = await ledger.apply(commands(ledger.layout, sections, {}, now_ms=1, outbox=terms), {})
            appended, told = appended + applied.appended, told + applied.told
        entities = tellings(ledger.layout, told, {plan.id: plan for plan in table.plans})
        calls = commands(ledger.layout, entities, {}, now_ms=1, outbox=terms)
        return appended + (await ledger.apply(calls, {})).appended

    rows = [change(key, key + 1, {"name": f"n{key}", "ward": key % 3, "note": "x"}) for key in range(100)]
    appended = await write(*rows)
    entries = await outboxes.read(buckets, 100)
    found = [some for entry in entries for some in updates_of(entry)]
    size = await outboxes.size(buckets)
    with pytest.raises(OutboxFull):
        await write(*(change(key, 200, None) for key in range(100)), bytes_max=1)
    await ledger.open()
    await outboxes.remove(entries)

    assert 200 == appended
    assert {"latest": 100, "by_ward": 100} == sum(
        (Counter({some.view: len(some.records)}) for some in found), Counter()
    )
    assert (len(entries), True) == (size.entries, size.nbytes > 100 * len(entries))
    assert 100 == sum(bool(empty.hash(ledger.layout.values("latest.1", str(key)))) for key in range(100))
    assert (0, 0) == await outboxes.size(buckets)
    await outboxes.close()
    await ledger.close()


async def test_calls_in_flight_fail_together_when_the_connection_breaks(empty: Server) -> None:
    """No reply reaches the wrong caller; nothing reconnects by itself."""
    ledger = Ledger(empty.config())
    await ledger.open()
    pending = [asyncio.create_task(apply(ledger, [change(n, 1, {"name": "a"}, ["note"])])) for n in range(20)]
    await asyncio.sleep(0)  # they send
    empty.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    outcomes = await asyncio.gather(*pending, return_exceptions=True)

    assert {SinkUnavailable} == {type(outcome) for outcome in outcomes}
    with pytest.raises(SinkUnavailable):
        await ledger.offsets([FIELD])
    await ledger.open()
    assert 2 == ledger.wire.opened
    await ledger.close()


async def test_a_key_of_somebody_else_is_no_reason_to_wait(empty: Server) -> None:
    """The server refuses the command itself: trying again would not help, so it is not called unavailable."""
    ledger = Ledger(empty.config())
    await ledger.open()
    empty.client.set(ledger.layout.values("latest.1", "1"), "not a hash")

    with pytest.raises(BugError):
        await apply(ledger, [change(1, 1, {"name": "a", "note": "b"})])
    await ledger.close()


async def test_a_newer_layout_is_refused(empty: Server) -> None:
    """What this version does not know it leaves alone."""
    ledger = Ledger(empty.config())
    empty.client.set(ledger.layout.marker, '{"layout": 3, "buckets": 8}')

    with pytest.raises(VersionRefused, match=r"has version 3, this release reads 1 and 2 .*upgrade this one"):
        await ledger.open()
    with pytest.raises(SinkUnavailable):
        await ledger.offsets([FIELD])


async def test_nobody_listening_is_unavailable() -> None:
    """A server that is not there may come."""
    ledger = Ledger(RedisConfig.model_validate({"url": f"redis://127.0.0.1:{free_port()}/0"}))

    with pytest.raises(SinkUnavailable):
        await ledger.open()


async def test_a_wrong_password_is_a_matter_of_configuration(empty: Server) -> None:
    """Waiting would not help."""
    ledger = Ledger(empty.config(url=f"redis://:wrong@127.0.0.1:{empty.port}/0"))
    empty.client.config_set("requirepass", "right")
    try:
        with pytest.raises(ConfigurationError):
            await ledger.open()
    finally:
        empty.client.config_set("requirepass", "")
