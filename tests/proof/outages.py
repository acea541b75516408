"""Broker away, Redis back without its last second, webhook away: what happened in each, and the same oracles after.

python -m tests.proof.outages --seconds 60
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.oracles import Verdict, require
from tests.proof.by_hand import parser_of, services_of_its_own
from tests.services import Kafka, RedisServer, wait_until
from tests.workloads.debezium_player import DebeziumPlayer
from tests.workloads.ends import Ends, wait_quiet
from tests.workloads.installation import SECRET, STAGES, Installation, shapes_for
from tests.workloads.loader import Loader
from tests.workloads.model import KEYS, Model
from tests.workloads.webhook import Webhook

CHANGES_PER_SECOND = 150.0
QUIET_SECONDS = 300.0
LOST_CHANGES = 150  # what Redis loses: a second of the load


@dataclass(slots=True)
class Stand:
    """An installation under load, with services that can be taken away."""

    kafka: Kafka
    redis: RedisServer
    webhook: Webhook
    installation: Installation
    loader: Loader
    states: dict[str, set[str]] = field(default_factory=dict)

    def watch(self, until: Callable[[], bool], what: str, *, deadline_seconds: float = 120.0) -> None:
        """Wait for a condition and note which stages said meanwhile that they wait, and for what."""

        def look() -> bool:
            for stage in STAGES:
                status = self.installation.status(stage)
                if status.get("state") == "waiting" and status.get("last_error"):
                    self.states.setdefault(stage, set()).add(status["last_error"]["message"][:120])
            return until()

        wait_until(look, what, deadline_seconds=deadline_seconds, poll_seconds=0.2)

    def told(self) -> dict[str, set[str]]:
        """Return what stages said since the last call."""
        said, self.states = self.states, {}
        return said


Outage = Callable[[Stand, float], dict[str, object]]


def webhook_away(stand: Stand, seconds: float) -> dict[str, object]:
    """Nobody listens for `seconds`; then alerts that wait come in."""
    before = len(stand.webhook.deliveries)
    stand.webhook.down()
    _let_pass(stand, seconds)
    stand.webhook.up()
    began = time.monotonic()
    stand.watch(lambda: len(stand.webhook.deliveries) > before, "alerts come in again", deadline_seconds=180)
    return {"first alert after its return, seconds": round(time.monotonic() - began, 1)}


def redis_lost_a_second(stand: Stand, seconds: float) -> dict[str, object]:
    """Redis crashes and comes back as it was before the last changes; `seconds` is not used."""
    stand.redis.save()
    client = stand.redis.client()
    with client:
        writes = int(client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))
        stand.loader.wait_committed(stand.loader.committed + LOST_CHANGES)

        def written() -> bool:
            return int(client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)) > writes + 3

        stand.watch(written, "rows are written that will be lost")
        keys_lost = int(client.info("persistence")["rdb_changes_since_last_save"])
    stand.redis.kill()
    stand.redis.start()
    began = time.monotonic()
    assert keys_lost > 0, "something was lost"
    stand.watch(lambda: stand.installation.status("features").get("state") == "running", "features runs again")
    return {
        "writes lost by Redis": keys_lost,
        "features running again after, seconds": round(time.monotonic() - began, 1),
    }


def broker_away(stand: Stand, seconds: float) -> dict[str, object]:
    """The broker is stopped for `seconds` and starts again."""
    stand.kafka.stop()
    _let_pass(stand, seconds)
    stand.kafka.start()
    began = time.monotonic()
    for stage in STAGES:
        stand.watch(partial(_goes_on, stand.installation, stage), f"{stage} goes on")
    return {"all stages on again after, seconds": round(time.monotonic() - began, 1)}


def _goes_on(installation: Installation, stage: str) -> bool:
    return installation.status(stage).get("state") == "running" and installation.works(stage)


def _let_pass(stand: Stand, seconds: float) -> None:
    ends_at = time.monotonic() + seconds
    stand.watch(lambda: time.monotonic() >= ends_at, "the outage is over", deadline_seconds=seconds + 30)


OUTAGES: tuple[tuple[str, Outage], ...] = (
    ("webhook away", webhook_away),
    ("Redis without its last second", redis_lost_a_second),
    ("broker away", broker_away),
)


def prove(
    kafka: Kafka, redis: RedisServer, folder: Path, *, outages: Sequence[tuple[str, Outage]], seconds: float, seed: int
) -> list[Verdict]:
    """Plant `outages` one after another under load; then ask every oracle."""
    print(f"seed {seed}, outages of {seconds:g} s under {CHANGES_PER_SECOND:g} changes/s")
    prefix = f"outage{uuid.uuid4().hex[:8]}"
    shapes = shapes_for(prefix, KEYS)
    player = DebeziumPlayer(kafka.address, prefix, shapes)
    model = Model(seed, out_of_line_bytes=2_100)
    changes = round(CHANGES_PER_SECOND * (10 + sum(seconds + 12 for _ in outages)))
    with (
        Webhook(SECRET) as webhook,
        Installation(folder, kafka.address, redis.address, webhook.url, shapes) as installation,
    ):
        installation.start()
        with Loader(player.do, model.steps(changes), changes_per_second=CHANGES_PER_SECOND) as loader:
            loader.allow(2**62)
            stand = Stand(kafka, redis, webhook, installation, loader)
            for name, outage in outages:
                loader.wait_committed(loader.committed + round(CHANGES_PER_SECOND * 2))
                figures = outage(stand, seconds)
                said = stand.told()
                print(f"{name}: {figures}; under load to the end: {not loader.finished()}")
                for stage, messages in said.items():
                    print(f"    {stage} waited: {sorted(messages)}")
        player.flush()
        began = time.monotonic()
        wait_quiet(installation, records=player.produced, deadline_seconds=QUIET_SECONDS)
        wait_alerts(installation, redis, webhook)
        print(f"quiet {time.monotonic() - began:.1f} s after the load; {player.produced:,} records")
        installation.stop()
        ends = Ends(installation, redis, webhook)
        ends.read_topics()
        return ends.verdicts(model.rows, player.ledger.events, changes_at_least=changes)


def wait_alerts(installation: Installation, redis: RedisServer, webhook: Webhook) -> None:
    """Return once as many alerts have come in as were raised: those that were put off come when they are due."""
    ends = Ends(installation, redis, webhook)
    ends.read_topics()
    raised = len(ends.alerts())
    wait_until(
        lambda: len({delivery.webhook_id for delivery in webhook.deliveries}) >= raised,
        f"{raised} alerts at the receiver",
        deadline_seconds=QUIET_SECONDS,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the services, prove, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args(arguments)
    with services_of_its_own() as (services, folder):
        kafka, redis = services.kafka(private=True), services.redis(private=True)
        require(*prove(kafka, redis, folder, outages=OUTAGES, seconds=options.seconds, seed=options.seed))


if __name__ == "__main__":
    main()
