"""A thousand tenants of a few tables each, from one template: what registering and running them takes.

    python -m tests.proof.thousand_tenants --tenants 1000 --records 20

Printed are the time of each verb, of the workers' start until they have all partitions, how fast they take so many
records of each table, what they hold in memory, and how much of a processor they need with nothing to do. It fails
where a record does not come out, or a worker ends.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from confluent_kafka import Producer

from connectors.transport.settings import ClientSettings
from connectors.transport.topics import TopicAdmin, TopicSettings
from headgate.cli.codes import ExitCode
from tests.proof.by_hand import services_of_its_own
from tests.proof.workers_by_hand import Workers, change, memory_mb, workers_in
from tests.services import Kafka, RedisServer

TABLES = ("patients", "visits", "results")
TAKEN = {"normalize": "read", "features": "changes"}  # the stages, and what each counts
STAGES = tuple(TAKEN)
QUIET_SECONDS, IDLE_SECONDS, LOOK_SECONDS = 900.0, 20.0, 1.0
BROKER = {"log.segment.bytes": "1048576", "log.index.size.max.bytes": "4096"}  # of thousands of topics on a small disk


def prove(kafka: Kafka, redis: RedisServer, folder: Path, *, tenants: int, records: int) -> None:
    """Register them, run both stages one after the other, and print what it took."""
    names = [f"ward-{number}" for number in range(tenants)]
    topics = [f"{name}.{table}" for name in names for table in TABLES]
    admin = TopicAdmin(ClientSettings(bootstrap=kafka.address))
    with workers_in(folder) as workers:
        workers.configure(kafka.address, redis.address)
        write_templates(workers.folder / "templates")
        began = time.monotonic()
        admin.create_all(dict.fromkeys(topics, TopicSettings(partitions=1)))
        print(f"{len(topics):,} source topics made in {time.monotonic() - began:.1f} s", flush=True)
        template = ("--template", "templates", "--into", "tables", "--apply")
        said(workers, f"tenants add, {tenants:,} of them", "tenants", "add", *names, *template)
        said(workers, "the same again", "tenants", "add", *names, *template)
        said(workers, "one more", "tenants", "add", "one-more", *template)
        for line in ("tenants list", "tables list", "tenants rights ward-7 --role worker"):
            said(workers, line, *line.split(), "--json")
        admin.create_all({f"one-more.{table}": TopicSettings(partitions=1) for table in TABLES})
        for stage in STAGES:
            run(workers, stage, kafka, topics, records)
        said(workers, "status --sums", "status", "--sums", "--json", code=ExitCode.UNAVAILABLE)  # two stages do not run


def write_templates(folder: Path) -> None:
    """Write a spec for each table, with a view and a rule."""
    folder.mkdir()
    for table in TABLES:
        document = {
            "table": table, "tenant": "{tenant}", "topics": ["{tenant}." + table], "key": ["id"],
            "columns": {"id": "long", "name": "string", "note": "string", "at": "timestamptz"},
            "features": [{"view": table, "entity": "row", "columns": ["name", "note"]}],
            "rules": [{"rule": "any", "when": "after.name = 'x'"}],
        }  # fmt: skip
        (folder / f"{table}.yaml").write_text(json.dumps(document))


def said(workers: Workers, what: str, *arguments: str, code: int = ExitCode.OK) -> None:
    """Run a verb and print what it took."""
    printed, seconds, processor = workers.verb(*arguments, code=code)
    print(f"{what}: {seconds:.1f} s, {processor:.1f} s of the processor, {len(printed):,} bytes printed", flush=True)


def run(workers: Workers, stage: str, kafka: Kafka, topics: Sequence[str], records: int) -> None:
    """Start a stage, see it have all partitions and take what is there, and stay idle."""
    began, wanted = time.monotonic(), len(topics) + len(TABLES)
    process = workers.start(stage)
    ready = wait(workers, stage, wanted) - began
    print(f"{stage}: all of {wanted:,} tables are read {ready:.1f} s after the start", flush=True)
    count = records * len(topics)
    if stage == STAGES[0]:
        began = time.monotonic()
        fill(kafka.address, topics, records)
    took = wait(workers, stage, wanted, records=count) - began
    print(f"{stage}: {count:,} records in {took:.1f} s, {count / took:,.0f}/s; {memory_mb(process):.0f} MB", flush=True)
    before, since = used(process), time.monotonic()
    time.sleep(IDLE_SECONDS)
    share = (used(process) - before) / (time.monotonic() - since)
    print(f"{stage}: idle, {100 * share:.0f} % of a processor, {memory_mb(process):.0f} MB", flush=True)


def wait(workers: Workers, stage: str, tables: int, *, records: int = 0) -> float:
    """Return when a stage reads all tables, and has taken so many records of them."""
    ends_at = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < ends_at:
        status = workers.status(stage) or {"state": "starting", "tables": []}
        lags = [row["lag"] for row in status["tables"]]
        is_read = status["state"] == "running" and len(lags) >= tables and None not in lags
        taken = status.get("counters", {}).get(TAKEN[stage], 0)
        if is_read and taken >= records and not (records and any(lags)):
            return time.monotonic()
        time.sleep(LOOK_SECONDS)
    raise AssertionError(f"{stage}: {len(lags)} of {tables} tables, {sum(filter(None, lags))} records left")


def fill(bootstrap: str, topics: Sequence[str], records: int) -> None:
    """Write so many records to each topic."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "compression.type": "lz4"})
    columns = {"name": "somebody", "note": "y" * 50, "at": "2026-01-01T00:00:00Z"}
    for topic in topics:
        for row in range(records):
            producer.produce(topic, change(topic.rpartition(".")[2], row, columns), b'{"id":%d}' % row, 0)
        producer.poll(0)
    assert producer.flush(300) == 0, "every record was delivered"


def used(process: psutil.Process) -> float:
    """Return how much of the processor a process has used, in seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the services, prove, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.prog = "python -m tests.proof.thousand_tenants"
    parser.add_argument("--tenants", type=int, default=1_000)
    parser.add_argument("--records", type=int, default=20, help="of each table (%(default)d)")
    options = parser.parse_args(arguments)
    with services_of_its_own() as (services, folder):
        kafka, redis = services.kafka(BROKER, private=True), services.redis(private=True)
        prove(kafka, redis, folder, tenants=options.tenants, records=options.records)


if __name__ == "__main__":
    main()
