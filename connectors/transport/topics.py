"""Administration of topics, and what an assignment must know of them: ids, ends of logs, committed offsets.

`TopicAdmin` speaks to a real broker, `EmbeddedTopics` to the demo's, which has no administration. Methods wait for
the broker and can be called from any thread; those of `resolve.Lookups` are also there for the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from connectors.transport.answers import ANSWER_SECONDS, Administrator, answer_to, translated
from connectors.transport.group_offsets import STABLE_SECONDS, committed, committed_apart
from connectors.transport.groups import divided
from connectors.transport.hearing import made
from connectors.transport.resolve import Committed
from connectors.transport.settings import ClientSettings
from schemas.errors import ConfigurationError, SourceUnavailable, TopicRefused

Key = tuple[str, int]

EMBEDDED_PARTITIONS = 4
_AFTER_CREATION_SECONDS = 10.0  # right after its creation a topic may be unknown for 1 to 2 s
_PAUSE_SECONDS = 0.1
_SHOWN_MAX = 5
_ENTRIES_MAX = 5_000  # that one request adds to the metadata: Kafka refuses more than 10,000 (QuorumController)


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicSettings:
    """How a topic of ours is made. Retention and cleanup are always said, never the broker's default."""

    partitions: int
    replication_factor: int = 1
    compacted: bool = False
    retention_seconds: float | None = None  # None: for ever, or as long as compaction keeps it
    message_bytes_max: int = 1024 * 1024
    overrides: Mapping[str, str] = field(default_factory=dict)

    def config(self) -> dict[str, str]:
        """Return the broker's settings of the topic."""
        keep = -1 if self.retention_seconds is None else int(self.retention_seconds * 1000)
        cleanup = "delete" if not self.compacted else "compact" if keep < 0 else "compact,delete"
        settings = {
            "cleanup.policy": cleanup,
            "retention.ms": str(keep),
            "max.message.bytes": str(self.message_bytes_max),
            # The broker's clock: it refuses for ever what a clock an hour ahead of its own has written.
            "message.timestamp.type": "LogAppendTime",
        }
        return {**settings, **self.overrides}


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic as it is. The id is empty where the broker has none."""

    name: str
    topic_id: str
    partitions: int


class TopicAdmin:
    """Administration of one cluster."""

    def __init__(self, client: ClientSettings) -> None:
        """Connect when first asked."""
        self._client = client
        self._admin = Administrator(client)

    def describe(self, topics: Iterable[str], *, allowed_only: bool = False) -> dict[str, TopicDescription]:
        """Return the topics that exist; with `allowed_only` those that this user may not see are passed over.

        Raises:
            SourceUnavailable: the broker does not answer.
            ConfigurationError: it refuses to.
        """
        names = sorted(set(topics))
        if not names:
            return {}
        futures = self._admin.ask(lambda c: c.describe_topics(TopicCollection(names), request_timeout=ANSWER_SECONDS))
        found = {}
        for name, future in futures.items():
            said = self._admin.known(future, f"topic {name}", allowed_only=allowed_only)
            if said is not None:
                topic_id = "" if said.topic_id is None else str(said.topic_id)
                found[name] = TopicDescription(name, topic_id, len(said.partitions))
        return found

    def names(self) -> list[str]:
        """Return the names of all topics that this user may see, sorted.

        Raises:
            SourceUnavailable: the broker does not answer.
            ConfigurationError: it refuses to.
        """
        found = self._admin.ask(lambda c: c.list_topics(timeout=ANSWER_SECONDS)).topics
        return sorted(name for name, said in found.items() if said.error is None)

    def config(self, topic: str) -> dict[str, str]:
        """Return the broker's settings of a topic."""
        resource = ConfigResource(ResourceType.TOPIC, topic)
        futures = self._admin.ask(lambda c: c.describe_configs([resource], request_timeout=ANSWER_SECONDS))
        return {name: entry.value for name, entry in self._admin.result(futures[resource], f"topic {topic}").items()}

    def configs(self, topics: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the broker's settings of topics; those that are not there or not shown to this user are left out."""
        asked = [ConfigResource(ResourceType.TOPIC, name) for name in sorted(set(topics))]
        futures = self._admin.ask(lambda c: c.describe_configs(asked, request_timeout=ANSWER_SECONDS)) if asked else {}
        answers = {
            resource.name: self._admin.known(future, f"topic {resource.name}", allowed_only=True)
            for resource, future in futures.items()
        }
        return {
            name: {setting: entry.value for setting, entry in said.items()}
            for name, said in answers.items()
            if said is not None
        }

    def create(self, topic: str, settings: TopicSettings) -> bool:
        """Make a topic and return once the broker knows it; False if it was there already, whatever its settings."""
        return topic in self.create_all({topic: settings})

    def create_all(self, wanted: Mapping[str, TopicSettings]) -> list[str]:
        """Make topics, as many at once as a broker takes; return, once it knows them, those that were not there yet.

        Raises:
            TopicRefused: the broker refuses one; others that were asked for with it are made.
        """
        return [name for some in in_requests(wanted) for name in self._create_some(some)]

    def _create_some(self, wanted: Mapping[str, TopicSettings]) -> list[str]:
        asked = [
            NewTopic(name, each.partitions, each.replication_factor, config=each.config())
            for name, each in wanted.items()
        ]
        futures = self._admin.ask(lambda c: c.create_topics(asked, request_timeout=ANSWER_SECONDS)) if asked else {}
        made = []
        failures: dict[str, KafkaException] = {}
        for name, future in futures.items():
            try:
                self._admin.raw_result(future)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    failures[name] = error
            else:
                made.append(name)
        self._wait_for({name: wanted[name].partitions for name in made})
        for name, failure in failures.items():
            raise _refused(name, failure, "creating") from failure
        return made

    def ensure_all(self, wanted: Mapping[str, TopicSettings]) -> dict[str, int]:
        """Make the topics that are missing, enlarge those that are too small; return how many partitions each has."""
        found = self.describe(wanted)
        made = self.create_all({name: each for name, each in wanted.items() if name not in found})
        enough = {name for name, said in found.items() if said.partitions >= wanted[name].partitions}
        counts = {name: wanted[name].partitions for name in made} | {name: found[name].partitions for name in enough}
        return counts | {name: self.ensure(name, each) for name, each in wanted.items() if name not in counts}

    def ensure(self, topic: str, settings: TopicSettings) -> int:
        """Make a topic if it is missing, enlarge it if it has fewer partitions, and return how many it has."""
        found = self.describe([topic]).get(topic)
        if found is None and not self.create(topic, settings):  # another worker was quicker
            found = self.describe([topic]).get(topic)
        if found is None:
            return settings.partitions
        if found.partitions < settings.partitions:
            self.enlarge(topic, settings.partitions)
        return max(found.partitions, settings.partitions)

    def enlarge(self, topic: str, partitions: int) -> None:
        """Give a topic `partitions` partitions and return once the broker knows them; it may have more already."""
        try:
            asked = [NewPartitions(topic, partitions)]
            self._admin.raw_result(self._admin.ask(lambda c: c.create_partitions(asked))[topic])
        except KafkaException as error:
            found = self.describe([topic]).get(topic)
            if found is None or found.partitions < partitions:
                raise _refused(topic, error, "enlarging") from error
        self._wait_for({topic: partitions})

    def delete(self, topics: Iterable[str]) -> None:
        """Delete topics; the broker does it a little later. Unknown ones are passed over."""
        names = sorted(set(topics))
        futures = self._admin.ask(lambda c: c.delete_topics(names, request_timeout=ANSWER_SECONDS)) if names else {}
        for name, future in futures.items():
            self._admin.known(future, f"deleting {name}")

    def ids_now(self, topics: Iterable[str]) -> dict[str, str]:
        """Return the ids of the topics that exist."""
        return {name: said.topic_id for name, said in self.describe(topics).items()}

    def watermarks_now(self, keys: Iterable[Key]) -> dict[Key, tuple[int, int]]:
        """Return the first and the next offset of each log, open transactions included; unknown ones are left out."""
        asked = [TopicPartition(*key) for key in keys]
        lows = self._offsets(asked, OffsetSpec.earliest())
        highs = self._offsets(asked, OffsetSpec.latest())
        return {key: (low, highs[key]) for key, low in lows.items() if key in highs}

    def offsets_at(self, keys: Iterable[Key], timestamp_ms: int) -> dict[Key, int]:
        """Return the first offset of each log that was written at a time or later; those without one are left out."""
        found = self._offsets([TopicPartition(*key) for key in keys], OffsetSpec.for_timestamp(timestamp_ms))
        return {key: offset for key, offset in found.items() if offset >= 0}

    def _offsets(self, asked: Sequence[TopicPartition], spec: OffsetSpec) -> dict[Key, int]:
        if not asked:
            return {}
        futures = self._admin.ask(lambda c: c.list_offsets(dict.fromkeys(asked, spec), request_timeout=ANSWER_SECONDS))
        found = {}
        for each, future in futures.items():
            said = self._admin.known(future, f"topic {each.topic}")
            if said is not None:
                found[each.topic, each.partition] = int(said.offset)
        return found

    def committed_now(self, group: str, keys: Iterable[Key]) -> dict[Key, Committed]:
        """Return what a group committed, with no transaction open on it; partitions where one is are left out.

        A killed worker leaves such a transaction behind for some seconds, on its own partitions only.
        """
        asked = [TopicPartition(*key) for key in keys]
        reader = self._reader(group)
        try:
            return committed(reader, asked, STABLE_SECONDS)
        except SourceUnavailable:  # perhaps of one partition only: each is asked for apart
            if len(asked) == 1:
                return {}
            return committed_apart(reader, asked)
        finally:
            reader.close()

    def _reader(self, group: str) -> Consumer:
        """Return a consumer that joins no group, to ask what one has committed; the caller closes it.

        The administration's own call for it ends the process where the group's coordinator has just moved
        (librdkafka #5040), as it does whenever a broker is restarted.
        """
        ours = {"group.id": group, "enable.auto.commit": False, "isolation.level": "read_committed"}
        settings = {**self._client.librdkafka(), **ours}
        return made(lambda: Consumer(settings))

    def _wait_for(self, wanted: Mapping[str, int]) -> None:
        """Return once the broker knows so many partitions of each topic, asked for all of them at once."""
        deadline = time.monotonic() + _AFTER_CREATION_SECONDS
        waiting = dict(wanted)
        while waiting:
            found = self.describe(waiting)
            there = {name: many for name, many in waiting.items() if name in found and found[name].partitions >= many}
            if there and self._led(there):
                waiting = {name: many for name, many in waiting.items() if name not in there}
                continue
            if time.monotonic() > deadline:
                raise SourceUnavailable(
                    f"{', '.join(sorted(waiting)[:_SHOWN_MAX])}: created, but the broker does not know it yet",
                    hint="try again in a moment",
                )
            time.sleep(_PAUSE_SECONDS)

    def _led(self, wanted: Mapping[str, int]) -> bool:
        """Tell whether every partition of topics has a leader that answers."""
        places = [TopicPartition(topic, number) for topic, many in wanted.items() for number in range(many)]
        try:
            return len(self._offsets(places, OffsetSpec.latest())) == len(places)
        except SourceUnavailable:  # a leader is still being chosen; the caller has a deadline
            return False

    async def ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        """As `ids_now`, for the event loop."""
        return await asyncio.to_thread(self.ids_now, list(topics))

    async def watermarks(self, keys: Iterable[Key]) -> Mapping[Key, tuple[int, int]]:
        """As `watermarks_now`, for the event loop."""
        return await asyncio.to_thread(self.watermarks_now, list(keys))

    async def committed(self, group: str, keys: Iterable[Key]) -> Mapping[Key, Committed]:
        """As `committed_now`, for the event loop."""
        return await asyncio.to_thread(self.committed_now, group, list(keys))

    async def divided(self, group: str) -> frozenset[str] | None:
        """As `groups.divided`, for the event loop."""
        return await asyncio.to_thread(divided, self._admin, group)


def _refused(topic: str, failure: KafkaException, what: str) -> SourceUnavailable | ConfigurationError:
    """Return the error of ours for a topic that was not made or enlarged; it names the topic if that is refused."""
    error = translated(failure.args[0], f"{what} {topic}")
    return TopicRefused(topic, error.message, hint=error.hint) if isinstance(error, ConfigurationError) else error


class EmbeddedTopics(TopicAdmin):
    """The same for the embedded broker: topics are made by asking for them, have four partitions and no ids."""

    def __init__(self, client: ClientSettings) -> None:
        """Connect when first asked."""
        super().__init__(client)
        self._client = client

    def describe(self, topics: Iterable[str], *, allowed_only: bool = False) -> dict[str, TopicDescription]:
        """Return the topics that exist; looking does not make them."""
        found = self._admin.ask(lambda c: c.list_topics(timeout=ANSWER_SECONDS)).topics
        return {name: TopicDescription(name, "", len(found[name].partitions)) for name in topics if name in found}

    def config(self, topic: str) -> dict[str, str]:
        """Return nothing: this broker has no settings of topics."""
        return {}

    def configs(self, topics: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return nothing, as `config`."""
        return {}

    def create(self, topic: str, settings: TopicSettings) -> bool:
        """Make a topic by asking for it; its settings are this broker's own."""
        if topic in self.describe([topic]):
            return False
        deadline = time.monotonic() + _AFTER_CREATION_SECONDS
        while not self._admin.ask(lambda c: c.list_topics(topic, timeout=ANSWER_SECONDS)).topics[topic].partitions:
            if time.monotonic() > deadline:
                raise SourceUnavailable(f"the embedded broker does not make {topic}", hint="start the demo again")
            time.sleep(_PAUSE_SECONDS)
        return True

    def ensure(self, topic: str, settings: TopicSettings) -> int:
        """Make a topic if it is missing, and return its partitions: four, whatever was asked for."""
        self.create(topic, settings)
        return EMBEDDED_PARTITIONS

    def ensure_all(self, wanted: Mapping[str, TopicSettings]) -> dict[str, int]:
        """Make the topics that are missing, one by one."""
        return {name: self.ensure(name, each) for name, each in wanted.items()}

    def enlarge(self, topic: str, partitions: int) -> None:
        """Refuse more than there are.

        Raises:
            ConfigurationError: this broker cannot enlarge topics.
        """
        if partitions > EMBEDDED_PARTITIONS:
            raise ConfigurationError(
                f"{topic}: the embedded broker has {EMBEDDED_PARTITIONS} partitions", hint="use a real Kafka"
            )

    def delete(self, topics: Iterable[str]) -> None:
        """Do nothing: topics live as long as this broker."""

    def ids_now(self, topics: Iterable[str]) -> dict[str, str]:
        """Return empty ids of the topics that exist."""
        return dict.fromkeys(self.describe(topics), "")

    def watermarks_now(self, keys: Iterable[Key]) -> dict[Key, tuple[int, int]]:
        """Return the first and the next offset of each log."""
        found = {}
        consumer = self._reader("headgate-lookups")
        try:
            for key in keys:
                ask = partial(consumer.get_watermark_offsets, TopicPartition(*key), timeout=ANSWER_SECONDS)
                found[key] = answer_to(ask)
        finally:
            consumer.close()
        return found


def in_requests(wanted: Mapping[str, TopicSettings]) -> Iterator[dict[str, TopicSettings]]:
    """Yield topics that may be made together: a topic, a partition and a setting are each an entry for the broker."""
    some: dict[str, TopicSettings] = {}
    entries = 0
    for name, each in wanted.items():
        more = 1 + each.partitions + len(each.config())
        if some and entries + more > _ENTRIES_MAX:
            yield some
            some, entries = {}, 0
        some[name] = each
        entries += more
    if some:
        yield some


def topic_admin(client: ClientSettings, *, embedded: bool = False) -> TopicAdmin:
    """Return the administration of a broker."""
    return EmbeddedTopics(client) if embedded else TopicAdmin(client)
