"""Commits of finished heads: now and then in the background, and at once when partitions leave.

All of it runs on the thread that owns the consumer. A commit that fails is kept and tried again: first with the
others, then topic by topic, since one deleted topic fails a whole request although the others were stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.transport.chunk import Assignment
from connectors.transport.partition import Partition
from connectors.transport.partitions import Partitions
from schemas.errors import SourceMoved, SourceUnavailable
from schemas.failpoints import failpoint

Key = tuple[str, int]
Report = Callable[[str, Mapping[str, object]], None]

_ATTEMPTS_AT_ONCE = 3
_IN_FLIGHT_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One offset to commit, for one life of one partition."""

    partition: Partition
    offset: int
    metadata: str

    def ours(self) -> TopicPartition:
        topic, number = self.partition.key
        return TopicPartition(topic, number, self.offset, self.metadata)


class Committer:
    """The commits of one consumer."""

    def __init__(self, report: Report) -> None:
        """Report `commit_failed` and `commit_recovered` through `report`."""
        self._report = report
        self._wanted: dict[Key, _Wanted] = {}
        self._in_flight: dict[Key, _Wanted] = {}
        self._in_flight_since = 0.0
        self._topic_by_topic = False
        self.failures = 0

    def want(self, partition: Partition, *, offset: int | None = None) -> None:
        """Ask for the partition's head (or `offset`) to be committed with the next commits."""
        at = partition.head if offset is None else offset
        if at is not None:
            self._wanted[partition.key] = _Wanted(partition, at, partition.metadata().text())

    def forget(self, keys: Iterable[Key]) -> None:
        """Ask for nothing more of these partitions."""
        for key in keys:
            self._wanted.pop(key, None)
            self._in_flight.pop(key, None)

    def send(self, consumer: Consumer, now: float) -> None:
        """Begin to commit what is asked for, unless the last one is still under way; the answer comes by `answered`."""
        if self._in_flight and now - self._in_flight_since < _IN_FLIGHT_SECONDS_MAX:
            return
        for key, wanted in self._in_flight.items():  # no answer in all that time: ask again
            self._wanted.setdefault(key, wanted)
        if not self._wanted:
            self._in_flight = {}
            return
        self._in_flight, self._wanted = self._wanted, {}
        self._in_flight_since = now
        failpoint("commit.before_send")
        for batch in self._batches(self._in_flight.values()):
            try:
                consumer.commit(offsets=[wanted.ours() for wanted in batch], asynchronous=True)
            except KafkaException as error:
                self._failed(batch, error.args[0])

    def answered(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """Take the broker's answer to one commit; librdkafka calls it from within `poll`."""
        batch = [
            wanted
            for each in partitions
            if (wanted := self._in_flight.get((each.topic, each.partition))) is not None
            and wanted.offset == each.offset
        ]
        failpoint("commit.after_answer")
        if error is None:
            self._stored(batch)
        else:
            self._failed(batch, error)

    def commit_now(self, consumer: Consumer, keys: Iterable[Key]) -> bool:
        """Commit what is asked for of `keys` and wait for the answer; False if some of it was not stored."""
        failpoint("commit.before_wait")
        chosen = set(keys)
        merged = {**self._in_flight, **self._wanted}
        batch = [wanted for key, wanted in merged.items() if key in chosen]
        for attempt in range(_ATTEMPTS_AT_ONCE):
            left: list[_Wanted] = []
            for part in self._batches(batch, apart=attempt > 0):
                error = _commit(consumer, part)
                if error is None:
                    self._stored(part)
                else:
                    left.extend(part)
                    self._failed(part, error)
            if not left:
                return True
            batch = left
        return False

    def _batches(self, wanted: Iterable[_Wanted], *, apart: bool = False) -> list[list[_Wanted]]:
        everything = list(wanted)
        if not (apart or self._topic_by_topic):
            return [everything] if everything else []
        by_topic: dict[str, list[_Wanted]] = {}
        for each in everything:
            by_topic.setdefault(each.partition.key[0], []).append(each)
        return list(by_topic.values())

    def _stored(self, batch: list[_Wanted]) -> None:
        for wanted in batch:
            wanted.partition.committed = wanted.offset
            for table in (self._in_flight, self._wanted):
                if table.get(wanted.partition.key) is wanted:
                    del table[wanted.partition.key]
        if self._topic_by_topic and not self._in_flight and not self._wanted:
            self._topic_by_topic = False
            self._report("commit_recovered", {"failures": self.failures})

    def _failed(self, batch: list[_Wanted], error: KafkaError) -> None:
        for wanted in batch:
            if self._in_flight.pop(wanted.partition.key, None) is not None:
                self._wanted.setdefault(wanted.partition.key, wanted)
        self.failures += 1
        if not self._topic_by_topic:
            self._topic_by_topic = True
            topics = sorted({wanted.partition.key[0] for wanted in batch})
            self._report("commit_failed", {"error": str(error), "topics": topics})


def commit_first_starts(
    committer: Committer, consumer: Consumer, partitions: Partitions, found: Mapping[Assignment, int | SourceMoved]
) -> None:
    """Commit where partitions without an offset begin, before a record of them is read.

    What `latest` was is then decided once, and the topic's id is known from here on. Later, the commit could
    overtake a transaction's and set it back.

    Raises:
        SourceUnavailable: that could not be done.
    """
    keys = []
    for assignment, start in found.items():
        partition = None if assignment.lost else partitions.current(assignment)
        if partition is not None and assignment.committed is None and not isinstance(start, SourceMoved):
            committer.want(partition, offset=start)
            keys.append(assignment.key)
    if not committer.commit_now(consumer, keys):
        committer.forget(keys)
        raise SourceUnavailable("the first offsets could not be committed", hint="is the broker up?")


def _commit(consumer: Consumer, batch: list[_Wanted]) -> KafkaError | None:
    try:
        stored: list[Any] = consumer.commit(offsets=[wanted.ours() for wanted in batch], asynchronous=False)
    except KafkaException as error:
        refused: KafkaError = error.args[0]
        return refused
    return next((each.error for each in stored if each.error is not None), None)
