"""Real PostgreSQL → Debezium → Kafka → Headgate: the four ends against the source, also while stages are killed.

python -m tests.proof.end_to_end --changes 20000 --kills 10
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.oracles import Verdict, require
from tests.proof.by_hand import parser_of, services_of_its_own
from tests.services import (
    Connect,
    Kafka,
    Postgres,
    PostgresConnector,
    RedisServer,
    register_postgres_connector,
    wait_until,
)
from tests.workloads.ends import Ends, wait_quiet
from tests.workloads.installation import SECRET, STAGES, Installation, shapes_for
from tests.workloads.loader import Loader
from tests.workloads.model import KEYS, Model
from tests.workloads.postgres_player import PostgresPlayer
from tests.workloads.webhook import Webhook

PARTITIONS = 4
ROWS_BEFORE = 25
QUIET_SECONDS = 180.0
CALM_CHANGES_PER_SECOND = 1_000.0
SLOW_CHANGES_PER_SECOND = 200.0
SEGMENT_SECONDS = 5.0  # how long the load lasts during which each stage is killed once


@dataclass(frozen=True, slots=True)
class RealParts:
    """The services of a proof."""

    kafka: Kafka
    redis: RedisServer
    postgres: Postgres
    connect: Connect


@dataclass(frozen=True, slots=True)
class Running:
    """A proof under way, for what is tried beside it."""

    installation: Installation
    connector: PostgresConnector
    model: Model
    dsn: str


Beside = Callable[[Running], None]


def prove(
    parts: RealParts,
    folder: Path,
    *,
    changes: int,
    kills: int,
    seed: int,
    again: bool = False,
    under_load: Beside | None = None,
    afterwards: Beside | None = None,
) -> list[Verdict]:
    """Run the whole way with `changes` committed changes, each stage killed `kills` times meanwhile; ask every oracle.

    With `again`, all stages are started once more afterwards, and nothing may change. `under_load` is called while
    changes are made, without kills; `afterwards` when all stages have ended and the oracles have looked.
    """
    print(f"seed {seed}, {changes:,} changes, {kills} kills of each of {len(STAGES)} stages")
    database = f"proof_{uuid.uuid4().hex[:10]}"
    dsn = parts.postgres.create_database(database)
    model, player = Model(seed), PostgresPlayer(parts.postgres, database)
    player.play(model.initial(ROWS_BEFORE))
    connector = register_postgres_connector(
        parts.connect, parts.postgres, [f"public.{t}" for t in KEYS], database=database, partitions=PARTITIONS
    )
    try:
        connector.wait_streaming()
        shapes = shapes_for(connector.prefix, KEYS)
        with (
            Webhook(SECRET) as webhook,
            Installation(folder, parts.kafka.address, parts.redis.address, webhook.url, shapes) as installation,
        ):
            began = time.monotonic()
            installation.start()
            print(f"all stages run after {time.monotonic() - began:.1f} s")
            running = Running(installation, connector, model, dsn)
            if under_load is None:
                play(installation, player, model, changes=changes, kills=kills, seed=seed)
            else:
                play_beside(player, model, partial(under_load, running), changes=changes)
            records = sum(player.ledger.records.values())
            wait_quiet(installation, records=records, deadline_seconds=QUIET_SECONDS)
            print(f"quiet after {time.monotonic() - began:.1f} s; {len(installation.kills)} processes killed")
            print(f"stopped in {installation.stop():.1f} s")
            if again:
                installation.start()
                wait_quiet(installation, records=records, deadline_seconds=QUIET_SECONDS)
                installation.stop()
            verdicts = look(installation, parts.redis, webhook, player, model, changes)
            if afterwards is not None:
                afterwards(running)
            return verdicts
    finally:
        player.close()
        connector.delete()


def play(
    installation: Installation, player: PostgresPlayer, model: Model, *, changes: int, kills: int, seed: int
) -> None:
    """Commit `changes` changes; in each of `kills` segments of them, kill every stage once, in any order."""
    chance = random.Random(seed)
    segment = changes // (kills + 1)
    pace = segment / SEGMENT_SECONDS if kills else CALM_CHANGES_PER_SECOND
    with Loader(player.do, model.steps(changes), changes_per_second=pace) as loader:
        for number in range(kills):
            for stage in STAGES:
                works, what = partial(installation.works, stage), f"{stage} has partitions before kill {number + 1}"
                wait_until(works, what, deadline_seconds=90)
            loader.allow((number + 1) * segment)
            moments = sorted(chance.uniform(0.1, 0.9) for _ in STAGES)
            for moment, stage in zip(moments, chance.sample(STAGES, len(STAGES)), strict=True):
                loader.wait_committed(round((number + moment) * segment))
                assert not loader.finished(), "a stage is killed while changes are being made"
                installation.kill_stage(stage)


def play_beside(player: PostgresPlayer, model: Model, beside: Callable[[], None], *, changes: int) -> None:
    """Commit `changes` changes, slowly, while something else is tried."""
    with Loader(player.do, model.steps(changes), changes_per_second=SLOW_CHANGES_PER_SECOND) as loader:
        loader.allow(changes)
        loader.wait_committed(changes // 10)
        beside()


def look(
    installation: Installation, redis: RedisServer, webhook: Webhook, player: PostgresPlayer, model: Model, changes: int
) -> list[Verdict]:
    """Read the four ends and the source, and ask every oracle."""
    shapes = installation.shapes
    rows = {table: player.rows(shape) for table, shape in shapes.items()}
    for table in shapes:
        assert model.rows[table] == rows[table], f"{table}: the model is not the database"
    ends = Ends(installation, redis, webhook)
    ends.read_topics()
    verdicts = ends.verdicts(rows, player.ledger.events, changes_at_least=changes)
    unavailable = Verdict(
        "the workload", {"unavailable values": sum(len(c.unavailable) for c in ends.changes["notes"])}
    )
    unavailable.figures["key changes"] = sum(event.old_key is not None for event in player.ledger.events)
    unavailable.figures["alerts"] = len(ends.alerts())
    unavailable.figures["moves between wards"] = sum(alert.rule == "ward-changed" for alert in ends.alerts())
    for figure in list(unavailable.figures):
        unavailable.at_least(figure, changes // 200)
    return [*verdicts, unavailable]


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the services, prove, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--changes", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument(
        "--again", action="store_true", help="start all stages once more at the end: nothing may change"
    )
    options = parser.parse_args(arguments)
    with services_of_its_own() as (services, folder):
        kafka = services.kafka()
        parts = RealParts(kafka, services.redis(private=True), services.postgres(), services.connect(kafka))
        changes, kills, seed = options.changes, options.kills, options.seed
        require(*prove(parts, folder, changes=changes, kills=kills, seed=seed, again=options.again))


if __name__ == "__main__":
    main()
