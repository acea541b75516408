"""Settings of the consumers and producers, as small frozen values that know their librdkafka names.

The figures are measured ones (TRANSPORT.md); each that is not librdkafka's default has its reason beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from connectors.security import SecuritySettings
from schemas.errors import ConfigurationError

KIB = 1024
MIB = 1024 * KIB

_TOPICS_MANY, _RARER_MAX = 300, 10.0

GroupProtocol = Literal["classic", "consumer"]
AssignmentStrategy = Literal["range", "roundrobin", "cooperative-sticky"]
IsolationLevel = Literal["read_committed", "read_uncommitted"]


def rarer(topics: int) -> float:
    """Return by how much less often that is done which costs by the number of topics, or by its square.

    For each topic of an answer of the broker the client looks through all that it has: of three thousand, ten answers a
    second, each of which says that there is nothing to read, cost half a core.
    """
    return min(max(topics / _TOPICS_MANY, 1.0), _RARER_MAX)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientSettings:
    """What every client of the broker needs: administration, readers outside a group, small writers."""

    bootstrap: str
    security: SecuritySettings = field(default_factory=SecuritySettings)
    client_id: str = "headgate"
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def librdkafka(self) -> dict[str, Any]:
        """Return the settings of a client."""
        ours = {"bootstrap.servers": self.bootstrap, "client.id": self.client_id, "log_level": 2}
        return {**ours, **self.security.librdkafka(), **self.overrides}

    def reader(self) -> dict[str, Any]:
        """Return the settings of a consumer that reads committed records to a topic's end, outside of any group."""
        return {
            **self.librdkafka(),
            "group.id": "headgate-reader",  # wanted by the client; it joins nothing and commits nothing
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",  # compaction or retention may take the log's start away while it is read
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
            "fetch.queue.backoff.ms": 5,
            **self.overrides,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsumerSettings:
    """How a stage's worker reads its topics."""

    bootstrap: str
    group: str
    security: SecuritySettings = field(default_factory=SecuritySettings)
    group_protocol: GroupProtocol = "classic"
    assignment_strategy: AssignmentStrategy = "range"
    session_timeout_seconds: float = 10.0
    instance_id: str | None = None  # static membership
    isolation_level: IsolationLevel = "read_committed"
    topic_ids: bool = True  # False for the embedded broker: no ids, no admin calls, resets to the earliest offset
    chunk_records_max: int = 2_000
    linger_seconds: float = 0.005
    prefetch_bytes_max: int = 8 * MIB
    commit_interval_seconds: float = 1.0
    drain_seconds: float = 8.0
    topic_check_seconds: float = 2.0  # how often the topics' ids are compared
    keep_offsets_seconds: float = 6 * 3_600.0  # how often those of topics that are not read now are committed again
    quiet_seconds: float = 1.0  # what a partition brings that was quiet for longer waits for its topic's id
    stuck_seconds: float = 60.0  # a run begun and not done for so long is reported
    silent_seconds: float = (
        30.0  # a partition below its end that brings nothing for so long is reported and sought anew
    )
    silent_seconds_in_trouble: float = 5.0  # the same, while a topic or the broker is in trouble, and a while after
    statistics_seconds: float = 5.0
    client_id: str = "headgate"
    overrides: Mapping[str, Any] = field(default_factory=dict)  # librdkafka's own names, laid over ours

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigurationError: naming the setting.
        """
        for name in ("chunk_records_max", "prefetch_bytes_max", "commit_interval_seconds", "drain_seconds"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} of the consumer is {getattr(self, name)}", hint="it must be above 0")
        if not self.group:
            raise ConfigurationError("a consumer without a group", hint="name the group")

    @property
    def incremental(self) -> bool:
        """Partitions are assigned and revoked by their difference."""
        return self.group_protocol == "consumer" or self.assignment_strategy == "cooperative-sticky"

    @property
    def client(self) -> ClientSettings:
        """What other clients of the same broker need."""
        return ClientSettings(bootstrap=self.bootstrap, security=self.security, client_id=self.client_id)

    def librdkafka(self, topics: int = 0) -> dict[str, Any]:
        """Return the settings of a consumer that begins with so many topics."""
        settings: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap,
            "client.id": self.client_id,
            "group.id": self.group,
            "group.protocol": self.group_protocol,
            "enable.auto.commit": False,  # acknowledgement is ours
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error" if self.topic_ids else "earliest",  # never a silent jump
            "allow.auto.create.topics": not self.topic_ids,
            "isolation.level": self.isolation_level,
            "fetch.wait.max.ms": round(100 * rarer(topics)),  # so long waits what is read on after a pause, too
            "fetch.queue.backoff.ms": 5,  # with its default of 1,000 a third of the speed
            "fetch.message.max.bytes": MIB // 2,  # compressed: what is fetched is several times as much
            "fetch.max.bytes": 2 * MIB,  # over all partitions, of which there may be hundreds
            "queued.min.messages": 50_000,
            "queued.max.messages.kbytes": self.prefetch_bytes_max // KIB,
            "topic.metadata.refresh.interval.ms": 1_000,  # or a topic made anew is read from the old offset
            "statistics.interval.ms": _milliseconds(self.statistics_seconds),
            "log_level": 3,
        }
        if self.group_protocol == "classic":  # KIP-848 refuses these: they are the broker's business there
            settings["session.timeout.ms"] = _milliseconds(self.session_timeout_seconds)
            settings["heartbeat.interval.ms"] = max(_milliseconds(self.session_timeout_seconds / 10), 100)
            settings["partition.assignment.strategy"] = self.assignment_strategy
        if self.instance_id is not None:
            settings["group.instance.id"] = self.instance_id
        return {**settings, **self.security.librdkafka(), **self.overrides}


@dataclass(frozen=True, kw_only=True, slots=True)
class ProducerSettings:
    """How a worker writes to topics. With a `transactional_id` by transactions, without by flush and check."""

    bootstrap: str
    transactional_id: str | None = None  # stable for a worker's slot: its return ends the open transaction of the dead
    security: SecuritySettings = field(default_factory=SecuritySettings)
    message_bytes_max: int = MIB
    transaction_timeout_seconds: float = 12.0  # above the drain's limit; how long readers wait for a killed worker
    message_timeout_seconds: float = 300.0
    refused_seconds: float = 10.0  # what the client refuses for longer, several metadata refreshes, does not pass
    request_seconds: float = 15.0  # then a call is repeated, for as long as the broker may yet answer it
    linger_seconds: float = 0.005
    compression: Literal["none", "lz4", "zstd", "gzip", "snappy"] = "lz4"
    queue_records_max: int = 200_000
    queue_bytes_max: int = 64 * MIB
    client_id: str = "headgate"
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what would lose records.

        Raises:
            ConfigurationError: naming the setting.
        """
        if self.message_timeout_seconds < 300:  # noqa: PLR2004 - measured; the message says why
            raise ConfigurationError(
                f"message_timeout_seconds is {self.message_timeout_seconds}",
                hint="300 or more: a shorter one drops the oldest records and sends the younger",
            )
        if self.queue_bytes_max < self.message_bytes_max:
            raise ConfigurationError("queue_bytes_max is below message_bytes_max", hint="raise queue_bytes_max")

    @property
    def client(self) -> ClientSettings:
        """What other clients of the same broker need."""
        return ClientSettings(bootstrap=self.bootstrap, security=self.security, client_id=self.client_id)

    def librdkafka(self) -> dict[str, Any]:
        """Return the settings of the producer."""
        settings: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap,
            "client.id": self.client_id,
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": self.compression,
            "linger.ms": _milliseconds(self.linger_seconds),
            "partitioner": "murmur2_random",  # as the Java client: what else writes to our topics agrees
            "topic.metadata.propagation.max.ms": 5_000,  # an unknown topic is said within the transaction's time
            "message.max.bytes": self.message_bytes_max,
            "queue.buffering.max.messages": self.queue_records_max,
            "queue.buffering.max.kbytes": self.queue_bytes_max // KIB,
            "delivery.report.only.error": True,  # a report for each record costs half as much as the record
            "topic.metadata.refresh.interval.ms": 2_000,  # an output that was enlarged is written to within seconds
            "log_level": 2,
        }
        if self.transactional_id is None:
            settings["message.timeout.ms"] = _milliseconds(self.message_timeout_seconds)
        else:  # librdkafka bounds message.timeout.ms by the transaction's
            # A transaction that begins while the one before still ends is refused for some milliseconds. With the
            # defaults (100 ms, doubling to 1 s) two thirds of the time over many partitions was spent waiting for it.
            settings["retry.backoff.ms"] = 5
            settings["retry.backoff.max.ms"] = 50
            settings["transactional.id"] = self.transactional_id
            settings["transaction.timeout.ms"] = _milliseconds(self.transaction_timeout_seconds)
        return {**settings, **self.security.librdkafka(), **self.overrides}
