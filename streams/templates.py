"""Tables made by templates, each of a topic that came: by workers of NORMALIZE, in `headgate.tables` like any other.

Promise: a topic that a template's pattern catches, that no table reads and that has rows, becomes a table within
seconds, of what its records show and what the template says. What people registered or removed is never written over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

from connectors.captured import OneRecord
from connectors.formats import format_of
from connectors.inference import SAMPLERS, new_samples
from connectors.registry import registry_of
from connectors.transport.answers import Administrator
from connectors.transport.groups import topics_below
from connectors.transport.last_records import last_records
from schemas.config import Config
from schemas.errors import ConfigurationError, HeadgateError, TableStopped
from schemas.table import TableEntry, TableSpec
from schemas.template import name_for
from streams.door import open_door
from streams.registration import open_admin
from streams.settings import client_settings
from streams.tables import TableDirectory, check_topics, reads

if TYPE_CHECKING:
    from connectors import wire

LOOK_SECONDS = 2.0
SAMPLED_RECORDS = 500  # of each of some partitions
TOPICS_AT_ONCE_MAX = 50
_AVRO = "debezium-avro"

log = structlog.get_logger("streams.templates")


class Templates:
    """The looks of one worker at the topics that come."""

    def __init__(self, config: Config, tables: TableDirectory) -> None:
        """Look at nothing yet; `tables` is followed by somebody else."""
        self._config, self._tables = config, tables
        self._task: asyncio.Task[None] | None = None
        self._said: set[tuple[str, str]] = set()

    def begin(self) -> None:
        """Look every few seconds, as long as there are templates, until `close`."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="templates")

    async def close(self) -> None:
        """Look no more; a look under way comes to nothing or to its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        administrator = Administrator(client_settings(self._config))
        while True:
            await asyncio.sleep(LOOK_SECONDS * (0.5 + random.random()))  # noqa: S311 - so that workers do not meet
            if not self._tables.templates:
                continue
            try:
                made = await asyncio.to_thread(self._look, administrator, standing(self._tables))
            except TableStopped as error:  # somebody else was quicker: what they wrote comes by itself
                log.info("templates_again", error=error.message)
            except HeadgateError as error:
                log.warning("templates_wait", error=error.message, hint=error.hint)
            else:
                for table in made:
                    log.info("table_made", table=table)

    def _look(self, administrator: Administrator, at: Standing) -> list[str]:
        """Make the tables of topics that came, and return their names; blocks."""
        wanted = wanted_tables(at, topics_below(administrator, ""), self._config.kafka.topic_prefix)
        some = dict(sorted(wanted.items())[:TOPICS_AT_ONCE_MAX])
        if not some:
            return []
        client, admin = client_settings(self._config), open_admin(self._config)
        records = last_records(some, client, admin, each=SAMPLED_RECORDS)
        registry = registry_of(self._config.registry)
        specs = {}
        for topic, (template, table) in some.items():
            if not records.get(topic):
                continue
            try:
                specs[table] = table_of(template.spec, topic, table, records[topic], registry)
            except ConfigurationError as error:
                if (topic, error.message) not in self._said:
                    self._said.add((topic, error.message))
                    log.warning("template_makes_nothing", topic=topic, error=error.message, hint=error.hint)
        return self._register(specs, {table: template for template, table in some.values()}) if specs else []

    def _register(self, specs: Mapping[str, TableSpec], templates: Mapping[str, TableEntry]) -> list[str]:
        door = open_door(self._config)
        known = {table: entry.spec for table, entry in door.tables.registered.items()}
        new = {table: spec for table, spec in specs.items() if table not in known and table not in door.tables.removed}
        check_topics({**known, **new}, self._config.kafka.topic_prefix)
        at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        entries = [
            TableEntry(spec=spec, applied_at=at, applied_by=f"template {templates[table].spec.table}")
            for table, spec in new.items()
        ]
        door.write(entries)
        return sorted(new)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is registered at one moment, as far as templates care: themselves, what is read, which names are taken."""

    templates: Sequence[TableEntry]
    named: frozenset[str]
    patterns: Sequence[TableSpec]
    taken: frozenset[str]


def standing(tables: TableDirectory) -> Standing:
    """Return how tables stand now; also a table that was removed keeps its name from being made again."""
    specs = [entry.spec for entry in tables.values()]
    return Standing(
        list(tables.templates.values()),
        frozenset(topic for spec in specs for topic in spec.topics),
        [spec for spec in specs if any(topic.startswith("^") for topic in spec.topics)],
        frozenset({*tables.registered, *tables.removed}),
    )


def wanted_tables(at: Standing, topics: Iterable[str], own_prefix: str) -> dict[str, tuple[TableEntry, str]]:
    """Return the topics that templates make tables of now, each with its template and the table's name.

    Those that a table reads are passed over, ours, and those whose name is taken.
    """
    found: dict[str, tuple[TableEntry, str]] = {}
    taken = set(at.taken)
    for topic in sorted(topics):
        entry = next((one for one in at.templates if reads(one.spec, topic)), None)
        if entry is None or topic.startswith(f"{own_prefix}."):
            continue
        if topic in at.named or any(reads(spec, topic) for spec in at.patterns):
            continue
        name = name_for(entry.spec.template or "", entry.spec.topics, topic)
        if name is not None and name not in taken:
            found[topic] = entry, name
            taken.add(name)
    return found


def table_of(
    template: TableSpec, topic: str, table: str, records: Iterable[OneRecord], registry: wire.Schemas | None
) -> TableSpec:
    """Return the spec of a topic's table: what the template says, and beside it the columns that records show.

    Raises:
        ConfigurationError: the records show no table, or several, or not the one that the template says.
    """
    samples = new_samples(template.format, schemas=registry)
    for record in records:
        samples.add(record)
    proposals = samples.tables()
    if len(proposals) != 1:
        raise ConfigurationError(
            f"{topic}: its records show {len(proposals)} tables of {template.format}", hint="write a spec for it"
        )
    shown = proposals[0].spec
    known = {*template.columns, *template.sent_as()}
    columns = {name: column for name, column in shown.columns.items() if name not in known}
    document = template.model_dump(mode="json", exclude={"template", "columns", "table", "topics", "key"})
    more = {"table": table, "topics": [topic], "key": template.key or shown.key}
    try:
        return TableSpec.model_validate({**document, **more, "columns": {**template.columns, **columns}})
    except ValidationError as exc:
        said = "; ".join(str(error["msg"]) for error in exc.errors()[:3])
        raise ConfigurationError(f"{topic}: {said}", hint=f"mend the template {template.table}") from exc


def check_template(spec: TableSpec, registry: wire.Schemas | None) -> None:
    """Check that a template can make tables of its format.

    Raises:
        ConfigurationError: nothing can be inferred of such records.
    """
    known = format_of(spec.format, registry).name
    if known not in SAMPLERS and not (known == _AVRO and registry is not None):
        raise ConfigurationError(
            f"template: columns cannot be told from records of {spec.format}", hint="write a spec for each topic"
        )
