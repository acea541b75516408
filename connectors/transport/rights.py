"""What a broker says of topics to this user: whether they are there, what may be done with them, what may be made.

Nothing is made or changed. A broker without an authorizer allows everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, NewTopic

from connectors.transport.answers import ANSWER_SECONDS, Administrator, translated
from connectors.transport.hearing import NOT_ALLOWED
from connectors.transport.topics import TopicSettings, in_requests

_UNKNOWN = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})  # noqa: SLF001 - its public name
_THERE = frozenset({KafkaError.TOPIC_ALREADY_EXISTS})


@dataclass(frozen=True, slots=True)
class TopicSeen:
    """A topic as this user sees it; one that is hidden may be there or not. `may` are operations, such as READ."""

    partitions: int = 0
    may: frozenset[str] = frozenset()
    hidden: bool = False


def topics_seen(admin: Administrator, topics: Iterable[str]) -> dict[str, TopicSeen]:
    """Return the topics that are there, and those that this user may not see.

    Raises:
        SourceUnavailable: the broker does not answer.
        ConfigurationError: it refuses to.
    """
    names = sorted(set(topics))
    if not names:
        return {}
    asked = TopicCollection(names)
    futures = admin.ask(
        lambda c: c.describe_topics(asked, include_authorized_operations=True, request_timeout=ANSWER_SECONDS)
    )
    found = {}
    for name, future in futures.items():
        try:
            said = admin.raw_result(future)
        except KafkaException as error:
            if error.args[0].code() in NOT_ALLOWED:
                found[name] = TopicSeen(hidden=True)
            elif error.args[0].code() not in _UNKNOWN:
                raise translated(error.args[0], f"topic {name}") from error
        else:
            found[name] = TopicSeen(len(said.partitions), _names_of(said.authorized_operations))
    return found


def _names_of(operations: Iterable[AclOperation] | None) -> frozenset[str]:
    """Return the names of operations: all, where a broker says none, for who sees a topic may at least describe it."""
    return frozenset(each.name for each in operations or AclOperation)


def refused_topics(admin: Administrator, wanted: Mapping[str, TopicSettings]) -> dict[str, str]:
    """Return why the broker would not make some of these topics for this user; none is made.

    Raises:
        SourceUnavailable: the broker does not answer.
    """
    return {name: why for some in in_requests(wanted) for name, why in _refused(admin, some).items()}


def _refused(admin: Administrator, wanted: Mapping[str, TopicSettings]) -> dict[str, str]:
    asked = [
        NewTopic(name, each.partitions, each.replication_factor, config=each.config()) for name, each in wanted.items()
    ]
    futures = admin.ask(lambda c: c.create_topics(asked, validate_only=True, request_timeout=ANSWER_SECONDS))
    found = {}
    for name, future in futures.items():
        try:
            admin.raw_result(future)
        except KafkaException as error:
            if error.args[0].code() not in _THERE:
                found[name] = error.args[0].str()
    return found
