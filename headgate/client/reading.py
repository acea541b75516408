"""The consumer behind `changes`: which partitions are read, from where, and what is committed of them.

Promise: records of a partition come in its order, each once in this process, and only while the partition is held. A
position that the topic no longer has is an error, never a jump.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from time import monotonic
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from headgate.client.errors import CommitRefused, PlaceLost
from headgate.client.rule import Place, read_place
from schemas.errors import ConfigurationError, HeadgateError, SourceUnavailable

FETCH_RECORDS_MAX = 500
WAIT_SECONDS = 0.5  # of one poll: so long Ctrl-C has to wait
ANSWER_SECONDS = 30.0
_PROMISED: dict[str, Any] = {
    "isolation.level": "read_committed",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "allow.auto.create.topics": False,
}
_OURS = frozenset({*_PROMISED, "bootstrap.servers", "group.id", "partition.assignment.strategy"})
_REFUSED = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError._ASSIGNMENT_LOST,
    }
)
_MISSING = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
_PASSING = frozenset({KafkaError._PARTITION_EOF, KafkaError._MAX_POLL_EXCEEDED})
_DENIED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,
    }
)


class Reading:
    """One topic, read by one consumer. `held` are the partitions that are read now, each with its place."""

    def __init__(
        self,
        topic: str,
        *,
        bootstrap: str,
        group: str | None,
        partitions: Collection[int] | None,
        start: str,
        places: Mapping[int, str],
        settings: Mapping[str, Any],
    ) -> None:
        """Make a consumer that has read nothing and asked for nothing.

        Raises:
            ConfigurationError: a setting is ours, or there is none of its name.
        """
        self.topic, self.group, self.held, self.closed = topic, group, dict[int, Place](), False
        self._partitions, self._start, self._places = partitions, start, dict(places)
        self._committed: dict[int, int] = {}
        self._gone: set[int] = set()
        self._begun = False
        self._failed: HeadgateError | None = None
        self._consumer = _consumer(_settings(bootstrap, group, settings))

    # -- records -----------------------------------------------------------------------------------------------------

    def fetch(self, ends: float | None) -> list[Message]:
        """Return records of held partitions, in order; none where nothing came within half a second, or until `ends`.

        Raises:
            PlaceLost: where a partition was to go on is no longer there.
            SourceUnavailable: Kafka does not answer.
            ConfigurationError: there is no such topic, or it may not be read.
        """
        if self._failed is not None:  # partitions are assigned of which nobody knows where they begin
            raise self._failed
        if not self._begun:
            self._begin()
        self._gone.clear()
        left = WAIT_SECONDS if ends is None else min(WAIT_SECONDS, max(ends - monotonic(), 0.0))
        try:
            first = self._consumer.poll(left)
            if first is None:
                return []
            rest = self._consumer.consume(FETCH_RECORDS_MAX - 1, 0)
        except KafkaException as exc:
            raise _error_of(exc.args[0], self.topic) from exc
        # A partition that was taken away between the two calls may be back: its first record comes again then.
        kept = [] if first.error() is None and first.partition() in self._gone else [first]
        return [each for each in [*kept, *rest] if self._is_read(each)]

    def _is_read(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return message.partition() in self.held
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise PlaceLost(f"{self.topic} partition {message.partition()} offset {self._at(message.partition())}")
        if error.code() in _PASSING or (error.retriable() and not error.fatal()):
            return False
        raise _error_of(error, self.topic)

    def _at(self, partition: int | None) -> str:
        place = self.held.get(-1 if partition is None else partition)
        return "unknown" if place is None or place.offset is None else str(place.offset)

    # -- partitions --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._begun = True
        if self.group is not None and self._partitions is None:
            self._consumer.subscribe(
                [self.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
            )
            return
        numbers = self._all_partitions() if self._partitions is None else sorted(self._partitions)
        self._consumer.assign(self._taken_up(numbers))

    def _all_partitions(self) -> list[int]:
        try:
            found = self._consumer.list_topics(self.topic, timeout=ANSWER_SECONDS).topics[self.topic]
        except KafkaException as exc:
            raise _error_of(exc.args[0], self.topic) from exc
        if found.error is not None:
            raise _error_of(found.error, self.topic)
        return sorted(found.partitions)

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if not partitions:
            return
        try:
            self._consumer.incremental_assign(self._taken_up([each.partition for each in partitions]))
        except HeadgateError as error:
            self._failed = error
            raise

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            self.held.pop(each.partition, None)
            self._committed.pop(each.partition, None)
            self._gone.add(each.partition)

    def _taken_up(self, numbers: Collection[int]) -> list[TopicPartition]:
        """Hold these partitions, and return where each begins: where the group stands, else by `start`."""
        wanted = [TopicPartition(self.topic, number) for number in numbers]
        committed = dict.fromkeys(numbers, Place()) if self.group is None else self._stands(wanted)
        result = []
        for number in numbers:
            place = committed[number]
            if place.offset is None:
                place = self._first(number)
            self.held[number] = place
            at = OFFSET_BEGINNING if place.offset is None else place.offset
            result.append(TopicPartition(self.topic, number, at))
        return result

    def _first(self, number: int) -> Place:
        """Return where a partition begins of which nothing is committed."""
        if number in self._places:
            return read_place(self._places[number])
        return Place(self._end(number) if self._start == "latest" else None)

    def _stands(self, wanted: list[TopicPartition]) -> dict[int, Place]:
        try:
            found = self._consumer.committed(wanted, timeout=ANSWER_SECONDS)
        except KafkaException as exc:
            raise _error_of(exc.args[0], self.topic) from exc
        places = {}
        for each in found:
            if each.error is not None:
                raise _error_of(each.error, self.topic)
            is_there = each.offset >= 0
            places[each.partition] = read_place(each.metadata, each.offset) if is_there else Place()
            if is_there:
                self._committed[each.partition] = each.offset
        return places

    def _end(self, number: int) -> int:
        try:
            _, high = self._consumer.get_watermark_offsets(TopicPartition(self.topic, number), timeout=ANSWER_SECONDS)
        except KafkaException as exc:
            raise _error_of(exc.args[0], self.topic) from exc
        return int(high)

    # -- commits -----------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Commit where the held partitions stand, those that moved; see `Changes.commit`."""
        moved = {
            number: place
            for number, place in self.held.items()
            if place.offset is not None and place.offset != self._committed.get(number)
        }
        if not moved:
            return
        offsets = [
            TopicPartition(self.topic, number, int(place.offset or 0), place.text()) for number, place in moved.items()
        ]
        try:
            answers = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as exc:
            raise _error_of(exc.args[0], self.topic) from exc
        for each in answers or []:
            if each.error is not None:
                raise _error_of(each.error, self.topic)
            self._committed[each.partition] = each.offset

    def close(self) -> None:
        """Leave the group; a second time nothing happens."""
        if not self.closed:
            self.closed = True
            self.held.clear()
            self._consumer.close()


def _settings(bootstrap: str, group: str | None, more: Mapping[str, Any]) -> dict[str, Any]:
    if refused := sorted(_OURS & more.keys()):
        raise ConfigurationError(
            f"settings: {', '.join(refused)} cannot be changed", hint="what is promised depends on them; leave them out"
        )
    is_classic = more.get("group.protocol", "classic") == "classic"
    return {
        "queued.max.messages.kbytes": 16 * 1024,
        "fetch.queue.backoff.ms": 5,
        **({"partition.assignment.strategy": "cooperative-sticky"} if is_classic else {}),
        **more,
        **_PROMISED,
        "bootstrap.servers": bootstrap,
        "group.id": group or "headgate.client",  # librdkafka wants one, also where nothing is committed
    }


def _consumer(settings: dict[str, Any]) -> Consumer:
    try:
        return Consumer(settings)
    except (KafkaException, TypeError, ValueError) as exc:
        # Its text names the setting, and could repeat a password that stands there.
        why = exc.args[0].str() if isinstance(exc, KafkaException) else type(exc).__name__
        for name, value in settings.items():
            if isinstance(value, str) and value and any(word in name for word in ("password", "secret", "key", "pem")):
                why = why.replace(value, "***")
        raise ConfigurationError(f"settings: {why}", hint="these are librdkafka's names of settings") from None


def _error_of(error: KafkaError, topic: str) -> HeadgateError:
    """Return what an error of the client means for a subscriber."""
    code, said = error.code(), f"{topic}: {error.str()}"
    if code in _REFUSED:
        return CommitRefused(said, hint="iterate on: the group shares its partitions out anew")
    if code in _MISSING:
        return ConfigurationError(
            said, hint="`headgate tables list` shows the tables; a topic comes with its first change"
        )
    if code in _DENIED:
        return ConfigurationError(said, hint="the subscriber needs Read and Describe on the topic, Read on its group")
    return SourceUnavailable(said, hint="nothing is lost: begin again, from where the group stands")
