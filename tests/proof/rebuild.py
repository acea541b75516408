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
    kafka: Kafka, redis: RedisServer, folder: Path, *, entities: int, changes: int, kill: bool, seed: int
) -> list[Verdict]:
    """Fill `entities`, shorten the logs, empty Redis while `changes` come; ask every oracle.

    With `kill` the worker that fills Redis again is killed in the middle of it.
    """
    print(f"seed {seed}, {entities:,} entities, {CHANGES_PER_SECOND:g} changes/s meanwhile")
    prefix = f"rebuild{uuid.uuid4().hex[:8]}"
    shapes = shapes_for(prefix, KEYS)
    player = DebeziumPlayer(kafka.address, prefix, shapes)
    model = Model(seed)
    with (
        Webhook(SECRET) as webhook,
        Installation(folder, kafka.address, redis.address, webhook.url, shapes) as installation,
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
                wait_until(lambda: _pending(installation), "a table is pending", deadline_seconds=60, poll_seconds=0.02)
                installation.kill_stage(STAGE)
            wait_until(lambda: _is_rebuilt(installation), "all is there again", deadline_seconds=REBUILD_SECONDS)
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


def _pending(installation: Installation) -> bool:
    tables = installation.status(STAGE).get("tables", [])
    return any((table.get("pending") or {}).get("done", 0) > 0 for table in tables)


def _is_rebuilt(installation: Installation) -> bool:
    assert installation.is_running(), f"`headgate run` ended:\n{installation.log_tail()}"
    status = installation.status(STAGE)
    tables = status.get("tables", [])
    assert not any(table["hint"] for table in tables), tables  # a pause that waits for somebody has one
    whole = len(tables) == len(KEYS) and not any(table["pending"] or table["paused"] for table in tables)
    return whole and _counter(installation, "rebuilds") >= 1 and status.get("state") == "running"


def _counter(installation: Installation, name: str) -> int:
    return int(installation.status(STAGE).get("counters", {}).get(name, 0))


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the services, prove, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--entities", type=int, default=200_000)
    parser.add_argument("--changes", type=int, default=12_000)
    parser.add_argument("--kill", action="store_true", help="kill the worker in the middle of it")
    options = parser.parse_args(arguments)
    with services_of_its_own() as (services, folder):
        kafka, redis = services.kafka(private=True), services.redis(private=True)
        entities, changes, kill, seed = options.entities, options.changes, options.kill, options.seed
        require(*prove(kafka, redis, folder, entities=entities, changes=changes, kill=kill, seed=seed))


if __name__ == "__main__":
    main()
