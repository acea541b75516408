"""Case 11: the same again: the source repeats its last tenth, then everything; then all offsets are set back to 0.

The state must be the same, and no alert may come that was not there before: what repeats has the same id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from confluent_kafka import Consumer, TopicPartition

from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.stand import Stand
from tests.chaos.tables import TABLES
from tests.oracles import Verdict
from tests.oracles.clients import independent_admin

LAST = 0.1


def afterwards(stand: Stand) -> None:
    """Repeat, in three ways, each drained before the next."""
    stand.fault_calmly(f"the source repeats its last tenth: {_again(stand, lambda size: int(size * (1 - LAST))):,}")
    stand.drain(seconds=stand.plan.drain_seconds * 2)
    stand.fault_calmly(f"the source repeats everything: {_again(stand, lambda size: 0):,}")  # noqa: ARG005
    stand.drain(seconds=stand.plan.drain_seconds * 4)
    before = {delivery.webhook_id for delivery in stand.webhook.deliveries}
    stand.troubles += stand.workers.stop()
    _set_back(stand)
    stand.fault_calmly("the offsets of all groups are 0")
    stand.workers.start_all()
    stand.drain(seconds=stand.plan.drain_seconds * 6)
    if new := {delivery.webhook_id for delivery in stand.webhook.deliveries} - before:
        stand.troubles.append(f"{len(new)} alerts came only after the offsets were set back")


def _again(stand: Stand, first: Callable[[int], int]) -> int:
    """Write again what every partition held, from the offset that `first` makes of its size."""
    logs = stand.source.history.logs
    sizes = {(name, p): len(logs[name][p]) for name, table in TABLES.items() for p in range(table.partitions)}
    count = sum(stand.source.repeat(*place, first(size), size) for place, size in sizes.items())
    stand.source.flush()
    return count


def _set_back(stand: Stand) -> None:
    """Commit 0 for every partition of every group, as one without members may; the topic's id stays beside it."""
    for group, partitions in stand.groups().values():
        with independent_admin(stand.kafka.address) as admin:
            found = {
                (place.topic, place.partition): at.metadata
                for place, at in admin.list_group_offsets(group)[group].items()
            }
        places = [TopicPartition(*place, 0, _without_state(found[place])) for place in partitions if place in found]
        consumer = Consumer({"bootstrap.servers": stand.kafka.address, "group.id": group, "log_level": 0})
        try:
            consumer.commit(offsets=places, asynchronous=False)
        finally:
            consumer.close()


def _without_state(metadata: str) -> str:
    """Return version, topic id and generation: what a stage remembers of what it read does not belong to offset 0."""
    return " ".join(metadata.rstrip("\0").split(" ")[:3])  # confluent-kafka commits a text with its final NUL


def check(stand: Stand) -> list[Verdict]:
    """Say how much was repeated at the receiver."""
    ids = {delivery.webhook_id for delivery in stand.webhook.deliveries}
    return [Verdict("replay", {"deliveries": len(stand.webhook.deliveries), "alerts": len(ids)})]


def nothing(stand: Stand) -> None:
    """Plant nothing under load."""


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures."""
    changes = figure(scale, tiny=4_000, small=30_000, night=500_000)
    return [Plan("", changes, 3, nothing, check, supervised=False, repeats=True, afterwards=afterwards)]


CASE = Case(11, "replay: the last tenth again, everything again, offsets to 0", plans, minutes=2)
