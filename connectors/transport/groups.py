"""Consumer groups from outside: where one begins that never was, which there are, and how one is removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, ConsumerGroupState, KafkaError, KafkaException, TopicPartition

from connectors.transport.answers import ANSWER_SECONDS, Administrator, translated
from connectors.transport.commit_metadata import CommitMetadata
from connectors.transport.hearing import made
from connectors.transport.settings import ClientSettings
from schemas.errors import SourceUnavailable

_OTHERS_BEGAN = frozenset(
    {
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.REBALANCE_IN_PROGRESS,
    },
)


def commit_start(
    client: ClientSettings, group: str, offsets: Mapping[tuple[str, int], int], topic_ids: Mapping[str, str]
) -> None:
    """Commit where a group without members begins, and return once that is durable.

    Raises:
        SourceUnavailable: the broker does not answer, or the group has members: ask again what it has committed.
        ConfigurationError: the broker refuses to.
    """
    asked = [
        TopicPartition(topic, partition, offset, CommitMetadata(topic_ids.get(topic, "")).text())
        for (topic, partition), offset in offsets.items()
    ]
    settings = {**client.librdkafka(), "group.id": group, "enable.auto.commit": False}
    consumer = made(lambda: Consumer(settings))
    try:
        said = consumer.commit(offsets=asked, asynchronous=False)
        errors = [each.error for each in said or [] if each.error is not None]
    except KafkaException as error:
        errors = [error.args[0]]
    finally:
        consumer.close()
    if errors:
        if errors[0].code() in _OTHERS_BEGAN:
            raise SourceUnavailable(f"group {group} has just begun", hint="its members say where")
        raise translated(errors[0], f"committing where group {group} begins")


def topics_below(admin: Administrator, prefix: str) -> dict[str, int]:
    """Return the topics whose names begin with `prefix`, with their partitions."""
    admin.result(admin.ask(lambda client: client.describe_cluster(request_timeout=ANSWER_SECONDS)))  # hears a refusal
    found = admin.ask(lambda client: client.list_topics(timeout=ANSWER_SECONDS)).topics
    return {name: len(said.partitions) for name, said in found.items() if name.startswith(prefix)}


def groups_below(admin: Administrator, prefix: str) -> list[str]:
    """Return the consumer groups whose names begin with `prefix`."""
    said = admin.result(admin.ask(lambda client: client.list_consumer_groups(request_timeout=ANSWER_SECONDS)), "groups")
    return sorted(each.group_id for each in said.valid if each.group_id.startswith(prefix))


def members_of(admin: Administrator, groups: Iterable[str]) -> dict[str, int]:
    """Return how many members each group has."""
    names = list(groups)
    if not names:
        return {}
    asked = admin.ask(lambda client: client.describe_consumer_groups(names, request_timeout=ANSWER_SECONDS))
    return {name: len(admin.result(future, f"group {name}").members) for name, future in asked.items()}


def divided(admin: Administrator, group: str) -> frozenset[str] | None:
    """Return the topics of which a member of the group has a partition; None while the group is dividing them.

    Raises:
        SourceUnavailable: the broker does not answer.
        ConfigurationError: it refuses to.
    """
    asked = admin.ask(lambda client: client.describe_consumer_groups([group], request_timeout=ANSWER_SECONDS))
    said = admin.result(asked[group], f"group {group}")
    if said.state != ConsumerGroupState.STABLE:
        return None
    return frozenset(part.topic for member in said.members for part in member.assignment.topic_partitions)


def delete_group(admin: Administrator, group: str) -> None:
    """Remove a group with its offsets; one that is not there is no error.

    Raises:
        SourceUnavailable: the broker does not answer.
        ConfigurationError: the broker refuses to, such as where the group has members.
    """
    future = admin.ask(lambda client: client.delete_consumer_groups([group], request_timeout=ANSWER_SECONDS))[group]
    try:
        admin.raw_result(future)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise translated(error.args[0], f"deleting group {group}") from error
