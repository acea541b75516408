"""Given ranges of partitions read once, in each partition's order, by a group of one member that joins nothing.

Whoever reads asks for more when the last is done, so nothing is held beyond what the client has fetched ahead. Where
the group stands is committed beside what was written, in its transaction; `group_metadata_now` is for that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.transport.answers import translated
from connectors.transport.chunk import Assignment, Run
from connectors.transport.hearing import made
from connectors.transport.partition import by_partition
from connectors.transport.settings import KIB, MIB, ClientSettings
from connectors.transport.transaction import Advance, offset_of
from schemas.errors import SourceUnavailable

SILENCE_SECONDS_MAX = 60.0
PREFETCH_BYTES_MAX = 16 * MIB
_FIRST_SECONDS = 0.1
_COMMIT_SECONDS = 10.0


@dataclass(slots=True)
class Range:
    """What is left of one partition."""

    assignment: Assignment
    next: int
    end: int

    @property
    def topic(self) -> str:
        """The topic that it is of."""
        return self.assignment.topic

    @property
    def left(self) -> int:
        """How many offsets are left."""
        return max(self.end - self.next, 0)


class RangeReader:
    """Reads ranges to their ends; of one thread at a time."""

    def __init__(self, client: ClientSettings, group: str, ranges: Iterable[Range]) -> None:
        """Assign what is not read yet; connect when first asked."""
        self._ranges = {each.assignment.key: each for each in ranges}
        own = {"group.id": group, "auto.offset.reset": "error", "allow.auto.create.topics": False}
        limits = {"fetch.message.max.bytes": MIB // 2, "queued.max.messages.kbytes": PREFETCH_BYTES_MAX // KIB}
        settings = {**client.reader(), **own, **limits, **client.overrides}
        self._consumer = made(lambda: Consumer(settings))
        self._heard = monotonic()
        self._consumer.assign([TopicPartition(*key, each.next) for key, each in self._ranges.items() if each.left])

    @property
    def left(self) -> int:
        """How many offsets are left, over all partitions."""
        return sum(each.left for each in self._ranges.values())

    def ranges(self) -> list[Range]:
        """Return what is left of each partition; from any thread."""
        return list(self._ranges.values())

    def read(self, records_max: int) -> list[Run]:
        """Return what came within a moment, a run for each partition; nothing where nothing came.

        Raises:
            SourceUnavailable: nothing came for a minute, or the broker says why not.
            ConfigurationError: this user may not read a topic.
        """
        messages: list[Any] = self._consumer.consume(records_max, _FIRST_SECONDS)
        if messages:
            self._heard = monotonic()
        elif self.left and monotonic() - self._heard > SILENCE_SECONDS_MAX:
            raise SourceUnavailable(
                f"nothing came for {SILENCE_SECONDS_MAX:.0f} s", hint="does the broker still run? Run it again to go on"
            )
        return self.take(messages)

    def take(self, messages: list[Any]) -> list[Run]:
        """Return what of some messages lies within the ranges; the word of a partition's end stands behind its records.

        Raises:
            SourceUnavailable: one of them is an error of the broker's.
            ConfigurationError: it is one of rights.
        """
        fine = [message for message in messages if message.error() is None]
        runs = [self._run(key, records) for key, records in by_partition(fine).items()]
        for message in messages:
            if message.error() is not None:
                self._on_error(message)
        return [run for run in runs if run is not None]

    def _run(self, key: tuple[str, int], records: list[Any]) -> Run | None:
        """Return what of some records lies within the range."""
        mine = self._ranges[key]
        within = [record for record in records if mine.next <= record.offset() < mine.end]
        mine.next = max(mine.next, records[-1].offset() + 1)
        if not mine.left:
            self._consumer.pause([TopicPartition(*key)])
        return Run(mine.assignment, within) if within else None

    def _on_error(self, message: Any) -> None:
        error = message.error()
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - confluent-kafka's public name
            mine = self._ranges[message.topic(), message.partition()]
            if message.offset() >= mine.end:  # what is left are markers of transactions
                mine.next = max(mine.next, mine.end)
        elif not error.retriable() and (error.code() > 0 or error.fatal() or _is_out_of_range(error)):
            where = f"{message.topic()}[{message.partition()}]"
            if _is_out_of_range(error):
                raise SourceUnavailable(
                    f"{where}: retention has taken records that are still to be read",
                    hint="begin anew, from where the log begins now",
                )
            raise translated(error, f"reading {where}") from KafkaException(error)

    def group_metadata_now(self, *, fresh: bool = False) -> Any:
        """Return the group's metadata, for a transaction: that of a member that has not joined."""
        del fresh
        return self._consumer.consumer_group_metadata()

    def commit(self, advances: Iterable[Advance]) -> None:
        """Commit where the group stands, for who writes without transactions.

        Raises:
            SourceUnavailable: the broker did not take it; what was read is read again.
        """
        try:
            self._consumer.commit(offsets=[offset_of(each) for each in advances], asynchronous=False)
        except KafkaException as error:
            raise SourceUnavailable(f"not committed: {error.args[0].str()}", hint="run it again to go on") from error

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


def _is_out_of_range(error: KafkaError) -> bool:
    codes = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001 - the same
    return any(error.code() == code for code in codes)
