"""Topics to which the client takes no record, without asking the broker: one that it knows to be gone, or smaller.

There is no delivery report then, and it may pass: what was enlarged or made a moment ago is heard of with the next
refresh of the client's metadata. What lasts is the topic's fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import NamedTuple

from confluent_kafka import KafkaError

# Who writes tries again within some ten seconds: what was refused longer ago than this is another story.
_SAME_SECONDS = 60.0
TOPIC_AT_FAULT = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - confluent-kafka's public names of local errors begin so
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - the same
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
    },
)


class _Refusal(NamedTuple):
    since: float
    at: float
    error: KafkaError


class Refusals:
    """What one producer refused, by topic; used by one thread."""

    def __init__(self, patience_seconds: float, clock: Callable[[], float] = monotonic) -> None:
        """Begin with none; one that has lasted for `patience_seconds` does not pass."""
        self._patience_seconds, self._clock = patience_seconds, clock
        self._known: dict[str, _Refusal] = {}

    def note(self, topic: str, error: KafkaError) -> None:
        """Take it that the client refused a record with `error`."""
        now, known = self._clock(), self._known.get(topic)
        since = known.since if known is not None and now - known.at < _SAME_SECONDS else now
        self._known[topic] = _Refusal(since, now, error)

    def lasting(self, error: KafkaError) -> str | None:
        """Return the topic to which a record was refused with this very error, if it does not pass."""
        for topic, refusal in self._known.items():
            if refusal.error is error and refusal.at - refusal.since >= self._patience_seconds:
                return topic if error.code() in TOPIC_AT_FAULT else None
        return None

    def written(self, topics: Iterable[str]) -> None:
        """Take it that these topics take records."""
        if self._known:
            for topic in topics:
                self._known.pop(topic, None)
