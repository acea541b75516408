"""Redis emptied under load, with a log that has lost its beginning: how long until the lake has brought all back.

python -m tests.proof.rebuild --entities 200000
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.oracles import Verdict, require
from tests.proof.by_hand import parser_of, services_of_its_own
from tests.services import Kafka, RedisServer, wait_until
from tests.workloads.debezium_player import DebeziumPlayer
from tests.workloads.ends import Ends, wait_quiet
from tests.workloads.installation import SECRET, Installation, shapes_for
from tests.workloads.loader import Loader
from tests.workloads.model import KEYS, Model
from tests.workloads.webhook import Webhook

CHANGES_PER_SECOND = 100.0
QUIET_SECONDS = 1_200.0
REBUILD_SECONDS = 900.0
STAGE = "features"


def prove(
    kafka: Kafka,
    redis: RedisServer,
    folder: Path,
    *,
    entities: int,
    changes: int,
    kill: bool,
    seed: int,
    workers: int = 1,
) -> list[Verdict]:
    """Fill `entities`, shorten the logs, empty Redis while `changes` come; ask every oracle.

    With `kill` a worker that fills Redis again, one of `workers`, is killed in the middle of it.
    """
    print(f"seed {seed}, {entities:,} entities, {CHANGES_PER_SECOND:g} changes/s meanwhile, {workers} workers")
    prefix = f"rebuild{uuid.uuid4().hex[:8]}"
    shapes = shapes_for(prefix, KEYS)
    player = DebeziumPlayer(kafka.address, prefix, shapes)
    model, partitions = Model(seed), player.partitions * len(shapes)
    arguments = ("--workers", f"{STAGE}={workers}")
    with (
        Webhook(SECRET) as webhook,
        Installation(folder, kafka.address, redis.address, webhook.url, shapes, arguments=arguments) as installation,
    ):
        installation.start()
        began = time.monotonic()
        player.play(model.initial(-(-entities // len(KEYS))))
        wait_quiet(installation, records=player.produced, deadline_seconds=QUIET_SECONDS)
        print(f"{player.produced:,} records were everywhere after {time.monotonic() - began:.1f} s")
        with redis.client() as client:
            before = client.info("memory")["used_memory_human"]
        forgotten = shorten_logs(kafka.address, [installation.changes_topic(table) for table in shapes])
        with Loader(player.do, model.steps(changes), changes_per_second=CHANGES_PER_SECOND) as loader:
            loader.allow(2**62)
            loader.wait_committed(round(CHANGES_PER_SECOND))
            redis.flush()
            began = time.monotonic()
            if kill:
                pid = wait_until(
                    lambda: _filling(installation), "a table is being filled", deadline_seconds=60, poll_seconds=0.02
                )
                installation.kill_worker(STAGE, pid)
            wait_until(
                lambda: _is_rebuilt(installation, partitions, workers),
                "all is there again",
                deadline_seconds=REBUILD_SECONDS,
            )
            print(
                f"complete again after {time.monotonic() - began:.1f} s; {forgotten:,} records gone from the logs; "
                f"{_counter(installation, 'rebuilt_rows'):,} rows from the lake; Redis held {before}; "
                f"under load to the end: {not loader.finished()}"
            )
        player.flush()
        wait_quiet(installation, records=player.produced, deadline_seconds=QUIET_SECONDS)
        installation.stop()
        return Ends(installation, redis, webhook).verdicts_of_redis(model.rows)


def shorten_logs(bootstrap: str, topics: Sequence[str]) -> int:
    """Delete the first half of each partition of `topics`, as retention would; return how many offsets that were."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    found = admin.list_topics(timeout=30).topics
    places = [TopicPartition(topic, number) for topic in topics for number in found[topic].partitions]
    ends = admin.list_offsets({place: OffsetSpec.latest() for place in places})
    half = [TopicPartition(place.topic, place.partition, end.result(30).offset // 2) for place, end in ends.items()]
    for done in admin.delete_records(half).values():
        done.result(30)
    return sum(place.offset for place in half)


def _filling(installation: Installation) -> int:
    """Return the process of a worker that is filling a table; 0: none is."""
    for status in installation.statuses(STAGE):
        if any((table.get("pending") or {}).get("done", 0) > 0 for table in status["tables"]):
            return int(status["pid"])
    return 0


def _is_rebuilt(installation: Installation, partitions: int, workers: int) -> bool:
    """Tell whether all workers are there, have all partitions, and nothing of them is pending."""
    assert installation.is_running(), f"`headgate run` ended:\n{installation.log_tail()}"
    statuses = installation.statuses(STAGE)
    tables = [table for status in statuses for table in status["tables"]]
    assert not any(table["hint"] for table in tables), tables  # a pause that waits for somebody has one
    settled = not any(table["pending"] or table["paused"] for table in tables)
    whole = settled and sum(table["partitions"] for table in tables) == partitions
    running = [status["state"] for status in statuses] == ["running"] * workers
    return whole and running and _counter(installation, "rebuilds") >= 1


def _counter(installation: Installation, name: str) -> int:
    return sum(int(status["counters"].get(name, 0)) for status in installation.statuses(STAGE))


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the services, prove, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--entities", type=int, default=200_000)
    parser.add_argument("--changes", type=int, default=12_000)
    parser.add_argument("--workers", type=int, default=1, help="of FEATURES")
    parser.add_argument("--kill", action="store_true", help="kill the worker in the middle of it")
    options = parser.parse_args(arguments)
    with services_of_its_own() as (services, folder):
        kafka, redis = services.kafka(private=True), services.redis(private=True)
        entities, changes, kill, seed = options.entities, options.changes, options.kill, options.seed
        workers = options.workers
        require(*prove(kafka, redis, folder, entities=entities, changes=changes, kill=kill, seed=seed, workers=workers))


if __name__ == "__main__":
    main()
