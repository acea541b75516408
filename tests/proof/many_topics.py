"""Topics in many formats, as a platform brings them in one go: generated ones, and captures of real connectors.

Each comes with the specs that somebody would write who knows the sources, to hold others against.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from confluent_kafka import Producer

from connectors.transport.settings import ClientSettings
from connectors.transport.topics import TopicAdmin, TopicSettings
from schemas.table import TableSpec
from schemas.types import ColumnType, Kind
from tests.bench.families import FAMILIES, JSON, Family
from tests.bench.schema_events import AvroEvents
from tests.unit.formats import captures, event_cases

Record = tuple[bytes | None, bytes | None]
Records = Callable[[int], Iterator[Record]]
FLUSH_SECONDS = 300
# Whose difference somebody may leave as it is: every value has its form in the wider type.
_WIDER = {
    Kind.INT: {Kind.LONG},
    Kind.FLOAT: {Kind.DOUBLE},
}
_FLAT = ("pg-unwrap-rewrite", "pg-unwrap-tombstone", "pg-unwrap-tombstone-with-schema", "pg-unwrap-drop")
_ENVELOPES = (
    *("mariadb-json-schemaless", "pg-json-schemaless", "pg-json-with-schema", "mariadb-types", "pg-types-general"),
    *("pg-types-time-adaptive", "pg-types-decimal-precise", "mariadb-types-schema", "pg-toast", "pg-heartbeat"),
)
_TOLD = ("canal", "goldengate", "qlik", "sequin")


@dataclass(frozen=True, slots=True)
class ManyTopic:
    """A topic of one table: `records` yields so many, or all of a capture. `beside` are topics that come with it."""

    topic: str
    family: str
    spec: TableSpec
    records: Records
    beside: dict[str, Sequence[Record]] = field(default_factory=dict)


def many_topics(count: int, prefix: str) -> list[ManyTopic]:
    """Return `count` topics, of each family in turn; their names begin with `prefix`."""
    families = [
        *map(_generated, (JSON, *FAMILIES.values())),
        _captured(_FLAT),
        _captured(_ENVELOPES),
        _events(),
        _clouds(),
    ]
    turns = itertools.cycle(families)
    return [next(turns)(f"{prefix}{number:03d}") for number in range(count)]


def avro_schemas() -> dict[str, str]:
    """Return the schemas of the topics in Avro, by the ids that their records carry."""
    key, value = AvroEvents.schemas("avro.public.results")
    made = AvroEvents()
    return {str(made.key_id): key, str(made.value_id): value}


_Make = Callable[[str], ManyTopic]


def _generated(family: Family) -> _Make:
    """Return the maker of topics of the bench's rows in a format; a connector has a server's name and a table's."""

    def made(name: str) -> ManyTopic:
        topic = f"{name}.public.results"
        rows = lambda n: ((key, value) for key, value, _ in family.make(n, topic))  # noqa: E731
        return ManyTopic(topic, family.name, family.spec("results", topic), rows)

    return made


def _captured(cases: Sequence[str]) -> _Make:
    """Return the maker of topics of tables of captures, one after the other."""
    tables = [
        (case, table)
        for case in cases
        for table, known in captures.oracle(case).items()
        if known["primary_key"] and captures.runs(case, captures.topic_of(case, table))
    ]
    turns = itertools.cycle(tables)

    def made(name: str) -> ManyTopic:
        case, table = next(turns)
        source = captures.topic_of(case, table)
        topic, server = f"{name}.{source}", captures.configuration(case)["topic.prefix"]
        definitions = _records_of(case, server)
        return ManyTopic(
            topic,
            case,
            captures.spec_of(case, table, topics=[topic]),
            lambda _n: iter(_records_of(case, source)),
            {f"{name}.{server}": definitions} if definitions else {},
        )

    return made


def _records_of(case: str, topic: str) -> list[Record]:
    runs = captures.runs(case, topic)
    return [record for run in runs for record in zip(run.keys(), run.values(), strict=True)]


def _events() -> _Make:
    turns = itertools.cycle([event_cases.cases()[name] for name in _TOLD])

    def made(name: str) -> ManyTopic:
        return _of_case(next(turns), name)

    return made


def _clouds() -> _Make:
    return lambda name: _of_case(event_cases.cases()["pg-cloudevents-json public.t"], name)


def _of_case(case: event_cases.Case, name: str) -> ManyTopic:
    topic = f"{name}.{case.spec.format}"
    kept = [(record.key, record.value) for record in case.records]
    return ManyTopic(topic, case.spec.format, case.spec.model_copy(update={"topics": [topic]}), lambda _n: iter(kept))


def fill_topics(bootstrap: str, topics: Sequence[ManyTopic], records: int, *, partitions: int) -> int:
    """Make the topics, and what comes beside them; write so many records of each, and return how many these are."""
    beside = {name: some for each in topics for name, some in each.beside.items()}
    wanted = {**{each.topic: partitions for each in topics}, **dict.fromkeys(beside, 1)}
    TopicAdmin(ClientSettings(bootstrap=bootstrap)).create_all(
        {name: TopicSettings(partitions=number) for name, number in wanted.items()}
    )
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "lz4", "linger.ms": 50})
    written = 0
    everything = itertools.chain(
        ((each.topic, partitions, record) for each in topics for record in each.records(records)),
        ((name, 1, record) for name, some in beside.items() for record in some),
    )
    for topic, number, (key, value) in everything:
        written += 1
        while True:
            try:
                producer.produce(topic, value, key, (zlib.crc32(key) if key else written) % number)
                break
            except BufferError:
                producer.poll(0.1)
    left = producer.flush(FLUSH_SECONDS)
    assert not left, f"{left} records were not written"
    return written


def edits(proposed: TableSpec, known: TableSpec) -> list[str]:
    """Return what somebody who knows the source would have to write otherwise; what is only wider may stay."""
    found = [] if proposed.key == known.key else [f"key: {proposed.key} for {known.key}"]
    if proposed.format != known.format:
        found.append(f"format: {proposed.format} for {known.format}")
    for name, column in known.columns.items():
        if name not in proposed.columns:
            found.append(f"a column is missing: {column.type}")
        elif not _may_stay(proposed.columns[name].type, column.type):
            found.append(f"type: {proposed.columns[name].type} for {column.type}")
    return found


def _may_stay(proposed: ColumnType, known: ColumnType) -> bool:
    if proposed.element is not None and known.element is not None:
        return _may_stay(proposed.element, known.element)
    if proposed.kind is Kind.DECIMAL and known.kind is Kind.DECIMAL:
        return proposed.scale >= known.scale and proposed.precision >= known.precision
    return proposed == known or proposed.kind in _WIDER.get(known.kind, ())
