"""Answers of a broker's administration: how long they are waited for, and what a refusal means to us."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

from schemas.errors import ConfigurationError, SourceUnavailable

T = TypeVar("T")

ANSWER_SECONDS = 10.0
_UNKNOWN = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - confluent-kafka's public names of local errors begin so
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - the same
    },
)
_REFUSED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.POLICY_VIOLATION,
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - the same
    },
)


def answer_to(ask: Callable[[], T]) -> T:
    """Return what a call to the broker returns.

    Raises:
        SourceUnavailable: the broker does not answer.
        ConfigurationError: it refuses to.
    """
    try:
        return ask()
    except KafkaException as error:
        raise translated(error, "the broker was asked") from error


def result(future: Future[T]) -> T:
    """Return a future's result; the client's own timeout ends the wait before this one does."""
    return future.result(ANSWER_SECONDS * 2)


def known(future: Future[T]) -> T | None:
    """Return a future's result, None for what the broker does not know.

    Raises:
        SourceUnavailable: the broker does not answer.
        ConfigurationError: it refuses to.
    """
    try:
        return result(future)
    except KafkaException as error:
        if error.args[0].code() in _UNKNOWN:
            return None
        raise translated(error, "the broker was asked") from error


def translated(error: KafkaException, what: str) -> SourceUnavailable | ConfigurationError:
    """Return the error of ours that says what a broker's error means; whoever asked raises it."""
    cause = error.args[0]
    if cause.code() in _REFUSED:
        return ConfigurationError(
            f"{what}: the broker refuses: {cause.str()}", hint="look at the client's rights and the settings asked for"
        )
    return SourceUnavailable(f"{what}: {cause.str()}", hint="is the broker up, and its address right?")
