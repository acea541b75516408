"""The verbs of one table among many, under load: pause, resume, replay, backfill, resync, remove; the others go on.

The one is a table of a real PostgreSQL with Debezium, whose slot is lost on the way; the others are topics that are
written to all the time. What comes out of these is timed, from the row's commit to its record on the output topic, in
each verb's time and before the first of them. In the end the one is its source in Redis and in the lake.

python -m tests.proof.verbs --tables 150 --per-second 300 --seed 7
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import quantiles
from typing import Any, Self

from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place

from connectors.transport.settings import ClientSettings
from connectors.transport.topics import TopicAdmin, TopicSettings
from tests.oracles import Shape, Verdict, ViewShape, check_latest, read_lake, read_stored, require
from tests.oracles.features import check_view
from tests.proof.by_hand import parser_of, services_of_its_own
from tests.proof.ddl import processes, same_workers
from tests.proof.end_to_end import RealParts
from tests.proof.registration import WORKERS, Bench, Source, came_out, document
from tests.services import PostgresConnector, register_postgres_connector, wait_until
from tests.workloads.installation import BUCKETS, NAMESPACE, SECRET, Installation
from tests.workloads.webhook import Webhook

ONE, SIGNALS = "patients", "public.debezium_signal"
ROWS, WARDS = 2_000, 40
COLUMNS = {"id": "int", "name": "string", "ward": "int"}
FEATURES = [{"view": "patient", "entity": "patient", "columns": ["name", "ward"]}]
CALM_SECONDS, PAUSE_SECONDS = 15.0, 10.0
BEAT_SECONDS = 0.1
ROWS_MIN = 100  # below it no 99 of 100 are told
DEADLINE_SECONDS = 240.0


class Beat(threading.Thread):
    """Does something again and again until it is left; what fails there fails the proof."""

    def __init__(self, work: Callable[[], None], every_seconds: float) -> None:
        """Begin at `__enter__`."""
        super().__init__(daemon=True)
        self._work, self._every, self._end = work, every_seconds, threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Work at a steady pace; what took too long is made up for."""
        due = time.monotonic()
        try:
            while not self._end.wait(max(0.0, due - time.monotonic())):
                self._work()
                due += self._every
        except BaseException as error:  # noqa: BLE001 - raised where somebody listens
            self.error = error

    def __enter__(self) -> Self:
        """Begin."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, and raise what failed."""
        self._end.set()
        self.join(60)
        if self.error is not None:
            raise self.error


@dataclass
class Database:
    """The table in PostgreSQL, and who changes it."""

    parts: RealParts
    name: str
    chance: random.Random
    changes: int = 0

    def make(self) -> None:
        """Make the tables, and the first rows."""
        self.parts.postgres.create_database(self.name)
        with self.parts.postgres.connect(self.name) as connection:
            connection.execute(f"create table {ONE} (id int primary key, name text, ward int)")
            connection.execute(f"alter table {ONE} replica identity full")
            connection.execute(f"insert into {ONE} select n, 'n' || n, n %% 7 from generate_series(1, %s) n", [ROWS])
            connection.execute(f"create table {SIGNALS} (id varchar(42) primary key, type varchar(32), data text)")

    def change(self) -> None:
        """Insert, update or delete one row."""
        with self.parts.postgres.connect(self.name) as connection:
            key, ward = self.chance.randrange(1, ROWS + 500), self.chance.randrange(WARDS)
            if self.chance.random() < 0.2:
                connection.execute(f"delete from {ONE} where id = %s", [key])
            else:
                connection.execute(
                    f"insert into {ONE} values (%s, %s, %s) on conflict (id) do update set name = excluded.name, "
                    "ward = excluded.ward",
                    [key, f"name {self.changes}", ward],
                )
        self.changes += 1

    def rows(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Return its rows by key."""
        with self.parts.postgres.connect(self.name) as connection:
            found = connection.execute(f"select id, name, ward from {ONE}").fetchall()
        return {(row[0],): dict(zip(COLUMNS, row, strict=True)) for row in found}


@dataclass
class Stand:
    """Everything that runs."""

    bench: Bench
    database: Database
    connector: PostgresConnector
    channels: dict[str, str]
    windows: list[tuple[str, float, float]] = field(default_factory=list)

    @contextmanager
    def window(self, name: str) -> Iterator[None]:
        """Note when something began and ended."""
        began = time.time()
        yield
        self.windows.append((name, began, time.time()))
        print(f"{name}: {time.time() - began:.1f} s", flush=True)

    def verb(self, *words: str) -> str:
        """Run a verb of the table, which must do what it is asked."""
        code, _, said = self.bench.verb(*words)
        assert code == 0, f"headgate tables {' '.join(words)}: {code}\n{said}"
        return said


def connect(parts: RealParts, database: str, kafka: str, **overrides: str) -> tuple[PostgresConnector, dict[str, str]]:
    """Register the connector, with a snapshot and both channels of signals."""
    tag = uuid.uuid4().hex[:8]
    signals, notifications = f"signals-{tag}", f"notifications-{tag}"
    TopicAdmin(ClientSettings(bootstrap=kafka)).ensure(signals, TopicSettings(partitions=1))
    connector = register_postgres_connector(
        parts.connect, parts.postgres, [f"public.{ONE}", SIGNALS], database=database, partitions=2,
        overrides={
            "signal.data.collection": SIGNALS, "signal.enabled.channels": "source,kafka",
            "signal.kafka.topic": signals, "signal.kafka.bootstrap.servers": kafka,
            "notification.enabled.channels": "sink", "notification.sink.topic.name": notifications, **overrides,
        },
    )  # fmt: skip
    connector.wait_streaming()
    return connector, {"server": connector.prefix, "topic": signals, "table": SIGNALS, "notifications": notifications}


def prove(parts: RealParts, folder: Path, *, tables: int, per_second: float, seed: int) -> list[Verdict]:
    """Have every verb done once to the one table, and return what is wrong then."""
    print(f"seed {seed}, {tables} tables, {per_second:g} rows/s into all but one of them")
    kafka = parts.kafka.address
    database = Database(parts, f"verbs_{uuid.uuid4().hex[:8]}", random.Random(seed))
    database.make()
    connector, channels = connect(parts, database.name, kafka)
    others = [f"t{number:03d}" for number in range(1, tables)]
    source = Source(kafka, others, seed)
    one = document(ONE, connector.topic(f"public.{ONE}"), key=["id"], columns=COLUMNS, features=FEATURES)
    shape = Shape.of({**one, "lake": {"enabled": True}, "signals": channels})
    shapes = {ONE: shape, **{name: Shape.of(document(name, source.topic(name))) for name in others}}
    with (
        Webhook(SECRET) as webhook,
        Installation(
            folder, kafka, parts.redis.address, webhook.url, shapes, arguments=("--workers", f"normalize={WORKERS}")
        ) as installation,
    ):
        installation.start()
        before = processes(installation)
        stand = Stand(Bench(installation, source), database, connector, channels)
        chance = random.Random(seed + 1)
        at_once = max(1, round(per_second * BEAT_SECONDS))
        try:
            with (
                Beat(lambda: source.write(1, tables=chance.sample(others, min(at_once, len(others)))), BEAT_SECONDS),
                Beat(database.change, 0.05),
            ):
                verbs(stand)
            return [
                *equal(stand, shape),
                *undisturbed(stand, others),
                *whole(stand, others),
                same_workers(installation, before, at_least=WORKERS),
            ]
        finally:
            stand.connector.delete()


def verbs(stand: Stand) -> None:
    """Do each verb in its turn."""
    with stand.window("none of them"):
        time.sleep(CALM_SECONDS)
    with stand.window("pause"):
        stand.verb("pause", ONE)
        time.sleep(PAUSE_SECONDS)
    with stand.window("resume"):
        stand.verb("resume", ONE)
        time.sleep(PAUSE_SECONDS)
    with stand.window("replay"):
        stand.verb("replay", ONE, "--from", "earliest")
    with stand.window("backfill"):
        stand.verb("backfill", ONE)
    with stand.window("resync"):
        resync(stand)
    with stand.window("remove"):
        stand.verb("remove", ONE, "--yes")
        time.sleep(PAUSE_SECONDS)
    with stand.window("apply again"):
        assert stand.bench.verb("apply", "tables", "--yes")[0] == 0
        time.sleep(PAUSE_SECONDS)


def resync(stand: Stand) -> None:
    """Lose the slot, while rows go on to change; then have a connector with a new one, and take the table anew."""
    prefix = stand.connector.prefix
    stand.connector.delete()
    time.sleep(PAUSE_SECONDS / 2)
    stand.connector, _ = connect(
        stand.database.parts, stand.database.name, stand.bench.installation.kafka, **{"topic.prefix": prefix}
    )
    stand.verb("resync", ONE)


def equal(stand: Stand, shape: Shape) -> list[Verdict]:
    """Wait until the one table is its source in Redis and in the lake; return what differs in the end."""
    rows, installation = stand.database.rows(), stand.bench.installation
    (view,) = ViewShape.all_of(shape)
    found: list[Verdict] = []

    def looked() -> bool:
        with stand.database.parts.redis.client() as client:
            stored = read_stored(client, installation.key_prefix)
        in_lake = read_lake(installation.warehouse, NAMESPACE, shape)
        found[:] = [check_view(view, stored, rows, buckets=BUCKETS), check_latest(shape, in_lake, rows)]
        return all(verdict.holds for verdict in found)

    try:
        wait_until(looked, f"{ONE} is its source", deadline_seconds=DEADLINE_SECONDS, poll_seconds=2.0)
    except TimeoutError:
        print(f"not equal after {DEADLINE_SECONDS:.0f} s")
    return found


def whole(stand: Stand, others: Sequence[str]) -> list[Verdict]:
    """Check that of the other tables every row came out once, in order."""
    found = [came_out(stand.bench, name, rows=stand.bench.source.count(name)) for name in others]
    verdict = Verdict("the other tables", {"tables": len(found), "rows": sum(map(stand.bench.source.count, others))})
    for each in found:
        if not each.holds:
            verdict.differ(str(each))
    verdict.at_least("rows", 1)
    return [verdict]


def undisturbed(stand: Stand, others: Sequence[str]) -> list[Verdict]:
    """Say how fresh the others were in each verb's time, and in the calm before."""
    taken = freshness(stand.bench.installation, others)
    verdicts = []
    for name, began, ended in stand.windows:
        in_it = [late for at, late in taken if began <= at < ended]
        verdict = Verdict(f"freshness of the others, {name}", {"rows": len(in_it)})
        verdict.at_least("rows", ROWS_MIN)
        if len(in_it) >= ROWS_MIN:
            cuts = quantiles(in_it, n=100)
            verdict.figures |= {"ms p50": round(cuts[49]), "p99": round(cuts[98]), "worst": round(max(in_it))}
        verdicts.append(verdict)
    return verdicts


def freshness(installation: Installation, tables: Sequence[str]) -> list[tuple[float, float]]:
    """Return of each change when its row was committed (s), and how much later (ms) its record was written."""
    consumer = Consumer(
        {"bootstrap.servers": installation.kafka, "group.id": "freshness", "isolation.level": "read_committed",
         "enable.partition.eof": True, "enable.auto.commit": False}
    )  # fmt: skip
    topics = {installation.changes_topic(table) for table in tables}
    known = consumer.list_topics(timeout=30).topics
    places = [Place(topic, number, 0) for topic in topics for number in known[topic].partitions]
    consumer.assign(places)
    found, ends = [], 0
    while ends < len(places):
        for message in consumer.consume(5_000, timeout=5.0):
            if message.error() is not None:
                ends += 1
                continue
            said = datetime.fromisoformat(json.loads(message.value() or b"{}")["ts"]).timestamp()
            found.append((said, message.timestamp()[1] - said * 1000))
    consumer.close()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the services, prove, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--tables", type=int, default=150)
    parser.add_argument("--per-second", type=float, default=300.0)
    options = parser.parse_args(arguments)
    with services_of_its_own() as (services, folder):
        kafka = services.kafka()
        parts = RealParts(kafka, services.redis(private=True), services.postgres(), services.connect(kafka))
        require(*prove(parts, folder, tables=options.tables, per_second=options.per_second, seed=options.seed))


if __name__ == "__main__":
    main()
