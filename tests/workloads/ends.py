"""The four ends of an installation, looked at together: when they are quiet, and what all oracles say of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
import redis
from kafka import TopicPartition

from tests.oracles import (
    AlertKey,
    Change,
    RowEvent,
    Verdict,
    ViewShape,
    check_all_views,
    check_conservation,
    check_deliveries,
    check_history,
    check_latest,
    check_origins,
    check_streams,
    check_updates,
    expected_alerts,
    expected_comparisons,
    read_lake,
    read_records,
    read_stored,
    to_change,
)
from tests.oracles.clients import independent_admin, independent_consumer
from tests.oracles.topic import Origin, Record
from tests.services import RedisServer, wait_until
from tests.workloads.installation import BUCKETS, DESTINATION, NAMESPACE, Installation
from tests.workloads.model import OUT_OF_LINE
from tests.workloads.rules import COMPARISONS, RULES
from tests.workloads.webhook import Webhook

NOTIFY_STAGE = f"notify-{DESTINATION}"
MARKERS_LOOKED_THROUGH_MAX = 200
EMPTY_POLLS_MAX = 20
WAYS = ("changes.", "features.", "latest.", "alerts", "notify.")  # how the names of topics go on that lead to an end

Rows = Mapping[str, Mapping[tuple[Any, ...], Mapping[str, Any]]]


@dataclass(slots=True)
class Ends:
    """What came out of an installation, read once, after it was stopped."""

    installation: Installation
    redis: RedisServer
    webhook: Webhook
    inputs: dict[str, list[Record]] = field(default_factory=dict)
    changes: dict[str, list[Change]] = field(default_factory=dict)
    quarantined: list[dict[str, Any]] = field(default_factory=list)

    def read_topics(self) -> None:
        """Read source topics, output topics and quarantine."""
        bootstrap = self.installation.kafka
        for table, shape in self.installation.shapes.items():
            self.inputs[table] = [record for topic in shape.topics for record in read_records(bootstrap, topic)]
            output = read_records(bootstrap, self.installation.changes_topic(table))
            self.changes[table] = [to_change(shape, record) for record in output]
        quarantine = read_records(bootstrap, self.installation.quarantine_topic)
        self.quarantined = [orjson.loads(record.value or b"") for record in quarantine]

    def quarantined_origins(self) -> list[Origin]:
        """Return the origins of the source that are in quarantine: what NORMALIZE put there."""
        origins = [entry["origin"] for entry in self.quarantined if entry["stage"] == "normalize"]
        return [(topic, generation, partition, offset) for topic, generation, partition, offset in origins]

    def check_later_stages(self) -> Verdict:
        """Check that no stage behind NORMALIZE has put anything in quarantine: what it gets is right."""
        verdict = Verdict("quarantine of later stages", {"entries of all stages": len(self.quarantined)})
        for entry in self.quarantined:
            if entry["stage"] != "normalize":
                verdict.differ(f"{entry['stage']}: {entry['reason']}: {entry['message']} at {entry['origin']}")
        return verdict

    def alerts(self) -> dict[AlertKey, Mapping[str, Any]]:
        """Return the alerts that the changes must have raised."""
        expected: dict[AlertKey, Mapping[str, Any]] = {}
        for table, changes in self.changes.items():
            expected |= expected_alerts(table, RULES[table], changes)
            expected |= expected_comparisons(table, COMPARISONS.get(table, {}), changes)
        return expected

    def verdicts(
        self, rows: Rows, events: list[RowEvent] | None = None, *, changes_at_least: int, source_repeats: bool = False
    ) -> list[Verdict]:
        """Ask every oracle; `rows` are the source's, `events` its history."""
        installation, verdicts = self.installation, []
        for table, shape in installation.shapes.items():
            changes = self.changes[table]
            verdicts.append(check_streams(changes, name=table, repeats_allowed=source_repeats))
            if events is not None:
                verdicts.append(check_history(shape, events, changes, out_of_line=OUT_OF_LINE[table]))
            in_lake = read_lake(installation.warehouse, NAMESPACE, shape)
            verdicts += [check_latest(shape, in_lake, rows[table]), check_origins(shape, in_lake, changes)]
        inputs = [record for records in self.inputs.values() for record in records]
        emitted = [change.origin for changes in self.changes.values() for change in changes]
        topics = {topic for shape in installation.shapes.values() for topic in shape.topics}
        verdicts.append(
            check_conservation(
                inputs,
                emitted=emitted,
                quarantined=self.quarantined_origins(),
                topics=topics,
                at_least=changes_at_least,
            )
        )
        verdicts.append(self.check_later_stages())
        verdicts += self.verdicts_of_redis(rows)
        verdicts.append(check_deliveries(self.alerts(), self.webhook.deliveries, alert_of=lambda body: body["data"]))
        return verdicts

    def verdicts_of_redis(self, rows: Rows) -> list[Verdict]:
        """Ask what Redis holds, and that it is the source's rows and nothing else."""
        with self.redis.client() as client:
            stored = read_stored(client, self.installation.key_prefix)
        shapes = self.installation.shapes.values()
        views = [view for shape in shapes for view in ViewShape.all_of(shape)]
        views += [view for shape in shapes for view in ViewShape.made_by_rules(shape, stored.rows)]
        emitting = [view for view in views if view.emits]
        updates = {view.view: self._updates_of(view.view) for view in emitting}
        return [
            *check_all_views(views, stored, rows, buckets=BUCKETS),
            *check_updates(emitting, updates, stored, buckets=BUCKETS),
        ]

    def _updates_of(self, view: str) -> Any:
        return read_records(self.installation.kafka, self.installation.features_topic(view))


def wait_quiet(installation: Installation, *, records: int, deadline_seconds: float) -> None:
    """Return once the source topics hold `records` records and every group has read its topics to their ends.

    Raises:
        TimeoutError: it says where the topics end, who lags, and by how much.
    """
    topics = [topic for shape in installation.shapes.values() for topic in shape.topics]
    ends: dict[str, list[int]] = {}
    behind: dict[str, int] = {}

    def complete() -> bool:
        ends.update({topic: list(_ends(consumer, topic).values()) for topic in topics})
        return sum(map(sum, ends.values())) >= records

    def quiet() -> bool:
        assert installation.is_running(), f"`headgate run` ended:\n{installation.log_tail()}"
        behind.clear()
        behind.update(not_through(installation, consumer, admin, outbox=partial(outbox_entries, installation)))
        return not behind

    with independent_consumer(installation.kafka) as consumer, independent_admin(installation.kafka) as admin:
        try:
            source = f"{records} records in the source topics"
            wait_until(complete, source, deadline_seconds=deadline_seconds, poll_seconds=0.3)
            wait_until(quiet, "every group at its end", deadline_seconds=deadline_seconds, poll_seconds=0.5)
        except TimeoutError as exc:
            raise TimeoutError(f"{exc}; ends of the source topics: {ends}; behind: {behind}") from exc


def outbox_entries(installation: Installation) -> int:
    """Return how many entries of feature updates are not in Kafka yet."""
    with redis.Redis.from_url(installation.redis) as client:
        return sum(client.xlen(f"{installation.key_prefix}:{{b{bucket}}}:out") for bucket in range(BUCKETS))


def not_through(
    installation: Installation, consumer: Any, admin: Any, *, outbox: Callable[[], int] = int
) -> dict[str, int]:
    """Return what is still on its way: where groups lag, what waits in `outbox`, or else which topics grow.

    Ends are asked for before what is committed. A stage that writes and commits in between lags no more, and the next
    one seems to have read all: only that a topic is longer by then shows it.
    """
    before = _all_ends(installation, consumer, admin)
    found = lags(installation, consumer, admin)
    if waiting := outbox():
        found["entries of feature updates in Redis"] = waiting
    if found:
        return found
    after = _all_ends(installation, consumer, admin)
    return {f"{topic} grows": 1 for topic, ends in after.items() if ends != before.get(topic)}


def _all_ends(installation: Installation, consumer: Any, admin: Any) -> dict[str, dict[Any, int]]:
    """Return where the topics end that lead to the four ends; what stages say of themselves always grows."""
    sources = [topic for shape in installation.shapes.values() for topic in shape.topics]
    ours = tuple(f"{installation.topic_prefix}.{way}" for way in WAYS)
    ways = [*sources, *(topic for topic in admin.list_topics() if topic.startswith(ours))]
    return {topic: _ends(consumer, topic) for topic in ways}


def lags(installation: Installation, consumer: Any, admin: Any) -> dict[str, int]:
    """Return how far each group is behind in each topic it reads: in records, or in offsets where that is far.

    The end of a topic counts markers of transactions, which nobody can read or commit beyond: what lies between a
    committed offset and the end is looked at before it counts.
    """
    prefix = installation.topic_prefix
    outputs = [installation.changes_topic(table) for table in installation.shapes]
    sources = [topic for shape in installation.shapes.values() for topic in shape.topics]
    waiting = (topic for topic in admin.list_topics() if topic.startswith(f"{prefix}.notify.retry.{DESTINATION}."))
    delivered = [f"{prefix}.alerts", *sorted(waiting)]
    own_view = f"{prefix}.features.rule-"  # of a rule that compares, and names no view
    compared = [installation.features_topic(view) for view in installation.views_with_rules()]
    compared += [topic for topic in admin.list_topics() if topic.startswith(own_view)]
    reads = {
        "normalize": sources, "features": outputs, "alerts": outputs + compared, "lake": outputs,
        NOTIFY_STAGE: delivered,
    }  # fmt: skip
    ends = {topic: _ends(consumer, topic) for topics in reads.values() for topic in topics}
    gaps: dict[str, dict[Any, tuple[int, int]]] = {}
    for stage, topics in reads.items():
        group = f"{prefix}-{stage}"
        committed = {partition: at.offset for partition, at in admin.list_group_offsets(group)[group].items()}
        for topic in topics:
            gaps[f"{stage} {topic}"] = {
                partition: (committed.get(partition, 0), end) for partition, end in ends[topic].items()
            }
    lowest: dict[Any, int] = {}
    for by_partition in gaps.values():
        for partition, (start, end) in by_partition.items():
            if start < end <= start + MARKERS_LOOKED_THROUGH_MAX:
                lowest[partition] = min(start, lowest.get(partition, start))
    offsets = _offsets_from(consumer, lowest, {partition: end for of in ends.values() for partition, end in of.items()})
    counted = {
        name: sum(_unread(start, end, offsets.get(partition, [])) for partition, (start, end) in by_partition.items())
        for name, by_partition in gaps.items()
    }
    return {name: count for name, count in counted.items() if count}


def _unread(start: int, end: int, offsets: list[int]) -> int:
    if end - start > MARKERS_LOOKED_THROUGH_MAX or end <= start:
        return max(0, end - start)
    return sum(offset >= start for offset in offsets)


def _offsets_from(consumer: Any, starts: dict[Any, int], ends: dict[Any, int]) -> dict[Any, list[int]]:
    """Return the offsets of the records that lie from `starts` on, read from all partitions at once."""
    found: dict[Any, list[int]] = {partition: [] for partition in starts}
    consumer.assign(list(starts))
    for partition, start in starts.items():
        consumer.seek(partition, start)
    for _ in range(EMPTY_POLLS_MAX):
        for partition, records in consumer.poll(timeout_ms=200).items():
            found[partition] += [record.offset for record in records]
        if all(consumer.position(partition) >= ends[partition] for partition in starts):
            break
    return found


def _ends(consumer: Any, topic: str) -> dict[Any, int]:
    numbers = consumer.partitions_for_topic(topic) or ()
    return dict(consumer.end_offsets([TopicPartition(topic, number) for number in numbers])) if numbers else {}
