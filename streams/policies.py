"""Whether our topics are kept as they must be: what differs from `own_topic`, and what is lost by it. Pure.

Only what can lose something is told of: a longer retention, or other segments, are their owner's business.
"""

from __future__ import annotations

from collections.abc import Mapping

from connectors.transport.topics import TopicSettings
from schemas.config import Config
from schemas.table import TableEntry, views_that_emit
from schemas.topics import TopicNames
from streams.registration import open_admin, own_topic, own_topics

_FOR_EVER = -1
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


def differences(wanted: TopicSettings, found: Mapping[str, str]) -> dict[str, str]:
    """Return what is lost by a topic's settings, by the name of the setting that is to blame."""
    told: dict[str, str] = {}
    ours = wanted.config()
    policies = set(found.get("cleanup.policy", "").replace(" ", "").split(","))
    kept_ms, bytes_max = (int(found.get(name, _FOR_EVER)) for name in ("retention.ms", "retention.bytes"))
    if wanted.compacted and "compact" not in policies:
        told["cleanup.policy"] = "it is not compacted: entries that nobody writes anew are deleted with age"
    if not wanted.compacted and "compact" in policies:
        told["cleanup.policy"] = "it is compacted: of records with one key all but the last are deleted"
    if wanted.compacted and wanted.retention_seconds is None and "delete" in policies:
        told.setdefault("cleanup.policy", "entries are deleted with age, also the last of a key")
    elif "delete" in policies:
        wanted_ms = int(ours["retention.ms"])
        if kept_ms != _FOR_EVER and kept_ms < wanted_ms:
            told["retention.ms"] = f"records are kept for {_hours(kept_ms)}, not for {_hours(wanted_ms)}"
        if bytes_max != _FOR_EVER:
            told["retention.bytes"] = f"records are deleted beyond {bytes_max} bytes a partition, however young"
    wanted_ms, kept_ms = (int(each.get("delete.retention.ms", 0)) for each in (ours, found))
    if kept_ms < wanted_ms:
        told["delete.retention.ms"] = f"deletes are kept for {_hours(kept_ms)}, not for {_hours(wanted_ms)}"
    if "max.message.bytes" in found and int(found["max.message.bytes"]) < wanted.message_bytes_max:
        told["max.message.bytes"] = (
            f"records above {found['max.message.bytes']} bytes are refused, ours may have {wanted.message_bytes_max}"
        )
    ahead_ms = int(found.get("message.timestamp.after.max.ms", _DAY_MS))
    if found.get("message.timestamp.type") == "CreateTime" and ahead_ms < _DAY_MS:
        told["message.timestamp.type"] = f"nothing is taken of a worker whose clock is {_hours(ahead_ms)} ahead"
    return told


def mended(wanted: TopicSettings, names: Mapping[str, str]) -> str:
    """Return what a topic's settings must be, as Kafka's own tools take it."""
    ours = {"retention.bytes": str(_FOR_EVER), **wanted.config()}
    return ",".join(f"{name}=[{ours[name]}]" if "," in ours[name] else f"{name}={ours[name]}" for name in sorted(names))


def _hours(milliseconds: int) -> str:
    return f"{milliseconds / _HOUR_MS:g} hours"


def every_topic(config: Config, tables: Mapping[str, TableEntry]) -> list[str]:
    """Return all topics of ours that an installation may have, whether they are there or not."""
    names, specs = TopicNames(config.kafka.topic_prefix), [entry.spec for entry in tables.values()]
    views = sorted(view for spec in specs for view in views_that_emit(spec))
    return [
        *own_topics(config),
        names.relay,
        *(names.changes(spec.table) for spec in specs),
        *(names.parked(spec.table) for spec in specs),
        *(names.latest(spec.table) for spec in specs if spec.output.latest),
        *map(names.features, views),
        *map(names.alerts_state, views),
        *(topic for destination in config.notify for topic in names.all_alerts_retry(destination)),
    ]


def look_at_topics(config: Config, tables: Mapping[str, TableEntry]) -> tuple[int, dict[str, dict[str, str]]]:
    """Return how many of our topics were looked at, and of those with differences what is lost, by topic and setting.

    Topics that are not there, or that this user may not look at, are passed over.

    Raises:
        SourceUnavailable: Kafka does not answer.
    """
    found = open_admin(config).configs(every_topic(config, tables))
    differing = {topic: differences(own_topic(config, topic), settings) for topic, settings in found.items()}
    return len(found), {topic: told for topic, told in differing.items() if told}
