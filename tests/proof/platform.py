"""A platform's topics, in ten formats and more, become tables of two running workers: by infer, lint, plan and apply.

python -m tests.proof.platform --tables 150 --records 500 --seed 7

No format is said beforehand. Each topic's rows are held against those that a spec gives which somebody wrote who knows
the source; every record of a topic is emitted or in quarantine; nothing is started again.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from connectors.captured import OneRecord
from connectors.registry import registry_of
from connectors.transport.settings import ClientSettings
from connectors.transport.topics import TopicAdmin, TopicSettings
from connectors.wire import Schemas
from schemas.config import LimitsConfig, read_config
from schemas.errors import SourceUnavailable
from schemas.table import TableSpec
from streams.looked import QUARANTINE, Looker
from streams.specs import Specs, read_specs
from tests.oracles import Shape, Verdict, check_conservation, check_streams, read_records, require, to_change
from tests.oracles.topic import Record
from tests.proof.by_hand import parser_of, services_of_its_own
from tests.proof.ddl import processes, same_workers
from tests.proof.infer import formats_of, tell
from tests.proof.many_topics import ManyTopic, avro_schemas, edits, fill_topics, many_topics
from tests.proof.registration import tables_verb
from tests.services import Kafka, RedisServer, wait_until
from tests.services.registry import SchemaRegistry
from tests.workloads.installation import SECRET, Installation
from tests.workloads.webhook import Webhook

PARTITIONS = 3
WORKERS = 2
APPLY_SECONDS, FLOW_SECONDS = 10.0, 10.0  # what is promised
DEADLINE_SECONDS = 300.0
# The table that is there before the others, so that the installation has one to start with; nothing comes of it.
FIRST = {"table": "first", "key": ["id"], "columns": {"id": "long"}, "lake": {"enabled": False}}


@dataclass(slots=True)
class Platform:
    """The installation, what flows to it, and what became of it."""

    installation: Installation
    topics: Sequence[ManyTopic]
    schemas: Schemas | None
    specs: Specs = field(default_factory=Specs)  # as inferred
    tables: dict[str, str] = field(default_factory=dict)  # by topic

    def output(self, topic: str) -> str:
        """Return where the changes of a topic's table are."""
        return self.installation.changes_topic(self.tables[topic])

    def flowing(self) -> set[str]:
        """Return the topics of whose table something is on the output topic."""
        admin = TopicAdmin(ClientSettings(bootstrap=self.installation.kafka))  # one that was told "unknown" believes it
        outputs = {self.output(topic): topic for topic in self.tables}
        with suppress(SourceUnavailable):  # one of them is being made
            there = admin.describe(outputs)
            ends = admin.watermarks_now([(name, n) for name, found in there.items() for n in range(found.partitions)])
            return {outputs[name] for (name, _), (_, high) in ends.items() if high}
        return set()


def prove(
    kafka: Kafka, redis: RedisServer, folder: Path, *, tables: int, records: int, seed: int, seconds: float
) -> list[Verdict]:
    """Infer, lint, plan and apply; ask the oracles."""
    prefix = f"p{seed % 1000:03d}t"
    topics = many_topics(tables, prefix)
    print(f"seed {seed}, {tables} topics of {len({each.spec.format for each in topics})} formats: {formats_of(topics)}")
    print(f"{fill_topics(kafka.address, topics, records, partitions=PARTITIONS):,} records written", flush=True)
    first = {**FIRST, "topics": [f"first-{prefix}"]}
    TopicAdmin(ClientSettings(bootstrap=kafka.address)).create_all({f"first-{prefix}": TopicSettings(partitions=1)})
    with SchemaRegistry() as registry, Webhook(SECRET) as webhook:
        for number, text in avro_schemas().items():
            registry.register(f"schema-{number}", text, number=int(number))
        with Installation(
            folder, kafka.address, redis.address, webhook.url, {"first": Shape.of(first)},
            overrides={"registry": {"urls": [registry.url]}}, arguments=("--workers", f"normalize={WORKERS}"),
        ) as installation:  # fmt: skip
            installation.start()
            before = processes(installation)
            schemas = registry_of(read_config(f"registry: {{urls: ['{registry.url}']}}", name="config").registry)
            platform = Platform(installation, topics, schemas)
            verdicts = [registered(platform, prefix, seconds), *came_out(platform)]
            again = same_workers(installation, before, at_least=WORKERS)
            installation.stop()
            return [*verdicts, again]


def registered(platform: Platform, prefix: str, seconds: float) -> Verdict:
    """Make the tables, as the documents say it; return how long each step took."""
    installation, times = platform.installation, dict[str, float]()
    inferred = tables_verb(installation, "infer", f"^{prefix}", "--out", "tables", "--seconds", str(seconds), "--json")
    times["infer"] = inferred.seconds
    linted = tables_verb(installation, "lint", "tables", "--topic-samples", "--seconds", str(seconds), "--json")
    times["lint"] = linted.seconds
    tell(platform.topics, installation.folder / "tables", json.loads(linted.told)["risks"])
    platform.specs = read_specs(installation.folder / "tables")
    platform.tables = {topic: table for table, spec in platform.specs.items() for topic in spec.topics}
    platform.tables.pop(f"first-{prefix}")
    planned = tables_verb(installation, "plan", "tables", "--json")
    times["plan"] = planned.seconds
    notices = Counter(notice["rule"] for each in json.loads(planned.told)["tables"] for notice in each["notices"])
    print(f"the plan's notices: {dict(notices)}")
    applied = tables_verb(installation, "apply", "tables", "--yes")
    assert applied.code == 0, applied.said
    times["apply"], began = applied.seconds, time.monotonic()
    with_rows = [each.topic for each in platform.topics if each.topic in platform.tables]
    wait_until(
        lambda: platform.flowing() >= set(with_rows), "rows of all tables flow", deadline_seconds=DEADLINE_SECONDS,
        poll_seconds=0.5,
    )  # fmt: skip
    times["flow"] = time.monotonic() - began
    again = tables_verb(installation, "apply", "tables", "--yes", "--json")
    figures = {"tables": len(platform.tables), **{f"ms to {name}": int(took * 1000) for name, took in times.items()}}
    verdict = Verdict("tables of a platform are registered under running workers", figures)
    for name, most in (("apply", APPLY_SECONDS), ("flow", FLOW_SECONDS)):
        if times[name] > most:
            verdict.differ(f"{name} took {times[name]:.1f} s, {most:.0f} are promised")
    if again.code != 0 or json.loads(again.told)["counts"]["unchanged"] != len(platform.specs):
        verdict.differ("the same files again wrote something")
    verdict.at_least("tables", len(platform.topics))
    return verdict


def came_out(platform: Platform) -> Iterator[Verdict]:
    """Yield, of each topic, whether all of it is there, in order, and whether its rows are right."""
    bootstrap, put_aside = platform.installation.kafka, _put_aside(platform.installation)
    for each in platform.topics:
        inputs, topic = read_records(bootstrap, each.topic), each.topic
        shape = Shape.read(platform.specs.file(platform.tables[topic]))
        rejected = put_aside.get(topic, set())
        known = Known.of(each, inputs, platform.schemas)
        records = wait_until(
            lambda topic=topic, rejected=rejected, known=known: _all_of(platform, topic, known.records - len(rejected)),  # type: ignore[misc]
            f"{platform.output(topic)} has its rows", deadline_seconds=DEADLINE_SECONDS, poll_seconds=1.0,
        )  # fmt: skip
        digits = len(json.loads(records[0].value or b"{}")["position"])
        changes = [to_change(shape, record, position_digits=digits) for record in records]
        yield check_streams(changes, name=topic, repeats_allowed=True)
        emitted = {change.origin[:4] for change in changes}
        yield check_conservation(
            inputs, emitted=emitted, quarantined=rejected, topics=[topic], skip_values={None, *known.skipped}
        )
        yield known.compared(records, platform.specs[platform.tables[topic]])


def _all_of(platform: Platform, topic: str, wanted: int) -> list[Record]:
    """Return the records of a topic's table once they are as many as wanted."""
    found = read_records(platform.installation.kafka, platform.output(topic))
    origins = {tuple(json.loads(record.value or b"{}")["source"]["origin"][:4]) for record in found}
    return found if len(origins) >= wanted else []


def _put_aside(installation: Installation) -> dict[str, set[tuple[Any, ...]]]:
    """Return the origins of records in quarantine, by topic."""
    found: defaultdict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for entry in read_records(installation.kafka, installation.quarantine_topic):
        origin = tuple(json.loads(entry.value or b"{}")["origin"])
        found[origin[0]].add(origin[:4])
    return found


Row = dict[str, Any]


@dataclass(slots=True)
class Known:
    """What comes of a topic by the spec that somebody wrote who knows its source."""

    spec: TableSpec
    records: int  # that make changes
    rows: dict[str, tuple[str, Row | None]]  # by key, the position of the last change and its row
    skipped: set[bytes | None]

    @classmethod
    def of(cls, topic: ManyTopic, inputs: Sequence[Record], schemas: Schemas | None) -> Known:
        """Decode the records."""
        looker = Looker({topic.spec.table: topic.spec}, LimitsConfig(), schemas)
        known = cls(topic.spec, 0, {}, set())
        for record in inputs:
            one = OneRecord(record.topic, record.partition, record.offset, record.key, record.value, record.headers)
            looked = looker.look(one)
            values = [json.loads(bytes(found.change)) for found in looked if found.change is not None]
            known.records += bool(values)
            if not values and all(found.kind != QUARANTINE for found in looked):
                known.skipped.add(record.value)
            for value in values:
                fold(known.rows, value, topic.spec.key)
        return known

    def compared(self, records: Sequence[Record], inferred: TableSpec) -> Verdict:
        """Compare the rows, in the columns that need no edit."""
        verdict = Verdict(f"rows of {inferred.topics[0]}", {"rows": len(self.rows)})
        if edits(inferred, self.spec):
            verdict.figures["need an edit"] = 1
            return verdict
        rows: dict[str, tuple[str, Row | None]] = {}
        for record in records:
            fold(rows, json.loads(record.value or b"null"), self.spec.key)
        wanted, found = (_shown(each, self.spec.columns) for each in (self.rows, rows))
        for key in wanted.keys() | found.keys():
            if wanted.get(key) != found.get(key):
                verdict.differ(f"{key}: {wanted.get(key)} is known, {found.get(key)} came out")
        return verdict


def fold(rows: dict[str, tuple[str, Row | None]], value: Row, key: Sequence[str]) -> None:
    """Let a change win over what it is above of; rows without a key are not folded."""
    if not key or value["key"] is None:
        return
    at = json.dumps([plain(value["key"][name]) for name in key])
    if at not in rows or value["position"] >= rows[at][0]:
        rows[at] = value["position"], value["after"]


def _shown(rows: Mapping[str, tuple[str, Row | None]], columns: Mapping[str, Any]) -> dict[str, Row]:
    """Return the rows that are alive, in some columns, in plain forms; what a row does not have says nothing."""
    return {
        key: {name: plain(after[name]) for name in columns if after.get(name) is not None}
        for key, (_, after) in rows.items()
        if after is not None
    }


def plain(value: Any) -> Any:
    """Return a value in a form that does not depend on how wide its type is: numbers by what they are."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, bool) or value is None:
        return value
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return str(value)
    return str(number.normalize()) if number.is_finite() else str(value)


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the services, prove, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--tables", type=int, default=150)
    parser.add_argument("--records", type=int, default=500, help="of each generated topic")
    parser.add_argument("--seconds", type=float, default=50, help="at most so long for infer, and for lint")
    options = parser.parse_args(arguments)
    with services_of_its_own() as (services, folder):
        kafka, redis = services.kafka(), services.redis(private=True)
        verdicts = prove(
            kafka, redis, folder, tables=options.tables, records=options.records, seed=options.seed,
            seconds=options.seconds,
        )  # fmt: skip
        require(*verdicts)


if __name__ == "__main__":
    main()
