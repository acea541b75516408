"""Destinations as they come and go: where a new one begins, what a removed one leaves behind, and how that is cleared.

A destination that was ever begun has topics of its own, in which its alerts wait: they are made after it is committed
where it begins. So a destination without them is new, and one with them that has no offsets was away for longer than
the broker keeps those: it begins at the earliest alert then, for none that it was to have may be passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from connectors.transport.answers import Administrator
from connectors.transport.groups import commit_start, delete_group, groups_below, members_of, topics_below
from connectors.transport.topics import TopicAdmin
from schemas.config import Config
from schemas.errors import SourceUnavailable, TableStopped
from schemas.topics import TopicNames
from streams.registration import open_admin, own_topic
from streams.settings import client_settings, group_of

STAGE_PREFIX = "notify-"
_WAITING_TOPIC = re.compile(r"([a-z][a-z0-9_-]*)\.\d+s")  # behind `<prefix>.notify.retry.`


@dataclass(frozen=True, slots=True)
class LeftOver:
    """What is still there of a destination that the configuration does not name."""

    destination: str
    topics: tuple[str, ...]
    has_group: bool
    members: int  # above 0: it runs somewhere, by another configuration
    waiting: int  # alerts that were to be tried again


def prepare(config: Config, destination: str) -> bool:
    """Return once a destination can begin: it is committed where, and its own topics are there; True where it is new.

    A new one begins at the alerts of this moment, or at the earliest where it says so; dead letters that were sent
    again before are in no case for it. A stop in between changes nothing: what is missing is done at the next start.

    Raises:
        SourceUnavailable: the broker does not answer, or another worker of the same destination has just begun.
    """
    names, admin = TopicNames(config.kafka.topic_prefix), open_admin(config)
    topics = names.all_alerts_retry(destination)
    found = admin.describe(topics)
    new = not found and _commit_start(config, destination, names, admin)
    for topic in topics:
        if topic not in found:
            admin.ensure(topic, own_topic(config, topic))
    return new


def _commit_start(config: Config, destination: str, names: TopicNames, admin: TopicAdmin) -> bool:
    """Commit where a destination begins, unless it has committed already."""
    group = group_of(config, f"{STAGE_PREFIX}{destination}")
    sources = admin.describe([names.alerts, names.alerts_redrive])
    keys = [(name, number) for name, said in sources.items() for number in range(said.partitions)]
    committed, logs = admin.committed_now(group, keys), admin.watermarks_now(keys)
    if not keys or not committed.keys() == logs.keys() == set(keys):
        raise SourceUnavailable(f"where group {group} stands cannot be told now", hint="asked again in a moment")
    if any(each.offset is not None for each in committed.values()):
        return False
    start = config.notify[destination].start
    chosen = {key: low if start == "earliest" and key[0] == names.alerts else high for key, (low, high) in logs.items()}
    commit_start(client_settings(config), group, chosen, {name: said.topic_id for name, said in sources.items()})
    return True


def left_over(config: Config) -> list[LeftOver]:
    """Return what is there of destinations that the configuration does not name.

    Raises:
        SourceUnavailable: the broker does not answer.
    """
    names, admin = TopicNames(config.kafka.topic_prefix), open_admin(config)
    administrator = Administrator(client_settings(config))
    topics, groups = _topics_by_destination(administrator, names), _groups_by_destination(administrator, config)
    gone = sorted((topics.keys() | groups.keys()) - config.notify.keys())
    members = members_of(administrator, (groups[name] for name in gone if name in groups))
    return [
        LeftOver(
            name,
            tuple(topics.get(name, ())),
            has_group=name in groups,
            members=members.get(groups.get(name, ""), 0),
            waiting=waiting(admin, group_of(config, f"{STAGE_PREFIX}{name}"), topics.get(name, ())),
        )
        for name in gone
    ]


def waiting(admin: TopicAdmin, group: str, topics: Iterable[str]) -> int:
    """Return how many records of `topics`, which are written without transactions, a group has not done."""
    keys = [(name, number) for name, said in admin.describe(topics).items() for number in range(said.partitions)]
    if not keys:
        return 0
    logs, committed = admin.watermarks_now(keys), admin.committed_now(group, keys)
    total = 0
    for key, (low, high) in logs.items():
        at = committed[key].offset if key in committed else None
        total += max(high - max(low, low if at is None else at), 0)
    return total


def forget(config: Config, destination: str, *, dry_run: bool = False) -> LeftOver:
    """Remove what a destination has left behind, its waiting alerts with it; return what that was, or would be.

    Its dead letters stay. A stop in between leaves less of the same: do it again.

    Raises:
        TableStopped: the configuration still names it, it runs somewhere, or nothing is there of it.
    """
    if destination in config.notify:
        raise TableStopped(
            "destination_configured",
            f"{destination} is a destination of this configuration",
            hint="take it out of notify and stop its workers first",
        )
    found = next((each for each in left_over(config) if each.destination == destination), None)
    if found is None:
        raise TableStopped(
            "destination_unknown",
            f"nothing is left of a destination {destination}",
            hint="`headgate check` names those of which something is",
        )
    if found.members:
        raise TableStopped(
            "destination_runs",
            f"{destination} still runs: its group has {found.members} members",
            hint="stop its workers first; another machine may have another configuration",
        )
    if not dry_run:
        open_admin(config).delete(found.topics)
        delete_group(Administrator(client_settings(config)), group_of(config, f"{STAGE_PREFIX}{destination}"))
    return found


def _topics_by_destination(administrator: Administrator, names: TopicNames) -> dict[str, list[str]]:
    start = names.alerts_retry_prefix
    found: dict[str, list[str]] = {}
    for topic in sorted(topics_below(administrator, start)):
        if (match := _WAITING_TOPIC.fullmatch(topic.removeprefix(start))) is not None:
            found.setdefault(match[1], []).append(topic)
    return found


def _groups_by_destination(administrator: Administrator, config: Config) -> dict[str, str]:
    start = group_of(config, STAGE_PREFIX)
    return {group.removeprefix(start): group for group in groups_below(administrator, start)}
