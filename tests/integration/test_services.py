"""The services of the tests are real, and can be stopped, killed and frozen without losing what they keep."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
import s3fs
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.services import (
    S3,
    Connect,
    Kafka,
    MariaDB,
    Postgres,
    RedisServer,
    ServiceFailed,
    Services,
    register_mariadb_connector,
    register_postgres_connector,
    wait_until,
)
from tests.services.debezium import WITH_SCHEMA_BLOCK


def new_topic(kafka: Kafka, partitions: int = 1) -> str:
    """A fresh topic."""
    name = f"services-{uuid.uuid4().hex[:10]}"
    admin = AdminClient({"bootstrap.servers": kafka.address})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
    return name


def produce(kafka: Kafka, topic: str, values: list[bytes]) -> None:
    """Produce and wait until each is acknowledged by all."""
    producer = Producer({"bootstrap.servers": kafka.address, "acks": "all"})
    failures: list[Any] = []
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error) if error else None)
    assert producer.flush(30) == 0, "every record was acknowledged"
    assert not failures


def consume(kafka: Kafka, topic: str, count: int) -> list[bytes]:
    """The first values of a topic, `count` at least, once it is there."""
    return consume_until(kafka, topic, lambda values: len(values) >= count)


def consume_until(kafka: Kafka, topic: str, enough: Callable[[list[bytes]], bool]) -> list[bytes]:
    """The values of a topic from its beginning, read until they are enough."""
    kafka.wait_topic(topic)
    consumer = Consumer(
        {"bootstrap.servers": kafka.address, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    values: list[bytes] = []

    def read_on() -> bool:
        for message in consumer.consume(100, timeout=0.5):
            assert message.error() is None, message.error()
            values.append(message.value() or b"")
        return enough(values)

    try:
        wait_until(read_on, f"enough records of {topic}", deadline_seconds=40)
    finally:
        consumer.close()
    return values


def row_id(value: bytes) -> int:
    """The id of the row after a change."""
    identifier = json.loads(value)["after"]["id"]
    assert isinstance(identifier, int)
    return identifier


def test_kafka_gives_back_what_was_produced(kafka: Kafka) -> None:
    """Records come out as they went in."""
    topic = new_topic(kafka)
    values = [str(number).encode() for number in range(100)]

    produce(kafka, topic, values)

    assert values == consume(kafka, topic, 100)


def test_a_stopped_a_killed_and_a_frozen_broker_keep_their_records(private_kafka: Callable[..., Kafka]) -> None:
    """The port and what was acknowledged outlive a restart, a crash and a freeze."""
    broker = private_kafka()
    address, topic = broker.address, new_topic(broker)
    produce(broker, topic, [b"before the restart"])
    broker.restart()
    produce(broker, topic, [b"before the crash"])
    broker.kill()
    stopped = broker.answers()
    broker.start()
    broker.pause()
    frozen = broker.answers()
    broker.resume()
    wait_until(broker.answers, "the broker goes on")
    produce(broker, topic, [b"after all"])

    assert (False, False) == (stopped, frozen)
    assert address == broker.address
    assert [b"before the restart", b"before the crash", b"after all"] == consume(broker, topic, 3)


def test_redis_keeps_a_value(redis_server: RedisServer) -> None:
    """A hash that was written is read."""
    key = f"services:{uuid.uuid4().hex}"
    with redis_server.client() as client:
        client.hset(key, "name", "Ada")

        assert {b"name": b"Ada"} == client.hgetall(key)
        client.delete(key)


def test_a_killed_redis_has_what_was_dumped_and_nothing_else(private_redis: Callable[[], RedisServer]) -> None:
    """A fault test can lose the last second of Redis exactly."""
    server = private_redis()
    with server.client() as client:
        client.set("dumped", "1")
        server.save()
        client.set("lost", "1")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("dumped")
    server.start()

    with server.client() as client:
        assert [b"dumped"] == client.keys()
    server.restart()
    with server.client() as client:
        assert [b"dumped"] == client.keys()


def test_a_row_of_postgres_becomes_a_record_of_debezium(kafka: Kafka, postgres: Postgres, connect: Connect) -> None:
    """The whole way of a source: a snapshot row, then a streamed update with its position."""
    name = f"services_{uuid.uuid4().hex[:10]}"
    postgres.create_database(name)
    with postgres.connect(name) as connection:
        connection.execute("create table patients (id int primary key, name text)")
        connection.execute("insert into patients values (42, 'Ada')")
        connector = register_postgres_connector(connect, postgres, ["public.patients"], database=name)
        connector.wait_streaming()
        connection.execute("update patients set name = 'Ada Lovelace' where id = 42")
        read, update = (json.loads(value) for value in consume(kafka, connector.topic("public.patients"), 2))
        connector.delete()
        slots = connection.execute("select 1 from pg_replication_slots where slot_name = %s", [connector.slot])

        assert [] == slots.fetchall()
    assert ("r", {"id": 42, "name": "Ada"}) == (read["op"], read["after"])
    assert ("u", {"id": 42, "name": "Ada Lovelace"}) == (update["op"], update["after"])
    assert update["source"]["lsn"] > read["source"]["lsn"]


def test_a_row_of_mariadb_becomes_a_record_of_debezium(kafka: Kafka, mariadb: MariaDB, connect: Connect) -> None:
    """A snapshot row, a streamed update, and a change of the table, each with its schema block; then no more."""
    name = f"services_{uuid.uuid4().hex[:10]}"
    mariadb.create_database(name)
    with closing(mariadb.connect(name)) as connection, connection.cursor() as cursor:
        cursor.execute("create table patients (id int primary key, name text)")
        cursor.execute("insert into patients values (42, 'Ada')")
        connector = register_mariadb_connector(
            connect, mariadb, [f"{name}.patients"], kafka_address=kafka.address, database=name,
            overrides=WITH_SCHEMA_BLOCK,
        )  # fmt: skip
        connector.wait_streaming()
        cursor.execute("update patients set name = 'Ada Lovelace' where id = 42")
        cursor.execute("alter table patients add column born date")
        cursor.execute("update patients set born = '1815-12-10' where id = 42")
        read, named, born = (json.loads(value) for value in consume(kafka, connector.topic(f"{name}.patients"), 3))
        changes = consume_until(kafka, connector.prefix, lambda values: any(b"add column" in value for value in values))
        connector.delete()
        wait_until(lambda: connector.name not in connect.request("GET", "/connectors"), "the connector is gone")

    assert ("r", {"id": 42, "name": "Ada"}) == (read["payload"]["op"], read["payload"]["after"])
    assert ("u", {"id": 42, "name": "Ada Lovelace"}) == (named["payload"]["op"], named["payload"]["after"])
    assert {"id": 42, "name": "Ada Lovelace", "born": -56270} == born["payload"]["after"]
    assert born["payload"]["source"]["pos"] > named["payload"]["source"]["pos"]
    assert "alter table patients add column born date" == json.loads(changes[-1])["payload"]["ddl"]


def test_a_connector_goes_on_after_its_worker_was_killed(services: Services, kafka: Kafka, postgres: Postgres) -> None:
    """Connectors and offsets live in Kafka: a new worker takes them up."""
    connect = services.connect(kafka, private=True)
    name = f"services_{uuid.uuid4().hex[:10]}"
    postgres.create_database(name)
    with postgres.connect(name) as connection:
        connection.execute("create table readings (id int primary key)")
        connector = register_postgres_connector(connect, postgres, ["public.readings"], database=name)
        connector.wait_streaming()
        connection.execute("insert into readings values (1)")
        topic = connector.topic("public.readings")
        assert [1] == [row_id(value) for value in consume(kafka, topic, 1)]
        connect.kill()
        connection.execute("insert into readings values (2)")
        connect.start()
        connector.wait_streaming()
        connection.execute("insert into readings values (3)")
        # Debezium sends at least once: row 1 may come again, if the worker was killed before it noted its offset.
        values = consume_until(kafka, topic, lambda values: {2, 3} <= {row_id(value) for value in values})
        connector.delete()
    connect.close()

    assert {1, 2, 3} == {row_id(value) for value in values}


def test_postgres_keeps_its_rows_over_a_restart_and_a_crash(services: Services) -> None:
    """The source of a fault test can go away and come back."""
    server = services.postgres(private=True)
    with server.connect() as connection:
        connection.execute("create table kept (id int primary key)")
        connection.execute("insert into kept values (1)")
    server.restart()
    with server.connect() as connection:
        connection.execute("insert into kept values (2)")
    server.kill()
    server.start()

    with server.connect() as connection:
        assert [(1,), (2,)] == connection.execute("select id from kept order by id").fetchall()
    server.close()


def test_s3_gives_back_what_was_put_also_after_a_restart(services: Services, s3: S3) -> None:
    """An object is read as it was written, by the library of the lake."""
    bucket = f"services-{uuid.uuid4().hex[:10]}"
    files = s3fs.S3FileSystem(**s3.storage_options())
    files.mkdir(bucket)
    files.pipe_file(f"{bucket}/a/b.bin", b"x" * 300_000)

    assert b"x" * 300_000 == files.cat_file(f"{bucket}/a/b.bin")
    assert [f"{bucket}/a/b.bin"] == files.find(bucket)
    if s3.is_ours:
        s3.restart()
        files.invalidate_cache()
        assert 300_000 == files.size(f"{bucket}/a/b.bin")
    files.rm(bucket, recursive=True)


def test_an_address_of_the_environment_is_used_and_never_stopped(
    services: Services, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others run is not ours to stop."""
    monkeypatch.setenv("HEADGATE_TEST_REDIS", redis_server.address)

    given = services.redis()

    assert redis_server.address == given.address
    assert not given.is_ours
    with pytest.raises(ServiceFailed, match="not ours to stop"):
        given.stop()


def test_a_service_that_cannot_start_shows_its_log(services: Services) -> None:
    """The end of the log is in the error, so that nobody has to look for it."""
    with pytest.raises(ServiceFailed, match=r"(?s)kafka.*no.such.role"):
        services.kafka({"process.roles": "no.such.role"}, private=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_services_end_when_the_tests_are_killed(number: signal.Signals, tmp_path: Path) -> None:
    """No process and no folder outlives the tests, however they end."""
    program = (
        "import pathlib, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tests.services import Services\n"
        "services = Services(pathlib.Path(sys.argv[1]))\n"
        "print(services.redis(private=True).runner.pid, services.postgres(private=True).runner.pid, flush=True)\n"
        "signal.pause()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as tests:
        assert tests.stdout is not None
        started = [psutil.Process(int(pid)) for pid in tests.stdout.readline().split()]
        tests.send_signal(number)

    gone, alive = psutil.wait_procs(started, timeout=20)

    assert [] == alive
    assert 2 == len(gone)
