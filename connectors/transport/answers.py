"""Answers of a broker's administration: how long they are waited for, and what a refusal means to us."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from connectors.transport.hearing import NOT_ALLOWED, Hearing, made, not_allowed
from connectors.transport.letting_go import end_after, end_soon
from connectors.transport.settings import ClientSettings
from connectors.transport.topic_ids import share_ids
from schemas.errors import ConfigurationError, SourceUnavailable

T = TypeVar("T")

ANSWER_SECONDS = 10.0
_LISTEN_SECONDS = 0.1
_LISTENS_MAX = int(ANSWER_SECONDS * 2 / _LISTEN_SECONDS)
_ASKED = "the broker was asked"
_UNKNOWN = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - confluent-kafka's public names of local errors begin so
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - the same
    },
)
_REFUSED = frozenset(
    {
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.POLICY_VIOLATION,
    },
)
_UNANSWERED = frozenset(
    {
        KafkaError._TIMED_OUT,  # noqa: SLF001 - the same
        KafkaError._TRANSPORT,  # noqa: SLF001 - the same
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - the same
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - the same
        KafkaError._SSL,  # noqa: SLF001 - the same
    },
)


def answer_to(ask: Callable[[], T]) -> T:
    """Return what a call of a client that is no administrator's returns.

    Raises:
        SourceUnavailable: the broker does not answer.
        ConfigurationError: it refuses to.
    """
    try:
        return ask()
    except KafkaException as error:
        raise translated(error.args[0], _ASKED) from error


class Administrator:
    """A client of the broker's administration: asks, waits, and hears meanwhile why no answer may come."""

    def __init__(self, settings: ClientSettings) -> None:
        """Connect when first asked.

        Raises:
            ConfigurationError: no client can be made of the settings.
        """
        share_ids()
        self._hearing = Hearing(settings)
        self._config: dict[str, Any] = {**settings.librdkafka(), "error_cb": self._hearing.hear}
        self._clients = [made(lambda: AdminClient(self._config))]
        end_after(self, self._clients)

    @property
    def client(self) -> AdminClient:
        """The client to ask by; nobody else keeps it."""
        return self._clients[-1]

    def ask(self, question: Callable[[AdminClient], T]) -> T:
        """Return what a call to the client returns: an answer, or futures.

        Raises:
            SourceUnavailable: the broker does not answer.
            ConfigurationError: it refuses to.
        """
        self.client.poll(0)  # what was heard since the last question is no reason for the next one's silence
        self._hearing.asked()
        try:
            return question(self.client)
        except KafkaException as error:
            self.client.poll(0)
            raise self._translated(error, _ASKED) from error

    def result(self, future: Future[T], what: str = _ASKED) -> T:
        """Return a future's result, or raise as soon as it is certain that none will come.

        Raises:
            SourceUnavailable: the broker does not answer.
            ConfigurationError: it refuses to.
        """
        try:
            return self.raw_result(future)
        except KafkaException as error:
            raise self._translated(error, what) from error

    def raw_result(self, future: Future[T]) -> T:
        """As `result`, for who looks at the broker's error.

        Raises:
            KafkaException: what the broker answered, or that it did not in time.
            SourceUnavailable: no broker will answer.
            ConfigurationError: the same, and the configuration must be mended.
        """
        for _ in range(_LISTENS_MAX):  # the client's own time limit is half of it
            wait([future], _LISTEN_SECONDS)
            if future.done():
                break
            self.client.poll(0)
            if (refusal := self._hearing.refusal()) is not None:
                raise refusal
        if not future.done():
            self._begin_anew()
            raise self._hearing.unanswered(_ASKED, "nothing came, not even that it takes too long")
        answer = future.result()
        self._hearing.welcomed()
        return answer

    def known(self, future: Future[T], what: str = _ASKED, *, allowed_only: bool = False) -> T | None:
        """Return a future's result, None for what the broker does not know or, with `allowed_only`, does not show.

        Raises:
            SourceUnavailable: the broker does not answer.
            ConfigurationError: it refuses to.
        """
        try:
            return self.raw_result(future)
        except KafkaException as error:
            if error.args[0].code() in (_UNKNOWN | NOT_ALLOWED if allowed_only else _UNKNOWN):
                return None
            raise self._translated(error, what) from error

    def _begin_anew(self) -> None:
        """Ask by a new client from now on: the old one may have lost its brokers for good (lifeline.py).

        Its futures need it: it stays until the next time.
        """
        end_soon(self._clients[:-1])
        self._clients[:-1] = [self.client]
        self._clients[-1] = AdminClient(self._config)

    def _translated(self, error: KafkaException, what: str) -> SourceUnavailable | ConfigurationError:
        if error.args[0].code() in _UNANSWERED:
            self._begin_anew()
            return self._hearing.unanswered(what, error.args[0].str())
        return translated(error.args[0], what)


def translated(cause: KafkaError, what: str) -> SourceUnavailable | ConfigurationError:
    """Return the error of ours that says what a broker's error means; whoever asked raises it."""
    if cause.code() in NOT_ALLOWED:
        return not_allowed(cause, what)
    if cause.code() in _REFUSED:
        return ConfigurationError(f"{what}: the broker refuses: {cause.str()}", hint="look at the settings asked for")
    return SourceUnavailable(f"{what}: {cause.str()}", hint="is the broker up, and its address right?")
