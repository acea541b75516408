"""What ALERTS remembers, read from `headgate.alerts.state.<view>` when partitions of the view are assigned."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.transport.tail import CompactedReader
from connectors.transport.topics import TopicAdmin
from schemas.config import Config
from schemas.errors import SourceUnavailable
from schemas.topics import TopicNames
from streams.alert_state import STATE_BYTES_MAX, PartitionState, read_states
from streams.registration import own_topic
from streams.settings import client_settings, is_embedded


def load_states(config: Config, admin: TopicAdmin, view: str, partitions: Sequence[int]) -> dict[int, PartitionState]:
    """Return what is remembered of some partitions of a view, after their committed offsets are known.

    It is read to the high watermark of now, open transactions waited for. The topic is made where it is missing, with
    the partitions of the view's.

    Raises:
        SourceUnavailable: the broker does not answer, or a transaction stays open.
        ConfigurationError: there is too much of it, or a newer Headgate wrote it.
    """
    names = TopicNames(config.kafka.topic_prefix)
    features, topic = names.features(view), names.alerts_state(view)
    found = admin.describe([features]).get(features)
    if found is None:
        raise SourceUnavailable(f"there is no topic {features}", hint="FEATURES creates it")
    admin.ensure(topic, own_topic(config, topic, partitions=found.partitions))
    reader = CompactedReader(
        topic,
        client_settings(config),
        partitions=partitions,
        admin=admin,
        embedded=is_embedded(config),
        bytes_max=2 * STATE_BYTES_MAX * len(partitions),
    )
    try:
        return read_states(reader.load(), partitions)
    finally:
        reader.close()
