"""After a run: every end is read once, record by record, and every oracle is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from schemas.topics import TopicNames
from tests.chaos.stand import ALERTS_PARTITIONS, Stand
from tests.chaos.tables import TABLES, raised
from tests.oracles import AlertKey, Verdict, ViewShape, check_all_views, check_deliveries, read_records, read_stored
from tests.oracles.alerts import identity_of, key_text
from tests.oracles.clients import independent_admin
from tests.oracles.durable import DurableChecks, Partition, check_alerts_durable, check_rising
from tests.oracles.sequence import Expected, Mark, check_sequence, read_partition
from tests.oracles.topic import Record
from tests.oracles.whole_lake import Row, check_lake, rows_of
from tests.workloads.installation import BUCKETS, DESTINATION, NAMESPACE

MIB = 1024 * 1024
RSS_BYTES_MAX = 640 * MIB
THREADS_MAX, FILES_MAX = 96, 256
LAKE_FILES_PER_COMMIT_MAX = 6


class Look:
    """Reads the ends of a run that was stopped."""

    def __init__(self, stand: Stand) -> None:
        self.stand, self.history = stand, stand.source.history
        self.expected_alerts: dict[AlertKey, Mapping[str, Any]] = {}
        self.causes: dict[str, tuple[Partition, int]] = {}
        views = {
            table: tuple(view.id for view in ViewShape.all_of(shape)) for table, shape in self.history.shapes.items()
        }
        self.durable = DurableChecks(stand.samples, views=views)

    def verdicts(self) -> list[Verdict]:
        """Ask every oracle."""
        found = [self._sources(), *(self._output(table) for table in TABLES)]
        if self.stand.plan.uncommitted:
            found += [self._uncommitted(table) for table in TABLES]
        lives = [(table, life) for table in TABLES for life in range(len(self.history.lives(table)))]
        found += [self._quarantine(), *self.redis(), *(self._lake(*life) for life in lives), *self._alerts()]
        if self.stand.samples:
            found += [self.durable.features, self.durable.lake, check_rising(self.stand.samples)]
        return [*found, self._bounds(), self._progress(), *self.stand.plan.check(self.stand)]

    def _sources(self) -> Verdict:
        """Check that the source topics hold what the source remembers: else nothing below means anything."""
        verdict = Verdict("conservation")
        totals = Counter[str]()
        for table in TABLES:
            for partition, log in enumerate(self.history.logs[table]):
                topic = self.stand.source.topic(table)
                totals["read"] += len(log)
                totals["skipped"] += len(log) - self.history.changes(table, partition)
                committed = self._committed.get((topic, partition), 0)
                if committed != len(log):
                    verdict.differ(f"{topic}[{partition}] has {len(log)} records, {committed} are committed as read")
        totals["due"] = totals["read"] - totals["skipped"]
        verdict.figures = dict(totals)
        return verdict

    @property
    def _committed(self) -> dict[Partition, int]:
        group = f"{self.stand.installation.topic_prefix}-normalize"
        with independent_admin(self.stand.kafka.address) as admin:
            found = admin.list_group_offsets(group)[group]
        return {(place.topic, place.partition): at.offset for place, at in found.items()}

    def _output(self, table: str) -> Verdict:
        verdict = Verdict(f"output topic of {table}")
        for life, logs in enumerate(self.history.lives(table)):
            for partition in range(len(logs)):
                self._partition(verdict, table, life, partition)
                due = self.history.changes(table, partition, life)
                verdict.figures["due"] = verdict.figures.get("due", 0) + due
        verdict.at_least("changes", 1)
        return verdict

    def _partition(self, verdict: Verdict, table: str, life: int, partition: int) -> None:
        """Compare one partition of a life; what is of no life at all is a difference of the last one."""
        topic, source, generations = (
            self.stand.output(table),
            self.stand.source.topic(table),
            self.history.generations[table],
        )
        marks = [
            Mark(sample.committed["normalize"].get((source, partition), 0), sample.ends.get((topic, partition), 0))
            for sample in self.stand.samples
        ]

        def hear(offset: int, change: Expected) -> None:
            self.durable.hear(table, topic, partition, offset, change)
            self._note_alerts(table, (topic, partition), offset, change)

        records = read_partition(self.stand.kafka.address, topic, partition)
        if len(generations) > 1:
            records = (record for record in records if _belongs(_generation(record), life, generations))
        check_sequence(
            verdict, (source, generations[life], partition), self.history.expected(table, partition, life), records,
            marks=marks, repeats=self.stand.plan.repeats, seen=[hear],
        )  # fmt: skip

    def _uncommitted(self, table: str) -> Verdict:
        """Check that who reads also what was aborted sees no change twice."""
        verdict = Verdict(f"output topic of {table}, read_uncommitted")
        topic, source = self.stand.output(table), self.stand.source.topic(table)
        for partition in range(TABLES[table].partitions):
            records = read_partition(self.stand.kafka.address, topic, partition, uncommitted=True)
            check_sequence(verdict, (source, 0, partition), self.history.expected(table, partition), records)
        return verdict

    def _note_alerts(self, table: str, place: Partition, offset: int, change: Expected) -> None:
        if change.snapshot:
            return
        for (rule, version), values in raised(table, change.op, change.after, change.key).items():
            key = AlertKey(rule, version, table, key_text(change.key), change.position)
            self.expected_alerts[key] = values
            self.causes.setdefault(str(key), (place, offset))

    def _quarantine(self) -> Verdict:
        records = read_records(self.stand.kafka.address, self.stand.installation.quarantine_topic)
        verdict = Verdict("quarantine", {"entries": len(records)})
        for record in records:
            entry = orjson.loads(record.value or b"{}")
            verdict.differ(
                f"{entry.get('stage')}: {entry.get('reason')} at {entry.get('origin')}: {entry.get('message')}"
            )
        return verdict

    def redis(self) -> list[Verdict]:
        """Check that Redis is the source, now."""
        shapes = self.history.shapes
        rows = {table: self.history.live(table) for table in TABLES}
        with self.stand.redis.client() as client:
            stored = read_stored(client, self.stand.installation.key_prefix)
        views = [view for shape in shapes.values() for view in ViewShape.all_of(shape)]
        return check_all_views(views, stored, rows, buckets=BUCKETS)

    def _lake(self, table: str, life: int) -> Verdict:
        history, generations = self.history, self.history.generations[table]
        logs, rows = history.lives(table)[life], self._rows_of(table)

        def of(partition: int, offset: int) -> tuple[Expected, int | None] | None:
            change = history.at(table, partition, offset, life)
            return None if change is None else (change, history.before(table, partition, offset, life))

        return check_lake(
            history.shapes[table],
            (row for row in rows if _belongs(row["_hg_generation"], life, generations)),
            {p: len(log) for p, log in enumerate(logs)}, of,
            due={p: history.changes(table, p, life) for p in range(len(logs))}, generation=generations[life],
        )  # fmt: skip

    def _rows_of(self, table: str) -> Iterator[Row]:
        return rows_of(self.stand.installation.warehouse, NAMESPACE, table, self.stand.lake_storage())

    def _alerts(self) -> list[Verdict]:
        topic, at, prefix = (
            self.stand.alerts_topic,
            dict[str, tuple[Partition, int]](),
            self.stand.installation.topic_prefix,
        )
        verdict = Verdict("alerts on their topic", {"alerts": 0, "repeats": 0})
        for partition in range(ALERTS_PARTITIONS):
            for record in read_partition(self.stand.kafka.address, topic, partition):
                key = identity_of(orjson.loads(record.value or b"{}"))
                verdict.figures["alerts"] += 1
                if str(key) in at:
                    verdict.figures["repeats"] += 1
                    if not self.stand.plan.repeats:
                        verdict.differ(f"{key} at {partition} {record.offset} and {at[str(key)]}: doubled")
                elif key not in self.expected_alerts:
                    verdict.differ(f"{key}: too much, no change raises it")
                at.setdefault(str(key), ((topic, partition), record.offset))
        for key in self.expected_alerts:
            if str(key) not in at:
                verdict.differ(f"missing: {key}")
        put_off = [*TopicNames(prefix).all_alerts_retry(DESTINATION), f"{prefix}.notify.dead"]
        waiting = [record for topic in put_off for record in read_records(self.stand.kafka.address, topic)]
        waited = frozenset(str(identity_of(orjson.loads(record.value or b"{}")["alert"])) for record in waiting)
        received = check_deliveries(
            self.expected_alerts, self.stand.webhook.deliveries, alert_of=lambda body: body["data"]
        )
        durable = check_alerts_durable(self.stand.samples, self.causes, at, waited=waited)
        return [verdict, received, *([durable] if self.stand.samples else [])]

    def _bounds(self) -> Verdict:
        """Check what must stay small however long it runs: memory, threads, files of each worker; files of the lake."""
        sizes, stand = self.stand.watch.sizes, self.stand
        files = len(stand.lake_files())
        # A table is committed once a second at most, in a file for each of the days that its changes name.
        seconds = stand.watch.times[-1] - stand.watch.times[0] + stand.plan.drain_seconds
        files_max = int(seconds * len(TABLES) * LAKE_FILES_PER_COMMIT_MAX)
        figures = {
            "RSS MB": sizes.rss_bytes // MIB,
            "threads": sizes.threads,
            "files": sizes.files,
            "lake files": files,
        }
        verdict = Verdict("bounds", {**figures, "seconds to drain": round(stand.drained_after)})
        most = {"RSS MB": RSS_BYTES_MAX // MIB, "threads": THREADS_MAX, "files": FILES_MAX, "lake files": files_max}
        for name, limit in most.items():
            if not 0 < figures[name] <= limit:
                verdict.differ(f"{name}: {figures[name]}, at most {limit}")
        for trouble in stand.troubles:
            verdict.differ(trouble)
        return verdict

    def _progress(self) -> Verdict:
        stand = self.stand
        verdict = Verdict("progress", {"changes made": stand.source.made, "faults planted": stand.faults})
        verdict.at_least("changes made", stand.plan.changes)
        verdict.at_least("faults planted", stand.plan.faults)
        return verdict


def _generation(record: Record) -> int | None:
    """Return the generation that a record's origin names."""
    origin = (orjson.loads(record.value or b"null") or {}).get("source", {}).get("origin")
    return int(origin[1]) if origin else None


def _belongs(found: int | None, life: int, generations: Sequence[int]) -> bool:
    """Say whether what names generation `found` is looked at with a life: with the last one also what is of none."""
    return found == generations[life] or (life == len(generations) - 1 and found not in generations)
