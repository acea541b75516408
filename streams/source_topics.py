"""What the broker says of the topics that specs name, before anything is applied: so that it is said in `plan`.

Are they there, and under which name else; may this user read and make what is needed; do several tables lay claim to a
topic that patterns hid; and what becomes of the records that flow there now. Nothing is made or changed.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count, islice

from connectors.registry import registry_of
from connectors.transport.answers import Administrator
from connectors.transport.groups import topics_below
from connectors.transport.rights import TopicSeen, refused_topics, topics_seen
from connectors.transport.sampling import SampleBounds, Sampling
from connectors.transport.topics import TopicSettings
from schemas.config import Config
from schemas.errors import HeadgateError, TableStopped
from schemas.output import latest_view_name
from schemas.removed import Removed
from schemas.table import TableEntry, TableSpec, views_that_emit
from schemas.topics import TopicNames
from streams.looked import QUARANTINE, Looker
from streams.registration import open_admin, own_topic
from streams.settings import client_settings, is_embedded
from streams.tables import TableDirectory, reads
from streams.template_tables import standing, wanted_tables

SAMPLED_TOPICS_OF_PATTERN = 3
SAMPLED = SampleBounds(records_max=30, seconds_max=5.0)  # of each topic, and of all together
NEAR_MAX = 20  # names that are not there for which the nearest is looked for: of thousands that takes a while
NONE_REMOVED: Mapping[str, Removed] = {}
_RIGHTS_HINT = "docs/operate.md lists what this user needs"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that somebody should know before a table is applied; one that `refuses` must be mended first."""

    table: str
    rule: str
    what: str
    hint: str
    refuses: bool = False


@dataclass(slots=True)
class Sources:
    """What was seen: all topics that this user sees, with their partitions, and more of those that were asked for."""

    names: Mapping[str, int]
    seen: Mapping[str, TopicSeen]
    made: dict[str, dict[str, int]] = field(default_factory=dict)  # by table: topics that will be, their partitions
    foreseen: dict[str, dict[str, str]] = field(default_factory=dict)  # of templates: topics and their tables
    notices: list[Notice] = field(default_factory=list)


def look_at_sources(
    config: Config,
    specs: Mapping[str, TableSpec],
    wanted: Collection[str],
    *,
    removed: Mapping[str, Removed] = NONE_REMOVED,
    sample: bool = True,
) -> Sources:
    """Return what is to be said of the topics of the tables `wanted`, among all `specs` that will be registered.

    `removed` is what stays of tables that were registered before.

    Raises:
        SourceUnavailable: Kafka does not answer.
        ConfigurationError: it lets nobody in.
    """
    names, of = TopicNames(config.kafka.topic_prefix), [specs[table] for table in sorted(wanted)]
    outputs = {topic: spec for spec in of if spec.template is None for topic in _outputs(spec, names)}
    named = {topic for spec in of for topic in spec.topics if not topic.startswith("^")}
    if is_embedded(config):
        found = open_admin(config).describe({*named, *outputs})
        everything = {name: said.partitions for name, said in found.items()}
        sources = Sources(
            everything, {name: TopicSeen(n, frozenset({"READ", "WRITE"})) for name, n in everything.items()}
        )
    else:
        admin = Administrator(client_settings(config))
        everything = topics_below(admin, "")
        caught = {topic for spec in of for topic in _caught(spec, everything)}
        sources = Sources(everything, topics_seen(admin, {*named, *caught, *outputs, names.tables}))
    nearest = islice(count(), NEAR_MAX)
    sources.notices += [notice for spec in of for notice in _of_topics(spec, sources, names, nearest)]
    sources.notices += _of_claims(specs, wanted, everything)
    _foresee(config, sources, outputs)
    sources.foreseen = foreseen_tables(specs, removed, wanted, sources.names, config.kafka.topic_prefix)
    if sample:
        tables = [table for table in wanted if specs[table].template is None]
        sources.notices += _of_records(config, specs, tables, sources)
    return sources


def _caught(spec: TableSpec, topics: Collection[str]) -> list[str]:
    """Return the topics that there are of a table."""
    if not any(topic.startswith("^") for topic in spec.topics):  # there may be thousands of both
        return [topic for topic in spec.topics if topic in topics]
    return [topic for topic in topics if reads(spec, topic)]


def _of_topics(spec: TableSpec, sources: Sources, names: TopicNames, nearest: Iterator[int]) -> Iterator[Notice]:
    """Yield what is not right with the topics of a table; as long as there are `nearest`, with the nearest names."""
    table = spec.table
    for topic in spec.topics:
        if topic.startswith("^"):
            one = spec.model_copy(update={"topics": [topic]})
            caught = _caught(one, sources.names)
            if not caught:
                yield Notice(table, "topic_missing", f"no topic is there that {topic} catches", "is the pattern right?")
            if ours := [name for name in caught if name.startswith(f"{names.prefix}.")]:
                what = f"{topic} also catches {ours[0]}, a topic of ours"
                yield Notice(table, "own_topic", what, f"leave out what begins with {names.prefix}.", refuses=True)
            continue
        seen = sources.seen.get(topic)
        if seen is None:
            wanted = next(nearest, None) is not None
            near = difflib.get_close_matches(topic, sources.names, n=1, cutoff=0.75) if wanted else []
            hint = f"did you mean {near[0]}?" if near else "rows flow within seconds once it is there"
            yield Notice(table, "topic_missing", f"there is no topic {topic}", hint)
    for topic in _caught(spec, sources.seen):
        seen = sources.seen[topic]
        if seen.hidden:
            yield Notice(table, "right_missing", f"{topic} is hidden from this user, if it is there", _RIGHTS_HINT)
        elif "READ" not in seen.may:
            yield Notice(table, "right_missing", f"this user may not read {topic}", _RIGHTS_HINT)


def _of_claims(specs: Mapping[str, TableSpec], wanted: Collection[str], topics: Iterable[str]) -> Iterator[Notice]:
    """Yield the claims of several tables to topics that are there, which no look at patterns alone can tell."""
    patterns = [spec for spec in specs.values() if any(topic.startswith("^") for topic in spec.topics)]
    tables = TableDirectory({table: TableEntry(spec=spec) for table, spec in specs.items()})
    told: set[str] = set()
    for topic in topics:
        if not any(reads(spec, topic) for spec in patterns):
            continue
        try:
            tables.of_topic(topic)
        except TableStopped as stop:
            mine = next((table for table in sorted(wanted) if reads(specs[table], topic)), None)
            if mine is not None and mine not in told:
                told.add(mine)
                yield Notice(mine, stop.reason, stop.message, stop.hint, refuses=True)


def _outputs(spec: TableSpec, names: TopicNames) -> list[str]:
    """Return the topics that a table is written to, the one of its changes first."""
    emitting = sorted(views_that_emit(spec) - {latest_view_name(spec.table)})
    latest = [names.latest(spec.table)] if spec.output.latest else []
    return [names.changes(spec.table), *map(names.features, emitting), *latest]


def _foresee(config: Config, sources: Sources, outputs: Mapping[str, TableSpec]) -> None:
    """Note which output topics will be made, and what this user may not do with those that are there."""
    changes = TopicNames(config.kafka.topic_prefix).changes("")
    made: dict[str, TopicSettings] = {}
    for output, spec in outputs.items():
        sizes = [sources.names.get(topic, sources.seen[topic].partitions) for topic in _caught(spec, sources.seen)]
        settings, there = own_topic(config, output, partitions=max([1, *sizes])), sources.seen.get(output)
        if there is None or there.hidden:
            made[output] = settings
            sources.made.setdefault(spec.table, {})[output] = settings.partitions
            continue
        grows = output.startswith(changes) and there.partitions < settings.partitions and not is_embedded(config)
        for right in sorted(({"WRITE", "ALTER"} if grows else {"WRITE"}) - there.may):
            what = f"this user has not the right {right.capitalize()} to {output}"
            sources.notices.append(Notice(spec.table, "right_missing", what, _RIGHTS_HINT))
    if not is_embedded(config):
        _foresee_refusals(config, sources, outputs, made)


def _foresee_refusals(
    config: Config, sources: Sources, outputs: Mapping[str, TableSpec], made: Mapping[str, TopicSettings]
) -> None:
    """Note which topics the broker would not make, and that the tables' topic may not be written."""
    for output, why in refused_topics(Administrator(client_settings(config)), made).items():
        what = f"the broker would not make {output}: {why}"
        sources.notices.append(Notice(outputs[output].table, "right_missing", what, _RIGHTS_HINT))
    tables = sources.seen.get(TopicNames(config.kafka.topic_prefix).tables)
    if tables is not None and not tables.hidden and "WRITE" not in tables.may:
        what = "this user may not write the registered tables"
        sources.notices.append(Notice("", "right_missing", what, f"apply as another user; {_RIGHTS_HINT}"))


def foreseen_tables(
    specs: Mapping[str, TableSpec],
    removed: Mapping[str, Removed],
    wanted: Collection[str],
    topics: Iterable[str],
    own_prefix: str,
) -> dict[str, dict[str, str]]:
    """Return by template of those `wanted` which tables it will make of the topics that are there; pure.

    `removed` is what stays of tables that were registered before; of one that is registered again nothing does.
    """
    tables = TableDirectory({table: TableEntry(spec=spec) for table, spec in specs.items()})
    tables.removed = {table: each for table, each in removed.items() if table not in specs}
    found: dict[str, dict[str, str]] = {}
    for topic, (template, named) in wanted_tables(standing(tables), topics, own_prefix).items():
        if template.spec.table in wanted:
            found.setdefault(template.spec.table, {})[topic] = named.table
    return found


def _of_records(
    config: Config, specs: Mapping[str, TableSpec], wanted: Collection[str], sources: Sources
) -> Iterator[Notice]:
    """Yield what would become of the records that stand last on the topics of the tables `wanted`."""
    topics: set[str] = set()
    for table in sorted(wanted):
        there = [topic for topic in _caught(specs[table], sources.seen) if not sources.seen[topic].hidden]
        topics.update(there[:SAMPLED_TOPICS_OF_PATTERN] if specs[table].topics[0].startswith("^") else there)
    registry = registry_of(config.registry)
    try:
        looker = Looker(specs, config.limits, registry)
        sampling = Sampling(sorted(topics), client_settings(config), open_admin(config), SAMPLED)
        with closing(iter(sampling)) as records:
            looked = [each for record in records for each in looker.look(record)]
    except HeadgateError as error:  # of the registry, or of a topic: the tables can be applied all the same
        yield Notice("", "not_looked_at", f"no records were looked at: {error.message}", error.hint)
        return
    seen = Counter(each.table for each in looked)
    faults: dict[tuple[str, str], list[dict[str, str]]] = {}
    for each in looked:
        if each.kind == QUARANTINE and each.table is not None and each.table in wanted and each.error is not None:
            faults.setdefault((each.table, each.error["kind"]), []).append(each.error)
    for (table, reason), errors in sorted(faults.items()):
        what = f"{len(errors)} of {seen[table]} records that were looked at would go to quarantine"
        yield Notice(table, reason, f"{what}: {errors[0]['message']}", errors[0]["hint"])
