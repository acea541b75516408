"""Tables made by templates, each of a topic that came: by workers of NORMALIZE, in `headgate.tables` like any other.

Promise: a topic that a template's pattern catches, that no table reads and that has rows, becomes a table within
seconds, of what its records show and what the template says, as it stands when the table is written. What people
registered or removed is never written over, and topics of removed tables are left alone.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import partial

import structlog

from connectors.captured import OneRecord
from connectors.registry import registry_of
from connectors.transport.answers import Administrator
from connectors.transport.groups import topics_below
from connectors.transport.sampling import SampleBounds, Sampling
from schemas.config import Config
from schemas.errors import ConfigurationError, HeadgateError, TableStopped
from schemas.table import TableEntry, TableSpec
from streams.apply import prepared
from streams.door import open_door
from streams.registration import open_admin
from streams.settings import client_settings
from streams.tables import TableDirectory
from streams.template_tables import Standing, standing, still_wanted, table_of, wanted_tables

LOOK_SECONDS = 2.0
AGAIN_SECONDS = 60.0  # until one of which nothing could be made is looked at again: that shuts out people who apply
_DOUBLINGS_MAX = 5
BOUNDS = SampleBounds(records_max=1_000, seconds_max=5.0)  # of each topic, and of all of one look
TOPICS_AT_ONCE_MAX = 200

log = structlog.get_logger("streams.templates")


class Templates:
    """The looks of one worker at the topics that come."""

    def __init__(
        self,
        config: Config,
        tables: TableDirectory,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Look at nothing yet; `tables` is followed by somebody else."""
        self._config, self._tables, self._clock, self._jitter = config, tables, clock, jitter
        self._failures = 0  # looks in a row that something was away for
        self._refused: dict[str, str] = {}  # topics of which nothing was made, and why
        self._again: dict[str, float] = {}  # not before then a topic is looked at again

    async def run(self) -> None:
        """Look every few seconds, as long as there are templates, until this is cancelled."""
        administrator = Administrator(client_settings(self._config))
        while True:
            await asyncio.sleep(self.pause())
            if self._tables.templates:
                await self.take(partial(self._look, administrator, standing(self._tables)))

    async def take(self, look: Callable[[], list[str]]) -> None:
        """Take one look, on a thread of its own, and tell which tables it made, or why it could not."""
        try:
            made = await asyncio.to_thread(look)
        except TableStopped as error:  # somebody else was quicker: what they wrote comes by itself
            log.info("templates_again", error=error.message)
        except HeadgateError as error:
            self._failures += 1
            log.warning("templates_wait", error=error.message, hint=error.hint)
        else:
            self._failures = 0
            for table in made:
                log.info("table_made", table=table)

    def pause(self) -> float:
        """Return how many seconds to wait for the next look: so that workers do not meet, each time others.

        What is away for all topics, such as a schema registry, is asked more and more seldom: a look that gets as far
        as the door shuts out people who apply.
        """
        seconds: float = min(LOOK_SECONDS * 2 ** min(self._failures, _DOUBLINGS_MAX), AGAIN_SECONDS)
        return seconds * (0.5 + self._jitter())

    def _look(self, administrator: Administrator, at: Standing) -> list[str]:
        """Make the tables of topics that came, and return their names; blocks."""
        wanted = wanted_tables(at, topics_below(administrator, ""), self._config.kafka.topic_prefix)
        some = self.due(wanted)
        if not some:
            return []
        records = self._records(some)
        registry = registry_of(self._config.registry)
        specs, templates = dict[str, TableSpec](), dict[str, TableEntry]()
        for topic in records:
            template, named = wanted[topic]
            try:
                specs[named.table] = table_of(template.spec, topic, named, records[topic], registry)
            except ConfigurationError as error:
                self._refuse(topic, error)
            else:
                templates[named.table] = template
        return self._register(specs, templates) if specs else []

    def due(self, topics: Iterable[str]) -> list[str]:
        """Return those that are looked at now: at first the new ones, then those not looked at for longest."""
        now, never = self._clock(), float("-inf")
        due = sorted((at, topic) for topic in topics if (at := self._again.get(topic, never)) <= now)
        some = [topic for _, topic in due[:TOPICS_AT_ONCE_MAX]]
        self._again |= dict.fromkeys(some, now)
        return some

    def _records(self, topics: list[str]) -> dict[str, list[OneRecord]]:
        """Return records of the topics that have any."""
        found: defaultdict[str, list[OneRecord]] = defaultdict(list)
        sampling = Sampling(topics, client_settings(self._config), open_admin(self._config), BOUNDS)
        with closing(iter(sampling)) as records:
            for record in records:
                found[record.topic].append(record)
        return found

    def _refuse(self, topic: str, error: HeadgateError) -> None:
        """Say once of a topic why nothing is made of it, and leave it alone for a while."""
        self._again[topic] = self._clock() + AGAIN_SECONDS
        if self._refused.get(topic) != error.message:
            self._refused[topic] = error.message
            log.warning("template_makes_nothing", topic=topic, error=error.message, hint=error.hint)

    def _register(self, specs: Mapping[str, TableSpec], templates: Mapping[str, TableEntry]) -> list[str]:
        door = open_door(self._config)
        new = still_wanted(specs, templates, standing(door.tables), self._config.kafka.topic_prefix)
        entries = self.entries_of(new, door.tables) if new else []
        door.write(
            entry.model_copy(update={"applied_by": f"template {templates[entry.spec.table].spec.table}"})
            for entry in entries
        )
        return sorted(entry.spec.table for entry in entries)

    def entries_of(self, specs: Mapping[str, TableSpec], tables: TableDirectory) -> list[TableEntry]:
        """Return the entries of specs; one that is not right, alone or beside the others, keeps none waiting."""
        try:
            return prepared(self._config, specs, tables).entries
        except (ConfigurationError, TableStopped) as error:
            if len(specs) == 1:
                self._refuse(next(iter(specs.values())).topics[0], error)
                return []
        found = list[TableEntry]()
        known = TableDirectory(tables.registered)
        for table, spec in specs.items():
            made = self.entries_of({table: spec}, known)
            known = TableDirectory({**known.registered, **{entry.spec.table: entry for entry in made}})
            found += made
        return found
