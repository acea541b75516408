"""What cases ask while the load is on: do all stages go on, and who is in the groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from confluent_kafka.admin import AdminClient

from tests.chaos.stand import Stand
from tests.services import wait_until
from tests.workloads.installation import STAGES

GO_ON_SECONDS = 90.0

Members = dict[str, frozenset[str]]


def wait_all_go_on(stand: Stand, after: str, *, seconds: float = GO_ON_SECONDS) -> None:
    """Return once every stage has committed more than it has now.

    Raises:
        TimeoutError: it names the stages that have not.
    """
    before = dict(stand.watch.committed)

    def still() -> list[str]:
        stand.feeder.check()
        return [stage for stage in STAGES if stand.watch.committed[stage] <= before[stage]]

    try:
        wait_until(lambda: not still(), "all stages go on", deadline_seconds=seconds, poll_seconds=0.2)
    except TimeoutError:
        raise TimeoutError(f"after {after} these stages do not go on within {seconds:g} s: {still()}") from None


def go_through(stand: Stand, ways: Mapping[str, Callable[[Stand], None]]) -> None:
    """Plant each of `ways`, in an order of the seed, until the plan's faults are done; after each all stages go on."""
    names = list(ways)
    for number in range(stand.plan.faults):
        if number % len(names) == 0:
            stand.chance.shuffle(names)
        way = names[number % len(names)]
        stand.fault(way)
        ways[way](stand)
        wait_all_go_on(stand, way)


def members(stand: Stand) -> Members:
    """Return the ids of the members of each stage's group: a worker that was thrown out comes back under another."""
    admin = AdminClient({"bootstrap.servers": stand.kafka.address, "log_level": 0})
    groups = {group: stage for stage, (group, _) in stand.groups().items()}
    found = admin.describe_consumer_groups(list(groups))
    return {
        groups[name]: frozenset(member.member_id for member in described.result(30).members)
        for name, described in found.items()
    }


def ended(stand: Stand) -> list[str]:
    """Return the workers that have ended though nobody ended them: of a run without a supervisor."""
    return [
        f"{worker.stage} {worker.slot} ended by itself, with {worker.process.returncode}"
        for worker in stand.workers.all
        if worker.ended()
    ]
