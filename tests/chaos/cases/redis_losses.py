"""Case 6: Redis loses what it acknowledged, or cannot take anything for a while.

It must be the source again by itself, under the workers that run: none is started anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.chaos.look import Look
from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.recovery import ended, go_through
from tests.chaos.stand import Stand
from tests.faults.manners import Manner
from tests.faults.redis_answers import BUSY, LOADING, OOM, READONLY
from tests.services import wait_until

LOST_SECONDS = 1.0
REFUSED_SECONDS = 4.0
CAUGHT_UP_SECONDS = 150.0


def lose_last_second(stand: Stand) -> None:
    """Restart it from a dump that is a second old."""
    stand.redis.save()
    stand.wait(LOST_SECONDS)
    with stand.redis.client() as client:
        _must_lose(stand, client.info("persistence")["rdb_changes_since_last_save"], "in the last second")
    stand.redis.kill()
    stand.redis.start()


def _must_lose(stand: Stand, count: int, what: str) -> None:
    """Note a fault that does nothing."""
    if not count:
        stand.troubles.append(f"Redis has lost nothing {what}")


def wipe(stand: Stand) -> None:
    """Remove every key, while all connections stand."""
    with stand.redis.client() as client:
        _must_lose(stand, client.dbsize(), "by being emptied")
    stand.redis.flush()


def wipe_and_restart(stand: Stand) -> None:
    """Start it anew with nothing."""
    wipe(stand)
    stand.redis.save()
    stand.redis.kill()
    stand.redis.start()


def promote(stand: Stand) -> None:
    """Put a replica in its place that has not seen its last second."""
    replica = stand.wired.services.redis(private=True)
    with replica.client() as client:
        client.replicaof(stand.redis.host, stand.redis.port)
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica follows")
        stand.wait(LOST_SECONDS)
        client.replicaof("NO", "ONE")
        seen = client.info("replication")["master_repl_offset"]
        stand.wait(LOST_SECONDS)
    with stand.redis.client() as client:
        _must_lose(stand, client.info("replication")["master_repl_offset"] - seen, "by another server")
    stand.redis = replica
    stand.wired.redis_answers.switch(f"{replica.host}:{replica.port}")


def refuse(error: str) -> Callable[[Stand], None]:
    """Return what has every command answered with an error for a while that a server answers so."""

    def plant_it(stand: Stand) -> None:
        answers = stand.wired.redis_answers
        before = answers.did[Manner.REJECT]
        answers.put(Manner.REJECT, error=error)
        stand.wait(REFUSED_SECONDS)
        answers.put(Manner.TAKE)
        if answers.did[Manner.REJECT] == before:
            stand.troubles.append(f"{error} was answered to nobody")

    return plant_it


WAYS: dict[str, Callable[[Stand], None]] = {
    "lost its last second": lose_last_second,
    "wiped": wipe,
    "wiped and restarted": wipe_and_restart,
    "replica promoted": promote,
    "replies OOM": refuse(OOM),
    "replies READONLY": refuse(READONLY),
    "replies LOADING": refuse(LOADING),
    "replies BUSY": refuse(BUSY),
}


def plant(stand: Stand) -> None:
    """Go through all ways, in an order of the seed."""
    go_through(stand, WAYS)
    stand.troubles += ended(stand)


def caught_up(stand: Stand) -> None:
    """Wait until Redis is the source: offsets in Kafka do not say so, for it has been behind them."""
    look = Look(stand)

    def wrong() -> list[str]:
        return [verdict.differences[0] for verdict in look.redis() if not verdict.holds]

    try:
        wait_until(lambda: not wrong(), "Redis is the source", deadline_seconds=CAUGHT_UP_SECONDS, poll_seconds=1.0)
    except TimeoutError:
        raise TimeoutError(f"Redis is not the source within {CAUGHT_UP_SECONDS:g} s: {wrong()}") from None


def caught_up_by_themselves(stand: Stand) -> None:
    """Wait for the same, and that no worker has ended."""
    caught_up(stand)
    stand.troubles += ended(stand)


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures: each way once, or thirty times."""
    changes = figure(scale, tiny=4_000, small=40_000, night=700_000)
    faults = figure(scale, tiny=len(WAYS), small=len(WAYS), night=30 * len(WAYS))
    return [
        Plan(
            "", changes, faults, plant, wired=True, supervised=False, per_second=800.0, drain_seconds=120.0,
            afterwards=caught_up_by_themselves,
        )
    ]  # fmt: skip


CASE = Case(6, "Redis lost its last second, was wiped, is another server, refuses", plans, minutes=3)
