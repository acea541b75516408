"""A compacted topic read whole and then followed: registered tables, state of stages. Outside any group."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.transport.hearing import NOT_ALLOWED, OF_NO_GROUP, made, not_allowed
from connectors.transport.lifeline import STATISTICS, Brokers, cut_off, lifeline_of
from connectors.transport.settings import ClientSettings
from connectors.transport.topics import TopicAdmin, topic_admin
from schemas.errors import ConfigurationError, SourceUnavailable

MIB = 1024 * 1024

IDLE_SECONDS_MAX = 60.0  # the broker ends a transaction that a killed worker left open long before

_READ_RECORDS = 1_000
_POLL_SECONDS = 0.1
_ENTRY_OVERHEAD_BYTES = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a followed topic; a value of None takes its key away."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes | None


class CompactedReader:
    """Reads some or all partitions of one compacted topic, committed records only.

    One thread at a time: `load`, then `follow`, then `close`.
    """

    def __init__(
        self,
        topic: str,
        client: ClientSettings,
        *,
        partitions: Iterable[int] | None = None,
        admin: TopicAdmin | None = None,
        bytes_max: int = 256 * MIB,
        embedded: bool = False,
    ) -> None:
        """Read nothing yet; all partitions unless some are named. `load` holds `bytes_max` at most."""
        self.topic = topic
        self._partitions = None if partitions is None else sorted(partitions)
        self._admin = admin if admin is not None else topic_admin(client, embedded=embedded)
        self._bytes_max = bytes_max
        self._next: dict[int, int] = {}
        self._ended: dict[int, int] = {}  # where the broker last said that committed records end
        self._followed: dict[int, int] = {}  # how far the callback was told
        self._entries: dict[bytes, Entry] = {}
        self._nbytes = 0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._brokers, self._lifeline = Brokers(), lifeline_of(client)
        own = {"topic.metadata.refresh.interval.ms": 5_000, **STATISTICS, "stats_cb": self._brokers.hear}
        settings = {**client.reader(), **own, **client.overrides}
        self._consumer = made(lambda: Consumer(settings))

    def load(self, *, idle_seconds_max: float = IDLE_SECONDS_MAX) -> dict[bytes, bytes]:
        """Return the values of `load_entries` by key."""
        found = self.load_entries(idle_seconds_max=idle_seconds_max)
        return {key: entry.value for key, entry in found.items() if entry.value is not None}

    def load_entries(self, *, idle_seconds_max: float = IDLE_SECONDS_MAX) -> dict[bytes, Entry]:
        """Return the topic's entries as of now: to the high watermark, waiting for open transactions below it.

        It takes as long as the topic is long, and only standing still is an error: whoever tries again begins anew.

        Raises:
            SourceUnavailable: the topic is unknown, or nothing came for `idle_seconds_max` before its end.
            ConfigurationError: it is above `bytes_max`, or this user may not read it.
        """
        logs = self._admin.watermarks_now([(self.topic, number) for number in self._numbers()])
        ends = {number: high for (_, number), (_, high) in logs.items()}
        if self._partitions is not None and set(self._partitions) - set(ends):
            raise SourceUnavailable(
                f"{self.topic} has no partition {set(self._partitions) - set(ends)}", hint="is it the right topic?"
            )
        self._entries, self._nbytes = {}, 0
        self._next = {number: low for (_, number), (low, _) in logs.items()}
        self._consumer.assign([TopicPartition(self.topic, number, at) for number, at in self._next.items()])
        self._ended = {}
        before, moved_at = dict(self._next), monotonic()
        while left := {number: end for number, end in ends.items() if self._next[number] < end}:
            for entry in self._read():
                self._keep(entry)
            # What is written meanwhile to a partition that was read is no progress of one that waits.
            if any(self._next[number] > before[number] for number in left):
                before, moved_at = dict(self._next), monotonic()
            elif monotonic() - moved_at > idle_seconds_max:
                raise self._stuck(left, idle_seconds_max)
        loaded, self._entries = self._entries, {}
        return loaded

    def _stuck(self, ends: Mapping[int, int], seconds: float) -> SourceUnavailable:
        """Return the error of a topic that stands still: the broker says that no more may be read, or says nothing."""
        number, end = min(ends.items())
        at = self._next[number]
        is_open = self._ended.get(number, -1) >= at
        return SourceUnavailable(
            f"{self.topic}[{number}] was read to {at} of {end}, and nothing more came for {seconds:.0f} s",
            hint="a transaction is open on it: wait until it ends, or is ended by its time-out"
            if is_open
            else "its broker sends nothing: does the partition have a leader?",
        )

    def follow(
        self, callback: Callable[[Entry], None], on_error: Callable[[BaseException], None] | None = None
    ) -> None:
        """Call `callback` with every record behind the last one loaded, on a thread of its own, until `close`.

        What the callback or the client raises ends the following, and is handed to `on_error`.
        """
        assert self._next, "load() comes first"
        assert self._thread is None, "followed already"
        self._thread = threading.Thread(
            target=self._follow, args=(callback, on_error), name=f"tail-{self.topic}", daemon=True
        )
        self._thread.start()

    def ends(self) -> dict[int, int]:
        """Return the next offset of each partition that is read, asked of the broker now; from any thread.

        Raises:
            SourceUnavailable: it does not answer.
        """
        logs = self._admin.watermarks_now([(self.topic, number) for number in self._next])
        return {number: high for (_, number), (_, high) in logs.items()}

    def has_followed_to(self, ends: Mapping[int, int]) -> bool:
        """Tell whether the callback was called with every record below `ends`; from any thread."""
        return all(self._followed.get(number, 0) >= end for number, end in ends.items())

    def close(self) -> None:
        """Stop following and leave."""
        self._closing.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._consumer.close()

    def _follow(self, callback: Callable[[Entry], None], on_error: Callable[[BaseException], None] | None) -> None:
        try:
            while not self._closing.is_set():
                self._followed = dict(self._next)
                for entry in self._read():
                    callback(entry)
                self._check_brokers()
        except BaseException as error:
            if on_error is None:
                raise
            on_error(error)

    def _check_brokers(self) -> None:
        if self._lifeline.is_cut(self._brokers.alone_since):
            raise cut_off(f"the reader of {self.topic}")

    def _numbers(self) -> list[int]:
        if self._partitions is not None:
            return self._partitions
        found = self._admin.describe([self.topic]).get(self.topic)
        if found is None:
            raise SourceUnavailable(
                f"there is no topic {self.topic}", hint="start a worker or apply a table: they create it"
            )
        return list(range(found.partitions))

    def _read(self) -> list[Entry]:
        """Return what came within a moment, and note how far each partition was read, markers included."""
        entries = []
        message: Any  # of confluent-kafka, whose types admit None where a record has none
        for message in self._consumer.consume(_READ_RECORDS, _POLL_SECONDS if self._thread else 0.02):
            error = message.error()
            if error is not None:
                self._on_error(error, message)
                continue
            self._next[message.partition()] = message.offset() + 1
            key = message.key()
            if key is not None:  # compaction has no use for a record without a key, and neither have we
                _, at = message.timestamp()
                entries.append(Entry(message.partition(), message.offset(), at, key, message.value()))
        return entries

    def _on_error(self, error: KafkaError, message: Any) -> None:
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - confluent-kafka's public name
            self._ended[message.partition()] = message.offset()
            self._next[message.partition()] = max(self._next[message.partition()], message.offset())
        elif error.code() == OF_NO_GROUP:
            return
        elif error.code() in NOT_ALLOWED:
            raise not_allowed(error, f"reading {self.topic}") from KafkaException(error)
        elif error.fatal() or not (error.retriable() or error.code() < 0):
            raise SourceUnavailable(
                f"{self.topic}: {error.str()}", hint="the topic may have been deleted"
            ) from KafkaException(error)

    def _keep(self, entry: Entry) -> None:
        old = self._entries.pop(entry.key, None)
        if old is not None:
            self._nbytes -= len(entry.key) + len(old.value or b"") + _ENTRY_OVERHEAD_BYTES
        if entry.value is None:
            return
        self._entries[entry.key] = entry
        self._nbytes += len(entry.key) + len(entry.value) + _ENTRY_OVERHEAD_BYTES
        if self._nbytes > self._bytes_max:
            raise ConfigurationError(
                f"{self.topic} holds more than {self._bytes_max} bytes", hint="is it the right topic?"
            )
