"""`headgate.tables` read and written, and the topics of ours made with retention and cleanup on purpose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from connectors.transport.producer import plain_outbox
from connectors.transport.tail import CompactedReader
from connectors.transport.topics import TopicAdmin, TopicSettings, topic_admin
from schemas.config import Config
from schemas.evolution import Evolved
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.settings import client_settings, is_embedded
from streams.tables import TableDirectory

DEAD_LETTERS_DAYS = 30
# What says that a record was sent again outlives the record by so much: Kafka deletes whole segments, by the newest
# record of each, so that an old one may be there for days beyond its time (`segment.ms`, 7 days by default).
OUTLIVES_DAYS = 30
ALERTS_DAYS = 7
ALERTS_PARTITIONS = 4
STATUS_DAYS = 7
STAGES_WITH_A_BOOK = ("normalize", "alerts")  # the others' sinks know where they stand
# Written all the time: small segments, or compaction, which leaves the newest alone, would leave a gigabyte to be read.
_OFTEN_WRITTEN = {
    "segment.bytes": str(4 * 1024 * 1024),
    "segment.ms": str(10 * 60 * 1000),
    "min.cleanable.dirty.ratio": "0.1",
}
FEATURES_PARTITIONS = 8


def open_tables(config: Config) -> tuple[TableDirectory, CompactedReader]:
    """Return the registered tables as they are now, and the reader that can follow what comes after.

    The caller closes the reader.

    Raises:
        SourceUnavailable: Kafka does not answer.
    """
    topic = TopicNames(config.kafka.topic_prefix).tables
    ensure_own_topics(config, [topic])
    reader = CompactedReader(topic, client_settings(config), embedded=is_embedded(config))
    directory = TableDirectory()
    try:
        directory.update(reader.load())
    except BaseException:  # not ours to decide: only the reader's socket is
        reader.close()
        raise
    return directory, reader


def load_tables(config: Config) -> TableDirectory:
    """Return the registered tables as they are now.

    Raises:
        SourceUnavailable: Kafka does not answer.
    """
    directory, reader = open_tables(config)
    reader.close()
    return directory


def look_at_tables(config: Config) -> TableDirectory:
    """Return the registered tables as they are now; where there is no topic of them yet, none is made.

    Raises:
        SourceUnavailable: Kafka does not answer.
    """
    there = open_admin(config).describe([TopicNames(config.kafka.topic_prefix).tables])
    return load_tables(config) if there else TableDirectory()


def write_entries(config: Config, entries: Iterable[TableEntry], *, forget: Iterable[bytes] = ()) -> None:
    """Write entries to `headgate.tables` and return once they are durable; see `streams.door` for what that promises.

    `forget` are keys of that topic that are deleted before: what workers found of tables that are made anew.
    """
    from streams.door import open_door  # noqa: PLC0415 - it opens what stands here

    open_door(config).write(entries, forget=forget)


def write_entry(config: Config, entry: TableEntry, *, before: TableEntry | None = None) -> None:
    """Write one entry, where `before` is given only if the table is still as that says.

    Raises:
        TableStopped: it is not, or somebody else writes at this moment; nothing was written.
    """
    from streams.door import open_door  # noqa: PLC0415 - it opens what stands here

    door = open_door(config)
    if before is not None:
        door.check_unchanged(before)
    door.write([entry])


def write_evolved(config: Config, evolved: Evolved) -> None:
    """Write what a worker found of a table beside the table's entry, and return once it is durable.

    Raises:
        SourceUnavailable: Kafka does not answer; write it again.
        RecordTooLarge: there are more columns than one record holds.
    """
    names = TopicNames(config.kafka.topic_prefix)
    with plain_outbox(client_settings(config), message_bytes_max=config.kafka.message_bytes_max) as outbox:
        outbox.produce(names.tables, None, evolved.key, evolved.encoded())


def open_admin(config: Config) -> TopicAdmin:
    """Return the administration of the installation's broker."""
    return topic_admin(client_settings(config), embedded=is_embedded(config))


def ensure_own_topics(config: Config, topics: Iterable[str]) -> None:
    """Create those of our topics that are missing, with the retention and cleanup policy that `own_topic` states."""
    admin = open_admin(config)
    for topic in topics:
        admin.ensure(topic, own_topic(config, topic))


def ensure_fixed_topics(config: Config, admin: TopicAdmin, topics: Iterable[str]) -> dict[str, int]:
    """Create those of `topics` that are missing, and return how many partitions each has; none is ever enlarged.

    Raises:
        SourceUnavailable: Kafka does not answer.
    """
    wanted = list(topics)
    there = admin.describe(wanted)
    for topic in [topic for topic in wanted if topic not in there]:
        admin.create(topic, own_topic(config, topic))
    return {topic: found.partitions for topic, found in admin.describe(wanted).items()}


def own_topics(config: Config) -> list[str]:
    """Return our topics that exist whatever tables there are."""
    names = TopicNames(config.kafka.topic_prefix)
    books = map(names.stage_state, STAGES_WITH_A_BOOK)
    always = [names.tables, names.quarantine, names.alerts, names.alerts_redrive, names.alerts_dead, names.status]
    return [*always, names.quarantine_settled, names.redrive, names.normalize_previous, *books]


def own_topic(config: Config, topic: str, *, partitions: int | None = None) -> TopicSettings:
    """Return partitions, retention and cleanup policy of a topic of ours; docs/topics.md lists them."""
    names = TopicNames(config.kafka.topic_prefix)
    settings = _own_topic(config, names, topic, partitions)
    often = {names.status, names.normalize_previous, *map(names.stage_state, STAGES_WITH_A_BOOK)}
    if topic in often or topic.startswith(names.alerts_state("")):
        return replace(settings, overrides=_OFTEN_WRITTEN)
    return settings


def _own_topic(config: Config, names: TopicNames, topic: str, partitions: int | None) -> TopicSettings:
    if topic in {names.tables, names.normalize_previous, *map(names.stage_state, STAGES_WITH_A_BOOK)}:
        return _settings(config, partitions=1, days=None)
    if topic == names.status:
        return replace(_settings(config, partitions=1, days=STATUS_DAYS), compacted=True)
    if (days := _days_of_records_kept(config, names, topic)) is not None:
        is_spread = topic == names.redrive or names.parked_table(topic) is not None
        return _settings(config, partitions=(partitions or 1) if is_spread else 1, days=days)
    if topic == names.alerts:
        return _settings(config, partitions=ALERTS_PARTITIONS, days=ALERTS_DAYS)
    if topic == names.alerts_dead:
        return _settings(config, partitions=ALERTS_PARTITIONS, days=DEAD_LETTERS_DAYS)
    if topic == names.alerts_redrive:  # says which dead letters were sent again
        return _settings(config, partitions=1, days=DEAD_LETTERS_DAYS + OUTLIVES_DAYS)
    if topic.startswith(names.alerts_retry_prefix):
        return _settings(config, partitions=1, days=ALERTS_DAYS)
    if topic == names.relay:
        return _settings(config, partitions=config.redis.buckets, days=ALERTS_DAYS)
    if topic.startswith(names.features("")):
        return _settings(
            config, partitions=_spread(config.redis.buckets), days=config.kafka.changes_retention_hours / 24
        )
    if topic.startswith(names.latest("")):
        latest = _settings(config, partitions=_spread(config.redis.buckets), days=None)
        return replace(latest, overrides=_latest_overrides(config.kafka.changes_retention_hours * 3_600_000))
    if topic.startswith(names.alerts_state("")):
        return _settings(config, partitions=partitions or 1, days=None)
    assert topic.startswith(names.changes("")), f"{topic} is no topic of ours"
    return _settings(config, partitions=partitions or 1, days=config.kafka.changes_retention_hours / 24)


def _days_of_records_kept(config: Config, names: TopicNames, topic: str) -> float | None:
    """Return how long records that somebody has to look at are kept, or what became of them; None for other topics."""
    days = config.kafka.quarantine_retention_hours / 24
    if topic == names.quarantine_settled:
        return days + OUTLIVES_DAYS
    is_kept = topic in {names.quarantine, names.redrive} or names.parked_table(topic) is not None
    return days if is_kept else None


def _latest_overrides(milliseconds: int) -> dict[str, str]:
    """Return how long deletes are there for readers that stood still, and what was overwritten at most."""
    return {"delete.retention.ms": str(milliseconds), "max.compaction.lag.ms": str(milliseconds)}


def _spread(buckets: int) -> int:
    """Return over how many partitions the updates of a view go: each takes as many buckets."""
    return max(count for count in range(1, FEATURES_PARTITIONS + 1) if buckets % count == 0)


def _settings(config: Config, *, partitions: int, days: float | None) -> TopicSettings:
    return TopicSettings(
        partitions=partitions,
        replication_factor=config.kafka.replication_factor,
        compacted=days is None,
        retention_seconds=None if days is None else days * 86_400,
        message_bytes_max=config.kafka.message_bytes_max,
    )
